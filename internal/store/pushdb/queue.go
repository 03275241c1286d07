// Table push_queue. Written by package push.

package pushdb

import "stoa/internal/store"

// Queued is a notification that its gateway has not taken yet.
type Queued struct {
	Pusher  int64
	Pos     store.Position // of the row of the stream
	Slot    store.Slot     // of the room; 0: only the number of unread events is sent
	Event   store.EventNum
	Tweaks  string // JSON object, or empty
	AddedTS int64  // ms of the database's clock
}

var (
	insertQueued = store.Prepare(`INSERT INTO push_queue (pusher, pos, slot, event, tweaks, added_ts) VALUES ($1, $2, $3, $4, $5, {{now}})
		ON CONFLICT (pusher, pos, slot) DO NOTHING`)
	deleteQueued = store.Prepare(`DELETE FROM push_queue WHERE pusher = $1 AND pos = $2 AND slot = $3`)
	selectQueue  = store.Prepare(`SELECT pusher, pos, slot, event, tweaks, added_ts FROM push_queue WHERE pusher = $1 ORDER BY pos, slot LIMIT $2`)
	countQueue   = store.Prepare(`SELECT COUNT(*), COALESCE(MIN(added_ts), 0) FROM push_queue WHERE pusher = $1`)
	trimQueue    = store.Prepare(`DELETE FROM push_queue WHERE pusher = $1 AND (pos, slot) <= (
		SELECT q.pos, q.slot FROM push_queue q WHERE q.pusher = $1 ORDER BY q.pos DESC, q.slot DESC LIMIT 1 OFFSET $2)`)
)

// AddQueued adds a notification to the queue of its pusher, unless it is there.
func AddQueued(c *store.Change, q Queued) {
	c.Exec(insertQueued, q.Pusher, q.Pos, q.Slot, q.Event, q.Tweaks)
}

// TrimQueue deletes the oldest notifications of a pusher's queue beyond a number.
func TrimQueue(c *store.Change, pusher int64, keep int) { c.Exec(trimQueue, pusher, keep) }

// DropQueued deletes a notification from its queue.
func DropQueued(c *store.Change, q Queued) { c.Exec(deleteQueued, q.Pusher, q.Pos, q.Slot) }

// TakeQueued is DropQueued that fails with missing if the notification is not there.
func TakeQueued(c *store.Change, q Queued, missing error) {
	c.ExecOne(deleteQueued, missing, q.Pusher, q.Pos, q.Slot)
}

// DropQueue deletes the queue of a pusher.
func DropQueue(c *store.Change, pusher int64) { c.Exec(deleteQueue, pusher) }

// Queue returns the oldest notifications of a pusher's queue.
func Queue(r *store.Read, pusher int64, limit int) ([]Queued, error) {
	return store.Query(r, selectQueue, func(row *store.Row) (q Queued) {
		row.Scan(&q.Pusher, &q.Pos, &q.Slot, &q.Event, &q.Tweaks, &q.AddedTS)
		return q
	}, pusher, limit)
}

// QueueLength returns how many notifications wait for a pusher, and since when (ms).
func QueueLength(r *store.Read, pusher int64) (n, since int64, err error) {
	_, err = store.QueryOne(r, countQueue, func(row *store.Row) int {
		row.Scan(&n, &since)
		return 0
	}, pusher)
	return n, since, err
}
