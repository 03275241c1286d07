// Reads of packages streamcache, clientsync and slidingsync: the data of many rooms for one /sync
// answer, each kind in one query.

package roomdb

import "stoa/internal/store"

// SyncRoomLimit bounds the rooms of one user that a read returns.
const SyncRoomLimit = 50_000

// SyncRoom is a user's membership with the part of the room's row that an answer needs.
type SyncRoom struct {
	RoomMembership
	RoomID      string
	Version     string
	RoomSlot    store.Slot
	ReceiptSlot store.Slot
	Joined      int64
	Invited     int64
	Resident    bool
	Totals      []byte
}

const syncRoomColumns = `m.user_num, m.room, m.membership, m.slot, m.event, m.forgotten, m.user_slot, m.stripped,
	r.room_id, r.version, r.slot, r.receipt_slot, r.joined, r.invited, r.resident, r.totals`

var (
	selectSyncRooms = store.Prepare(`SELECT ` + syncRoomColumns + ` FROM memberships AS m JOIN rooms AS r ON r.num = m.room
		WHERE m.user_num = $1 AND (m.membership <> 3 AND m.membership <> 4 OR $2 = 1) AND m.forgotten = 0
		ORDER BY m.room LIMIT $3`)
	selectSyncLeft = store.Prepare(`SELECT ` + syncRoomColumns + ` FROM memberships AS m JOIN rooms AS r ON r.num = m.room
		WHERE m.user_num = $1 AND m.user_slot > $2 AND (m.membership = 3 OR m.membership = 4)
		ORDER BY m.room LIMIT $3`)
	selectSyncRoomsOf = store.Prepare(`SELECT ` + syncRoomColumns + ` FROM {{each $2}} AS v
		JOIN memberships AS m ON m.user_num = $1 AND m.room = v.v JOIN rooms AS r ON r.num = m.room`)
	selectJoined = store.Prepare(`SELECT m.room, r.room_id, m.slot, r.joined FROM memberships AS m JOIN rooms AS r ON r.num = m.room
		WHERE m.user_num = $1 AND m.membership = 1 ORDER BY m.room LIMIT $2`)
)

func scanSyncRoom(row *store.Row) (s SyncRoom) {
	s.RoomMembership = scanMembership(row)
	row.Scan(&s.RoomID, &s.Version, &s.RoomSlot, &s.ReceiptSlot, &s.Joined, &s.Invited, &s.Resident, &s.Totals)
	return s
}

// SyncRooms returns the rooms of a user that are not forgotten, by number, with left set
// also those that the user left or was banned from.
func SyncRooms(r *store.Read, user store.UserNum, left bool) ([]SyncRoom, error) {
	return store.Query(r, selectSyncRooms, scanSyncRoom, user, left, SyncRoomLimit)
}

// SyncLeft returns the rooms that a user left, or was banned from, after a slot of the
// user, including those forgotten since.
func SyncLeft(r *store.Read, user store.UserNum, after store.Slot) ([]SyncRoom, error) {
	return store.Query(r, selectSyncLeft, scanSyncRoom, user, after, SyncRoomLimit)
}

// SyncRoomsOf returns some rooms of a user, in no order, without those that the user has nothing to do with.
func SyncRoomsOf(r *store.Read, user store.UserNum, rooms []store.RoomNum) ([]SyncRoom, error) {
	return store.Query(r, selectSyncRoomsOf, scanSyncRoom, user, rooms)
}

// JoinedRoom is a room that a user has joined.
type JoinedRoom struct {
	Room   store.RoomNum
	RoomID string
	Slot   store.Slot // of the room, at which the user became a member
	Joined int64      // members of the room
}

// JoinedRooms returns the rooms that a local user has joined, by number.
func JoinedRooms(r *store.Read, user store.UserNum) ([]JoinedRoom, error) {
	return store.Query(r, selectJoined, func(row *store.Row) (j JoinedRoom) {
		row.Scan(&j.Room, &j.RoomID, &j.Slot, &j.Joined)
		return j
	}, user, SyncRoomLimit)
}

// SyncEvent is an event for an answer.
type SyncEvent struct {
	Room       store.RoomNum
	Place      Place
	Num        store.EventNum
	EventID    string
	Key        store.KeyNum // 0: not a state event
	Standing   Standing
	RedactedBy store.EventNum
	TxnDevice  string
	TxnID      string
	Bytes      []byte // nil if the caller knows the event
}

// Known reports whether the caller has an event in memory, so that its bytes need not be
// read. It may be nil.
type Known func(event, redactedBy store.EventNum) bool

const syncEventColumns = `e.num, e.redacted_by, e.room, e.slot, e.off, e.state_key_num, e.flags, e.event_id, e.txn_device, e.txn_id, e.bytes`

var (
	selectRecentEvents = store.Prepare(`SELECT ` + syncEventColumns + ` FROM {{each $1}} AS v JOIN rooms AS r ON r.num = v.v
		JOIN events AS e ON e.room = r.num AND e.slot > r.slot - $2 AND e.off = 0 ORDER BY e.room, e.slot`)
	selectEventRange = store.Prepare(`SELECT ` + syncEventColumns + ` FROM events AS e
		WHERE e.room = $1 AND e.slot > $2 AND e.slot <= $3 AND e.off = 0 ORDER BY e.slot DESC LIMIT $4`)
	selectSyncEvents = store.Prepare(`SELECT ` + syncEventColumns + ` FROM events AS e WHERE {{in e.num $1}}`)
)

func scanSyncEvent(known Known) func(*store.Row) SyncEvent {
	return func(row *store.Row) (e SyncEvent) {
		e.Num, e.RedactedBy = store.Num[store.EventNum](row), store.Num[store.EventNum](row)
		e.Room, e.Place.Slot, e.Place.Off = store.Num[store.RoomNum](row), store.Num[store.Slot](row), row.Int()
		e.Key, e.Standing = store.Num[store.KeyNum](row), Standing(row.Int())
		if known != nil && known(e.Num, e.RedactedBy) {
			return e
		}
		e.EventID, e.TxnDevice, e.TxnID, e.Bytes = row.Text(), row.Text(), row.Text(), row.Bytes()
		return e
	}
}

// SyncRecentEvents returns the live events in the last slots of some rooms, by room and
// place, oldest first.
func SyncRecentEvents(r *store.Read, rooms []store.RoomNum, slots int, known Known) ([]SyncEvent, error) {
	return store.Query(r, selectRecentEvents, scanSyncEvent(known), rooms, slots)
}

// SyncEventRange returns up to limit live events of a room with after < slot ≤ upTo,
// newest first.
func SyncEventRange(r *store.Read, room store.RoomNum, after, upTo store.Slot, limit int, known Known) ([]SyncEvent, error) {
	return store.Query(r, selectEventRange, scanSyncEvent(known), room, after, upTo, limit)
}

// SyncEvents returns events by their numbers, in no order, without missing ones.
func SyncEvents(r *store.Read, events []store.EventNum, known Known) ([]SyncEvent, error) {
	return store.Query(r, selectSyncEvents, scanSyncEvent(known), events)
}

// StateSlot is an entry of current state with the slot of its last change.
type StateSlot struct {
	Room  store.RoomNum
	Key   store.KeyNum
	Event store.EventNum
	Slot  store.Slot
}

// StateChange is one row of a room's state log.
type StateChange struct {
	Room  store.RoomNum
	Slot  store.Slot
	Key   store.KeyNum
	Event store.EventNum // 0: removed
	Prev  store.EventNum // 0: there was none
}

var (
	selectOtherState = store.Prepare(`SELECT c.room, c.key, c.event, c.slot FROM {{each $1}} AS v
		JOIN current_state AS c ON c.room = v.v AND c.membership = 0 ORDER BY c.room, c.key`)
	selectAllState = store.Prepare(`SELECT c.room, c.key, c.event, c.slot FROM {{each $1}} AS v
		JOIN current_state AS c ON c.room = v.v ORDER BY c.room, c.key`)
	selectStatePairs = store.Prepare(`SELECT c.room, c.key, c.event, c.slot FROM {{each $1}} AS v
		JOIN current_state AS c ON c.room = (v.v >> 32) AND c.key = (v.v & 4294967295)`)
	selectStateRedactions = store.Prepare(`SELECT c.room, r.slot FROM {{each $1}} AS v
		JOIN current_state AS c ON c.room = (v.v >> 32) AND c.key = (v.v & 4294967295)
		JOIN events AS e ON e.num = c.event JOIN events AS r ON r.num = e.redacted_by WHERE e.redacted_by <> 0`)
	selectCurrentEntries = store.Prepare(`SELECT (SELECT COALESCE(MAX(pos), 0) FROM stream), c.key, c.slot, ` + syncEventColumns + `
		FROM {{each $1}} AS v JOIN current_state AS c ON c.room = (v.v >> 32) AND c.key = (v.v & 4294967295)
		JOIN events AS e ON e.num = c.event`)
	selectRecentChanges = store.Prepare(`SELECT l.room, l.slot, l.key, l.event, l.prev_event FROM {{each $1}} AS v JOIN rooms AS r ON r.num = v.v
		JOIN state_log AS l ON l.room = r.num AND l.slot > r.slot - $2 ORDER BY l.room, l.slot, l.key`)
	selectChangeRange = store.Prepare(`SELECT room, slot, key, event, prev_event FROM state_log
		WHERE room = $1 AND slot > $2 AND slot <= $3 ORDER BY slot, key`)
	selectHeroes = store.Prepare(`SELECT c.room, c.key, c.event, c.slot FROM current_state AS c
		WHERE c.room = $1 AND c.membership = $2 AND c.membership <> 0 ORDER BY c.slot, c.key LIMIT $3`)
)

func scanStateSlot(row *store.Row) (s StateSlot) {
	row.Scan(&s.Room, &s.Key, &s.Event, &s.Slot)
	return s
}

func scanStateChange(row *store.Row) (c StateChange) {
	row.Scan(&c.Room, &c.Slot, &c.Key, &c.Event, &c.Prev)
	return c
}

// SyncState returns the current state of some rooms, by room and key, if requested with
// members.
func SyncState(r *store.Read, rooms []store.RoomNum, members bool) ([]StateSlot, error) {
	if members {
		return store.Query(r, selectAllState, scanStateSlot, rooms)
	}
	return store.Query(r, selectOtherState, scanStateSlot, rooms)
}

// RoomKey is one entry of one room's state.
type RoomKey struct {
	Room store.RoomNum
	Key  store.KeyNum
}

// SyncEntries returns single entries of the current state of some rooms, in no order,
// without missing ones.
func SyncEntries(r *store.Read, entries []RoomKey) ([]StateSlot, error) {
	return store.Query(r, selectStatePairs, scanStateSlot, packKeys(entries))
}

// RedactionsOfState returns the slots of the redactions of single entries of the
// current state of some rooms, in no order; of what is not redacted there is none.
func RedactionsOfState(r *store.Read, entries []RoomKey) ([]RoomSlot, error) {
	return store.Query(r, selectStateRedactions, func(row *store.Row) (s RoomSlot) {
		row.Scan(&s.Room, &s.Slot)
		return s
	}, packKeys(entries))
}

// CurrentEntry is an entry of current state with its event.
type CurrentEntry struct {
	Head  store.Position // of the stream when the entry was read
	Key   store.KeyNum
	Slot  store.Slot // of its last change
	Event SyncEvent
}

// CurrentEntries returns single entries of the current state of some rooms with their
// events, in no order, without missing ones. It is one query.
func CurrentEntries(r *store.Read, entries []RoomKey, known Known) ([]CurrentEntry, error) {
	scan := scanSyncEvent(known)
	return store.Query(r, selectCurrentEntries, func(row *store.Row) (e CurrentEntry) {
		e.Head, e.Key, e.Slot = store.Num[store.Position](row), store.Num[store.KeyNum](row), store.Num[store.Slot](row)
		e.Event = scan(row)
		return e
	}, packKeys(entries))
}

// packKeys packs rooms and keys into integers; see PackSlots.
func packKeys(list []RoomKey) []int64 {
	packed := make([]int64, len(list))
	for i, e := range list {
		packed[i] = int64(e.Room)<<32 | int64(e.Key)
	}
	return packed
}

// SyncRecentChanges returns the changes of state in the last slots of some rooms, by
// room and slot, oldest first.
func SyncRecentChanges(r *store.Read, rooms []store.RoomNum, slots int) ([]StateChange, error) {
	return store.Query(r, selectRecentChanges, scanStateChange, rooms, slots)
}

// SyncLog returns the changes of a room's state with after < slot ≤ upTo, oldest
// first.
func SyncLog(r *store.Read, room store.RoomNum, after, upTo store.Slot) ([]StateChange, error) {
	return store.Query(r, selectChangeRange, scanStateChange, room, after, upTo)
}

// MembersBySlot returns the first members of a room with a membership, ordered by slot.
func MembersBySlot(r *store.Read, room store.RoomNum, m Membership, limit int) ([]StateSlot, error) {
	return store.Query(r, selectHeroes, scanStateSlot, room, int64(m), limit)
}

// RoomSlot is a slot of a room.
type RoomSlot struct {
	Room store.RoomNum
	Slot store.Slot
}

// PackSlots packs rooms and slots into integers, for a list parameter. Both are counted
// from 1 and stay far below 2^31.
func PackSlots(list []RoomSlot) []int64 {
	packed := make([]int64, len(list))
	for i, s := range list {
		packed[i] = int64(s.Room)<<32 | int64(s.Slot)
	}
	return packed
}

var (
	selectTotalsOf = store.Prepare(`SELECT v.v >> 32, v.v & 4294967295, (SELECT e.totals FROM events AS e
		WHERE e.room = (v.v >> 32) AND e.slot <= (v.v & 4294967295) AND e.slot > 0 AND e.off = 0 ORDER BY e.slot DESC LIMIT 1)
		FROM {{each $1}} AS v`)
	selectHighlightsOf = store.Prepare(`SELECT h.room, h.user_num, h.slot, h.thread, h.kind, h.event FROM {{each $1}} AS v
		JOIN highlights AS h ON h.room = (v.v >> 32) AND h.user_num = $2 AND h.slot > (v.v & 4294967295) ORDER BY h.room, h.slot LIMIT $3`)
	selectThreadSlots = store.Prepare(`SELECT slot, root FROM threads WHERE room = $1 AND slot > $2 ORDER BY slot LIMIT $3`)
)

// SlotTotals are the running totals after the newest live event of a room up to a slot;
// nil if there was none.
type SlotTotals struct {
	RoomSlot
	Totals []byte
}

// TotalsOf returns the running totals at slots of several rooms, in no order.
func TotalsOf(r *store.Read, slots []RoomSlot) ([]SlotTotals, error) {
	return store.Query(r, selectTotalsOf, func(row *store.Row) (t SlotTotals) {
		row.Scan(&t.Room, &t.Slot, &t.Totals)
		return t
	}, PackSlots(slots))
}

// HighlightsOf returns a member's highlights after slots of several rooms, by
// room and slot.
func HighlightsOf(r *store.Read, user store.UserNum, after []RoomSlot, limit int) ([]Highlight, error) {
	return store.Query(r, selectHighlightsOf, scanHighlight, PackSlots(after), user, limit)
}

// ThreadSlot says that the event of a slot belongs to a thread.
type ThreadSlot struct {
	Slot store.Slot
	Root string
}

// ThreadSlots returns the events of threads of a room after a slot, oldest first.
func ThreadSlots(r *store.Read, room store.RoomNum, after store.Slot, limit int) ([]ThreadSlot, error) {
	return store.Query(r, selectThreadSlots, func(row *store.Row) (t ThreadSlot) {
		row.Scan(&t.Slot, &t.Root)
		return t
	}, room, after, limit)
}
