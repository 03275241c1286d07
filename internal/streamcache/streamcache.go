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

// Cache holds the newest part of the stream in memory, the syncing users with their rooms, and their waiting requests. It follows
// the stream with a cursor of its own, the ring's head.
type Cache struct {
	opt   Options
	store *store.Store
	clock func() time.Time
	log   *slog.Logger
	rules *lru2.Cache[store.RoomNum, *roomversion.Rules]

	follow sync.Mutex // held while the ring moves; mu is locked under it
	mu     sync.Mutex // guards memory; only Conn.Wake is called under it

	memory
	following
}

// barrier is a request that waits for a position; polls counts the polls that had begun before it.
type barrier struct {
	at    store.Position
	polls uint64
	done  chan struct{}
	// lowPriority barriers request no poll: a later one is soon enough.
	lowPriority bool
}

// Run follows the stream until ctx ends or the store closes. All waiting requests are answered then.
func (sc *Cache) Run(outer context.Context) error {
	ctx, cancel := context.WithCancel(outer)
	tail := sc.store.Subscribe()
	defer tail.Close()
	var beside sync.WaitGroup
	beside.Go(func() { sc.tick(ctx) })
	if sc.opt.Replicate != nil {
		own := sc.store.Subscribe()
		defer own.Close()
		beside.Go(func() { sc.replicate(ctx, own) })
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
		defer sc.startPolling(ctx)()
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
			sc.log.Warn("follow the stream", "pos", int64(b.Last), "err", err) // the next poll finds what is missing
			sc.Wake(b.Last)
		}
	}
}

// unlessEnded returns err, or nil if the server is stopping.
func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, store.ErrClosed) {
		return nil
	}
	return err
}

func (sc *Cache) tick(ctx context.Context) {
	t := time.NewTicker(timerTick)
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

// Stop answers all waiting requests with what there is; none waits after it.
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

// awaitTimeout is how long a request waits for an announced position before it reads the
// store.
const awaitTimeout = 100 * time.Millisecond

// Await waits until the cache has applied the stream up to a position that is in the store.
func (sc *Cache) Await(ctx context.Context, at store.Position) error { return sc.await(ctx, at, false) }

// AwaitOwn waits until the cache has applied what this instance has committed.
func (sc *Cache) AwaitOwn(ctx context.Context) error { return sc.Await(ctx, sc.store.Head()) }

// AwaitToken waits until the cache has applied what a token covers and what other instances have announced by now. A token newer
// than the store itself is answered like an initial sync.
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
	return sc.awaitAnnounced(ctx)
}

// awaitAnnounced waits until the cache has applied what other instances have announced by now, so that a client finds here what it
// saw there. It gives up soon if the store does not answer, and requests no additional polls.
func (sc *Cache) awaitAnnounced(ctx context.Context) error {
	announced := store.Position(sc.announced.Load())
	if announced == 0 || announced <= sc.Head() {
		return nil
	}
	soon, cancel := context.WithTimeout(ctx, awaitTimeout)
	defer cancel()
	err := sc.await(soon, announced, true)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil // the answer is as new as this instance is
	}
	return err
}

func (sc *Cache) await(ctx context.Context, at store.Position, lowPriority bool) (err error) {
	sc.mu.Lock()
	if sc.ring.head >= at || sc.closed {
		sc.mu.Unlock()
		return nil
	}
	b := barrier{at: at, polls: sc.polls, lowPriority: lowPriority, done: make(chan struct{})}
	sc.barriers = append(sc.barriers, b)
	sc.mu.Unlock()
	if at > sc.store.Committed() {
		sc.requestPoll()
	}
	sc.opt.Blocking(ctx, func() { err = sc.awaitBarrier(ctx, b) })
	return err
}

// awaitBarrier waits until a barrier is done, and polls the store if that takes long.
func (sc *Cache) awaitBarrier(ctx context.Context, b barrier) error {
	timeout := time.NewTimer(awaitTimeout)
	defer timeout.Stop()
	for {
		select {
		case <-b.done:
			return nil
		case <-timeout.C:
			if sc.follows.Load() {
				sc.requestPoll()
			} else if err := sc.CatchUp(ctx); err != nil {
				return err
			}
			timeout.Reset(awaitTimeout)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// applied is a group of the stream, or the result of a poll, before it enters the ring: its rows and their contents.
type applied struct {
	rows     []store.StreamRow
	last     store.Position
	rooms    map[store.RoomNum]*appliedRoom
	receipts map[store.RoomNum][]roomdb.Receipt
	// read are the timelines that were read, by the position of their row, readReceipts the receipts.
	read         map[store.Position]readSegment
	readReceipts map[store.Position][]roomdb.Receipt
	redacted     []readRedaction
	// unknownUpdates are the rows of rooms in which something old has changed that is not known.
	unknownUpdates map[store.Position]bool
	// skipped are the rows that concern no user in memory; their contents are not read.
	skipped map[store.Position]bool
	// sharers are the rooms of users who are not in memory and changed something that others see.
	sharers map[store.UserNum][]store.RoomNum
	// presence is the new presence of users.
	presence map[store.UserNum]userdb.Presence
}

// appliedRoom is the effect of a group on one room.
type appliedRoom struct {
	id       id.RoomID
	segments []committedSegment
	redacted []room.Redacted
}

// committedSegment is a segment that came with a payload.
type committedSegment struct {
	segment *Segment
	size    int
	members []*timeline.Event // of those who spoke
}

// apply applies a group of this instance. Groups of other instances before it are read first.
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
		f.addPayload(a, p)
	}
	f.noteOwn(b.Last)
	return f.finish(ctx, a)
}

// knowsMember reports whether a membership event need not be sent: it is in memory, or the room has no member in memory.
func (f *following) knowsMember(num store.RoomNum, member store.EventNum) bool {
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	r := f.cache.rooms[num]
	return r == nil || len(r.members) == 0 || f.cache.members.knows(member)
}

// addPayload adds a change's payload to its room.
func (f *following) addPayload(a *applied, payload any) {
	switch p := payload.(type) {
	case *room.Committed:
		for c := p; c != nil; c = c.Next {
			r := a.rooms[c.Room]
			if r == nil {
				r = &appliedRoom{id: c.RoomID}
				a.rooms[c.Room] = r
			}
			s, size := newSegment(c)
			r.segments = append(r.segments, committedSegment{s, size, membersOf(c, f.knowsMember)})
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

// finish reads the contents of rows without a payload, then adds everything to memory and
// wakes the clients that can see it.
func (f *following) finish(ctx context.Context, a *applied) error {
	if err := f.complete(ctx, a); err != nil {
		return err
	}
	f.cache.put(a)
	return nil
}

// put adds complete changes to memory and wakes the clients that can see them.
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

// Store returns the store whose stream is followed.
func (sc *Cache) Store() *store.Store { return sc.store }

// Clock returns the clock of waits.
func (sc *Cache) Clock() func() time.Time { return sc.clock }

// Blocking calls wait, which waits for something other than the CPU, on behalf of work done in ctx.
func (sc *Cache) Blocking(ctx context.Context, wait func()) { sc.opt.Blocking(ctx, wait) }
