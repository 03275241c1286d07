// Reads of an instance that follows the changes of others: the data that many rows of the
// stream refer to, each kind in one query.

package roomdb

import "stoa/internal/store"

var (
	selectAtSlots = store.Prepare(`SELECT e.totals, (CASE WHEN EXISTS (SELECT 1 FROM highlights AS h WHERE h.room = e.room AND h.slot = e.slot)
			THEN 1 ELSE 0 END), ` + syncEventColumns + `
		FROM {{each $1}} AS v JOIN events AS e ON e.room = (v.v >> 32) AND e.slot = (v.v & 4294967295) AND e.off = 0
		ORDER BY e.room, e.slot`)
	selectLogAtSlots = store.Prepare(`SELECT l.room, l.slot, l.key, l.event, l.prev_event FROM {{each $1}} AS v
		JOIN state_log AS l ON l.room = (v.v >> 32) AND l.slot = (v.v & 4294967295) ORDER BY l.room, l.slot, l.key`)
)

// SlotEvent is a live event with its running totals.
type SlotEvent struct {
	SyncEvent
	Totals []byte
	// Raised says that it has a higher verdict for some members.
	Raised bool
}

// EventsAt returns the live events at slots of several rooms, by room and slot.
func EventsAt(r *store.Read, slots []RoomSlot, known Known) ([]SlotEvent, error) {
	scan := scanSyncEvent(known)
	return store.Query(r, selectAtSlots, func(row *store.Row) (e SlotEvent) {
		e.Totals, e.Raised = row.Bytes(), row.Bool()
		e.SyncEvent = scan(row)
		return e
	}, PackSlots(slots))
}

// LogAt returns the changes of state at slots of several rooms, by room and slot.
func LogAt(r *store.Read, slots []RoomSlot) ([]StateChange, error) {
	return store.Query(r, selectLogAtSlots, scanStateChange, PackSlots(slots))
}
