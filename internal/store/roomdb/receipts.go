// Table receipts. Package ephemeral writes it; package room deletes the receipts of a
// purged room.

package roomdb

import "stoa/internal/store"

var selectRecentReceipts = store.Prepare(`SELECT ` + receiptColumns + ` FROM {{each $1}} AS v JOIN rooms AS o ON o.num = v.v
	JOIN receipts AS r ON r.room = o.num AND r.seq > o.receipt_slot - $2 JOIN users AS u ON u.num = r.user_num
	WHERE r.kind = 1 OR r.user_num = $3 ORDER BY r.room, r.seq`)

// SyncReceipts returns the receipts that were written in the last receipt slots
// of some rooms, by room and slot: public ones, and the viewer's own.
func SyncReceipts(r *store.Read, rooms []store.RoomNum, viewer store.UserNum, slots int) ([]Receipt, error) {
	return store.Query(r, selectRecentReceipts, scanReceipt, rooms, slots, viewer)
}

var selectReceiptsAt = store.Prepare(`SELECT ` + receiptColumns + ` FROM {{each $1}} AS v
		JOIN receipts AS r ON r.room = (v.v >> 32) AND r.seq = (v.v & 4294967295) JOIN users AS u ON u.num = r.user_num
		ORDER BY r.room, r.seq`)

// ReceiptsAt returns the receipts that were written at receipt slots of several rooms,
// including private ones, by room and slot. A receipt that has moved since is at its new
// slot.
func ReceiptsAt(r *store.Read, slots []RoomSlot) ([]Receipt, error) {
	return store.Query(r, selectReceiptsAt, scanReceipt, PackSlots(slots))
}

// ReceiptKind is the type of a receipt as it is stored.
type ReceiptKind int8

const (
	ReceiptRead    ReceiptKind = 1 // m.read
	ReceiptPrivate ReceiptKind = 2 // m.read.private
)

// Receipt is one user's read marker in a room and thread. A change that writes receipts
// has them as its Payload ([]Receipt), without Seq.
type Receipt struct {
	Room    store.RoomNum
	User    store.UserNum
	UserID  string
	Kind    ReceiptKind
	Thread  string     // "" unthreaded, "main", or the event ID of a thread's root
	Slot    store.Slot // place of the event in the timeline; 0: the event is not stored
	Off     int64
	EventID string
	TS      int64      // ms
	Seq     store.Slot // receipt slot of the room
}

const receiptColumns = `r.room, r.user_num, u.user_id, r.kind, r.thread, r.slot, r.off, r.event_id, r.ts, r.seq`

var (
	putReceipt = store.Prepare(`INSERT INTO receipts (room, user_num, kind, thread, slot, off, event_id, ts, seq)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT (room, user_num, kind, thread) DO UPDATE SET slot = excluded.slot, off = excluded.off,
			event_id = excluded.event_id, ts = excluded.ts, seq = excluded.seq
		WHERE excluded.slot = 0 OR (excluded.slot, excluded.off) > (receipts.slot, receipts.off)`)
	selectReceiptsSince = store.Prepare(`SELECT ` + receiptColumns + ` FROM receipts r JOIN users u ON u.num = r.user_num
		WHERE r.room = $1 AND r.seq > $2 AND r.seq <= $3 AND (r.kind = 1 OR r.user_num = $4) ORDER BY r.seq DESC LIMIT $5`)
	selectReading = store.Prepare(`SELECT m.room, m.membership, m.slot, COALESCE(e.slot, 0), COALESCE(e.off, 0),
			COALESCE(x.kind, 0), COALESCE(x.thread, ''), COALESCE(x.slot, 0), COALESCE(x.off, 0)
		FROM rooms r JOIN memberships m ON m.room = r.num AND m.user_num = $1
		LEFT JOIN events e ON e.event_id = $3 AND e.room = r.num
		LEFT JOIN receipts x ON x.room = r.num AND x.user_num = $1
		WHERE r.room_id = $2`)
	selectReceiptsOf = store.Prepare(`SELECT ` + receiptColumns + ` FROM receipts r JOIN users u ON u.num = r.user_num
		WHERE {{in r.room $1}} AND r.user_num = $2`)
)

func scanReceipt(row *store.Row) (x Receipt) {
	x.Room, x.User, x.UserID = store.Num[store.RoomNum](row), store.Num[store.UserNum](row), row.Text()
	x.Kind, x.Thread = ReceiptKind(row.Int()), row.Text()
	x.Slot, x.Off, x.EventID, x.TS, x.Seq = store.Num[store.Slot](row), row.Int(), row.Text(), row.Int(), store.Num[store.Slot](row)
	return x
}

// Reading is a local user's membership in a room, and the place of an event in it.
type Reading struct {
	Room       store.RoomNum
	Membership Membership
	Since      store.Slot // of the membership; 0: room not resident
	Event      Place
	Read       []ReadTo // the user's receipts in the room
}

// ReadTo is the place of a receipt.
type ReadTo struct {
	Kind   ReceiptKind
	Thread string
	Place  Place
}

// scanReading reads a row for each receipt, or a single row without a receipt.
func scanReading(row *store.Row) (x Reading) {
	x.Room, x.Membership, x.Since = store.Num[store.RoomNum](row), Membership(row.Int()), store.Num[store.Slot](row)
	x.Event = Place{store.Num[store.Slot](row), row.Int()}
	if to := (ReadTo{ReceiptKind(row.Int()), row.Text(), Place{store.Num[store.Slot](row), row.Int()}}); to.Kind != 0 {
		x.Read = []ReadTo{to}
	}
	return x
}

// SeenSurely reports whether the user is a member and the event came after they became
// one: then they certainly see it. Other cases need a closer check.
func (x Reading) SeenSurely() bool {
	return x.Membership == Join && x.Since > 0 && x.Event.Slot >= x.Since && x.Event.Off == 0
}

// ReadingOf returns the places of a user and an event in a room, with the user's
// receipts; ErrNotFound if the user was never there. An event without a place, or of
// another room, has the zero Place. It is one query.
func ReadingOf(r *store.Read, user store.UserNum, roomID, eventID string) (Reading, error) {
	rows, err := store.Query(r, selectReading, scanReading, user, roomID, eventID)
	if err == nil && len(rows) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return Reading{}, err
	}
	for _, row := range rows[1:] {
		rows[0].Read = append(rows[0].Read, row.Read...)
	}
	return rows[0], nil
}

// PutReceipt moves the receipt with the same user, kind and thread forward, and wakes the
// room's readers. A receipt that is not ahead of the stored one changes nothing. One
// without a place (its event is not stored) is always written.
func PutReceipt(c *store.Change, x Receipt) {
	seq := c.ReceiptSlot(x.Room)
	c.Exec(putReceipt, x.Room, x.User, int64(x.Kind), x.Thread, x.Slot, x.Off, x.EventID, x.TS, seq)
}

// ReceiptsSince returns receipts of a room that were written after one receipt slot up to
// another, newest first: public ones, and the viewer's own private ones.
func ReceiptsSince(r *store.Read, room store.RoomNum, viewer store.UserNum, after, upTo store.Slot, limit int) ([]Receipt, error) {
	return store.Query(r, selectReceiptsSince, scanReceipt, room, after, upTo, viewer, limit)
}

// ReceiptsOf returns all receipts of one user in some rooms.
func ReceiptsOf(r *store.Read, user store.UserNum, rooms []store.RoomNum) ([]Receipt, error) {
	return store.Query(r, selectReceiptsOf, scanReceipt, rooms, user)
}
