// Reads of the rooms of a user for a list that is ordered by their last activity.

package slidingdb

import (
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
)

// roomLimit bounds the rooms of one user that a read returns.
const roomLimit = roomdb.SyncRoomLimit

// ListRoom is a room of a user with its last activity.
type ListRoom struct {
	Room       store.RoomNum
	RoomID     string
	Membership roomdb.Membership
	Slot       store.Slot // of the room, at which the membership became so
	Event      store.EventNum
	// Active is the position of the last change of the room's timeline. Of what the stream has no longer, and of rooms that the user is
	// not in, it is the time in microseconds at which the last event, or that of the membership, came in: positions are times, if
	// there is not more than one change in a microsecond.
	Active store.Position
}

var (
	// lastActive is the last position of a room's timeline.
	lastActive = `COALESCE((SELECT s.pos FROM stream AS s WHERE s.owner_kind = 1 AND s.owner = m.room AND s.kind = 1 ORDER BY s.pos DESC LIMIT 1),
		(SELECT e.received_ts * 1000 FROM events AS e WHERE e.room = m.room AND e.off = 0 AND e.slot > 0 AND e.slot <= r.slot ORDER BY e.slot DESC LIMIT 1), 0)`

	selectJoined = store.Prepare(`SELECT m.room, r.room_id, m.membership, m.slot, m.event, ` + lastActive + `
		FROM memberships AS m JOIN rooms AS r ON r.num = m.room WHERE m.user_num = $1 AND m.membership = 1 ORDER BY m.room LIMIT $2`)
	// selectUnjoined are the rooms that somebody else keeps the user out of, or invites them to, and those they knock at.
	selectUnjoined = store.Prepare(`SELECT m.room, r.room_id, m.membership, m.slot, m.event, e.received_ts * 1000
		FROM memberships AS m JOIN rooms AS r ON r.num = m.room JOIN events AS e ON e.num = m.event
		WHERE m.user_num = $1 AND m.membership <> 1 AND m.forgotten = 0 AND (m.membership IN (2, 5) OR e.sender <> $2)
		ORDER BY m.room LIMIT $3`)
	selectBumps = store.Prepare(`SELECT v.v, COALESCE((SELECT e.slot FROM events AS e JOIN rooms AS r ON r.num = v.v WHERE e.room = v.v AND e.off = 0
			AND e.slot > 0 AND e.slot > r.slot - $2 AND e.redacted_by = 0
			AND e.type IN ('m.room.create', 'm.room.message', 'm.room.encrypted', 'm.sticker', 'm.call.invite', 'm.poll.start', 'm.beacon_info',
				'org.matrix.msc3381.poll.start', 'org.matrix.msc3672.beacon_info')
			ORDER BY e.slot DESC LIMIT 1), 0) FROM {{each $1}} AS v`)
	selectPlaced = store.Prepare(`SELECT v.v >> 32, v.v & 4294967295,
		COALESCE((SELECT s.pos FROM stream AS s WHERE s.owner_kind = 1 AND s.owner = (v.v >> 32) AND s.kind = 1
			AND s.first_slot <= (v.v & 4294967295) AND s.last_slot >= (v.v & 4294967295) ORDER BY s.pos DESC LIMIT 1),
		(SELECT e.received_ts * 1000 FROM events AS e WHERE e.room = (v.v >> 32) AND e.slot = (v.v & 4294967295) AND e.off = 0), 0)
		FROM {{each $1}} AS v`)
	selectRemoved = store.Prepare(`SELECT room, slot, key, event, prev_event FROM state_log
		WHERE room = $1 AND slot > $2 AND slot <= $3 AND event = 0 ORDER BY slot, key LIMIT $4`)
	selectHaving = store.Prepare(`SELECT c.room FROM {{each $1}} AS v JOIN current_state AS c ON c.room = v.v AND c.key = $2`)
	selectTyped  = store.Prepare(`SELECT c.room, c.event FROM {{each $1}} AS v JOIN current_state AS c ON c.room = v.v AND c.key = $2`)
)

func scanListRoom(row *store.Row) (l ListRoom) {
	l.Room, l.RoomID, l.Membership = store.Num[store.RoomNum](row), row.Text(), roomdb.Membership(row.Int())
	l.Slot, l.Event, l.Active = store.Num[store.Slot](row), store.Num[store.EventNum](row), store.Num[store.Position](row)
	return l
}

// Joined returns the rooms that a user is in, by number.
func Joined(r *store.Read, user store.UserNum) ([]ListRoom, error) {
	return store.Query(r, selectJoined, scanListRoom, user, roomLimit)
}

// Unjoined returns the rooms that a user is invited to, knocks at, or has left because of somebody else, by number. Forgotten ones are
// left out.
func Unjoined(r *store.Read, user store.UserNum, userID string) ([]ListRoom, error) {
	return store.Query(r, selectUnjoined, scanListRoom, user, userID, roomLimit)
}

// Bumps returns the slots of the newest events of some rooms that move them up in a client's list, among the last slots of each; 0 for
// rooms without any.
func Bumps(r *store.Read, rooms []store.RoomNum, slots int) ([]roomdb.RoomSlot, error) {
	return store.Query(r, selectBumps, scanRoomSlot, rooms, slots)
}

func scanRoomSlot(row *store.Row) (s roomdb.RoomSlot) {
	row.Scan(&s.Room, &s.Slot)
	return s
}

// Placed is a slot of a room with its position in the stream, or the time at which its event came in; see ListRoom.
type Placed struct {
	roomdb.RoomSlot
	At store.Position
}

// PositionsOf returns the positions of slots of rooms, in no order.
func PositionsOf(r *store.Read, slots []roomdb.RoomSlot) ([]Placed, error) {
	packed := make([]int64, len(slots))
	for i, s := range slots {
		packed[i] = int64(s.Room)<<32 | int64(s.Slot)
	}
	return store.Query(r, selectPlaced, func(row *store.Row) (p Placed) {
		row.Scan(&p.Room, &p.Slot, &p.At)
		return p
	}, packed)
}

// Removed returns the entries of state that were removed from a room after one slot up to another, oldest first.
func Removed(r *store.Read, room store.RoomNum, after, upTo store.Slot, limit int) ([]roomdb.StateChange, error) {
	return store.Query(r, selectRemoved, func(row *store.Row) (c roomdb.StateChange) {
		row.Scan(&c.Room, &c.Slot, &c.Key, &c.Event, &c.Prev)
		return c
	}, room, after, upTo, limit)
}

// Having returns those of some rooms whose current state has an entry.
func Having(r *store.Read, rooms []store.RoomNum, key store.KeyNum) ([]store.RoomNum, error) {
	return store.Query(r, selectHaving, store.Num[store.RoomNum], rooms, key)
}

// RoomEvent is an event of a room.
type RoomEvent struct {
	Room  store.RoomNum
	Event store.EventNum
}

// Entries returns the events of an entry of the current state of some rooms.
func Entries(r *store.Read, rooms []store.RoomNum, key store.KeyNum) ([]RoomEvent, error) {
	return store.Query(r, selectTyped, func(row *store.Row) (e RoomEvent) {
		row.Scan(&e.Room, &e.Event)
		return e
	}, rooms, key)
}
