package streamcache

import (
	"context"
	"errors"
	"log/slog"
	"sync"
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
	opt   Options
	store *store.Store
	clock func() time.Time
	log   *slog.Logger
	rules *lru2.Cache[store.RoomNum, *roomversion.Rules]

	follow sync.Mutex // held by whoever moves the ring on; mu is taken under it
	mu     sync.Mutex // guards memory; under it nothing is locked but what a Line locks to be woken

	memory
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
func (sc *Cache) Run(outer context.Context) error {
	ctx, cancel := context.WithCancel(outer)
	tail := sc.store.Tail()
	defer tail.Close()
	var beside sync.WaitGroup
	beside.Go(func() { sc.tick(ctx) })
	if sc.opt.Hand != nil {
		own := sc.store.Tail()
		defer own.Close()
		beside.Go(func() { sc.handOver(ctx, own) })
	}
	defer func() {
		sc.Stop()
		cancel()
		beside.Wait()
	}()
	if err := sc.CatchUp(ctx); err != nil {
		return unlessEnded(ctx, err)
	}
	if sc.store.Shared() {
		defer sc.followOthers(ctx)()
	}
	for {
		b, err := tail.Next(ctx)
		if errors.Is(err, store.ErrClosed) || ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := sc.apply(ctx, b); err != nil {
			if !sc.store.Shared() || unlessEnded(ctx, err) == nil {
				return unlessEnded(ctx, err)
			}
			sc.log.Warn("follow the stream", "pos", int64(b.Last), "err", err) // the next look finds what is missing
			sc.Wake(b.Last)
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

func (sc *Cache) tick(ctx context.Context) {
	t := time.NewTicker(wheelTick)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			sc.Tick(sc.clock())
		case <-ctx.Done():
			return
		}
	}
}

// Stop answers everybody who waits with what there is, and lets nobody wait any more.
func (sc *Cache) Stop() {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	sc.closed = true
	for _, u := range sc.users {
		for len(u.waiters) > 0 {
			sc.end(u.waiters[len(u.waiters)-1], closing)
		}
	}
	for _, b := range sc.barriers {
		close(b.done)
	}
	sc.barriers = nil
}

// Head is the position up to which the cache has applied the stream.
func (sc *Cache) Head() store.Position {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	return sc.ring.head
}

// awaitPatience is how long a request waits for what this instance was told of, before it looks into the store.
const awaitPatience = 100 * time.Millisecond

// Await waits until the cache has applied the stream up to a position that is in the store.
func (sc *Cache) Await(ctx context.Context, at store.Position) error { return sc.await(ctx, at, false) }

// AwaitOwn waits until the cache has applied what this instance has committed.
func (sc *Cache) AwaitOwn(ctx context.Context) error { return sc.Await(ctx, sc.store.Head()) }

// AwaitToken waits until the cache has applied what a token covers, and what other instances have announced by now. A token that
// is newer than the store itself is answered like an initial sync.
func (sc *Cache) AwaitToken(ctx context.Context, at store.Position) error {
	if at > sc.Head() { // another instance made the token, or this one just now
		if at > sc.store.Head() {
			if err := sc.CatchUp(ctx); err != nil {
				return err
			}
		}
		if at <= sc.store.Head() {
			return sc.Await(ctx, at)
		}
	}
	return sc.awaitTold(ctx)
}

// awaitTold waits until the cache has applied what other instances have announced by now: whoever has been told of it there
// finds it here. It gives up soon if the store does not answer, and has nobody look more often than for those who wait.
func (sc *Cache) awaitTold(ctx context.Context) error {
	told := store.Position(sc.told.Load())
	if told == 0 || told <= sc.Head() {
		return nil
	}
	soon, cancel := context.WithTimeout(ctx, awaitPatience)
	defer cancel()
	err := sc.await(soon, told, true)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil // the answer is as new as this instance is
	}
	return err
}

func (sc *Cache) await(ctx context.Context, at store.Position, patient bool) (err error) {
	sc.mu.Lock()
	if sc.ring.head >= at || sc.closed {
		sc.mu.Unlock()
		return nil
	}
	b := barrier{at: at, looks: sc.looks, patient: patient, done: make(chan struct{})}
	sc.barriers = append(sc.barriers, b)
	sc.mu.Unlock()
	if at > sc.store.Committed() {
		sc.hurry()
	}
	sc.opt.Blocking(ctx, func() { err = sc.awaitBarrier(ctx, b) })
	return err
}

// awaitBarrier waits until a barrier is done, and looks into the store if that takes long.
func (sc *Cache) awaitBarrier(ctx context.Context, b barrier) error {
	patience := time.NewTimer(awaitPatience)
	defer patience.Stop()
	for {
		select {
		case <-b.done:
			return nil
		case <-patience.C:
			if sc.follows.Load() {
				sc.hurry()
			} else if err := sc.CatchUp(ctx); err != nil {
				return err
			}
			patience.Reset(awaitPatience)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
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

// toldSegment is a segment of which a payload told.
type toldSegment struct {
	segment *Segment
	size    int
	members []*timeline.Event // of those who spoke
}

// apply takes over one group that this instance has committed. What other instances wrote in between is read first.
func (f *following) apply(ctx context.Context, b *store.Batch) error {
	f.cache.follow.Lock()
	defer f.cache.follow.Unlock()
	if b.Last <= f.cache.Head() {
		return nil
	}
	if b.Prev > f.cache.Head() {
		if err := f.followUpTo(ctx, b.Prev); err != nil {
			return err
		}
	}
	a := &applied{rows: b.Rows, last: b.Last, rooms: map[store.RoomNum]*appliedRoom{}}
	for _, p := range b.Payloads {
		f.take(a, p)
	}
	f.wrote(b.Last)
	return f.settle(ctx, a)
}

// knowsMember says whether a membership event need not be told: it is in memory, or nobody in memory is in the room.
func (f *following) knowsMember(num store.RoomNum, member store.EventNum) bool {
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	r := f.cache.rooms[num]
	return r == nil || len(r.members) == 0 || f.cache.members.knows(member)
}

// take sorts a change's payload to its room.
func (f *following) take(a *applied, payload any) {
	switch p := payload.(type) {
	case *room.Committed:
		for c := p; c != nil; c = c.Next {
			r := a.rooms[c.Room]
			if r == nil {
				r = &appliedRoom{id: c.RoomID}
				a.rooms[c.Room] = r
			}
			s, size := newSegment(c)
			r.segments = append(r.segments, toldSegment{s, size, membersOf(c, f.knowsMember)})
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
func (f *following) settle(ctx context.Context, a *applied) error {
	if err := f.complete(ctx, a); err != nil {
		return err
	}
	f.cache.put(a)
	return nil
}

// put puts what is complete into memory and wakes those who can see it.
func (sc *Cache) put(a *applied) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	for _, row := range a.rows {
		if row.OwnerKind == store.OwnerRoom {
			sc.applyRoomRow(a, row)
		} else {
			sc.applyUserRow(a, row)
		}
	}
	sc.putRedactions(a)
	sc.advance(a.last)
	sc.metrics.ringBytes.Set(float64(sc.ring.bytes))
}

// Store is the store whose stream is followed.
func (sc *Cache) Store() *store.Store { return sc.store }

// Clock is the clock by which requests wait.
func (sc *Cache) Clock() func() time.Time { return sc.clock }

// Blocking calls wait, which waits for something other than the processor, for somebody who works in a context.
func (sc *Cache) Blocking(ctx context.Context, wait func()) { sc.opt.Blocking(ctx, wait) }
