package streamcache

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	lru2 "github.com/hashicorp/golang-lru/v2"

	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/userdb"
	"stoa/internal/timeline"
	"stoa/matrix/id"
	"stoa/matrix/roomversion"
)

// Cache holds the newest part of the stream in memory, the users who sync with their rooms, and the requests that wait. It
// follows the stream with a cursor of its own, the ring's head.
type Cache struct {
	opt     Options
	store   *store.Store
	clock   func() time.Time
	log     *slog.Logger
	metrics *metrics
	events  *eventCache
	rules   *lru2.Cache[store.RoomNum, *roomversion.Rules]

	follow sync.Mutex // held by whoever moves the ring on; mu is taken under it
	mu     sync.Mutex // guards all below; under it nothing is locked but what a Line locks to be woken

	ring *ring
	// present holds the newest changes of presence, in the one chain presences. It has a floor of its own, so that everybody
	// who comes at once does not push messages out of the ring.
	present   *ring
	presences chain
	rooms     map[store.RoomNum]*roomState
	users     map[store.UserNum]*user
	used      lru
	wheel     *wheel
	members   *memberCache
	recent    *recentTimelines
	// barriers are the requests that wait for the ring to reach a position, looks counts the looks into the store.
	barriers []barrier
	looks    uint64
	closed   bool
	limits   fanOutLimits
	// deliveries are the fan-outs under way in large rooms, delivering says that there are any.
	deliveries map[id.RoomID]*delivery
	delivering atomic.Bool

	following
}

// barrier is a request that waits; looks are those that had begun before it.
type barrier struct {
	at    store.Position
	looks uint64
	done  chan struct{}
	// patient says that this one hurries nobody: a look that comes a little later will do.
	patient bool
}

// Run follows the stream until ctx ends or the store closes. Everybody who waits is answered then.
func (h *Cache) Run(outer context.Context) error {
	ctx, cancel := context.WithCancel(outer)
	tail := h.store.Tail()
	defer tail.Close()
	var beside sync.WaitGroup
	beside.Go(func() { h.tick(ctx) })
	if h.opt.Hand != nil {
		own := h.store.Tail()
		defer own.Close()
		beside.Go(func() { h.handOver(ctx, own) })
	}
	defer func() {
		h.Stop()
		cancel()
		beside.Wait()
	}()
	if err := h.CatchUp(ctx); err != nil {
		return unlessEnded(ctx, err)
	}
	if h.store.Shared() {
		defer h.followOthers(ctx)()
	}
	for {
		b, err := tail.Next(ctx)
		if errors.Is(err, store.ErrClosed) || ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := h.apply(ctx, b); err != nil {
			if !h.store.Shared() || unlessEnded(ctx, err) == nil {
				return unlessEnded(ctx, err)
			}
			h.log.Warn("follow the stream", "pos", int64(b.Last), "err", err) // the next look finds what is missing
			h.Wake(b.Last)
		}
	}
}

// unlessEnded is an error, or nil if it only says that the server stops.
func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, store.ErrClosed) {
		return nil
	}
	return err
}

func (h *Cache) tick(ctx context.Context) {
	t := time.NewTicker(wheelTick)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			h.Tick(h.clock())
		case <-ctx.Done():
			return
		}
	}
}

// Stop answers everybody who waits with what there is, and lets nobody wait any more.
func (h *Cache) Stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, u := range h.users {
		for len(u.waiters) > 0 {
			h.end(u.waiters[len(u.waiters)-1], closing)
		}
	}
	for _, b := range h.barriers {
		close(b.done)
	}
	h.barriers = nil
}

// Head is the position up to which the cache has applied the stream.
func (h *Cache) Head() store.Position {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ring.head
}

// awaitPatience is how long a request waits for what this instance was told of, before it looks into the store.
const awaitPatience = 100 * time.Millisecond

// Await waits until the cache has applied the stream up to a position that is in the store.
func (h *Cache) Await(ctx context.Context, at store.Position) error { return h.await(ctx, at, false) }

// AwaitOwn waits until the cache has applied what this instance has committed.
func (h *Cache) AwaitOwn(ctx context.Context) error { return h.Await(ctx, h.store.Head()) }

// AwaitToken waits until the cache has applied what a token covers, and what other instances have announced by now. A token that
// is newer than the store itself is answered like an initial sync.
func (h *Cache) AwaitToken(ctx context.Context, at store.Position) error {
	if at > h.Head() { // another instance made the token, or this one just now
		if at > h.store.Head() {
			if err := h.CatchUp(ctx); err != nil {
				return err
			}
		}
		if at <= h.store.Head() {
			return h.Await(ctx, at)
		}
	}
	return h.awaitTold(ctx)
}

// awaitTold waits until the cache has applied what other instances have announced by now: whoever has been told of it there
// finds it here. It gives up soon if the store does not answer, and has nobody look more often than for those who wait.
func (h *Cache) awaitTold(ctx context.Context) error {
	told := store.Position(h.told.Load())
	if told == 0 || told <= h.Head() {
		return nil
	}
	soon, cancel := context.WithTimeout(ctx, awaitPatience)
	defer cancel()
	err := h.await(soon, told, true)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil // the answer is as new as this instance is
	}
	return err
}

func (h *Cache) await(ctx context.Context, at store.Position, patient bool) (err error) {
	h.mu.Lock()
	if h.ring.head >= at || h.closed {
		h.mu.Unlock()
		return nil
	}
	b := barrier{at: at, looks: h.looks, patient: patient, done: make(chan struct{})}
	h.barriers = append(h.barriers, b)
	h.mu.Unlock()
	if at > h.store.Committed() {
		h.hurry()
	}
	h.opt.Blocking(ctx, func() { err = h.awaitBarrier(ctx, b) })
	return err
}

// awaitBarrier waits until a barrier is done, and looks into the store if that takes long.
func (h *Cache) awaitBarrier(ctx context.Context, b barrier) error {
	patience := time.NewTimer(awaitPatience)
	defer patience.Stop()
	for {
		select {
		case <-b.done:
			return nil
		case <-patience.C:
			if h.follows.Load() {
				h.hurry()
			} else if err := h.CatchUp(ctx); err != nil {
				return err
			}
			patience.Reset(awaitPatience)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// advance moves the head and lets those go who waited for it. Called with the lock held.
func (h *Cache) advance(head store.Position) {
	h.ring.head = head
	kept := h.barriers[:0]
	for _, b := range h.barriers {
		if b.at <= head {
			close(b.done)
		} else {
			kept = append(kept, b)
		}
	}
	h.barriers = kept
}

// release lets those go who wait for a position that is not in the store: it was above the head that a look found which
// began after they came. Called with the lock held.
func (h *Cache) release(look uint64, head store.Position) {
	kept := h.barriers[:0]
	for _, b := range h.barriers {
		if b.looks < look && b.at > head {
			close(b.done)
		} else {
			kept = append(kept, b)
		}
	}
	h.barriers = kept
}

// applied is one group of the stream on its way into the ring, or what a look into the store found: rows, and what the
// changes did.
type applied struct {
	rows     []store.StreamRow
	last     store.Position
	rooms    map[store.RoomNum]*appliedRoom
	receipts map[store.RoomNum][]roomdb.Receipt
	// read are the timelines that were read, by the position of their row, readReceipts the receipts.
	read         map[store.Position]readSegment
	readReceipts map[store.Position][]roomdb.Receipt
	redacted     []readRedaction
	// vague are the rooms of which something old has changed that is not known.
	vague map[store.Position]bool
	// passed are the rows that nobody in memory can see; what they refer to is not read.
	passed map[store.Position]bool
	// sharers are the rooms of users who are not in memory and whose shared things changed.
	sharers map[store.UserNum][]store.RoomNum
	// presence is what users show of being there.
	presence map[store.UserNum]userdb.Presence
}

// appliedRoom is what a group did to one room.
type appliedRoom struct {
	id       id.RoomID
	segments []toldSegment
	redacted []room.Redacted
}

// toldStretch is a segment of which a payload told.
type toldSegment struct {
	segment *Segment
	size    int
	members []*timeline.Event // of those who spoke
}

// apply takes over one group that this instance has committed. What other instances wrote in between is read first.
func (h *Cache) apply(ctx context.Context, b *store.Batch) error {
	h.follow.Lock()
	defer h.follow.Unlock()
	if b.Last <= h.Head() {
		return nil
	}
	if b.Prev > h.Head() {
		if err := h.followUpTo(ctx, b.Prev); err != nil {
			return err
		}
	}
	a := &applied{rows: b.Rows, last: b.Last, rooms: map[store.RoomNum]*appliedRoom{}}
	for _, p := range b.Payloads {
		h.take(a, p)
	}
	h.wrote(b.Last)
	return h.settle(ctx, a)
}

// knowsMember says whether a membership event need not be told: it is in memory, or nobody in memory is in the room.
func (h *Cache) knowsMember(num store.RoomNum, member store.EventNum) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.rooms[num]
	return r == nil || len(r.members) == 0 || h.members.knows(member)
}

// take sorts a change's payload to its room.
func (h *Cache) take(a *applied, payload any) {
	switch p := payload.(type) {
	case *room.Committed:
		for c := p; c != nil; c = c.Next {
			r := a.rooms[c.Room]
			if r == nil {
				r = &appliedRoom{id: c.RoomID}
				a.rooms[c.Room] = r
			}
			s, size := newSegment(c)
			r.segments = append(r.segments, toldSegment{s, size, membersOf(c, h.knowsMember)})
			r.redacted = append(r.redacted, c.Redacted...)
		}
	case []roomdb.Receipt:
		if a.receipts == nil {
			a.receipts = map[store.RoomNum][]roomdb.Receipt{}
		}
		for _, x := range p {
			a.receipts[x.Room] = append(a.receipts[x.Room], x)
		}
	case []userdb.Presence:
		a.takePresence(p)
	}
}

func (a *applied) takePresence(rows []userdb.Presence) {
	if a.presence == nil {
		a.presence = make(map[store.UserNum]userdb.Presence, len(rows))
	}
	for _, x := range rows {
		a.presence[x.User] = x
	}
}

// settle reads what the rows refer to and no payload told, then puts all into memory and wakes those who can see it.
func (h *Cache) settle(ctx context.Context, a *applied) error {
	if err := h.complete(ctx, a); err != nil {
		return err
	}
	h.put(a)
	return nil
}

// put puts what is complete into memory and wakes those who can see it.
func (h *Cache) put(a *applied) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, row := range a.rows {
		if row.OwnerKind == store.OwnerRoom {
			h.applyRoomRow(a, row)
		} else {
			h.applyUserRow(a, row)
		}
	}
	h.putRedactions(a)
	h.advance(a.last)
	h.metrics.ringBytes.Set(float64(h.ring.bytes))
}

// applyRoomRow takes over a row of a room. Called with the lock held.
func (h *Cache) applyRoomRow(a *applied, row store.StreamRow) {
	r := h.room(row.Room())
	if a.passed[row.Pos] {
		h.pass(r, row)
		return
	}
	switch row.Kind {
	case store.KindTimeline:
		if s, ok := a.read[row.Pos]; ok {
			r.id = s.roomID
			h.addSegment(r, row.Pos, s.segment, s.size)
		} else if at := a.rooms[r.num]; at != nil {
			r.id = at.id
			for _, s := range at.segments {
				h.addSegment(r, row.Pos, s.segment, s.size)
				for _, e := range s.members {
					h.members.learn(r.num, e)
				}
			}
			h.redact(r, at.redacted, row.Pos) // at this row, of whose timeline the redacted events may be
		} else {
			r.timeline.last = row.Pos // a slot with nothing to show
		}
		h.wakeRoom(r)
		h.deliver(r)
	case store.KindReceipts:
		list := a.receipts[r.num]
		if read, ok := a.readReceipts[row.Pos]; ok {
			if list = read; len(list) == 0 {
				return // all of them have moved on: a later row tells
			}
		}
		h.ring.add(&r.receipts, record{pos: row.Pos, size: 200 + 250*len(list), receipts: list})
		h.moveReceipts(r, row.Pos, list)
		h.mergeReceipts(r, list)
	case store.KindRoomUpdate:
		r.updated = row.Pos
		h.recent.drop(r.num)
	}
}

// redact puts redacted events into the place of those in memory. Called with the lock held.
func (h *Cache) redact(r *roomState, redacted []room.Redacted, pos store.Position) {
	for i := range redacted {
		h.ring.redact(&r.timeline, &redacted[i])
		h.events.drop(redacted[i].Target, pos)
		h.members.drop(redacted[i].Target)
	}
}

// addStretch puts a piece of a room's timeline into the ring, and lets users come and go who joined and left in it.
func (h *Cache) addSegment(r *roomState, pos store.Position, s *Segment, size int) {
	h.ring.add(&r.timeline, record{pos: pos, size: size, timeline: s})
	r.newest, r.joined = s, s.Joined
	h.members.apply(r.num, s)
	h.recent.apply(r.num, s)
	for i := range s.Changes {
		c := &s.Changes[i]
		switch c.Type {
		case "m.room.member", "m.room.name", "m.room.canonical_alias":
			r.roster = nil
		case "m.room.history_visibility":
			r.open = OpenUnknown
		}
		if c.user == 0 {
			continue
		}
		joined := c.Event != nil && c.Event.Membership == "join"
		h.applyMembership(c.user, membershipChange{pos: pos, room: r.num, roomID: r.id, slot: c.Slot, joined: joined})
	}
}

// applyMembership keeps a user's joined rooms up to date.
func (h *Cache) applyMembership(num store.UserNum, m membershipChange) {
	u := h.users[num]
	if u == nil {
		return
	}
	if u.loading {
		u.pending = append(u.pending, m)
		return
	}
	h.move(u, m)
}

func (h *Cache) move(u *user, m membershipChange) {
	if m.joined {
		u.enter(h.room(m.room), m.slot)
	} else {
		u.leave(m.room)
	}
}

// applyUserRow takes over a row of a user. Called with the lock held.
func (h *Cache) applyUserRow(a *applied, row store.StreamRow) {
	u := h.users[row.User()]
	shared := SharedIndex(row.Kind)
	if u != nil && int(row.Kind) < OwnKinds {
		u.last[row.Kind] = row.Pos
		if shared >= 0 {
			h.mergeUser(u)
		} else {
			h.wakeUser(u)
		}
	}
	if shared < 0 {
		return
	}
	if row.Kind == store.KindPresence {
		h.addPresence(a, row)
	}
	if u != nil && !u.loading {
		for i := range u.rooms {
			h.share(u.rooms[i].room, shared, row.Pos)
		}
		return
	}
	for _, num := range a.sharers[row.User()] {
		if r := h.rooms[num]; r != nil {
			h.share(r, shared, row.Pos)
		}
	}
}

// share notes that a member of a room has changed something that the others see. Called with the lock held.
func (h *Cache) share(r *roomState, shared int, pos store.Position) {
	if shared == SharedIndex(store.KindPresence) && !r.small() {
		return
	}
	r.shared[shared] = pos
	h.mergeRoom(r)
}

// room is what the cache knows of a room; made if there is nothing yet. Called with the lock held.
func (h *Cache) room(num store.RoomNum) *roomState {
	r := h.rooms[num]
	if r == nil {
		r = &roomState{num: num}
		h.rooms[num] = r
		h.forgetRooms()
	}
	return r
}

// forgetRooms drops rooms of which the ring holds nothing and nobody in memory is a member, a few for each new one, so
// that the map is as large as what is needed of it. Called with the lock held.
func (h *Cache) forgetRooms() {
	looked := 0
	for num, r := range h.rooms {
		if looked++; looked > 4 {
			return
		}
		if len(r.members) == 0 && r.timeline.seq < h.ring.first && r.receipts.seq < h.ring.first && !r.fresh(h.ring.floor) {
			delete(h.rooms, num)
		}
	}
}

// fresh says whether something is known of the room that is newer than the ring's floor.
func (r *roomState) fresh(floor store.Position) bool {
	newest := max(r.timeline.last, r.receipts.last)
	for _, p := range r.shared {
		newest = max(newest, p)
	}
	return newest > floor || newest == 0
}

// Store is the store whose stream is followed.
func (h *Cache) Store() *store.Store { return h.store }

// Clock is the clock by which requests wait.
func (h *Cache) Clock() func() time.Time { return h.clock }

// Blocking calls wait, which waits for something other than the processor, for somebody who works in a context.
func (h *Cache) Blocking(ctx context.Context, wait func()) { h.opt.Blocking(ctx, wait) }
