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

// Cursor is the progress of a request: its token, and what was checked since and had nothing to show.
type Cursor struct {
	Since    store.Position // 0: the client knows nothing
	ToDevice store.Slot
	// MoreToDevice is set if messages were left over when the token was made.
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

// Delta is what happened for a user since a cursor, as far as memory knows.
type Delta struct {
	Upto store.Position
	// FromStore is set if memory does not suffice: the token is older, or the user's own memberships have changed.
	FromStore bool
	Joined    []store.RoomNum
	Rooms     []DeltaRoom
	Own       [OwnKinds]bool
	Shared    [sharedKinds]bool // by SharedIndex
	Members   bool
	ToDevice  bool
	// typing are the user's rooms in which somebody types or has just stopped, TypingHash is a hash over them, odd if somebody types.
	typing        []TypingRoom
	hashes        []uint32 // of the joined rooms
	TypingHash    uint32
	TypingChanged bool
	// typingUnknown is set if it is not known in which rooms somebody typed at the cursor.
	typingUnknown bool
}

// DeltaRoom is a joined room in which something happened.
type DeltaRoom struct {
	Num      store.RoomNum
	ID       id.RoomID
	Joined   store.Slot
	Segments []*Segment // oldest first
	// Last is the position of the newest change of the timeline.
	Last     store.Position
	Receipts []roomdb.Receipt
	// ReceiptsUnread is set if receipts were written that memory does not hold.
	ReceiptsUnread bool
	Typing         *TypingRoom
}

type TypingRoom struct {
	Num  store.RoomNum
	hash uint32
}

var deltas = sync.Pool{New: func() any { return new(Delta) }}

func NewDelta() *Delta { return deltas.Get().(*Delta) }

func (p *Delta) Release() {
	clear(p.Rooms)
	*p = Delta{Joined: p.Joined[:0], Rooms: p.Rooms[:0], typing: p.typing[:0], hashes: p.hashes[:0]}
	deltas.Put(p)
}

// WaitFor says how a request waits if there is nothing new.
type WaitFor struct {
	// First marks the first check of a request: the client has everything up to its token. Whole asks for a whole answer in any
	// case, Wait makes the request wait if there is nothing new.
	First, Whole, Wait bool
	// Conn is woken; nil for a waiting goroutine.
	Conn Conn
	// Until is when the wait ends.
	Until time.Time
}

// CheckOrWait finds out what may be new for a device, and loads the user's rooms if they are not in memory. If there is nothing and
// the request waits, it waits from this moment on, and CheckOrWait returns its waiter.
func (sc *Cache) CheckOrWait(ctx context.Context, v who.Device, c *Cursor, p *Delta, f WaitFor) (*Waiter, error) {
	u, err := sc.user(ctx, v)
	if err != nil {
		return nil, err
	}
	if c.Since == 0 || f.Whole {
		p.FromStore = true
		return nil, nil
	}
	if !f.Wait {
		sc.checkOrAttach(u, c, p, nil, f)
		return nil, nil
	}
	w := waiters.Get().(*Waiter)
	w.cache, w.conn = sc, f.Conn
	if !sc.checkOrAttach(u, c, p, w, f) {
		return w, nil
	}
	w.conn = nil
	waiters.Put(w)
	return nil, nil
}

// checkOrAttach reports whether there may be something new, and fills p. If there is not, the request waits with w from here on:
// both are one critical section, so that nothing is missed in between.
func (sc *Cache) checkOrAttach(u *user, c *Cursor, p *Delta, w *Waiter, f WaitFor) (ready bool) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if u.gone {
		p.FromStore = true
		return true
	}
	if f.First {
		sc.acknowledge(u, c.Since)
	}
	if sc.fillDelta(u, c, p) {
		return true
	}
	c.Since = max(c.Since, p.Upto)
	if w != nil {
		w.why = closing
		if !sc.closed {
			sc.attach(u, w, f.Until)
		} else if w.conn != nil {
			w.conn.Wake()
		} else {
			w.wake <- struct{}{}
		}
	}
	return false
}

// hasSkipped reports whether something happened after a position in a room of the user and is not in memory. Called with the lock
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

// fillDelta fills in what happened for a user; false if nothing did. Called with the lock held.
func (m *memory) fillDelta(u *user, c *Cursor, p *Delta) bool {
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
	m.FillTyping(p)
	m.CompareTyping(p, c)
	for i := range u.rooms {
		j := &u.rooms[i]
		for kind, at := range j.room.shared {
			p.Shared[kind] = p.Shared[kind] || at > c.Since
		}
		typing := p.FindTyping(j.room.num)
		if j.room.timeline.last > c.Since || j.room.receipts.last > c.Since || typing != nil {
			m.fillRoom(j, c, p, typing)
		}
	}
	return ready || p.Shared != [sharedKinds]bool{} || p.TypingChanged || len(p.Rooms) > 0
}

// FillTyping finds the joined rooms in which somebody types or has just stopped, and hashes them. It may be called with and without
// the cache's lock: it reads nothing that the lock guards.
func (m *memory) FillTyping(p *Delta) {
	p.typing, p.TypingHash = p.typing[:0], 0
	if m.typing == nil {
		return
	}
	p.hashes = m.typing.AppendHashes(p.hashes[:0], p.Joined)
	typing := uint32(0) // 1 if somebody types in one of them
	for i, num := range p.Joined {
		if hash := p.hashes[i]; hash != 0 {
			p.typing = append(p.typing, TypingRoom{num, hash})
			p.TypingHash += hash*2654435761 + uint32(num)*40503
			typing |= hash & 1
		}
	}
	p.TypingHash = p.TypingHash&^1 | typing
}

// CompareTyping finds out whether the lists of those who type have changed since a cursor. FillTyping comes before it. The lists of a
// cursor from before this process are not known: if somebody typed then, anywhere, the lists of all rooms count as changed.
func (m *memory) CompareTyping(p *Delta, c *Cursor) {
	p.TypingChanged = p.TypingHash != c.Typing
	p.typingUnknown = p.TypingChanged && c.Typing&1 == 1 && c.Since <= m.began
}

// FindTyping returns a joined room if the list of those who type there may have changed.
func (p *Delta) FindTyping(num store.RoomNum) *TypingRoom {
	if !p.TypingChanged {
		return nil
	}
	if p.typingUnknown {
		return &TypingRoom{Num: num}
	}
	for i := range p.typing {
		if p.typing[i].Num == num {
			return &p.typing[i]
		}
	}
	return nil
}

// fillRoom adds what happened in one room.
func (m *memory) fillRoom(j *userRoom, c *Cursor, p *Delta, typing *TypingRoom) {
	room := DeltaRoom{Num: j.room.num, ID: j.room.id, Joined: j.joined, Last: j.room.timeline.last, Typing: typing}
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

// TypingHashes has the hashes of typing users.
type TypingHashes interface {
	// AppendHashes appends a hash for each of some rooms, of the list of those who type there: an odd one if somebody does, 0 if
	// nobody did in the last minutes. The cache may call it with its lock held.
	AppendHashes(dst []uint32, rooms []store.RoomNum) []uint32
}
