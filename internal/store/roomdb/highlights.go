// Table highlights.

package roomdb

import "stoa/internal/store"

// HighlightKind is the effect of an event on a member's counts.
type HighlightKind int64

const (
	CountsAsNotify    HighlightKind = 1
	CountsAsHighlight HighlightKind = 2 // notifies too
)

// Highlight is an event with a higher verdict for a member than the default.
type Highlight struct {
	Room   store.RoomNum
	User   store.UserNum
	Slot   store.Slot
	Thread string // "" main timeline, else the thread's root
	Kind   HighlightKind
	Event  store.EventNum
}

const highlightColumns = `room, user_num, slot, thread, kind, event`

var (
	insertHighlight  = store.Prepare(`INSERT INTO highlights (` + highlightColumns + `) VALUES ($1, $2, $3, $4, $5, $6)`)
	deleteHighlights = store.Prepare(`DELETE FROM highlights WHERE room = $1 AND user_num = $2 AND slot <= $3`)
	deleteHighlight  = store.Prepare(`DELETE FROM highlights WHERE room = $1 AND user_num = $2 AND slot = $3`)
	selectHighlights = store.Prepare(`SELECT ` + highlightColumns + ` FROM highlights
		WHERE room = $1 AND user_num = $2 AND slot > $3 AND slot <= $4 ORDER BY slot LIMIT $5`)
)

func scanHighlight(row *store.Row) (h Highlight) {
	var kind int64
	row.Scan(&h.Room, &h.User, &h.Slot, &h.Thread, &kind, &h.Event)
	h.Kind = HighlightKind(kind)
	return h
}

// AddHighlight writes a higher verdict, in the event's own commit.
func AddHighlight(c *store.Change, h Highlight) {
	c.Exec(insertHighlight, h.Room, h.User, h.Slot, h.Thread, int64(h.Kind), h.Event)
}

// DropHighlights deletes a member's highlights up to a slot, which the member has read.
func DropHighlights(c *store.Change, room store.RoomNum, user store.UserNum, upTo store.Slot) {
	c.Exec(deleteHighlights, room, user, upTo)
}

// DropHighlight deletes one highlight, because its event was redacted.
func DropHighlight(c *store.Change, room store.RoomNum, user store.UserNum, slot store.Slot) {
	c.Exec(deleteHighlight, room, user, slot)
}

// Highlights returns a member's highlights after one slot up to another.
func Highlights(r *store.Read, room store.RoomNum, user store.UserNum, after, upTo store.Slot, limit int) ([]Highlight, error) {
	return store.Query(r, selectHighlights, scanHighlight, room, user, after, upTo, limit)
}
