// Table verdicts.

package roomdb

import (
	"strings"

	"stoa/internal/store"
)

// Verdict says why an event was rejected or soft-failed.
type Verdict struct {
	Rule   string // number in the authorisation rules of the room version; "" if another check refused the event
	Reason string // for people
}

var (
	upsertVerdict = store.Prepare(`INSERT INTO verdicts (room, event, rule, reason) VALUES ($1, $2, $3, $4)
		ON CONFLICT (room, event) DO UPDATE SET rule = excluded.rule, reason = excluded.reason`)
	deleteVerdict = store.Prepare(`DELETE FROM verdicts WHERE room = $1 AND event = $2`)
	selectVerdict = store.Prepare(`SELECT rule, reason FROM verdicts WHERE room = $1 AND event = $2`)
)

// SetVerdict records why an event was refused. Reasons may quote the event, so characters
// that PostgreSQL can't store are removed.
func SetVerdict(c *store.Change, room store.RoomNum, event store.EventNum, v Verdict) {
	reason := strings.ToValidUTF8(strings.ReplaceAll(v.Reason, "\x00", "\uFFFD"), "\uFFFD")
	c.Exec(upsertVerdict, room, event, v.Rule, reason)
}

// DropVerdict deletes the reason, because the event was accepted after all.
func DropVerdict(c *store.Change, room store.RoomNum, event store.EventNum) {
	c.Exec(deleteVerdict, room, event)
}

// VerdictOf returns why an event was refused, or ErrNotFound.
func VerdictOf(r *store.Read, room store.RoomNum, event store.EventNum) (Verdict, error) {
	return store.QueryOne(r, selectVerdict, func(row *store.Row) (v Verdict) {
		row.Scan(&v.Rule, &v.Reason)
		return v
	}, room, event)
}
