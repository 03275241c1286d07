package streamcache

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

// Cursor is how far a request has come: its token, and what has been looked at since without anything to show for it.
type Cursor struct {
	Since    store.Position // 0: the client knows nothing
	ToDevice store.Slot
	// MoreToDevice says that messages were left over when the token was made.
	MoreToDevice bool
	Typing       uint32
}

// NewCursor reads a token. The to-device part of a token is the slot of the last message, doubled, plus one if more were
// waiting behind it.
func NewCursor(t *token.Stream) Cursor {
	if t == nil {
		return Cursor{}
	}
	return Cursor{
		Since: store.Position(t.Position), ToDevice: store.Slot(t.ToDevice >> 1), MoreToDevice: t.ToDevice&1 == 1, Typing: t.Typing,
	}
}

func (c Cursor) Token() token.Stream {
	t := token.Stream{Position: int64(c.Since), ToDevice: int64(c.ToDevice) << 1, Typing: c.Typing}
	if c.MoreToDevice {
		t.ToDevice |= 1
	}
	return t
}

// Plan is what happened for a user since a cursor, as the cache's memory tells it.
type Plan struct {
	Upto store.Position
	// FromStore says that memory does not suffice: the token is older, or the user's own memberships have changed.
	FromStore bool
	Joined    []store.RoomNum
	Rooms     []PlanRoom
	Own       [OwnKinds]bool
	Shared    [sharedKinds]bool // by SharedIndex
	Members   bool
	ToDevice  bool
	// typing are the user's rooms in which somebody types or has just stopped, digest is their digest.
	typing       []TypingRoom
	digests      []uint32 // of the joined rooms
	Digest       uint32
	TypingDiffer bool
}

// PlanRoom is a joined room in which something happened.
type PlanRoom struct {
	Num      store.RoomNum
	ID       id.RoomID
	Joined   store.Slot
	Segments []*Segment // oldest first
	Receipts []roomdb.Receipt
	// ReceiptsUnread says that receipts were written which memory does not hold.
	ReceiptsUnread bool
	Typing         *TypingRoom
}

type TypingRoom struct {
	Num  store.RoomNum
	hash uint32
}

var plans = sync.Pool{New: func() any { return new(Plan) }}

func NewPlan() *Plan { return plans.Get().(*Plan) }

func (p *Plan) Release() {
	clear(p.Rooms)
	*p = Plan{Joined: p.Joined[:0], Rooms: p.Rooms[:0], typing: p.typing[:0], digests: p.digests[:0]}
	plans.Put(p)
}

// WaitFor says how a request waits if there is nothing to tell.
type WaitFor struct {
	// First marks the first look of a request: the client has everything up to its token. Whole asks for everything in any case,
	// Wait makes the request wait if there is nothing to tell.
	First, Whole, Wait bool
	// Line is woken, nil for a goroutine that waits.
	Line Line
	// Until is when the wait ends.
	Until time.Time
}

// Look finds out what there may be to tell a device, for which the user's rooms are read if they are not in memory. If there is
// nothing, and the request waits for it, it waits from here on, and Look returns the waiter.
func (sc *Cache) Look(ctx context.Context, v who.Device, c *Cursor, p *Plan, f WaitFor) (*Waiter, error) {
	u, err := sc.user(ctx, v)
	if err != nil {
		return nil, err
	}
	if c.Since == 0 || f.Whole {
		p.FromStore = true
		return nil, nil
	}
	if !f.Wait {
		sc.lookOrAttach(u, c, p, nil, f)
		return nil, nil
	}
	w := waiters.Get().(*Waiter)
	w.cache, w.line = sc, f.Line
	if !sc.lookOrAttach(u, c, p, w, f) {
		return w, nil
	}
	w.line = nil
	waiters.Put(w)
	return nil, nil
}

// lookOrAttach says whether there may be something to tell, and what. If there is not, the request waits from here on, with w:
// both are one critical section, so that nothing happens in between.
func (sc *Cache) lookOrAttach(u *user, c *Cursor, p *Plan, w *Waiter, f WaitFor) (ready bool) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if u.gone {
		p.FromStore = true
		return true
	}
	if f.First {
		sc.acknowledge(u, c.Since)
	}
	if sc.fill(u, c, p) {
		return true
	}
	c.Since = max(c.Since, p.Upto)
	if w != nil {
		w.why = closing
		if !sc.closed {
			sc.attach(u, w, f.Until)
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
func (m *memory) hasSkipped(u *user, since store.Position) bool {
	if m.skipped <= since {
		return false
	}
	for i := range u.rooms {
		if u.rooms[i].room.skipped > since {
			return true
		}
	}
	return false
}

// fill makes the plan of a user; false if nothing happened. Called with the lock held.
func (m *memory) fill(u *user, c *Cursor, p *Plan) bool {
	p.Upto = m.ring.head
	if c.Since < m.ring.floor || c.Since > m.ring.head || u.last[store.KindMembership] > c.Since || m.hasSkipped(u, c.Since) {
		p.FromStore = true
		return true
	}
	ready := c.MoreToDevice
	for kind := range p.Own {
		p.Own[kind] = u.last[kind] > c.Since
		ready = ready || p.Own[kind]
	}
	p.ToDevice = p.Own[store.KindToDevice] || c.MoreToDevice
	for kind := range p.Shared {
		p.Shared[kind] = c.Since < u.from
	}
	for i := range u.rooms {
		p.Joined = append(p.Joined, u.rooms[i].room.num)
	}
	m.TakeTyping(p)
	p.TypingDiffer = p.Digest != c.Typing
	for i := range u.rooms {
		j := &u.rooms[i]
		for kind, at := range j.room.shared {
			p.Shared[kind] = p.Shared[kind] || at > c.Since
		}
		var typing *TypingRoom
		if p.TypingDiffer {
			typing = p.FindTyping(j.room.num)
		}
		if j.room.timeline.last > c.Since || j.room.receipts.last > c.Since || typing != nil {
			m.fillRoom(j, c, p, typing)
		}
	}
	return ready || p.Shared != [sharedKinds]bool{} || p.TypingDiffer || len(p.Rooms) > 0
}

// TakeTyping finds the joined rooms in which somebody types or has just stopped, and makes their digest. It may be called with
// and without the cache's lock: it reads nothing that the lock guards.
func (m *memory) TakeTyping(p *Plan) {
	p.typing, p.Digest = p.typing[:0], 0
	if m.typing == nil {
		return
	}
	p.digests = m.typing.AppendHashes(p.digests[:0], p.Joined)
	for i, num := range p.Joined {
		if digest := p.digests[i]; digest != 0 {
			p.typing = append(p.typing, TypingRoom{num, digest})
			p.Digest += digest*2654435761 + uint32(num)*40503
		}
	}
}

func (p *Plan) FindTyping(num store.RoomNum) *TypingRoom {
	for i := range p.typing {
		if p.typing[i].Num == num {
			return &p.typing[i]
		}
	}
	return nil
}

// fillRoom adds what happened in one room.
func (m *memory) fillRoom(j *joinedRoom, c *Cursor, p *Plan, typing *TypingRoom) {
	room := PlanRoom{Num: j.room.num, ID: j.room.id, Joined: j.joined, Typing: typing}
	m.ring.since(&j.room.timeline, c.Since, func(r *record) bool {
		room.Segments = append(room.Segments, r.timeline)
		p.Members = p.Members || r.timeline.MovesMembers
		return true
	})
	for i, k := 0, len(room.Segments)-1; i < k; i, k = i+1, k-1 {
		room.Segments[i], room.Segments[k] = room.Segments[k], room.Segments[i]
	}
	m.ring.since(&j.room.receipts, c.Since, func(r *record) bool {
		room.ReceiptsUnread = room.ReceiptsUnread || len(r.receipts) == 0
		room.Receipts = append(room.Receipts, r.receipts...)
		return true
	})
	p.Rooms = append(p.Rooms, room)
}

// TypingDigests knows who types where, now.
type TypingHashes interface {
	// AppendDigests appends a digest for each of some rooms, of the list of those who type there; 0 if nobody did in the last
	// minutes. The cache may call it with its lock held.
	AppendHashes(dst []uint32, rooms []store.RoomNum) []uint32
}
