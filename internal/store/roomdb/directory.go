// Table aliases, and the rooms in the public directory. Package directory writes aliases.

package roomdb

import (
	"errors"

	"stoa/internal/store"
)

// ErrAliasTaken says that an alias already points to a room.
var ErrAliasTaken = errors.New("store: alias is taken")

// Alias is a local alias of a room.
type Alias struct {
	Alias     string
	Room      store.RoomNum
	Creator   string // user ID
	CreatedTS int64  // ms
}

var (
	insertAlias   = store.Prepare(`INSERT INTO aliases (alias, room, creator, created_ts) VALUES ($1, $2, $3, $4) ON CONFLICT (alias) DO NOTHING`)
	deleteAlias   = store.Prepare(`DELETE FROM aliases WHERE alias = $1 AND room = $2`)
	moveAliases   = store.Prepare(`UPDATE aliases SET room = $2 WHERE room = $1`)
	selectAlias   = store.Prepare(`SELECT alias, room, creator, created_ts FROM aliases WHERE alias = $1`)
	selectAliases = store.Prepare(`SELECT alias, room, creator, created_ts FROM aliases WHERE room = $1 ORDER BY alias LIMIT $2`)
	countAliases  = store.Prepare(`SELECT COUNT(*) FROM aliases WHERE creator = $1`)

	selectPublishedDown = store.Prepare(`SELECT ` + roomColumns + ` FROM rooms
		WHERE published = 1 AND joined > 0 AND (joined, num) < ($1, $2) ORDER BY joined DESC, num DESC LIMIT $3`)
	selectPublishedUp = store.Prepare(`SELECT ` + roomColumns + ` FROM rooms
		WHERE published = 1 AND joined > 0 AND (joined, num) > ($1, $2) ORDER BY joined, num LIMIT $3`)
	countPublished = store.Prepare(`SELECT COUNT(*) FROM rooms WHERE published = 1 AND joined > 0`)
)

func scanAlias(row *store.Row) (a Alias) {
	row.Scan(&a.Alias, &a.Room, &a.Creator, &a.CreatedTS)
	return a
}

// AddAlias writes an alias; the change fails with ErrAliasTaken if it exists.
func AddAlias(c *store.Change, a Alias) {
	c.ExecOne(insertAlias, ErrAliasTaken, a.Alias, a.Room, a.Creator, a.CreatedTS)
}

// DropAlias deletes an alias; the change fails with ErrNotFound if the alias does not
// point to the room.
func DropAlias(c *store.Change, alias string, room store.RoomNum) {
	c.ExecOne(deleteAlias, store.ErrNotFound, alias, room)
}

// MoveAliases makes all aliases of a room point to another one.
func MoveAliases(c *store.Change, from, to store.RoomNum) { c.Exec(moveAliases, from, to) }

// AliasByName returns an alias.
func AliasByName(r *store.Read, alias string) (Alias, error) {
	return store.QueryOne(r, selectAlias, scanAlias, alias)
}

// AliasesOf returns the aliases of a room, in order.
func AliasesOf(r *store.Read, room store.RoomNum, limit int) ([]Alias, error) {
	return store.Query(r, selectAliases, scanAlias, room, limit)
}

// CountAliasesBy counts the aliases that a user has created.
func CountAliasesBy(r *store.Read, creator string) (int64, error) {
	return store.QueryOne(r, countAliases, (*store.Row).Int, creator)
}

// Published returns rooms of the public directory, most members first, that come after a
// room with this number of members and this room number.
func Published(r *store.Read, joined int64, num store.RoomNum, limit int) ([]store.Room, error) {
	return store.Query(r, selectPublishedDown, scanRoom, joined, num, limit)
}

// PublishedBack is Published in the other direction, nearest first.
func PublishedBack(r *store.Read, joined int64, num store.RoomNum, limit int) ([]store.Room, error) {
	return store.Query(r, selectPublishedUp, scanRoom, joined, num, limit)
}

// CountPublished counts the rooms of the public directory.
func CountPublished(r *store.Read) (int64, error) {
	return store.QueryOne(r, countPublished, (*store.Row).Int)
}
