package store

// OwnerKind is the kind of owner of a stream row.
type OwnerKind int8

const (
	OwnerRoom OwnerKind = 1
	OwnerUser OwnerKind = 2
)

// Kind is the kind of change in a stream row. The numbers are in the database.
type Kind int8

const (
	KindTimeline    Kind = 1  // room: events and state deltas; slots are the room's
	KindReceipts    Kind = 2  // room: receipts; slots are the room's receipt slots
	KindAccountData Kind = 3  // user: account data, tags, push rules
	KindToDevice    Kind = 4  // user: messages to devices of the user
	KindDeviceList  Kind = 5  // user: devices or identity keys changed
	KindPresence    Kind = 6  // user: presence
	KindMembership  Kind = 7  // user: own membership in a room (invite, join, leave, knock, ban, forget)
	KindProfile     Kind = 8  // user: display name, avatar, other profile fields
	KindKeys        Kind = 9  // user: one-time or fallback key counts changed
	KindAccount     Kind = 10 // user: the account itself (created, deactivated, locked, pushers …)
	KindRoomUpdate  Kind = 11 // room: standing of old events changed (redacted, purged); slots are the room's
)

// StreamRow is one row of the stream: a reference to the changes of one group for one
// owner and kind, never a copy. They may have been deleted since.
type StreamRow struct {
	Pos       Position
	OwnerKind OwnerKind
	Owner     int64 // RoomNum or UserNum
	Kind      Kind
	First     Slot
	Last      Slot
	// Own says that this instance wrote the row recently. Only Store.StreamWithOrigin
	// and barriers set it.
	Own bool
}

// Room is the owner if it is a room, else 0.
func (r StreamRow) Room() RoomNum {
	if r.OwnerKind == OwnerRoom {
		return RoomNum(r.Owner)
	}
	return 0
}

// User is the owner if it is a user, else 0.
func (r StreamRow) User() UserNum {
	if r.OwnerKind == OwnerUser {
		return UserNum(r.Owner)
	}
	return 0
}

var (
	selectHead           = Prepare(`SELECT COALESCE(MAX(pos), 0) FROM stream`)
	insertStream         = Prepare(`INSERT INTO stream (pos, owner_kind, owner, kind, first_slot, last_slot) VALUES ($1, $2, $3, $4, $5, $6)`)
	selectStream         = Prepare(`SELECT pos, owner_kind, owner, kind, first_slot, last_slot FROM stream WHERE pos > $1 AND pos <= $2 ORDER BY pos LIMIT $3`)
	selectOldestPosition = Prepare(`SELECT COALESCE(MIN(pos), 0) FROM stream`)
	selectOwnerRows      = Prepare(`SELECT pos, owner_kind, owner, kind, first_slot, last_slot FROM stream
		WHERE owner_kind = $1 AND owner = $2 AND pos > $3 AND pos <= $4 ORDER BY pos LIMIT $5`)
	selectOwnerLast = Prepare(`SELECT pos, owner_kind, owner, kind, first_slot, last_slot FROM stream
		WHERE owner_kind = $1 AND owner = $2 AND pos <= $3 AND kind = $4 ORDER BY pos DESC LIMIT 1`)
	selectDeviceListRows = Prepare(`SELECT pos, owner_kind, owner, kind, first_slot, last_slot FROM stream
		WHERE kind = 5 AND pos > $1 AND pos <= $2 ORDER BY pos LIMIT $3`)
	trimStream = Prepare(`DELETE FROM stream WHERE pos IN (
		SELECT pos FROM stream WHERE pos < $1 AND pos < (SELECT MAX(pos) FROM stream) ORDER BY pos LIMIT $2)`)
)

// ScanStreamRow reads the columns pos, owner_kind, owner, kind, first_slot, last_slot.
func ScanStreamRow(row *Row) (r StreamRow) {
	row.Scan(&r.Pos, &r.OwnerKind, &r.Owner, &r.Kind, &r.First, &r.Last)
	return r
}

// Stream returns rows of the stream after one position up to another, in order.
func (r *Read) Stream(after, upTo Position, limit int) ([]StreamRow, error) {
	return Query(r, selectStream, ScanStreamRow, after, upTo, limit)
}

// OldestPosition is the oldest position in the stream, 0 if it is empty; older ones were
// trimmed. A sync token below it is answered like an initial sync.
func (r *Read) OldestPosition() (Position, error) {
	return QueryOne(r, selectOldestPosition, Num[Position])
}

// RoomStream returns the rows of one room after one position up to another.
func (r *Read) RoomStream(room RoomNum, after, upTo Position, limit int) ([]StreamRow, error) {
	return Query(r, selectOwnerRows, ScanStreamRow, OwnerRoom, room, after, upTo, limit)
}

// UserStream returns the rows of one user after one position up to another.
func (r *Read) UserStream(user UserNum, after, upTo Position, limit int) ([]StreamRow, error) {
	return Query(r, selectOwnerRows, ScanStreamRow, OwnerUser, user, after, upTo, limit)
}

// LastRoomRow returns the newest row of a room and kind at or before a position.
// ErrNotFound means that the room had no such change, or that it was trimmed.
func (r *Read) LastRoomRow(room RoomNum, kind Kind, at Position) (StreamRow, error) {
	return QueryOne(r, selectOwnerLast, ScanStreamRow, OwnerRoom, room, at, kind)
}

// LastUserRow returns the newest row of a user and kind at or before a position.
func (r *Read) LastUserRow(user UserNum, kind Kind, at Position) (StreamRow, error) {
	return QueryOne(r, selectOwnerLast, ScanStreamRow, OwnerUser, user, at, kind)
}

// DeviceListRows returns the device-list changes after one position up to another.
func (r *Read) DeviceListRows(after, upTo Position, limit int) ([]StreamRow, error) {
	return Query(r, selectDeviceListRows, ScanStreamRow, after, upTo, limit)
}

var selectOwnLast = Prepare(`SELECT kind, MAX(pos), MIN(first_slot) FROM stream
		WHERE owner_kind = 2 AND owner = $1 AND pos > $2 GROUP BY kind`)

// OwnChange summarises a user's changes of one kind after a position.
type OwnChange struct {
	Kind  Kind
	Last  Position
	First Slot // the first slot of them
}

// OwnChanges summarises a user's changes after a position, one entry for each kind.
func (r *Read) OwnChanges(user UserNum, after Position) ([]OwnChange, error) {
	return Query(r, selectOwnLast, func(row *Row) (o OwnChange) {
		row.Scan(&o.Kind, &o.Last, &o.First)
		return o
	}, user, after)
}

// RoomStart has the first changes of a room after a position.
type RoomStart struct {
	Room     RoomNum
	Timeline Slot // first slot of the timeline after the position; 0 = no change
	Receipts Slot // first receipt slot after it; 0 = no change
}

var selectStarts = Prepare(`SELECT v.v,
		COALESCE((SELECT first_slot FROM stream WHERE owner_kind = 1 AND owner = v.v AND pos > $2 AND kind = 1 ORDER BY pos LIMIT 1), 0),
		COALESCE((SELECT first_slot FROM stream WHERE owner_kind = 1 AND owner = v.v AND pos > $2 AND kind = 2 ORDER BY pos LIMIT 1), 0)
	FROM {{each $1}} AS v`)

// RoomStarts returns the first changes of some rooms after a position.
func (r *Read) RoomStarts(rooms []RoomNum, after Position) ([]RoomStart, error) {
	return Query(r, selectStarts, func(row *Row) (s RoomStart) {
		row.Scan(&s.Room, &s.Timeline, &s.Receipts)
		return s
	}, rooms, after)
}

var selectPosition = Prepare(`SELECT pos FROM stream WHERE pos = $1`)

// Has reports whether a position is still in the stream.
func (r *Read) Has(pos Position) (bool, error) {
	_, err := QueryOne(r, selectPosition, Num[Position], pos)
	if err == ErrNotFound {
		return false, nil
	}
	return err == nil, err
}

var selectUserHead = Prepare(`SELECT head FROM users WHERE num = $1`)

// UserHead returns the head of a user, for a change that is built on it.
func (r *Read) UserHead(user UserNum) (Head, error) {
	return QueryOne(r, selectUserHead, Num[Head], user)
}
