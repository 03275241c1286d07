// Table rooms: a room's row, which is written with the room's head.

package store

import (
	"encoding/json"
	"fmt"
)

// Room is a room's row.
type Room struct {
	Num         RoomNum
	RoomID      string
	Version     string
	Head        Head
	Slot        Slot // last slot of the timeline
	ReceiptSlot Slot
	Resident    bool // this server is in it
	Partial     bool // the state of a join is not complete yet
	Extremities []EventNum
	Depth       int64 // greatest of the extremities
	Joined      int64
	Invited     int64
	LocalJoined int64
	Published   bool
	Blocked     bool
	CreatedTS   int64  // ms
	Totals      []byte // of the last live event
	Purged      Slot   // up to this slot the timeline may have gaps

	extremities string // as stored, on the way into the database
}

const roomColumns = `num, room_id, version, head, slot, receipt_slot, resident, partial, extremities, depth,
	joined, invited, local_joined, published, blocked, created_ts, totals, purged`

var (
	selectRoomByID  = Prepare(`SELECT ` + roomColumns + ` FROM rooms WHERE room_id = $1`)
	selectRoomByNum = Prepare(`SELECT ` + roomColumns + ` FROM rooms WHERE num = $1`)
	selectRoomNum   = Prepare(`SELECT num FROM rooms WHERE room_id = $1`)
	selectRoomID    = Prepare(`SELECT room_id FROM rooms WHERE num = $1`)
	insertRoom      = Prepare(`INSERT INTO rooms (num, room_id, version, resident, partial, published, created_ts)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`)
	updateRoom = Prepare(`UPDATE rooms SET head = $2, slot = $3, receipt_slot = $4, resident = $5, partial = $6, extremities = $7,
		depth = $8, joined = $9, invited = $10, local_joined = $11, totals = $12 WHERE num = $1`)
	updatePublished = Prepare(`UPDATE rooms SET published = $2 WHERE num = $1`)
	updateBlocked   = Prepare(`UPDATE rooms SET blocked = $2 WHERE num = $1`)
)

func scanRoom(row *Row) (r Room) {
	var extremities string
	row.Scan(&r.Num, &r.RoomID, &r.Version, &r.Head, &r.Slot, &r.ReceiptSlot, &r.Resident, &r.Partial, &extremities,
		&r.Depth, &r.Joined, &r.Invited, &r.LocalJoined, &r.Published, &r.Blocked, &r.CreatedTS, &r.Totals, &r.Purged)
	if err := json.Unmarshal([]byte(extremities), &r.Extremities); err != nil {
		row.Fail(fmt.Errorf("extremities of room number %d: %w", r.Num, err))
	}
	return r
}

// NewRoom makes a room's row and its part in the change, which expects no head.
// Of r it takes Num, RoomID, Version, Resident, Partial, Published, CreatedTS.
func (c *Change) NewRoom(r Room) *RoomPart {
	c.Exec(insertRoom, r.Num, r.RoomID, r.Version, r.Resident, r.Partial, r.Published, r.CreatedTS)
	p := c.Room(r.Num, 0)
	p.creates = true
	return p
}

// SetRoom writes what a room's writer keeps in the row: Resident, Partial,
// Extremities, Depth, Joined, Invited, LocalJoined, Totals. The change must be
// fenced by the room's head. It is one write with the room's new head and slots,
// for all changes of a group together.
func (c *Change) SetRoom(r Room) {
	r.extremities = string(appendInts(nil, asInts(r.Extremities)))
	c.args.size += len(r.extremities) + len(r.Totals)
	c.Room(r.Num, NoFence).row = &r
}

// SetPublished shows the room in the public directory, or hides it.
func (c *Change) SetPublished(room RoomNum, published bool) {
	c.Exec(updatePublished, room, published)
}

// SetBlocked forbids the room on this server, or allows it again.
func (c *Change) SetBlocked(room RoomNum, blocked bool) {
	c.Exec(updateBlocked, room, blocked)
}

// Room returns a room by its ID.
func (r *Read) Room(roomID string) (Room, error) {
	return QueryOne(r, selectRoomByID, scanRoom, roomID)
}

// RoomByNum returns a room by its number.
func (r *Read) RoomByNum(room RoomNum) (Room, error) {
	return QueryOne(r, selectRoomByNum, scanRoom, room)
}

// RoomNum returns the number of a room.
func (r *Read) RoomNum(roomID string) (RoomNum, error) {
	return QueryOne(r, selectRoomNum, Num[RoomNum], roomID)
}

// RoomID returns the ID of a room.
func (r *Read) RoomID(room RoomNum) (string, error) {
	return QueryOne(r, selectRoomID, (*Row).Text, room)
}
