// Table threads. Written by package room.

package store

var (
	upsertThread = stmt(`INSERT INTO threads (room, root, slot, totals) VALUES ($1, $2, $3, $4)
		ON CONFLICT (room, root) DO UPDATE SET slot = excluded.slot, totals = excluded.totals`)
	selectThreadTotals = stmt(`SELECT totals FROM threads WHERE room = $1 AND root = $2`)
)

// SetThread writes the totals of a thread after its newest event, which is at a
// slot of this change.
func (c *Change) SetThread(room RoomNum, root string, slot Slot, totals []byte) {
	c.exec(upsertThread, room, root, slot, totals)
}

// ThreadTotals returns the totals of a thread after its newest event; ErrNotFound
// if the thread has none.
func (r *Read) ThreadTotals(room RoomNum, root string) ([]byte, error) {
	return queryOne(r, selectThreadTotals, (*Row).Bytes, room, root)
}
