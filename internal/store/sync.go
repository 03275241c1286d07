// Reads of package clientsync: what one /sync answer needs of many rooms, each
// kind of thing in one query. They read tables that package room writes.

package store

// SyncRoomLimit bounds the rooms of one user that a read returns.
const SyncRoomLimit = 50_000

// SyncRoom is a user's membership with what an answer needs of the room's row.
type SyncRoom struct {
	RoomMembership
	RoomID      string
	Version     string
	RoomSlot    Slot
	ReceiptSlot Slot
	Joined      int64
	Invited     int64
	Resident    bool
	Totals      []byte
}

const syncRoomColumns = `m.user_num, m.room, m.membership, m.slot, m.event, m.forgotten, m.user_slot, m.stripped,
	r.room_id, r.version, r.slot, r.receipt_slot, r.joined, r.invited, r.resident, r.totals`

var (
	selectSyncRooms = Prepare(`SELECT ` + syncRoomColumns + ` FROM memberships AS m JOIN rooms AS r ON r.num = m.room
		WHERE m.user_num = $1 AND (m.membership <> 3 AND m.membership <> 4 OR $2 = 1) AND m.forgotten = 0
		ORDER BY m.room LIMIT $3`)
	selectSyncLeft = Prepare(`SELECT ` + syncRoomColumns + ` FROM memberships AS m JOIN rooms AS r ON r.num = m.room
		WHERE m.user_num = $1 AND m.user_slot > $2 AND (m.membership = 3 OR m.membership = 4) AND m.forgotten = 0
		ORDER BY m.room LIMIT $3`)
	selectJoined = Prepare(`SELECT m.room, r.room_id, m.slot, r.joined FROM memberships AS m JOIN rooms AS r ON r.num = m.room
		WHERE m.user_num = $1 AND m.membership = 1 ORDER BY m.room LIMIT $2`)
	selectOwnLast = Prepare(`SELECT kind, MAX(pos), MIN(first_slot) FROM stream
		WHERE owner_kind = 2 AND owner = $1 AND pos > $2 GROUP BY kind`)
)

func scanSyncRoom(row *Row) (s SyncRoom) {
	s.RoomMembership = scanMembership(row)
	row.Scan(&s.RoomID, &s.Version, &s.RoomSlot, &s.ReceiptSlot, &s.Joined, &s.Invited, &s.Resident, &s.Totals)
	return s
}

// SyncRooms returns the rooms of a user that are not forgotten, by number: those
// left or banned from only if left is set.
func (r *Read) SyncRooms(user UserNum, left bool) ([]SyncRoom, error) {
	return Query(r, selectSyncRooms, scanSyncRoom, user, left, SyncRoomLimit)
}

// SyncLeft returns the rooms that a user left, or was banned from, after a slot
// of the user.
func (r *Read) SyncLeft(user UserNum, after Slot) ([]SyncRoom, error) {
	return Query(r, selectSyncLeft, scanSyncRoom, user, after, SyncRoomLimit)
}

// JoinedRoom is a room that a user is in.
type JoinedRoom struct {
	Room   RoomNum
	RoomID string
	Slot   Slot  // of the room, at which the user became a member
	Joined int64 // members of the room
}

// JoinedRooms returns the rooms that a local user is in, by number.
func (r *Read) JoinedRooms(user UserNum) ([]JoinedRoom, error) {
	return Query(r, selectJoined, func(row *Row) (j JoinedRoom) {
		row.Scan(&j.Room, &j.RoomID, &j.Slot, &j.Joined)
		return j
	}, user, SyncRoomLimit)
}

// OwnChange sums up a user's changes of one kind after a position.
type OwnChange struct {
	Kind  Kind
	Last  Position
	First Slot // the first slot of them
}

// OwnChanges sums up a user's changes after a position, one entry per kind.
func (r *Read) OwnChanges(user UserNum, after Position) ([]OwnChange, error) {
	return Query(r, selectOwnLast, func(row *Row) (o OwnChange) {
		row.Scan(&o.Kind, &o.Last, &o.First)
		return o
	}, user, after)
}

// RoomStart says where a room stood at a position, by what came after it.
type RoomStart struct {
	Room     RoomNum
	Timeline Slot // first slot of the timeline after the position; 0 = nothing came
	Receipts Slot // first receipt slot after it; 0 = nothing came
}

var selectStarts = Prepare(`SELECT v.v,
		COALESCE((SELECT first_slot FROM stream WHERE owner_kind = 1 AND owner = v.v AND pos > $2 AND kind = 1 ORDER BY pos LIMIT 1), 0),
		COALESCE((SELECT first_slot FROM stream WHERE owner_kind = 1 AND owner = v.v AND pos > $2 AND kind = 2 ORDER BY pos LIMIT 1), 0)
	FROM {{each $1}} AS v`)

// RoomStarts returns, for each of some rooms, what came first after a position.
func (r *Read) RoomStarts(rooms []RoomNum, after Position) ([]RoomStart, error) {
	return Query(r, selectStarts, func(row *Row) (s RoomStart) {
		row.Scan(&s.Room, &s.Timeline, &s.Receipts)
		return s
	}, rooms, after)
}

// SyncEvent is an event as answers need it.
type SyncEvent struct {
	Room       RoomNum
	Place      Place
	Num        EventNum
	EventID    string
	Key        KeyNum // 0: not a state event
	Standing   Standing
	RedactedBy EventNum
	TxnDevice  string
	TxnID      string
	Bytes      []byte // nil if the caller knows the event
}

// Known says whether the caller has an event in memory, so that its bytes need
// not be read. It may be nil.
type Known func(event, redactedBy EventNum) bool

const syncEventColumns = `e.num, e.redacted_by, e.room, e.slot, e.off, e.state_key_num, e.flags, e.event_id, e.txn_device, e.txn_id, e.bytes`

var (
	selectTails = Prepare(`SELECT ` + syncEventColumns + ` FROM {{each $1}} AS v JOIN rooms AS r ON r.num = v.v
		JOIN events AS e ON e.room = r.num AND e.slot > r.slot - $2 AND e.off = 0 ORDER BY e.room, e.slot`)
	selectStretch = Prepare(`SELECT ` + syncEventColumns + ` FROM events AS e
		WHERE e.room = $1 AND e.slot > $2 AND e.slot <= $3 AND e.off = 0 ORDER BY e.slot DESC LIMIT $4`)
	selectSyncEvents = Prepare(`SELECT ` + syncEventColumns + ` FROM events AS e WHERE {{in e.num $1}}`)
)

func scanSyncEvent(known Known) func(*Row) SyncEvent {
	return func(row *Row) (e SyncEvent) {
		e.Num, e.RedactedBy = Num[EventNum](row), Num[EventNum](row)
		e.Room, e.Place.Slot, e.Place.Off = Num[RoomNum](row), Num[Slot](row), row.Int()
		e.Key, e.Standing = Num[KeyNum](row), Standing(row.Int())
		if known != nil && known(e.Num, e.RedactedBy) {
			return e
		}
		e.EventID, e.TxnDevice, e.TxnID, e.Bytes = row.Text(), row.Text(), row.Text(), row.Bytes()
		return e
	}
}

// SyncTails returns the live events in the last slots of some rooms, by room and
// place, oldest first.
func (r *Read) SyncTails(rooms []RoomNum, slots int, known Known) ([]SyncEvent, error) {
	return Query(r, selectTails, scanSyncEvent(known), rooms, slots)
}

// SyncStretch returns up to limit live events of a room with after < slot ≤ upTo,
// newest first.
func (r *Read) SyncStretch(room RoomNum, after, upTo Slot, limit int, known Known) ([]SyncEvent, error) {
	return Query(r, selectStretch, scanSyncEvent(known), room, after, upTo, limit)
}

// SyncEvents returns events by their numbers, in no order; those that are not
// there are left out.
func (r *Read) SyncEvents(events []EventNum, known Known) ([]SyncEvent, error) {
	return Query(r, selectSyncEvents, scanSyncEvent(known), events)
}

// StateSlot is an entry of current state with the slot at which it came in.
type StateSlot struct {
	Room  RoomNum
	Key   KeyNum
	Event EventNum
	Slot  Slot
}

// StateChange is one row of a room's log of state.
type StateChange struct {
	Room  RoomNum
	Slot  Slot
	Key   KeyNum
	Event EventNum // 0: removed
	Prev  EventNum // 0: was not there
}

var (
	selectOtherState = Prepare(`SELECT c.room, c.key, c.event, c.slot FROM {{each $1}} AS v
		JOIN current_state AS c ON c.room = v.v AND c.membership = 0 ORDER BY c.room, c.key`)
	selectAllState = Prepare(`SELECT c.room, c.key, c.event, c.slot FROM {{each $1}} AS v
		JOIN current_state AS c ON c.room = v.v ORDER BY c.room, c.key`)
	selectStatePairs = Prepare(`SELECT c.room, c.key, c.event, c.slot FROM {{each $1}} AS v
		JOIN current_state AS c ON c.room = (v.v >> 32) AND c.key = (v.v & 4294967295)`)
	selectCurrentEntries = Prepare(`SELECT (SELECT COALESCE(MAX(pos), 0) FROM stream), c.key, c.slot, ` + syncEventColumns + `
		FROM {{each $1}} AS v JOIN current_state AS c ON c.room = (v.v >> 32) AND c.key = (v.v & 4294967295)
		JOIN events AS e ON e.num = c.event`)
	selectLogTails = Prepare(`SELECT l.room, l.slot, l.key, l.event, l.prev_event FROM {{each $1}} AS v JOIN rooms AS r ON r.num = v.v
		JOIN state_log AS l ON l.room = r.num AND l.slot > r.slot - $2 ORDER BY l.room, l.slot, l.key`)
	selectLogStretch = Prepare(`SELECT room, slot, key, event, prev_event FROM state_log
		WHERE room = $1 AND slot > $2 AND slot <= $3 ORDER BY slot, key`)
	selectHeroes = Prepare(`SELECT c.room, c.key, c.event, c.slot FROM current_state AS c
		WHERE c.room = $1 AND c.membership = $2 AND c.membership <> 0 ORDER BY c.slot, c.key LIMIT $3`)
)

func scanStateSlot(row *Row) (s StateSlot) {
	row.Scan(&s.Room, &s.Key, &s.Event, &s.Slot)
	return s
}

func scanStateChange(row *Row) (c StateChange) {
	row.Scan(&c.Room, &c.Slot, &c.Key, &c.Event, &c.Prev)
	return c
}

// SyncState returns the current state of some rooms, by room and key: members
// only if asked for.
func (r *Read) SyncState(rooms []RoomNum, members bool) ([]StateSlot, error) {
	if members {
		return Query(r, selectAllState, scanStateSlot, rooms)
	}
	return Query(r, selectOtherState, scanStateSlot, rooms)
}

// RoomKey is one entry of one room's state.
type RoomKey struct {
	Room RoomNum
	Key  KeyNum
}

// SyncEntries returns single entries of the current state of some rooms, in no
// order; what is not there is left out.
func (r *Read) SyncEntries(entries []RoomKey) ([]StateSlot, error) {
	return Query(r, selectStatePairs, scanStateSlot, packKeys(entries))
}

// CurrentEntry is an entry of current state with its event.
type CurrentEntry struct {
	Head  Position // of the stream as the entry was read
	Key   KeyNum
	Slot  Slot // at which it came in
	Event SyncEvent
}

// CurrentEntries returns single entries of the current state of some rooms with
// their events, in no order; what is not there is left out. It is one query.
func (r *Read) CurrentEntries(entries []RoomKey, known Known) ([]CurrentEntry, error) {
	scan := scanSyncEvent(known)
	return Query(r, selectCurrentEntries, func(row *Row) (e CurrentEntry) {
		e.Head, e.Key, e.Slot = Num[Position](row), Num[KeyNum](row), Num[Slot](row)
		e.Event = scan(row)
		return e
	}, packKeys(entries))
}

// packKeys makes integers of rooms and keys; see packSlots.
func packKeys(list []RoomKey) []int64 {
	packed := make([]int64, len(list))
	for i, e := range list {
		packed[i] = int64(e.Room)<<32 | int64(e.Key)
	}
	return packed
}

// SyncLogTails returns the changes of state in the last slots of some rooms, by
// room and slot, oldest first.
func (r *Read) SyncLogTails(rooms []RoomNum, slots int) ([]StateChange, error) {
	return Query(r, selectLogTails, scanStateChange, rooms, slots)
}

// SyncLog returns the changes of a room's state with after < slot ≤ upTo, oldest
// first.
func (r *Read) SyncLog(room RoomNum, after, upTo Slot) ([]StateChange, error) {
	return Query(r, selectLogStretch, scanStateChange, room, after, upTo)
}

// MembersBySlot returns the first members of a room with a membership, in the
// order in which they came.
func (r *Read) MembersBySlot(room RoomNum, m Membership, limit int) ([]StateSlot, error) {
	return Query(r, selectHeroes, scanStateSlot, room, int64(m), limit)
}

var selectReceiptTails = Prepare(`SELECT ` + receiptColumns + ` FROM {{each $1}} AS v JOIN rooms AS o ON o.num = v.v
	JOIN receipts AS r ON r.room = o.num AND r.seq > o.receipt_slot - $2 JOIN users AS u ON u.num = r.user_num
	WHERE r.kind = 1 OR r.user_num = $3 ORDER BY r.room, r.seq`)

// SyncReceipts returns the receipts that were written in the last receipt slots
// of some rooms, by room and slot: public ones, and the viewer's own.
func (r *Read) SyncReceipts(rooms []RoomNum, viewer UserNum, slots int) ([]Receipt, error) {
	return Query(r, selectReceiptTails, scanReceipt, rooms, slots, viewer)
}

// RoomSlot is a slot of a room.
type RoomSlot struct {
	Room RoomNum
	Slot Slot
}

// packSlots makes integers of rooms and slots, since a list parameter holds
// integers. Both are counted from 1 and stay far below 2^31.
func packSlots(list []RoomSlot) []int64 {
	packed := make([]int64, len(list))
	for i, s := range list {
		packed[i] = int64(s.Room)<<32 | int64(s.Slot)
	}
	return packed
}

var (
	selectTotalsOf = Prepare(`SELECT v.v >> 32, v.v & 4294967295, (SELECT e.totals FROM events AS e
		WHERE e.room = (v.v >> 32) AND e.slot <= (v.v & 4294967295) AND e.slot > 0 AND e.off = 0 ORDER BY e.slot DESC LIMIT 1)
		FROM {{each $1}} AS v`)
	selectHighlightsOf = Prepare(`SELECT h.room, h.user_num, h.slot, h.thread, h.kind, h.event FROM {{each $1}} AS v
		JOIN highlights AS h ON h.room = (v.v >> 32) AND h.user_num = $2 AND h.slot > (v.v & 4294967295) ORDER BY h.room, h.slot LIMIT $3`)
	selectThreadSlots = Prepare(`SELECT slot, root FROM threads WHERE room = $1 AND slot > $2 ORDER BY slot LIMIT $3`)
)

// SlotTotals are the running totals after the newest live event of a room at or
// before a slot; nil if there was none.
type SlotTotals struct {
	RoomSlot
	Totals []byte
}

// TotalsOf returns the running totals at slots of several rooms, in no order.
func (r *Read) TotalsOf(slots []RoomSlot) ([]SlotTotals, error) {
	return Query(r, selectTotalsOf, func(row *Row) (t SlotTotals) {
		row.Scan(&t.Room, &t.Slot, &t.Totals)
		return t
	}, packSlots(slots))
}

// HighlightsOf returns a member's highlights after slots of several rooms, by
// room and slot.
func (r *Read) HighlightsOf(user UserNum, after []RoomSlot, limit int) ([]Highlight, error) {
	return Query(r, selectHighlightsOf, scanHighlight, packSlots(after), user, limit)
}

// ThreadSlot says that the event of a slot belongs to a thread.
type ThreadSlot struct {
	Slot Slot
	Root string
}

// ThreadSlots returns the events of threads of a room after a slot, oldest first.
func (r *Read) ThreadSlots(room RoomNum, after Slot, limit int) ([]ThreadSlot, error) {
	return Query(r, selectThreadSlots, func(row *Row) (t ThreadSlot) {
		row.Scan(&t.Slot, &t.Root)
		return t
	}, room, after, limit)
}
