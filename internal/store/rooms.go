// Table rooms: a room's row, which is written with the room's head.

package store

// Room is a room's row.
type Room struct {
	Num         RoomNum
	RoomID      string
	Version     string
	Head        Head
	Slot        Slot // last slot of the timeline
	ReceiptSlot Slot
	Resident    bool // this server has a member in it
	Partial     bool // the state of a join is incomplete
	Extremities []EventNum
	Depth       int64 // greatest depth of the extremities
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

var (
	insertRoom = Prepare(`INSERT INTO rooms (num, room_id, version, resident, partial, published, created_ts)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`)
	updateRoom = Prepare(`UPDATE rooms SET head = $2, slot = $3, receipt_slot = $4, resident = $5, partial = $6, extremities = $7,
		depth = $8, joined = $9, invited = $10, local_joined = $11, totals = $12 WHERE num = $1`)
)

// NewRoom adds a room's row and its part to the change, which expects no head. It uses
// RoomID, Version, Num, Resident, Partial, Published and CreatedTS of r.
func (c *Change) NewRoom(r Room) *RoomPart {
	c.Exec(insertRoom, r.Num, r.RoomID, r.Version, r.Resident, r.Partial, r.Published, r.CreatedTS)
	p := c.Room(r.Num, 0)
	p.creates = true
	return p
}

// SetRoom writes the columns that the room's writer owns: Resident, Partial, Extremities,
// Depth, Joined, Invited, LocalJoined, Totals. The change must be fenced by the room's
// head. All changes of a group share one write with the room's new head and slots.
func (c *Change) SetRoom(r Room) {
	r.extremities = string(appendInts(nil, asInts(r.Extremities)))
	c.args.size += len(r.extremities) + len(r.Totals)
	c.Room(r.Num, NoFence).row = &r
}
