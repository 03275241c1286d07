// Package noticedb knows the room in which the server talks to a user.
//
// It owns the SQL of the table notice_rooms. Package notice writes it; reads are free.
//
// The invariant: a user has one such room for ever.
package noticedb

import "stoa/internal/store"

var (
	insertRoom = store.Prepare(`INSERT INTO notice_rooms (user_num, room_id) VALUES ($1, $2)`)
	selectRoom = store.Prepare(`SELECT room_id FROM notice_rooms WHERE user_num = $1`)
)

// AddRoom writes the room of a user. The change fails with store.ErrDuplicate if there is one.
func AddRoom(c *store.Change, user store.UserNum, roomID string) { c.Exec(insertRoom, user, roomID) }

// Room returns the room of a user, or store.ErrNotFound.
func Room(r *store.Read, user store.UserNum) (string, error) {
	return store.QueryOne(r, selectRoom, (*store.Row).Text, user)
}
