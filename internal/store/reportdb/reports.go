// Package reportdb keeps the reports of users to the server's administrators.
//
// It owns the SQL of the table reports. Package report writes it; reads are free.
//
// The invariant: a report is open until closed_ts is set, and never opens again.
package reportdb

import "stoa/internal/store"

// Report is a row of the table reports.
type Report struct {
	ID        string
	CreatedTS int64 // ms
	Reporter  store.UserNum
	RoomID    string // "": a user was reported
	EventID   string // "": the room or the user was reported
	Reported  string // the user, or the sender of the event; "" for a room
	Reason    string
	Event     []byte // the event as the reporter saw it; nil for none
	Assignee  string
	Note      string
	ClosedTS  int64 // ms; 0: open

	// ReporterID is the reporter's user ID. Only reads set it.
	ReporterID string
}

const columns = `r.id, r.created_ts, r.reporter, r.room_id, r.event_id, r.reported, r.reason, r.event, r.assignee, r.note, r.closed_ts`

var (
	insertReport = store.Prepare(`INSERT INTO reports (id, created_ts, reporter, room_id, event_id, reported, reason, event)
		VALUES ($1, {{now}}, $2, $3, $4, $5, $6, $7)`)
	updateReport = store.Prepare(`UPDATE reports SET assignee = $2, note = $3 WHERE id = $1 AND closed_ts = 0`)
	closeReport  = store.Prepare(`UPDATE reports SET assignee = $2, note = $3, closed_ts = {{now}} WHERE id = $1 AND closed_ts = 0`)
	countOpen    = store.Prepare(`SELECT COUNT(*) FROM reports WHERE reporter = $1 AND closed_ts = 0`)
	selectReport = store.Prepare(`SELECT ` + columns + `, u.user_id FROM reports r JOIN users u ON u.num = r.reporter WHERE r.id = $1`)
	selectOpen   = store.Prepare(`SELECT ` + columns + `, u.user_id FROM reports r JOIN users u ON u.num = r.reporter
		WHERE r.closed_ts = 0 AND (r.created_ts, r.id) > ($1, $2) ORDER BY r.created_ts, r.id LIMIT $3`)
	selectClosed = store.Prepare(`SELECT ` + columns + `, u.user_id FROM reports r JOIN users u ON u.num = r.reporter
		WHERE r.closed_ts > 0 ORDER BY r.closed_ts DESC, r.created_ts DESC, r.id LIMIT $1`)
	deleteClosed = store.Prepare(`DELETE FROM reports WHERE closed_ts > 0 AND closed_ts < {{now}} - $1`)
)

func scan(row *store.Row) (r Report) {
	row.Scan(&r.ID, &r.CreatedTS, &r.Reporter, &r.RoomID, &r.EventID, &r.Reported, &r.Reason, &r.Event, &r.Assignee, &r.Note, &r.ClosedTS, &r.ReporterID)
	return r
}

// Add writes a new report; ID, Reporter and what is reported are taken from r.
func Add(c *store.Change, r Report) {
	c.Exec(insertReport, r.ID, r.Reporter, r.RoomID, r.EventID, r.Reported, r.Reason, r.Event)
}

// Update writes assignee and note of an open report. The change fails with ErrNotFound if
// there is none of the ID.
func Update(c *store.Change, reportID, assignee, note string) {
	c.ExecOne(updateReport, store.ErrNotFound, reportID, assignee, note)
}

// Close is Update, and closes the report.
func Close(c *store.Change, reportID, assignee, note string) {
	c.ExecOne(closeReport, store.ErrNotFound, reportID, assignee, note)
}

// CountOpen counts the open reports of a user.
func CountOpen(r *store.Read, reporter store.UserNum) (int64, error) {
	return store.QueryOne(r, countOpen, (*store.Row).Int, reporter)
}

// ByID returns a report, or store.ErrNotFound.
func ByID(r *store.Read, reportID string) (Report, error) {
	return store.QueryOne(r, selectReport, scan, reportID)
}

// Open returns open reports after one (by time and ID), the oldest first.
func Open(r *store.Read, afterTS int64, afterID string, limit int) ([]Report, error) {
	return store.Query(r, selectOpen, scan, afterTS, afterID, limit)
}

// Closed returns closed reports, the last closed first.
func Closed(r *store.Read, limit int) ([]Report, error) {
	return store.Query(r, selectClosed, scan, limit)
}

// Expire deletes reports that were closed some ms ago.
func Expire(c *store.Change, afterMS int64) { c.Exec(deleteClosed, afterMS) }
