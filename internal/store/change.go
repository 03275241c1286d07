package store

// A table package writes its tables by functions on *Change, made of three helpers:
//
//	var insertTag = store.Prepare(`INSERT INTO tags (user_num, room, tag, slot) VALUES ($1, $2, $3, $4)`)
//
//	// AddTag writes a tag of a room. The user's streams wake up.
//	func AddTag(c *store.Change, user store.UserNum, room store.RoomNum, tag string) {
//		slot := c.UserSlot(user, store.KindAccountData)  // the user's next slot, known only at commit
//		c.Exec(insertTag, user, room, tag, slot)         // used like any other argument
//	}
//
// Exec runs in order of the calls. ExecOne is for a write that decides: it must
// touch exactly one row (an INSERT … ON CONFLICT DO NOTHING, an UPDATE … WHERE it
// is still free), otherwise this change alone fails with the given error:
//
//	c.ExecOne(claimKey, ErrKeyTaken, user, device, keyID)
//
// Statements may not have a RETURNING clause. Arguments are integers, bool (for
// BIGINT), string and *string (for TEXT, JSON too), []byte (for a blob; not changed
// until the commit), nil, the number types of this package, and lists of them for
// the markers of [Stmt].

// Change is a write, as a value: rows, and the heads it was built on. One goroutine fills
// it and passes it to [Store.Commit] once.
type Change struct {
	// Payload is delivered to subscribers ([Store.Subscribe]) unchanged.
	Payload any
	// LowPriority says that the commit may be delayed. A busy store lets such changes
	// wait for others, at most [LowPriorityGap], since a group costs about the same
	// however many changes it has.
	LowPriority bool

	rooms        []*RoomPart
	users        []*UserPart
	ops          []op
	args         args
	morePayloads []any
}

type op struct {
	stmt     *Stmt
	from, to int   // its arguments are args.vals[from:to]
	conflict error // not nil: must touch exactly one row
}

// RoomPart is the part of a change that concerns one room.
type RoomPart struct {
	Room RoomNum
	// NewHead is the head after this change, from [Store.NextHead], so that the
	// next change can be built on it at once. 0 = the commit queue takes one.
	NewHead Head
	// First and Last are the slots that the change takes for events and state
	// deltas; First must be the room's last slot + 1. 0, 0 = none.
	First, Last Slot

	expect  Head
	creates bool
	updates bool  // standing of old events changed
	row     *Room // what SetRoom writes
}

// UserPart is the part of a change that concerns one user.
type UserPart struct {
	User UserNum
	// NewHead is the head after this change. 0 = the commit queue takes one.
	NewHead Head

	expect Head
	active bool // the account must not be deactivated
}

// SlotArg stands for a slot that the commit assigns. It is an argument of statements;
// [Change.Slot] returns the slot after the commit.
type SlotArg int

// slotRequest asks the commit queue for a slot.
type slotRequest struct {
	ownerKind OwnerKind
	owner     int64
	kind      Kind
	slot      Slot
}

// NewChange returns an empty change.
func NewChange() *Change { return &Change{} }

// Room returns the part of a room, and sets the head that the change was built on (0 =
// the change creates the room; NoFence = it only appends). Further calls for the room
// return the same part.
func (c *Change) Room(room RoomNum, expect Head) *RoomPart {
	for _, p := range c.rooms {
		if p.Room == room {
			if p.expect == NoFence {
				p.expect = expect
			}
			return p
		}
	}
	p := &RoomPart{Room: room, expect: expect}
	c.rooms = append(c.rooms, p)
	return p
}

// User returns the part of a user, and sets the head that the change was built on
// (NoFence = it only appends). The user's row must exist (see [Store.InternUsers]).
func (c *Change) User(user UserNum, expect Head) *UserPart {
	for _, p := range c.users {
		if p.User == user {
			if p.expect == NoFence {
				p.expect = expect
			}
			return p
		}
	}
	p := &UserPart{User: user, expect: expect}
	c.users = append(c.users, p)
	return p
}

// ActiveUser makes the commit fail with ErrDeactivated if the user's account is
// deactivated by then.
func (c *Change) ActiveUser(user UserNum) { c.User(user, NoFence).active = true }

// UserSlot takes the user's next slot for a change of this kind, and adds its stream row.
func (c *Change) UserSlot(user UserNum, kind Kind) SlotArg {
	c.User(user, NoFence)
	return c.requestSlot(slotRequest{ownerKind: OwnerUser, owner: int64(user), kind: kind})
}

// ReceiptSlot takes the room's next receipt slot, and adds its stream row.
func (c *Change) ReceiptSlot(room RoomNum) SlotArg {
	c.Room(room, NoFence)
	return c.requestSlot(slotRequest{ownerKind: OwnerRoom, owner: int64(room), kind: KindReceipts})
}

func (c *Change) requestSlot(w slotRequest) SlotArg {
	c.args.slots = append(c.args.slots, w)
	return SlotArg(len(c.args.slots) - 1)
}

// Slot returns a slot that the commit has assigned. Before the commit it is 0.
func (c *Change) Slot(a SlotArg) Slot { return c.args.slots[a].slot }

// AddPayload delivers another payload to subscribers, after Payload.
func (c *Change) AddPayload(payload any) { c.morePayloads = append(c.morePayloads, payload) }

// Empty reports whether the change writes nothing.
func (c *Change) Empty() bool { return len(c.ops) == 0 && len(c.rooms) == 0 && len(c.users) == 0 }

// NoteRoomUpdate adds a stream row for a redaction or purge of old events of a room.
func (c *Change) NoteRoomUpdate(room RoomNum) { c.Room(room, NoFence).updates = true }

// Exec adds a write. It runs in the order of the calls.
func (c *Change) Exec(s *Stmt, list ...any) { c.op(s, nil, list) }

// ExecOne adds a write that must touch exactly one row; else this change alone
// fails with conflict.
func (c *Change) ExecOne(s *Stmt, conflict error, list ...any) { c.op(s, conflict, list) }

func (c *Change) op(s *Stmt, conflict error, list []any) {
	from := len(c.args.vals)
	c.args.add(s, list)
	c.ops = append(c.ops, op{stmt: s, from: from, to: len(c.args.vals), conflict: conflict})
}
