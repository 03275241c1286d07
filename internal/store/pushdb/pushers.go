// Table pushers. Written by package push.

package pushdb

import (
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
)

// Pusher is a row of the table.
type Pusher struct {
	Num      int64
	User     store.UserNum
	AppID    string
	Pushkey  string
	Kind     string
	DeviceID string // empty = that of a session without a device
	Enabled  bool
	Details  string // JSON object
	Data     string // JSON object
	SetTS    int64  // ms
	Badge    bool   // its gateway was last told of unread events
	Health
	// Queued says that notifications wait in its queue.
	Queued bool
}

// Health is how the deliveries of a pusher go. The zero value is well.
type Health struct {
	Tries     int   // that failed in a row
	FailingTS int64 // ms; since when; 0 = it does not fail
	NextTS    int64 // ms; no try before
	AsideTS   int64 // ms; since when it is set aside; 0 = it is not
	Error     string
}

const pusherColumns = `p.num, p.user_num, p.app_id, p.pushkey, p.kind, p.device_id, p.enabled, p.details, p.data, p.set_ts, p.badge,
	p.tries, p.failing_ts, p.next_ts, p.aside_ts, p.error, CASE WHEN EXISTS (SELECT 1 FROM push_queue q WHERE q.pusher = p.num) THEN 1 ELSE 0 END`

var (
	selectPushersOf  = store.Prepare(`SELECT ` + pusherColumns + ` FROM pushers p WHERE {{in p.user_num $1}} ORDER BY p.user_num, p.num`)
	selectPusher     = store.Prepare(`SELECT ` + pusherColumns + ` FROM pushers p WHERE p.num = $1`)
	selectSameKey    = store.Prepare(`SELECT num, user_num FROM pushers WHERE pushkey = $1 AND app_id = $2 ORDER BY num`)
	selectAny        = store.Prepare(`SELECT COALESCE(MAX(num), 0) FROM pushers`)
	selectRoomPushes = store.Prepare(`SELECT m.user_num, u.user_id, m.slot, m.membership FROM memberships m JOIN users u ON u.num = m.user_num
		WHERE m.room = $1 AND m.pushes = 1 AND m.user_num > $2 ORDER BY m.user_num LIMIT $3`)
	selectReaders = store.Prepare(`SELECT DISTINCT r.user_num, u.user_id FROM {{each $1}} v
		JOIN receipts r ON r.room = (v.v >> 32) AND r.seq = (v.v & 4294967295)
		JOIN pushers p ON p.user_num = r.user_num JOIN users u ON u.num = r.user_num`)

	selectNewest = store.Prepare(`SELECT m.room, m.slot, COALESCE((SELECT s.pos FROM stream s
			WHERE s.owner_kind = 1 AND s.owner = m.room AND s.pos <= $2 AND s.kind = 1 ORDER BY s.pos DESC LIMIT 1), 0)
		FROM memberships m WHERE m.user_num = $1 AND m.membership = 1 ORDER BY m.room LIMIT $3`)

	upsertPusher = store.Prepare(`INSERT INTO pushers (num, user_num, app_id, pushkey, kind, device_id, enabled, details, data, set_ts)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
		ON CONFLICT (user_num, app_id, pushkey) DO UPDATE SET kind = excluded.kind, device_id = excluded.device_id, enabled = excluded.enabled,
			details = excluded.details, data = excluded.data, set_ts = excluded.set_ts,
			tries = 0, failing_ts = 0, next_ts = 0, aside_ts = 0, error = ''`)
	deletePusher      = store.Prepare(`DELETE FROM pushers WHERE num = $1`)
	deleteQueue       = store.Prepare(`DELETE FROM push_queue WHERE pusher = $1`)
	deleteQueueDevice = store.Prepare(`DELETE FROM push_queue WHERE pusher IN (SELECT num FROM pushers WHERE user_num = $1 AND device_id = $2)`)
	deleteDevice      = store.Prepare(`DELETE FROM pushers WHERE user_num = $1 AND device_id = $2`)
	deleteQueueUser   = store.Prepare(`DELETE FROM push_queue WHERE pusher IN (SELECT num FROM pushers WHERE user_num = $1)`)
	deleteUser        = store.Prepare(`DELETE FROM pushers WHERE user_num = $1`)
	updateHealth      = store.Prepare(`UPDATE pushers SET tries = $2, failing_ts = $3, next_ts = $4, aside_ts = $5, error = $6 WHERE num = $1`)
	updateBadge       = store.Prepare(`UPDATE pushers SET badge = $2 WHERE {{in num $1}} AND badge <> $2`)
)

func scanPusher(row *store.Row) (p Pusher) {
	row.Scan(&p.Num, &p.User, &p.AppID, &p.Pushkey, &p.Kind, &p.DeviceID, &p.Enabled, &p.Details, &p.Data, &p.SetTS, &p.Badge,
		&p.Tries, &p.FailingTS, &p.NextTS, &p.AsideTS, &p.Error, &p.Queued)
	return p
}

// Pushers returns the pushers of some users, by user and age.
func Pushers(r *store.Read, users ...store.UserNum) ([]Pusher, error) {
	return store.Query(r, selectPushersOf, scanPusher, users)
}

// PusherByNum returns one pusher, or store.ErrNotFound.
func PusherByNum(r *store.Read, num int64) (Pusher, error) {
	return store.QueryOne(r, selectPusher, scanPusher, num)
}

// Owner names a pusher and its user.
type Owner struct {
	Num  int64
	User store.UserNum
}

// SameKey returns all pushers with an app ID and a pushkey, of whatever users.
func SameKey(r *store.Read, appID, pushkey string) ([]Owner, error) {
	return store.Query(r, selectSameKey, func(row *store.Row) (o Owner) {
		row.Scan(&o.Num, &o.User)
		return o
	}, pushkey, appID)
}

// Any reports whether there is any pusher.
func Any(r *store.Read) (bool, error) { return store.QueryOne(r, selectAny, (*store.Row).Bool) }

// Member is a local user with pushers, and their membership in a room.
type Member struct {
	User       store.UserNum
	UserID     string
	Slot       store.Slot // of the room, since when
	Membership roomdb.Membership
}

// Members returns the local users with pushers who have, or had, a membership in a room, by number. What it reads does not
// depend on the members without pushers.
func Members(r *store.Read, room store.RoomNum, after store.UserNum, limit int) ([]Member, error) {
	return store.Query(r, selectRoomPushes, func(row *store.Row) (m Member) {
		m.User, m.UserID, m.Slot, m.Membership = store.Num[store.UserNum](row), row.Text(), store.Num[store.Slot](row), roomdb.Membership(row.Int())
		return m
	}, room, after, limit)
}

// Reader is a user with pushers.
type Reader struct {
	User   store.UserNum
	UserID string
}

// Readers returns the users with pushers among those whose receipts were written at some receipt slots of rooms.
func Readers(r *store.Read, slots []roomdb.RoomSlot) ([]Reader, error) {
	return store.Query(r, selectReaders, func(row *store.Row) (x Reader) {
		row.Scan(&x.User, &x.UserID)
		return x
	}, roomdb.PackSlots(slots))
}

// NewestRow is a room that a user has joined, and its newest row of the stream up to a position.
type NewestRow struct {
	Room   store.RoomNum
	Joined store.Slot     // since when the user is a member
	Pos    store.Position // 0: there is none
}

// NewestRows returns the rooms that a user has joined, with their newest events up to a position.
func NewestRows(r *store.Read, user store.UserNum, upTo store.Position, limit int) ([]NewestRow, error) {
	return store.Query(r, selectNewest, func(row *store.Row) (n NewestRow) {
		row.Scan(&n.Room, &n.Joined, &n.Pos)
		return n
	}, user, upTo, limit)
}

// SetPusher creates a pusher, or replaces the one of its user with the same app ID and pushkey, which then begins anew. The
// caller adds the user's head to the same change.
func SetPusher(c *store.Change, p Pusher) {
	c.Exec(upsertPusher, p.Num, p.User, p.AppID, p.Pushkey, p.Kind, p.DeviceID, p.Enabled, p.Details, p.Data, p.SetTS)
	roomdb.MarkPushes(c, p.User)
}

// DeletePusher deletes a pusher with its queue.
func DeletePusher(c *store.Change, p Owner) {
	c.Exec(deleteQueue, p.Num)
	c.Exec(deletePusher, p.Num)
	roomdb.UnmarkPushes(c, p.User)
}

// DeletePushersOfDevice deletes the pushers that a device has set.
func DeletePushersOfDevice(c *store.Change, user store.UserNum, deviceID string) {
	c.Exec(deleteQueueDevice, user, deviceID)
	c.Exec(deleteDevice, user, deviceID)
	roomdb.UnmarkPushes(c, user)
}

// DeletePushersOfUser deletes all pushers of a user.
func DeletePushersOfUser(c *store.Change, user store.UserNum) {
	c.Exec(deleteQueueUser, user)
	c.Exec(deleteUser, user)
	roomdb.UnmarkPushes(c, user)
}

// SetHealth records how the deliveries of a pusher go.
func SetHealth(c *store.Change, pusher int64, h Health) {
	c.Exec(updateHealth, pusher, h.Tries, h.FailingTS, h.NextTS, h.AsideTS, h.Error)
}

// SetBadge records whether the gateways of some pushers were last told of unread events.
func SetBadge(c *store.Change, pushers []int64, badge bool) {
	if len(pushers) > 0 {
		c.Exec(updateBadge, pushers, badge)
	}
}
