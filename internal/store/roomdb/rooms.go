// Table rooms: reads, and the columns that are not written with the room's head.

package roomdb

import (
	"encoding/json"
	"fmt"

	"stoa/internal/store"
)

const roomColumns = `num, room_id, version, head, slot, receipt_slot, resident, partial, extremities, depth,
	joined, invited, local_joined, published, blocked, created_ts, totals, purged`

var (
	selectRoomByID   = store.Prepare(`SELECT ` + roomColumns + ` FROM rooms WHERE room_id = $1`)
	selectRoomByNum  = store.Prepare(`SELECT ` + roomColumns + ` FROM rooms WHERE num = $1`)
	selectRoomNum    = store.Prepare(`SELECT num FROM rooms WHERE room_id = $1`)
	selectRoomID     = store.Prepare(`SELECT room_id FROM rooms WHERE num = $1`)
	updatePublished  = store.Prepare(`UPDATE rooms SET published = $2 WHERE num = $1`)
	inheritPublished = store.Prepare(`UPDATE rooms SET published = (SELECT o.published FROM rooms o WHERE o.num = $2) WHERE num = $1`)
	updateBlocked    = store.Prepare(`UPDATE rooms SET blocked = $2 WHERE num = $1`)
)

func scanRoom(row *store.Row) (r store.Room) {
	var extremities string
	row.Scan(&r.Num, &r.RoomID, &r.Version, &r.Head, &r.Slot, &r.ReceiptSlot, &r.Resident, &r.Partial, &extremities,
		&r.Depth, &r.Joined, &r.Invited, &r.LocalJoined, &r.Published, &r.Blocked, &r.CreatedTS, &r.Totals, &r.Purged)
	if err := json.Unmarshal([]byte(extremities), &r.Extremities); err != nil {
		row.Fail(fmt.Errorf("extremities of room number %d: %w", r.Num, err))
	}
	return r
}

// SetPublished adds the room to the public directory, or removes it.
func SetPublished(c *store.Change, room store.RoomNum, published bool) {
	c.Exec(updatePublished, room, published)
}

// MovePublished replaces a room in the public directory by another, if it is there at the
// commit.
func MovePublished(c *store.Change, from, to store.RoomNum) {
	c.Exec(inheritPublished, to, from)
	c.Exec(updatePublished, from, false)
}

// SetBlocked blocks the room on this server, or unblocks it.
func SetBlocked(c *store.Change, room store.RoomNum, blocked bool) {
	c.Exec(updateBlocked, room, blocked)
}

// RoomByID returns a room by its ID.
func RoomByID(r *store.Read, roomID string) (store.Room, error) {
	return store.QueryOne(r, selectRoomByID, scanRoom, roomID)
}

// RoomByNum returns a room by its number.
func RoomByNum(r *store.Read, room store.RoomNum) (store.Room, error) {
	return store.QueryOne(r, selectRoomByNum, scanRoom, room)
}

// RoomNum returns the number of a room.
func RoomNum(r *store.Read, roomID string) (store.RoomNum, error) {
	return store.QueryOne(r, selectRoomNum, store.Num[store.RoomNum], roomID)
}

// RoomID returns the ID of a room.
func RoomID(r *store.Read, room store.RoomNum) (string, error) {
	return store.QueryOne(r, selectRoomID, (*store.Row).Text, room)
}

var selectRoomTotals = store.Prepare(`SELECT num, slot, joined, totals FROM rooms WHERE {{in num $1}}`)

// RoomTotals are the last slot, the number of members and the running totals of a room.
type RoomTotals struct {
	Num  store.RoomNum
	Slot store.Slot
	// Joined is the number of joined members.
	Joined int64
	Totals []byte
}

// TotalsOfRooms returns rooms by their numbers, without missing ones.
func TotalsOfRooms(r *store.Read, rooms []store.RoomNum) (map[store.RoomNum]RoomTotals, error) {
	if len(rooms) == 0 {
		return nil, nil
	}
	list, err := store.Query(r, selectRoomTotals, func(row *store.Row) (t RoomTotals) {
		row.Scan(&t.Num, &t.Slot, &t.Joined, &t.Totals)
		return t
	}, rooms)
	if err != nil {
		return nil, err
	}
	out := make(map[store.RoomNum]RoomTotals, len(list))
	for _, t := range list {
		out[t.Num] = t
	}
	return out, nil
}

var selectRoomHeads = store.Prepare(`SELECT num, room_id, version, joined, invited FROM rooms WHERE {{in num $1}}`)

// RoomHead is the part of a room that a segment of its timeline needs.
type RoomHead struct {
	Num             store.RoomNum
	RoomID          string
	Version         string
	Joined, Invited int64
}

// RoomHeads returns rooms by their numbers, in no order, without missing ones.
func RoomHeads(r *store.Read, rooms []store.RoomNum) ([]RoomHead, error) {
	return store.Query(r, selectRoomHeads, func(row *store.Row) (h RoomHead) {
		row.Scan(&h.Num, &h.RoomID, &h.Version, &h.Joined, &h.Invited)
		return h
	}, rooms)
}
