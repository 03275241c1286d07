// Table redacted. Written by package room.

package store

// RedactedEvent is a redacted event whose bytes are still those that were sent.
type RedactedEvent struct {
	Due   int64 // ms
	Event EventNum
	Room  RoomNum
}

var (
	insertRedacted = Prepare(`INSERT INTO redacted (due, event, room) VALUES ($1, $2, $3) ON CONFLICT (due, event) DO NOTHING`)
	deleteRedacted = Prepare(`DELETE FROM redacted WHERE due = $1 AND event = $2`)
	selectRedacted = Prepare(`SELECT due, event, room FROM redacted WHERE due <= $1 ORDER BY due, event LIMIT $2`)
)

// AddRedacted notes when the bytes of an event are to be replaced.
func (c *Change) AddRedacted(r RedactedEvent) { c.Exec(insertRedacted, r.Due, r.Event, r.Room) }

// DropRedacted forgets it: the bytes were replaced, or the event is gone.
func (c *Change) DropRedacted(r RedactedEvent) { c.Exec(deleteRedacted, r.Due, r.Event) }

// RedactedDue returns events whose bytes are to be replaced, the longest due first.
func (r *Read) RedactedDue(now int64, limit int) ([]RedactedEvent, error) {
	return Query(r, selectRedacted, func(row *Row) (e RedactedEvent) {
		row.Scan(&e.Due, &e.Event, &e.Room)
		return e
	}, now, limit)
}
