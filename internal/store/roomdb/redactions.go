// Tables redacted, waiting_redactions.

package roomdb

import "stoa/internal/store"

var selectRedactedAfter = store.Prepare(`SELECT e.num, e.redacted_by FROM events AS e JOIN events AS r ON r.num = e.redacted_by
		WHERE e.redacted_by > 0 AND e.flags < 8 AND e.redacted_by > $1 AND r.received_ts < $2 ORDER BY e.redacted_by LIMIT $3`)

// Redacted is a redacted event that is still stored in its original form.
type Redacted struct {
	Event, By store.EventNum
}

// RedactedEvents returns events whose redaction was received before a time (ms),
// by the redaction's number.
func RedactedEvents(r *store.Read, afterBy store.EventNum, before int64, limit int) ([]Redacted, error) {
	return store.Query(r, selectRedactedAfter, func(row *store.Row) (x Redacted) {
		row.Scan(&x.Event, &x.By)
		return x
	}, afterBy, before, limit)
}

// RedactedEvent is a redacted event whose original bytes are to be replaced.
type RedactedEvent struct {
	Due   int64 // ms
	Event store.EventNum
	Room  store.RoomNum
}

var (
	insertRedacted = store.Prepare(`INSERT INTO redacted (due, event, room) VALUES ($1, $2, $3) ON CONFLICT (due, event) DO NOTHING`)
	deleteRedacted = store.Prepare(`DELETE FROM redacted WHERE due = $1 AND event = $2`)
	selectRedacted = store.Prepare(`SELECT due, event, room FROM redacted WHERE due <= $1 ORDER BY due, event LIMIT $2`)
)

// AddRedacted records when the bytes of an event are to be replaced.
func AddRedacted(c *store.Change, r RedactedEvent) { c.Exec(insertRedacted, r.Due, r.Event, r.Room) }

// DropRedacted deletes the record, because the bytes were replaced or the event deleted.
func DropRedacted(c *store.Change, r RedactedEvent) { c.Exec(deleteRedacted, r.Due, r.Event) }

// RedactedDue returns events whose bytes are to be replaced, longest due first.
func RedactedDue(r *store.Read, now int64, limit int) ([]RedactedEvent, error) {
	return store.Query(r, selectRedacted, func(row *store.Row) (e RedactedEvent) {
		row.Scan(&e.Due, &e.Event, &e.Room)
		return e
	}, now, limit)
}

var (
	insertWaiting = store.Prepare(`INSERT INTO waiting_redactions (room, target, event) VALUES ($1, $2, $3)`)
	deleteWaiting = store.Prepare(`DELETE FROM waiting_redactions WHERE room = $1 AND target = $2`)
	selectWaiting = store.Prepare(`SELECT event FROM waiting_redactions WHERE room = $1 AND target = $2 ORDER BY event LIMIT $3`)
)

// AddWaitingRedaction records a redaction whose target is not stored.
func AddWaitingRedaction(c *store.Change, room store.RoomNum, target string, event store.EventNum) {
	c.Exec(insertWaiting, room, target, event)
}

// DropWaitingRedactions deletes the records for a target, which is stored now.
func DropWaitingRedactions(c *store.Change, room store.RoomNum, target string) {
	c.Exec(deleteWaiting, room, target)
}

// WaitingRedactions returns the redactions that wait for an event, oldest first.
func WaitingRedactions(r *store.Read, room store.RoomNum, target string, limit int) ([]store.EventNum, error) {
	return store.Query(r, selectWaiting, store.Num[store.EventNum], room, target, limit)
}
