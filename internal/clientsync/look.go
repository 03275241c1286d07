package clientsync

import (
	"context"
	"sync"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/token"
	"stoa/internal/who"
	"stoa/matrix/id"
)

// cursor is how far a request has come: its token, and what has been looked at since without anything to show for it.
type cursor struct {
	since    store.Position // 0: the client knows nothing
	toDevice store.Slot
	// moreToDevice says that messages were left over when the token was made.
	moreToDevice bool
	typing       uint32
}

// newCursor reads a token. The to-device part of a token is the slot of the last message, doubled, plus one if more were
// waiting behind it.
func newCursor(t *token.Stream) cursor {
	if t == nil {
		return cursor{}
	}
	return cursor{
		since: store.Position(t.Position), toDevice: store.Slot(t.ToDevice >> 1), moreToDevice: t.ToDevice&1 == 1, typing: t.Typing,
	}
}

func (c cursor) token() token.Stream {
	t := token.Stream{Position: int64(c.since), ToDevice: int64(c.toDevice) << 1, Typing: c.typing}
	if c.moreToDevice {
		t.ToDevice |= 1
	}
	return t
}

// plan is what happened for a user since a cursor, as the hub's memory tells it.
type plan struct {
	upto store.Position
	// fromStore says that memory does not suffice: the token is older, or the user's own memberships have changed.
	fromStore bool
	joined    []store.RoomNum
	rooms     []planRoom
	own       [ownKinds]bool
	shared    [sharedKinds]bool // by sharedIndex
	members   bool
	toDevice  bool
	// typing are the user's rooms in which somebody types or has just stopped, digest is their digest.
	typing       []typingRoom
	digests      []uint32 // of the joined rooms
	digest       uint32
	typingDiffer bool
}

// planRoom is a joined room in which something happened.
type planRoom struct {
	num       store.RoomNum
	id        id.RoomID
	joined    store.Slot
	stretches []*stretch // oldest first
	receipts  []roomdb.Receipt
	// receiptsUnread says that receipts were written which memory does not hold.
	receiptsUnread bool
	typing         *typingRoom
}

type typingRoom struct {
	num    store.RoomNum
	digest uint32
}

var plans = sync.Pool{New: func() any { return new(plan) }}

func newPlan() *plan { return plans.Get().(*plan) }

func (p *plan) release() {
	clear(p.rooms)
	*p = plan{joined: p.joined[:0], rooms: p.rooms[:0], typing: p.typing[:0], digests: p.digests[:0]}
	plans.Put(p)
}

// waitFor says how a request waits if there is nothing to tell.
type waitFor struct {
	// whole says that everything is told in any case, wait that the request waits if there is nothing to tell.
	whole, wait bool
	// line is woken, nil for a goroutine that waits.
	line Line
	// until is when the wait ends.
	until time.Time
}

// look finds out what there may be to tell a device, for which the user's rooms are read if they are not in memory. If there is
// nothing, and the request waits for it, it waits from here on, and look returns the waiter.
func (h *Hub) look(ctx context.Context, v who.Device, c *cursor, p *plan, f waitFor) (*waiter, error) {
	u, err := h.user(ctx, v)
	if err != nil {
		return nil, err
	}
	if c.since == 0 || f.whole {
		p.fromStore = true
		return nil, nil
	}
	if !f.wait {
		h.lookOrAttach(u, c, p, nil, f.until)
		return nil, nil
	}
	w := waiters.Get().(*waiter)
	w.cache, w.line = h, f.line
	if !h.lookOrAttach(u, c, p, w, f.until) {
		return w, nil
	}
	w.line = nil
	waiters.Put(w)
	return nil, nil
}

// lookOrAttach says whether there may be something to tell, and what. If there is not, the request waits from here on, with w:
// both are one critical section, so that nothing happens in between.
func (h *Hub) lookOrAttach(u *user, c *cursor, p *plan, w *waiter, deadline time.Time) (ready bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if u.gone {
		p.fromStore = true
		return true
	}
	if h.fill(u, c, p) {
		return true
	}
	c.since = max(c.since, p.upto)
	if w != nil {
		w.why = closing
		if !h.closed {
			h.attach(u, w, deadline)
		} else if w.line != nil {
			w.line.Wake()
		} else {
			w.wake <- struct{}{}
		}
	}
	return false
}

// lacks says whether something happened after a position in a room of the user that is not in memory. Called with the lock
// held.
func (h *Hub) lacks(u *user, since store.Position) bool {
	if h.passed <= since {
		return false
	}
	for i := range u.rooms {
		if u.rooms[i].room.passed > since {
			return true
		}
	}
	return false
}

// fill makes the plan of a user; false if nothing happened. Called with the lock held.
func (h *Hub) fill(u *user, c *cursor, p *plan) bool {
	p.upto = h.ring.head
	if c.since < h.ring.floor || c.since > h.ring.head || u.last[store.KindMembership] > c.since || h.lacks(u, c.since) {
		p.fromStore = true
		return true
	}
	ready := c.moreToDevice
	for kind := range p.own {
		p.own[kind] = u.last[kind] > c.since
		ready = ready || p.own[kind]
	}
	p.toDevice = p.own[store.KindToDevice] || c.moreToDevice
	for kind := range p.shared {
		p.shared[kind] = c.since < u.from
	}
	for i := range u.rooms {
		p.joined = append(p.joined, u.rooms[i].room.num)
	}
	h.takeTyping(p)
	p.typingDiffer = p.digest != c.typing
	for i := range u.rooms {
		j := &u.rooms[i]
		for kind, at := range j.room.shared {
			p.shared[kind] = p.shared[kind] || at > c.since
		}
		var typing *typingRoom
		if p.typingDiffer {
			typing = p.findTyping(j.room.num)
		}
		if j.room.timeline.last > c.since || j.room.receipts.last > c.since || typing != nil {
			h.fillRoom(j, c, p, typing)
		}
	}
	return ready || p.shared != [sharedKinds]bool{} || p.typingDiffer || len(p.rooms) > 0
}

// takeTyping finds the joined rooms in which somebody types or has just stopped, and makes their digest.
func (h *Hub) takeTyping(p *plan) {
	p.typing, p.digest = p.typing[:0], 0
	if h.opt.TypingDigests == nil {
		return
	}
	p.digests = h.opt.TypingDigests.AppendDigests(p.digests[:0], p.joined)
	for i, num := range p.joined {
		if digest := p.digests[i]; digest != 0 {
			p.typing = append(p.typing, typingRoom{num, digest})
			p.digest += digest*2654435761 + uint32(num)*40503
		}
	}
}

func (p *plan) findTyping(num store.RoomNum) *typingRoom {
	for i := range p.typing {
		if p.typing[i].num == num {
			return &p.typing[i]
		}
	}
	return nil
}

// fillRoom adds what happened in one room.
func (h *Hub) fillRoom(j *joinedRoom, c *cursor, p *plan, typing *typingRoom) {
	room := planRoom{num: j.room.num, id: j.room.id, joined: j.joined, typing: typing}
	h.ring.since(&j.room.timeline, c.since, func(r *record) bool {
		room.stretches = append(room.stretches, r.timeline)
		p.members = p.members || r.timeline.movesMembers
		return true
	})
	for i, k := 0, len(room.stretches)-1; i < k; i, k = i+1, k-1 {
		room.stretches[i], room.stretches[k] = room.stretches[k], room.stretches[i]
	}
	h.ring.since(&j.room.receipts, c.since, func(r *record) bool {
		room.receiptsUnread = room.receiptsUnread || len(r.receipts) == 0
		room.receipts = append(room.receipts, r.receipts...)
		return true
	})
	p.rooms = append(p.rooms, room)
}

// TypingDigests knows who types where, now.
type TypingDigests interface {
	// AppendDigests appends a digest for each of some rooms, of the list of those who type there; 0 if nobody did in the last
	// minutes. The cache calls it with its lock held.
	AppendDigests(dst []uint32, rooms []store.RoomNum) []uint32
}
