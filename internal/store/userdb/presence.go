// Table presence. Written by package ephemeral.

package userdb

import "stoa/internal/store"

// Presence is the presence of a user. A change that writes some has them as its Payload
// ([]Presence).
type Presence struct {
	User      store.UserNum
	UserID    string
	Presence  string  // online, unavailable or offline
	StatusMsg *string // nil = none
	ActiveTS  int64   // ms
}

const presenceColumns = `p.user_num, u.user_id, p.presence, p.status_msg, p.active_ts FROM presence p JOIN users u ON u.num = p.user_num`

// PresenceRoom is the greatest number of members of a room that shows its members each
// other's presence; the statements contain it too. The cost grows with the square of the
// members: one room of a whole university would cost more than everything else, and
// nobody reads such a list.
const PresenceRoom = 100

// sharesRoom is a condition: the user of presence shares a small room with user $1, or is
// that user.
const sharesRoom = `(p.user_num = $1 OR EXISTS (SELECT 1 FROM memberships o JOIN memberships m ON m.room = o.room JOIN rooms r ON r.num = o.room
	WHERE m.user_num = $1 AND m.membership = 1 AND o.user_num = p.user_num AND o.membership = 1 AND r.joined <= 100))`

var (
	upsertPresence = store.Prepare(`INSERT INTO presence (user_num, presence, status_msg, active_ts)
		SELECT num, $2, $3, $4 FROM users WHERE num = $1 AND deactivated = 0
		ON CONFLICT (user_num) DO UPDATE SET presence = excluded.presence, status_msg = excluded.status_msg, active_ts = excluded.active_ts`)
	selectPresence      = store.Prepare(`SELECT ` + presenceColumns + ` WHERE p.user_num = $1`)
	selectPresenceSince = store.Prepare(`SELECT owner FROM stream WHERE kind = 6 AND pos > $1 AND pos <= $2 ORDER BY pos DESC LIMIT $3`)
	selectPresenceFor   = store.Prepare(`SELECT ` + presenceColumns + ` WHERE {{in p.user_num $2}} AND ` + sharesRoom)
	selectPresenceNow   = store.Prepare(`SELECT ` + presenceColumns + ` WHERE (p.user_num = $1 OR p.user_num IN
		(SELECT o.user_num FROM memberships m JOIN rooms r ON r.num = m.room JOIN memberships o ON o.room = m.room
		WHERE m.user_num = $1 AND m.membership = 1 AND r.joined <= 100 AND o.membership = 1)) AND p.presence <> 'offline'
		ORDER BY p.active_ts DESC LIMIT $2`)
	selectPresenceIn = store.Prepare(`SELECT ` + presenceColumns + ` WHERE p.user_num IN
		(SELECT m.user_num FROM memberships m JOIN rooms r ON r.num = m.room WHERE {{in m.room $1}} AND m.membership = 1 AND r.joined <= 100
		LIMIT $2) AND p.presence <> 'offline'`)
	selectPresences  = store.Prepare(`SELECT ` + presenceColumns + ` WHERE {{in p.user_num $1}}`)
	selectPresenceOf = store.Prepare(`SELECT ` + presenceColumns + ` WHERE {{intext u.user_id $1}}`)
	selectPresent    = store.Prepare(`SELECT ` + presenceColumns + ` WHERE p.user_num > $1 AND p.presence <> 'offline' ORDER BY p.user_num LIMIT $2`)
	selectSharesRoom = store.Prepare(`SELECT 1 FROM memberships m JOIN memberships o ON o.room = m.room
		WHERE m.user_num = $1 AND m.membership = 1 AND o.user_num = $2 AND o.membership = 1 LIMIT 1`)
)

func scanPresence(row *store.Row) (p Presence) {
	row.Scan(&p.User, &p.UserID, &p.Presence, &p.StatusMsg, &p.ActiveTS)
	return p
}

// SetPresence writes a user's presence and wakes the users who share a room with them,
// unless the account is deactivated.
func SetPresence(c *store.Change, p Presence) {
	c.Exec(upsertPresence, p.User, p.Presence, p.StatusMsg, p.ActiveTS)
	c.UserSlot(p.User, store.KindPresence)
}

// PresenceByNum returns a user's presence; ErrNotFound if it was never set.
func PresenceByNum(r *store.Read, user store.UserNum) (Presence, error) {
	return store.QueryOne(r, selectPresence, scanPresence, user)
}

// PresenceChanged returns the users whose presence changed after one position up to
// another. The newest changes come first and count for the limit.
func PresenceChanged(r *store.Read, after, upTo store.Position, limit int) ([]store.UserNum, error) {
	return store.Query(r, selectPresenceSince, store.Num[store.UserNum], after, upTo, limit)
}

// PresenceFor returns the presence of the viewer, and of those users who share a room of
// at most PresenceRoom members with the viewer.
func PresenceFor(r *store.Read, viewer store.UserNum, users []store.UserNum) ([]Presence, error) {
	return store.Query(r, selectPresenceFor, scanPresence, viewer, users)
}

// PresenceNow returns the users who are not offline and share a room of at most
// PresenceRoom members with the viewer, most recently active first.
func PresenceNow(r *store.Read, viewer store.UserNum, limit int) ([]Presence, error) {
	return store.Query(r, selectPresenceNow, scanPresence, viewer, limit)
}

// PresenceIn returns the local members of rooms of at most PresenceRoom members who are
// not offline.
func PresenceIn(r *store.Read, rooms []store.RoomNum, limit int) ([]Presence, error) {
	return store.Query(r, selectPresenceIn, scanPresence, rooms, limit)
}

// Presences returns the presence of users by number.
func Presences(r *store.Read, users []store.UserNum) ([]Presence, error) {
	return store.Query(r, selectPresences, scanPresence, users)
}

// PresenceOf returns the presence of users by ID.
func PresenceOf(r *store.Read, userIDs []string) ([]Presence, error) {
	return store.Query(r, selectPresenceOf, scanPresence, userIDs)
}

// Present returns users who are not offline, by number.
func Present(r *store.Read, after store.UserNum, limit int) ([]Presence, error) {
	return store.Query(r, selectPresent, scanPresence, after, limit)
}

// SharesRoom reports whether two local users are joined to the same room.
func SharesRoom(r *store.Read, a, b store.UserNum) (bool, error) {
	rooms, err := store.Query(r, selectSharesRoom, (*store.Row).Int, a, b)
	return len(rooms) > 0, err
}
