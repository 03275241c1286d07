// Tables threads, own_events.

package roomdb

import "stoa/internal/store"

var (
	insertThread = store.Prepare(`INSERT INTO threads (room, root, slot, totals) VALUES ($1, $2, $3, $4)
		ON CONFLICT (room, root, slot) DO UPDATE SET totals = excluded.totals`)
	selectThreadTotals   = store.Prepare(`SELECT totals FROM threads WHERE room = $1 AND root = $2 ORDER BY slot DESC LIMIT 1`)
	selectThreadTotalsAt = store.Prepare(`SELECT totals FROM threads WHERE room = $1 AND root = $2 AND slot <= $3 ORDER BY slot DESC LIMIT 1`)
	selectActiveThreads  = store.Prepare(`SELECT root, MAX(slot) FROM threads WHERE room = $1 AND slot > $2 GROUP BY root ORDER BY MAX(slot) DESC LIMIT $3`)

	upsertOwnEvent = store.Prepare(`INSERT INTO own_events (room, user_num, thread, slot) VALUES ($1, $2, $3, $4)
		ON CONFLICT (room, user_num, thread) DO UPDATE SET slot = excluded.slot`)
	selectOwnEvents = store.Prepare(`SELECT room, thread, slot FROM own_events WHERE {{in room $1}} AND user_num = $2`)
)

// SetThread writes the totals of a thread after its newest event, which is at a slot of
// this change.
func SetThread(c *store.Change, room store.RoomNum, root string, slot store.Slot, totals []byte) {
	c.Exec(insertThread, room, root, slot, totals)
}

// ThreadTotals returns the totals of a thread after its newest event; ErrNotFound
// if the thread has none.
func ThreadTotals(r *store.Read, room store.RoomNum, root string) ([]byte, error) {
	return store.QueryOne(r, selectThreadTotals, (*store.Row).Bytes, room, root)
}

// ThreadTotalsAt returns the totals of a thread after its newest event at or
// before a slot; ErrNotFound if the thread had none then.
func ThreadTotalsAt(r *store.Read, room store.RoomNum, root string, slot store.Slot) ([]byte, error) {
	return store.QueryOne(r, selectThreadTotalsAt, (*store.Row).Bytes, room, root, slot)
}

// ActiveThreads returns the threads of a room with events after a slot, the most
// recent first.
func ActiveThreads(r *store.Read, room store.RoomNum, after store.Slot, limit int) ([]Thread, error) {
	return store.Query(r, selectActiveThreads, func(row *store.Row) (t Thread) {
		row.Scan(&t.Root, &t.Newest)
		return t
	}, room, after, limit)
}

// OwnEvent is the newest event of a local user in a thread of a room.
type OwnEvent struct {
	Room   store.RoomNum
	Thread string // "" main timeline, else the thread's root
	Slot   store.Slot
}

// SetOwnEvent records the newest event of a local user, which is at a slot of this
// change.
func SetOwnEvent(c *store.Change, user store.UserNum, e OwnEvent) {
	c.Exec(upsertOwnEvent, e.Room, user, e.Thread, e.Slot)
}

// OwnEvents returns the newest events of a local user in some rooms, one per
// thread.
func OwnEvents(r *store.Read, user store.UserNum, rooms []store.RoomNum) ([]OwnEvent, error) {
	return store.Query(r, selectOwnEvents, func(row *store.Row) (e OwnEvent) {
		row.Scan(&e.Room, &e.Thread, &e.Slot)
		return e
	}, rooms, user)
}

var selectTotalsAt = store.Prepare(`SELECT totals FROM events WHERE room = $1 AND slot <= $2 AND slot > 0 AND off = 0 ORDER BY slot DESC LIMIT $3`)

// TotalsAt returns the running totals after the newest live events of a room at
// or before a slot, newest first.
func TotalsAt(r *store.Read, room store.RoomNum, slot store.Slot, limit int) ([][]byte, error) {
	return store.Query(r, selectTotalsAt, (*store.Row).Bytes, room, slot, limit)
}

// Thread is a thread's root and the slot of its newest reply.
type Thread struct {
	Root   string // event ID
	Newest store.Slot
}
