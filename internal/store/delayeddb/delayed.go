// Package delayeddb stores events that users have scheduled for later.
//
// It owns the SQL of the table delayed_events. Only package delayed writes it, and decides what is sent and when; package
// userdb deletes the rows of a deactivated account.
//
// The invariant: a finalised event (sent, cancelled or failed) never changes again.
package delayeddb

import (
	"errors"

	"stoa/internal/store"
)

var (
	// ErrTxnTaken says that the transaction ID already has a delayed event.
	ErrTxnTaken = errors.New("store: transaction ID was used for a delayed event")
	// ErrMoved says that the event is no longer in the state that the write expects.
	ErrMoved = errors.New("store: the delayed event has another state")
)

// State is the state of a delayed event. The numbers are in the database.
type State int64

// The states. From Sent on, the event is finalised.
const (
	Scheduled State = iota
	Sending
	Sent
	Cancelled
	Failed
)

// Event is a row of the table. Times are ms of the store's clock.
type Event struct {
	ID       string
	User     store.UserNum
	Device   string
	Path     string
	TxnID    string
	RoomID   string
	Type     string
	StateKey *string // nil: a message
	Content  string
	Size     int64   // bytes of the row, about
	DelayMS  int64   // from SinceTS until it is sent
	SinceTS  int64   // when it was scheduled or last restarted
	Replaces *string // event ID of the state that it replaces, "" for none; nil: it may replace any
	State    State
	ByAction bool // a request finalised it
	EndedTS  int64
	EventID  string
	Error    string // JSON
}

// SendTS is when the event is due.
func (e *Event) SendTS() int64 { return e.SinceTS + e.DelayMS }

// IsFinalised reports whether the event was sent, or never will be.
func (e *Event) IsFinalised() bool { return e.State >= Sent }

const columns = `delay_id, user_num, device_id, path, txn_id, room_id, type, state_key, content, size, delay, since_ts, replaces,
	state, by_action, ended_ts, event_id, error`

var (
	insertEvent = store.Prepare(`INSERT INTO delayed_events (` + columns + `)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 0, 0, 0, '', '')
		ON CONFLICT (user_num, device_id, path, txn_id) DO NOTHING`)
	selectEvent  = store.Prepare(`SELECT ` + columns + ` FROM delayed_events WHERE delay_id = $1`)
	selectTxn    = store.Prepare(`SELECT ` + columns + ` FROM delayed_events WHERE user_num = $1 AND device_id = $2 AND path = $3 AND txn_id = $4`)
	selectOfUser = store.Prepare(`SELECT ` + columns + ` FROM delayed_events WHERE user_num = $1 ORDER BY delay_id LIMIT $2`)
	selectUsage  = store.Prepare(`SELECT COUNT(*), COALESCE(SUM(size), 0), COALESCE(MIN(since_ts + delay), 0) FROM delayed_events
		WHERE user_num = $1 AND state < 2`)

	restart  = store.Prepare(`UPDATE delayed_events SET since_ts = $2 WHERE delay_id = $1 AND state = 0`)
	begin    = store.Prepare(`UPDATE delayed_events SET state = 1 WHERE delay_id = $1 AND state < 2 AND since_ts = $2`)
	giveUp   = store.Prepare(`UPDATE delayed_events SET state = 0 WHERE delay_id = $1 AND state = 1`)
	finalise = store.Prepare(`UPDATE delayed_events SET state = $3, by_action = $4, ended_ts = $5, event_id = $6, error = $7
		WHERE delay_id = $1 AND state < $2`)

	// The window has few rows: those of one user.
	trimOfUser = store.Prepare(`DELETE FROM delayed_events WHERE delay_id IN (SELECT e.delay_id FROM
		(SELECT d.delay_id, SUM(d.size) OVER (ORDER BY d.ended_ts DESC, d.delay_id) AS newer, ROW_NUMBER() OVER (ORDER BY d.ended_ts DESC, d.delay_id) AS place
			FROM delayed_events d WHERE d.user_num = $1 AND d.state >= 2) e
		WHERE e.newer > $2 OR e.place > $3)`)
	expire       = store.Prepare(`DELETE FROM delayed_events WHERE ended_ts > 0 AND ended_ts < $1`)
	deleteOfUser = store.Prepare(`DELETE FROM delayed_events WHERE user_num = $1`)
)

func scan(row *store.Row) (e Event) {
	var state int64
	row.Scan(&e.ID, &e.User, &e.Device, &e.Path, &e.TxnID, &e.RoomID, &e.Type, &e.StateKey, &e.Content, &e.Size, &e.DelayMS, &e.SinceTS,
		&e.Replaces, &state, &e.ByAction, &e.EndedTS, &e.EventID, &e.Error)
	e.State = State(state)
	return e
}

// Add adds a scheduled event. The change fails with ErrTxnTaken if its transaction ID has one.
func Add(c *store.Change, e Event) {
	c.ExecOne(insertEvent, ErrTxnTaken, e.ID, e.User, e.Device, e.Path, e.TxnID, e.RoomID, e.Type, e.StateKey, e.Content, e.Size,
		e.DelayMS, e.SinceTS, e.Replaces)
}

// ByID returns an event, or store.ErrNotFound.
func ByID(r *store.Read, delayID string) (Event, error) {
	return store.QueryOne(r, selectEvent, scan, delayID)
}

// ByTxn returns the event of a transaction ID, or store.ErrNotFound.
func ByTxn(r *store.Read, user store.UserNum, device, path, txnID string) (Event, error) {
	return store.QueryOne(r, selectTxn, scan, user, device, path, txnID)
}

// OfUser returns the events of a user.
func OfUser(r *store.Read, user store.UserNum, limit int) ([]Event, error) {
	return store.Query(r, selectOfUser, scan, user, limit)
}

// Usage is what the scheduled events of a user take.
type Usage struct {
	Events, Bytes int64
	NextTS        int64 // when the first of them is due
}

// UsageOf returns what the scheduled events of a user take.
func UsageOf(r *store.Read, user store.UserNum) (Usage, error) {
	return store.QueryOne(r, selectUsage, func(row *store.Row) (u Usage) {
		row.Scan(&u.Events, &u.Bytes, &u.NextTS)
		return u
	}, user)
}

// Restart lets the delay of a scheduled event begin at a time. The change fails with ErrMoved if it is not scheduled.
func Restart(c *store.Change, delayID string, sinceTS int64) {
	c.ExecOne(restart, ErrMoved, delayID, sinceTS)
}

// Begin marks an event as being sent, so that it can't be cancelled or restarted. The change fails with ErrMoved if it was
// finalised, or restarted since it was read.
func Begin(c *store.Change, e Event) { c.ExecOne(begin, ErrMoved, e.ID, e.SinceTS) }

// GiveUp makes an event that was being sent a scheduled one again.
func GiveUp(c *store.Change, delayID string) { c.Exec(giveUp, delayID) }

// Cancel finalises a scheduled event. The change fails with ErrMoved if it is not scheduled.
func Cancel(c *store.Change, delayID string, at int64) {
	c.ExecOne(finalise, ErrMoved, delayID, int64(Sending), int64(Cancelled), true, at, "", "")
}

// Finish finalises an event that is not finalised: as sent with the ID of the room's event, or as failed with the error.
func Finish(c *store.Change, delayID string, byAction bool, at int64, eventID, cause string) {
	state := Sent
	if cause != "" {
		state = Failed
	}
	c.Exec(finalise, delayID, int64(Sent), int64(state), byAction, at, eventID, cause)
}

// Trim deletes the oldest finalised events of a user, above a number of bytes and of events.
func Trim(c *store.Change, user store.UserNum, bytes, events int64) {
	c.Exec(trimOfUser, user, bytes, events)
}

// Expire deletes the events that were finalised before a time.
func Expire(c *store.Change, before int64) { c.Exec(expire, before) }

// DeleteOfUser deletes all events of a user.
func DeleteOfUser(c *store.Change, user store.UserNum) { c.Exec(deleteOfUser, user) }
