// Table backward_extremities.

package roomdb

import "stoa/internal/store"

// MissingEvent is a backward extremity: an event that is not stored, and the place before
// which its history belongs.
type MissingEvent struct {
	EventID string
	Before  Place
}

var (
	insertMissing = store.Prepare(`INSERT INTO backward_extremities (room, event_id, slot, off) VALUES ($1, $2, $3, $4)
		ON CONFLICT (room, event_id) DO NOTHING`)
	deleteMissing = store.Prepare(`DELETE FROM backward_extremities WHERE room = $1 AND event_id = $2`)
	selectMissing = store.Prepare(`SELECT event_id, slot, off FROM backward_extremities WHERE room = $1 AND (slot, off) <= ($2, $3)
		ORDER BY slot DESC, off DESC LIMIT $4`)
)

// AddMissing records that an event at a place refers to an event that is not stored.
func AddMissing(c *store.Change, room store.RoomNum, m MissingEvent) {
	c.Exec(insertMissing, room, m.EventID, m.Before.Slot, m.Before.Off)
}

// DropMissing deletes a backward extremity, because the event is stored now.
func DropMissing(c *store.Change, room store.RoomNum, eventID string) {
	c.Exec(deleteMissing, room, eventID)
}

// Missing returns the backward extremities at or before a place, nearest first.
func Missing(r *store.Read, room store.RoomNum, at Place, limit int) ([]MissingEvent, error) {
	return store.Query(r, selectMissing, func(row *store.Row) (m MissingEvent) {
		row.Scan(&m.EventID, &m.Before.Slot, &m.Before.Off)
		return m
	}, room, at.Slot, at.Off, limit)
}
