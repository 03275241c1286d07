package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of one group.
const (
	groupChanges = 512
	groupBytes   = 4 << 20
	// LowPriorityGap is the shortest time between a group and a following one with only
	// low-priority changes: at most 20 of those begin in a second.
	LowPriorityGap = 50 * time.Millisecond
)

// commitQueue merges waiting changes into groups. One goroutine runs it.
type commitQueue struct {
	store *Store

	mu     sync.Mutex // guards queue, closed; nothing is locked under it
	queue  []*Pending
	closed bool

	wake  chan struct{} // capacity 1
	done  chan struct{}
	g     group
	begun time.Time // the newest group
}

// Pending is a change that is queued or being committed.
type Pending struct {
	change *Change
	done   chan struct{}
	state  atomic.Int32 // pendingQueued, pendingTaken, pendingWithdrawn
	pos    Position
	err    error
}

const (
	pendingQueued = iota
	pendingTaken
	pendingWithdrawn
)

// Wait waits until the change is durable, and returns the position at which readers find
// it: the last of its group. If ctx ends before a group has taken the change, the change
// is withdrawn. After that Wait ignores ctx.
func (p *Pending) Wait(ctx context.Context) (Position, error) {
	select {
	case <-p.done:
		return p.pos, p.err
	case <-ctx.Done():
	}
	if p.state.CompareAndSwap(pendingQueued, pendingWithdrawn) {
		return 0, ctx.Err()
	}
	<-p.done
	return p.pos, p.err
}

// Done is closed when Wait would return at once.
func (p *Pending) Done() <-chan struct{} { return p.done }

// Commit writes a change together with other waiting ones, and returns when it is
// durable. The position is the last of its group: a snapshot at or after it has the
// change.
//
// Errors: ErrConflict (a head moved), the change's own conflict error, ErrDuplicate,
// ErrNotFound (an owner does not exist), ErrBusy (queue full), ErrOutcomeUnknown,
// ErrClosed, or a fault of the database. On every error but ErrOutcomeUnknown nothing was
// written.
func (s *Store) Commit(ctx context.Context, c *Change) (Position, error) {
	return s.CommitAsync(c).Wait(ctx)
}

// CommitAsync queues a change and returns at once. Changes of one room are committed
// in the order of the calls, so that a change can be built on the head of one that is
// not committed yet. If that one fails, so does the change that was built on it.
func (s *Store) CommitAsync(c *Change) *Pending {
	p := &Pending{change: c, done: make(chan struct{})}
	err := s.opt.Faults.Hit(FaultBuilt)
	if err == nil {
		err = s.commits.enqueue(p)
	}
	if err != nil {
		p.err = err
		close(p.done)
	}
	return p
}

func (c *commitQueue) start(s *Store) {
	c.store = s
	c.wake = make(chan struct{}, 1)
	c.done = make(chan struct{})
	go c.run()
}

func (c *commitQueue) stop() {
	c.mu.Lock()
	wasClosed := c.closed
	c.closed = true
	c.mu.Unlock()
	if !wasClosed {
		close(c.wake)
	}
	<-c.done
}

func (c *commitQueue) enqueue(p *Pending) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	if len(c.queue) >= c.store.opt.QueueLimit {
		return ErrBusy
	}
	c.queue = append(c.queue, p)
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return nil
}

func (c *commitQueue) waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue)
}

// onlyLowPriority reports whether all waiting changes have low priority.
func (c *commitQueue) onlyLowPriority() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.queue) >= groupChanges {
		return false
	}
	return !slices.ContainsFunc(c.queue, func(p *Pending) bool { return !p.change.LowPriority })
}

// delayLowPriority waits while all waiting changes have low priority and the last
// group began less than LowPriorityGap ago.
func (c *commitQueue) delayLowPriority() {
	var end *time.Timer
	for c.onlyLowPriority() {
		rest := time.Until(c.begun.Add(LowPriorityGap))
		if rest <= 0 {
			return
		}
		if end == nil {
			end = time.NewTimer(rest)
			defer end.Stop()
		}
		select {
		case <-c.wake: // closed when the store closes
		case <-end.C:
			return
		}
	}
}

func (c *commitQueue) run() {
	defer close(c.done)
	var batch []*Pending
	for range c.wake {
		for c.waiting() > 0 {
			c.delayLowPriority()
			c.begun = time.Now()
			if batch = c.take(batch[:0]); len(batch) == 0 {
				break // all were withdrawn
			}
			c.commit(batch)
			clear(batch)
		}
	}
	for {
		if batch = c.take(batch[:0]); len(batch) == 0 {
			return
		}
		c.commit(batch)
	}
}

// take moves waiting changes out of the queue, within the bounds of a group.
func (c *commitQueue) take(batch []*Pending) []*Pending {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, size := 0, 0
	for n < len(c.queue) && len(batch) < groupChanges && size < groupBytes {
		p := c.queue[n]
		n++
		if p.state.CompareAndSwap(pendingQueued, pendingTaken) {
			batch = append(batch, p)
			size += p.change.args.size
		}
	}
	rest := copy(c.queue, c.queue[n:])
	clear(c.queue[rest:])
	c.queue = c.queue[:rest]
	return batch
}

// groupTries bounds the attempts to write a group without its failing changes, before its
// changes are written one by one.
const groupTries = 3

// commit writes a batch in as few transactions as possible: first all changes, then
// without those that fail, finally one by one.
func (c *commitQueue) commit(batch []*Pending) {
	m := &c.store.metrics
	for try := 1; len(batch) > 0; try++ {
		if try > 1 {
			m.retried.Add(1)
		}
		begin := time.Now()
		failed, err := c.attempt(batch)
		m.group(time.Since(begin))
		var unavailable *unavailableError
		switch {
		case err == nil:
			return
		case errors.As(err, &unavailable) && try == 1:
			// a retry: the connection had ended since the last group
		case failed != nil && try <= groupTries:
			failed.finish(0, err)
			batch = slices.DeleteFunc(batch, func(p *Pending) bool { return p == failed })
		case len(batch) == 1 || errors.As(err, &unavailable) || errors.Is(err, ErrOutcomeUnknown):
			if errors.Is(err, ErrOutcomeUnknown) {
				m.unknown.Add(1)
			}
			release(batch, err)
			return
		default:
			m.retried.Add(1)
			c.oneByOne(batch)
			return
		}
	}
}

func (c *commitQueue) oneByOne(batch []*Pending) {
	for i := range batch {
		_, err := c.attempt(batch[i : i+1])
		var unavailable *unavailableError
		if errors.As(err, &unavailable) {
			release(batch[i:], err)
			return
		}
		if err != nil {
			release(batch[i:i+1], err)
		}
	}
}

// unavailableError says that a group could not begin.
type unavailableError struct{ err error }

func (e *unavailableError) Error() string { return e.err.Error() }

func (e *unavailableError) Unwrap() error { return e.err }

func (p *Pending) finish(pos Position, err error) {
	p.pos, p.err = pos, err
	close(p.done)
}

func release(batch []*Pending, err error) {
	for _, p := range batch {
		p.finish(0, err)
	}
}

// attempt runs one transaction. On success it releases the whole batch: the losers of the
// heads with ErrConflict, the others with their position. On an error it releases none,
// and failed is the change that caused the error, if one did.
func (c *commitQueue) attempt(batch []*Pending) (failed *Pending, err error) {
	g := &c.g
	if err := g.prepare(c.store, batch); err != nil {
		return nil, &unavailableError{err}
	}
	if err := c.store.opt.Faults.Hit(FaultBeforeCommit); err != nil {
		return nil, err
	}
	if err := c.store.engine.begin(g.users, g.rooms); err != nil {
		return nil, &unavailableError{err}
	}
	g.decide(c.store, batch)
	if len(g.winners) == 0 {
		c.store.engine.abort()
		c.releaseLosers(g)
		return nil, nil
	}
	if err := c.store.engine.finish(g); err != nil {
		var oe *opError
		if errors.As(err, &oe) {
			return g.winners[oe.change], oe.err
		}
		return nil, err
	}
	if err := c.store.opt.Faults.Hit(FaultAfterCommit); err != nil {
		release(batch, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err))
		return nil, nil
	}
	c.store.metrics.changes.Add(uint64(len(g.winners)))
	c.publish(g)
	c.releaseLosers(g)
	for _, p := range g.winners {
		p.finish(g.last, nil)
	}
	return nil, nil
}

// opError is the error of one change of a group.
type opError struct {
	change int // index in group.winners
	err    error
}

func (e *opError) Error() string { return e.err.Error() }

func (e *opError) Unwrap() error { return e.err }

// owner is a room or a user during one group.
type owner struct {
	num     int64
	exists  bool
	head    Head
	slot    Slot  // rooms: timeline, users: everything
	receipt Slot  // rooms: receipts
	touched bool  // its row must be updated
	ended   bool  // users: the account is deactivated
	row     *Room // rooms: further columns of the row
	rows    []StreamRow
}

// group is one transaction of the commit queue. It is reused.
type group struct {
	users, rooms []*owner // ascending by number
	userOf       map[int64]*owner
	roomOf       map[int64]*owner
	pool         []*owner
	used         int

	winners, losers []*Pending
	loserErr        []error
	stream          []StreamRow

	prev, last Position // head of the stream before and after
}

func (g *group) newOwner(n int64) *owner {
	if g.used == len(g.pool) {
		g.pool = append(g.pool, &owner{})
	}
	o := g.pool[g.used]
	g.used++
	*o = owner{num: n, rows: o.rows[:0]}
	return o
}

// prepare collects the owners of a batch, and takes heads for parts without one.
func (g *group) prepare(s *Store, batch []*Pending) error {
	if g.userOf == nil {
		g.userOf, g.roomOf = map[int64]*owner{}, map[int64]*owner{}
	}
	clear(g.userOf)
	clear(g.roomOf)
	g.users, g.rooms, g.used = g.users[:0], g.rooms[:0], 0
	clear(g.winners)
	clear(g.losers)
	g.winners, g.losers, g.loserErr = g.winners[:0], g.losers[:0], g.loserErr[:0]
	g.stream = g.stream[:0]
	for _, p := range batch {
		for _, part := range p.change.users {
			if part.expect != NoFence && part.NewHead == 0 {
				h, err := s.NextHead(context.Background())
				if err != nil {
					return err
				}
				part.NewHead = h
			}
			if g.userOf[int64(part.User)] == nil {
				o := g.newOwner(int64(part.User))
				g.userOf[o.num] = o
				g.users = append(g.users, o)
			}
		}
		for _, part := range p.change.rooms {
			if part.expect != NoFence && part.NewHead == 0 {
				h, err := s.NextHead(context.Background())
				if err != nil {
					return err
				}
				part.NewHead = h
			}
			if g.roomOf[int64(part.Room)] == nil {
				o := g.newOwner(int64(part.Room))
				g.roomOf[o.num] = o
				g.rooms = append(g.rooms, o)
			}
		}
	}
	byNum := func(a, b *owner) int { return cmp.Compare(a.num, b.num) }
	slices.SortFunc(g.users, byNum)
	slices.SortFunc(g.rooms, byNum)
	return nil
}

// decide splits a batch into winners and losers by the heads that were read and by the
// earlier changes of the group, and assigns slots.
func (g *group) decide(s *Store, batch []*Pending) {
	for _, p := range batch {
		if err := g.check(p.change); err != nil {
			g.losers = append(g.losers, p)
			g.loserErr = append(g.loserErr, err)
			continue
		}
		if s.opt.Faults.Hit(FaultHeadMoved) != nil {
			g.losers = append(g.losers, p)
			g.loserErr = append(g.loserErr, ErrConflict)
			continue
		}
		g.apply(p.change)
		g.winners = append(g.winners, p)
	}
	g.collectStream()
}

func (g *group) check(c *Change) error {
	for _, part := range c.users {
		o := g.userOf[int64(part.User)]
		if !o.exists {
			return fmt.Errorf("user number %d: %w", part.User, ErrNotFound)
		}
		if part.expect != NoFence && part.expect != o.head {
			return ErrConflict
		}
		if part.active && o.ended {
			return fmt.Errorf("user number %d: %w", part.User, ErrDeactivated)
		}
	}
	for _, part := range c.rooms {
		o := g.roomOf[int64(part.Room)]
		switch {
		case part.creates == o.exists && o.exists:
			return ErrConflict
		case !part.creates && !o.exists:
			return fmt.Errorf("room number %d: %w", part.Room, ErrNotFound)
		case part.expect != NoFence && part.expect != o.head:
			return ErrConflict
		case part.Last != 0 && (part.First != o.slot+1 || part.Last < part.First || part.expect == NoFence):
			return ErrConflict
		case part.row != nil && part.expect == NoFence:
			return fmt.Errorf("room number %d: its row is written without a fence", part.Room)
		}
	}
	return nil
}

// apply updates the owners of a change.
func (g *group) apply(c *Change) {
	for _, part := range c.users {
		o := g.userOf[int64(part.User)]
		if part.expect != NoFence {
			o.head, o.touched = part.NewHead, true
		}
	}
	for _, part := range c.rooms {
		o := g.roomOf[int64(part.Room)]
		o.exists = true
		if part.expect != NoFence {
			o.head, o.touched = part.NewHead, true
		}
		if part.row != nil {
			o.row = part.row
		}
		if part.Last != 0 {
			o.slot = part.Last
			o.refer(OwnerRoom, KindTimeline, part.First, part.Last)
		}
		if part.updates {
			o.refer(OwnerRoom, KindRoomUpdate, o.slot, o.slot)
		}
	}
	for i := range c.args.slots {
		w := &c.args.slots[i]
		if w.ownerKind == OwnerUser {
			o := g.userOf[w.owner]
			o.slot++
			w.slot, o.touched = o.slot, true
			o.refer(OwnerUser, w.kind, w.slot, w.slot)
		} else {
			o := g.roomOf[w.owner]
			o.receipt++
			w.slot, o.touched = o.receipt, true
			o.refer(OwnerRoom, w.kind, w.slot, w.slot)
		}
	}
}

// refer adds or extends the owner's stream row of a kind.
func (o *owner) refer(ownerKind OwnerKind, kind Kind, first, last Slot) {
	for i := range o.rows {
		if o.rows[i].Kind == kind {
			o.rows[i].Last = last
			return
		}
	}
	o.rows = append(o.rows, StreamRow{OwnerKind: ownerKind, Owner: o.num, Kind: kind, First: first, Last: last})
}

func (g *group) collectStream() {
	for _, o := range g.rooms {
		g.stream = append(g.stream, o.rows...)
	}
	for _, o := range g.users {
		g.stream = append(g.stream, o.rows...)
	}
}

func (c *commitQueue) releaseLosers(g *group) {
	c.store.metrics.conflicts.Add(uint64(len(g.losers)))
	for i, p := range g.losers {
		p.finish(0, g.loserErr[i])
	}
}

// writeOwners updates the rows of all changed owners.
func (g *group) writeOwners(write func(s *Stmt, list ...any) error) error {
	for _, o := range g.users {
		if o.touched {
			if err := write(updateUserOwner, o.num, o.head, o.slot); err != nil {
				return err
			}
		}
	}
	for _, o := range g.rooms {
		var err error
		switch r := o.row; {
		case r != nil:
			err = write(updateRoom, o.num, o.head, o.slot, o.receipt, r.Resident, r.Partial, r.extremities, r.Depth,
				r.Joined, r.Invited, r.LocalJoined, r.Totals)
		case o.touched:
			err = write(updateRoomOwner, o.num, o.head, o.slot, o.receipt)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// publish delivers a committed group to subscribers.
func (c *commitQueue) publish(g *group) {
	s := c.store
	if len(g.stream) == 0 {
		g.last = s.Head()
		g.prev = g.last
	} else {
		s.sawHead(g.last)
		s.committed.Store(int64(g.last))
	}
	s.subscriptions.publish(g, &s.metrics.lostBatches)
}

var (
	updateUserOwner = Prepare(`UPDATE users SET head = $2, slot = $3 WHERE num = $1`)
	updateRoomOwner = Prepare(`UPDATE rooms SET head = $2, slot = $3, receipt_slot = $4 WHERE num = $1`)
	selectUserOwner = Prepare(`SELECT head, slot, deactivated FROM users WHERE num = $1`)
	selectRoomOwner = Prepare(`SELECT head, slot, receipt_slot FROM rooms WHERE num = $1`)
)

// assignPositions numbers the stream rows of a committed group.
func (g *group) assignPositions() {
	first := g.last - Position(len(g.stream)) + 1
	for i := range g.stream {
		g.stream[i].Pos = first + Position(i)
	}
}
