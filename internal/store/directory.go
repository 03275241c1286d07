// Table aliases, and the public directory among the rooms. Written by package
// directory.

package store

import "errors"

// ErrAliasTaken says that an alias points to a room already.
var ErrAliasTaken = errors.New("store: alias is taken")

// Alias is a local alias of a room.
type Alias struct {
	Alias     string
	Room      RoomNum
	Creator   string // user ID
	CreatedTS int64  // ms
}

var (
	insertAlias   = Prepare(`INSERT INTO aliases (alias, room, creator, created_ts) VALUES ($1, $2, $3, $4) ON CONFLICT (alias) DO NOTHING`)
	deleteAlias   = Prepare(`DELETE FROM aliases WHERE alias = $1 AND room = $2`)
	moveAliases   = Prepare(`UPDATE aliases SET room = $2 WHERE room = $1`)
	selectAlias   = Prepare(`SELECT alias, room, creator, created_ts FROM aliases WHERE alias = $1`)
	selectAliases = Prepare(`SELECT alias, room, creator, created_ts FROM aliases WHERE room = $1 ORDER BY alias LIMIT $2`)

	selectPublishedDown = Prepare(`SELECT ` + roomColumns + ` FROM rooms
		WHERE published = 1 AND joined > 0 AND (joined, num) < ($1, $2) ORDER BY joined DESC, num DESC LIMIT $3`)
	selectPublishedUp = Prepare(`SELECT ` + roomColumns + ` FROM rooms
		WHERE published = 1 AND joined > 0 AND (joined, num) > ($1, $2) ORDER BY joined, num LIMIT $3`)
	countPublished = Prepare(`SELECT COUNT(*) FROM rooms WHERE published = 1 AND joined > 0`)
)

func scanAlias(row *Row) (a Alias) {
	row.Scan(&a.Alias, &a.Room, &a.Creator, &a.CreatedTS)
	return a
}

// AddAlias writes an alias; the change fails with ErrAliasTaken if it is taken.
func (c *Change) AddAlias(a Alias) {
	c.ExecOne(insertAlias, ErrAliasTaken, a.Alias, a.Room, a.Creator, a.CreatedTS)
}

// DropAlias takes an alias away; the change fails with ErrNotFound if the alias
// does not point to the room.
func (c *Change) DropAlias(alias string, room RoomNum) {
	c.ExecOne(deleteAlias, ErrNotFound, alias, room)
}

// MoveAliases lets all aliases of a room point to another one.
func (c *Change) MoveAliases(from, to RoomNum) { c.Exec(moveAliases, from, to) }

// Alias returns an alias.
func (r *Read) Alias(alias string) (Alias, error) { return QueryOne(r, selectAlias, scanAlias, alias) }

// AliasesOf returns the aliases of a room, in order.
func (r *Read) AliasesOf(room RoomNum, limit int) ([]Alias, error) {
	return Query(r, selectAliases, scanAlias, room, limit)
}

// Published returns rooms of the public directory, the fullest first, that come
// after a room with so many members and this number.
func (r *Read) Published(joined int64, num RoomNum, limit int) ([]Room, error) {
	return Query(r, selectPublishedDown, scanRoom, joined, num, limit)
}

// PublishedBack is Published the other way, the nearest first: what comes before
// a room with so many members and this number.
func (r *Read) PublishedBack(joined int64, num RoomNum, limit int) ([]Room, error) {
	return Query(r, selectPublishedUp, scanRoom, joined, num, limit)
}

// CountPublished counts the rooms of the public directory.
func (r *Read) CountPublished() (int64, error) { return QueryOne(r, countPublished, (*Row).Int) }
