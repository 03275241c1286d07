// Reads of an instance that follows what others write: what many rows of the
// stream refer to, each kind of thing in one query.

package store

var (
	selectPosition  = Prepare(`SELECT pos FROM stream WHERE pos = $1`)
	selectRoomHeads = Prepare(`SELECT num, room_id, version, joined, invited FROM rooms WHERE {{in num $1}}`)
	selectAtSlots   = Prepare(`SELECT e.totals, (CASE WHEN EXISTS (SELECT 1 FROM highlights AS h WHERE h.room = e.room AND h.slot = e.slot)
			THEN 1 ELSE 0 END), ` + syncEventColumns + `
		FROM {{each $1}} AS v JOIN events AS e ON e.room = (v.v >> 32) AND e.slot = (v.v & 4294967295) AND e.off = 0
		ORDER BY e.room, e.slot`)
	selectLogAtSlots = Prepare(`SELECT l.room, l.slot, l.key, l.event, l.prev_event FROM {{each $1}} AS v
		JOIN state_log AS l ON l.room = (v.v >> 32) AND l.slot = (v.v & 4294967295) ORDER BY l.room, l.slot, l.key`)
	selectReceiptsAt = Prepare(`SELECT ` + receiptColumns + ` FROM {{each $1}} AS v
		JOIN receipts AS r ON r.room = (v.v >> 32) AND r.seq = (v.v & 4294967295) JOIN users AS u ON u.num = r.user_num
		ORDER BY r.room, r.seq`)
	selectRulesChanged = Prepare(`SELECT DISTINCT u.num, u.user_id FROM {{each $1}} AS v
		JOIN account_data AS a ON a.user_num = (v.v >> 32) AND a.slot >= (v.v & 4294967295)
			AND a.room_id = '' AND a.type IN ('m.push_rules', 'm.ignored_user_list')
		JOIN users AS u ON u.num = a.user_num`)
)

// Has reports whether a position is still in the stream.
func (r *Read) Has(pos Position) (bool, error) {
	_, err := QueryOne(r, selectPosition, Num[Position], pos)
	if err == ErrNotFound {
		return false, nil
	}
	return err == nil, err
}

// RoomHead is what a stretch of a timeline needs of its room.
type RoomHead struct {
	Num             RoomNum
	RoomID          string
	Version         string
	Joined, Invited int64
}

// RoomHeads returns rooms by their numbers, in no order; those that are not there
// are left out.
func (r *Read) RoomHeads(rooms []RoomNum) ([]RoomHead, error) {
	return Query(r, selectRoomHeads, func(row *Row) (h RoomHead) {
		row.Scan(&h.Num, &h.RoomID, &h.Version, &h.Joined, &h.Invited)
		return h
	}, rooms)
}

// SlotEvent is a live event with what it counts for.
type SlotEvent struct {
	SyncEvent
	Totals []byte
	// Raised says that it counts more for somebody than for others.
	Raised bool
}

// EventsAt returns the live events at slots of several rooms, by room and slot.
func (r *Read) EventsAt(slots []RoomSlot, known Known) ([]SlotEvent, error) {
	scan := scanSyncEvent(known)
	return Query(r, selectAtSlots, func(row *Row) (e SlotEvent) {
		e.Totals, e.Raised = row.Bytes(), row.Bool()
		e.SyncEvent = scan(row)
		return e
	}, packSlots(slots))
}

// LogAt returns the changes of state at slots of several rooms, by room and slot.
func (r *Read) LogAt(slots []RoomSlot) ([]StateChange, error) {
	return Query(r, selectLogAtSlots, scanStateChange, packSlots(slots))
}

// ReceiptsAt returns the receipts that were written at receipt slots of several
// rooms, private ones too, by room and slot. One that has moved on since is found
// at its new slot.
func (r *Read) ReceiptsAt(slots []RoomSlot) ([]Receipt, error) {
	return Query(r, selectReceiptsAt, scanReceipt, packSlots(slots))
}

// UserSlot is a slot of a user.
type UserSlot struct {
	User UserNum
	Slot Slot
}

// Named is a user with their number.
type Named struct {
	Num    UserNum
	UserID string
}

// RulesChanged returns those of some users whose push rules or ignored users have
// changed at or after a slot of theirs.
func (r *Read) RulesChanged(since []UserSlot) ([]Named, error) {
	packed := make([]int64, len(since))
	for i, s := range since {
		packed[i] = int64(s.User)<<32 | int64(s.Slot)
	}
	return Query(r, selectRulesChanged, func(row *Row) (n Named) {
		row.Scan(&n.Num, &n.UserID)
		return n
	}, packed)
}

// Forget drops what this instance believes of a database that has gone back to an
// earlier state, whose head is given: interned numbers, reserved numbers, the head.
func (s *Store) Forget(head Position) {
	s.interned.keys.Purge()
	s.interned.pairs.Purge()
	s.interned.users.Purge()
	s.interned.userIDs.Purge()
	s.numbers.mu.Lock()
	s.numbers.blocks = nil
	s.numbers.mu.Unlock()
	s.head.Store(int64(head))
	s.committed.Store(0)
}
