package reader

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/readerdb"
)

const (
	ownerKind = "reader"
	// lazyMove is how long a cursor may stay behind the rows that its shard skipped.
	lazyMove = 5 * time.Second
	// retryEvery is the interval at which a reader looks for rows that an operator wants
	// retried.
	retryEvery = 10 * time.Second
	retryPage  = 100
)

// follower runs one reader. One goroutine owns its state. The functions that handlers
// return run in other goroutines, one for each shard, and report to results.
type follower struct {
	runner *Runner
	def    Reader
	wake   chan struct{} // capacity 1

	lease   int64
	shards  map[int]*shard // those that this instance owns
	results chan result
	active  int // goroutines that will report
	retried time.Time
	retries sync.WaitGroup // the goroutine that retries rows set aside
	trying  atomic.Bool    // whether it runs
	metrics followerMetrics
}

// shard is the state of a shard that this instance owns.
type shard struct {
	cursor readerdb.Cursor // as in the table
	at     store.Position  // processed up to here; never below cursor.Pos
	busy   bool            // a goroutine processes it
	moved  time.Time       // when the cursor last moved
	// single is set after a batch has failed: up to this position rows are processed one
	// at a time.
	single store.Position
	failed int       // how often the row after at has failed on its own
	paused int       // transient failures in a row
	again  time.Time // no attempt before
	// late is when a shard without delay would have processed the rows that this one was
	// dispatched; zero = it has processed all of them.
	late time.Time
}

// result is the outcome of a batch.
type result struct {
	shard *shard
	batch *Batch // nil: only the cursor has moved
	end   store.Position
	err   error
}

// followerMetrics are counters and gauges, each changed by one atomic operation.
type followerMetrics struct {
	rows, failures, aside, trimmed, fenced, reads, moves atomic.Uint64
	owned                                                atomic.Int64
	late                                                 atomic.Pointer[time.Time] // the earliest of its shards; nil = none
}

func newFollower(r *Runner, def Reader) (*follower, error) {
	switch def.Shards {
	case 0:
		def.Shards = 1
	case 1, Shards:
	default:
		return nil, fmt.Errorf("reader %s has %d shards: 1 or %d", def.Name, def.Shards, Shards)
	}
	if def.Shard == nil {
		def.Shard = ShardOf
	}
	if def.Shards == 1 {
		def.Shard = func(store.StreamRow) int { return 0 }
	}
	if def.Tries == 0 {
		def.Tries = 8
	}
	if def.Backoff == (Backoff{}) {
		def.Backoff = Backoff{time.Second, time.Minute}
	}
	return &follower{
		runner: r, def: def, wake: make(chan struct{}, 1),
		shards: map[int]*shard{}, results: make(chan result, def.Shards),
	}, nil
}

// run follows the stream until ctx ends.
func (f *follower) run(ctx context.Context) {
	tick := time.NewTicker(f.runner.opt.tick)
	defer tick.Stop()
	f.own(ctx)
	for ctx.Err() == nil {
		more := f.pass(ctx)
		f.measure()
		if more {
			f.collect()
			continue
		}
		pause, stop := f.pause()
		select {
		case <-ctx.Done():
		case <-f.wake:
		case res := <-f.results:
			f.settle(res)
		case <-pause:
		case <-tick.C:
			f.own(ctx)
			f.moveLazily(ctx)
			f.retryAside(ctx)
		}
		stop()
		f.collect()
	}
	for f.active > 0 {
		f.settle(<-f.results)
	}
	f.retries.Wait()
}

// collect processes the reported results.
func (f *follower) collect() {
	for {
		select {
		case res := <-f.results:
			f.settle(res)
		default:
			return
		}
	}
}

// pause waits for the first shard that is due for another attempt.
func (f *follower) pause() (<-chan time.Time, func()) {
	var first time.Time
	for _, s := range f.shards {
		if !s.busy && s.again.After(time.Time{}) && (first.IsZero() || s.again.Before(first)) {
			first = s.again
		}
	}
	if first.IsZero() {
		return nil, func() {}
	}
	t := time.NewTimer(time.Until(first))
	return t.C, func() { t.Stop() }
}

// own takes over the shards that this instance owns, and gives up the others.
func (f *follower) own(ctx context.Context) {
	lease := f.runner.lease()
	if lease != f.lease {
		clear(f.shards)
		f.lease = lease
	}
	var take []int64
	for n := range f.def.Shards {
		owned := f.runner.owns(ownerKind, f.def.Name, n)
		switch s := f.shards[n]; {
		case owned && s == nil:
			take = append(take, int64(n))
		case !owned && s != nil:
			delete(f.shards, n)
		}
	}
	defer func() { f.metrics.owned.Store(int64(len(f.shards))) }()
	if len(take) == 0 {
		return
	}
	var cursors []readerdb.Cursor
	err := f.runner.store.Write(ctx, func(tx *store.Tx) (err error) {
		cursors, err = readerdb.TakeCursors(tx, f.def.Name, lease, take, f.def.FromStart)
		return err
	})
	if err != nil {
		if ctx.Err() == nil {
			f.runner.log.Warn("cursors were not taken", "reader", f.def.Name, "err", err)
		}
		return
	}
	for _, c := range cursors {
		f.shards[c.Shard] = &shard{cursor: c, at: c.Pos, moved: time.Now()}
	}
}

// pass reads the stream once for the shards that are furthest behind, and once for those
// at the front. Each shard within the part that was read gets its rows. It reports
// whether there is more to read.
func (f *follower) pass(ctx context.Context) (more bool) {
	last, front := f.ready()
	if last == nil || !f.isBehind(last) {
		return false
	}
	end, ok := f.window(ctx, last.at)
	if !ok {
		return false
	}
	if front.at > end && f.isBehind(front) && !front.busy {
		f.window(ctx, front.at)
	}
	last, _ = f.ready()
	return last != nil && f.isBehind(last)
}

// ready returns, of the shards that can be given rows now, the one furthest behind and
// the one furthest ahead.
func (f *follower) ready() (last, front *shard) {
	now := time.Now()
	for _, s := range f.shards {
		if !s.isReady(now) {
			continue
		}
		if last == nil || s.at < last.at {
			last = s
		}
		if front == nil || s.at > front.at {
			front = s
		}
	}
	return last, front
}

func (s *shard) isReady(now time.Time) bool { return !s.busy && !s.again.After(now) }

func (f *follower) isBehind(s *shard) bool { return s.at < store.Position(f.runner.head.Load()) }

// dispatched is a batch that a handler has processed.
type dispatched struct {
	shard *shard
	batch *Batch
	end   store.Position // the next position of the shard if the rest succeeds
	then  func(context.Context) error
	err   error
}

// window reads the rows after a position in one snapshot and dispatches them. It returns
// the position up to which it has read.
func (f *follower) window(ctx context.Context, from store.Position) (end store.Position, ok bool) {
	var list []dispatched
	f.metrics.reads.Add(1)
	err := f.runner.store.Read(ctx, func(read *store.Read) error {
		head := read.Head()
		oldest, err := read.OldestPosition()
		if err != nil {
			return err
		}
		f.skipTrimmed(oldest)
		if from > 0 {
			from = max(from, oldest-1)
		}
		rows, err := read.Stream(from, head, BatchRows)
		if err != nil {
			return err
		}
		if end = head; len(rows) == BatchRows {
			end = rows[len(rows)-1].Pos
		}
		if end <= from {
			return errGoneBack
		}
		list = f.dispatch(ctx, read, rows, from, end)
		return nil
	})
	if err != nil {
		if ctx.Err() != nil {
			return 0, false
		}
		f.runner.log.Warn("the stream was not read", "reader", f.def.Name, "err", err)
		for _, s := range f.shards {
			if s.isReady(time.Now()) {
				s.paused++
				s.again = time.Now().Add(f.def.Backoff.after(s.paused))
			}
		}
		return 0, false
	}
	for _, h := range list {
		f.finish(ctx, h)
	}
	return end, true
}

// errGoneBack says that the stream ends before an announced position: the database was
// restored from an older copy.
var errGoneBack = errors.New("the stream ends before a position that was announced")

// skipTrimmed moves shards whose next rows were deleted from the stream to its beginning.
// They lose the rows in between, and the log says so.
func (f *follower) skipTrimmed(oldest store.Position) {
	for n, s := range f.shards {
		if s.busy || s.at == 0 || s.at >= oldest-1 {
			continue
		}
		f.metrics.trimmed.Add(1)
		f.runner.log.Error("a reader was too far behind: what it has not read is no longer in the stream",
			"reader", f.def.Name, "shard", n, "pos", int64(s.at), "oldest", int64(oldest))
		s.at = oldest - 1
		s.failed, s.single = 0, 0
	}
}

// dispatch calls the handler with the rows of each shard that is at or behind from.
func (f *follower) dispatch(ctx context.Context, read *store.Read, rows []store.StreamRow, from, end store.Position) (list []dispatched) {
	dealt := map[int][]store.StreamRow{}
	for _, row := range rows {
		if f.def.Wants == nil || f.def.Wants(row) {
			n := f.def.Shard(row)
			dealt[n] = append(dealt[n], row)
		}
	}
	now := time.Now()
	for n, s := range f.shards {
		if !s.isReady(now) || s.at < from || s.at >= end {
			continue
		}
		mine := dealt[n]
		for len(mine) > 0 && mine[0].Pos <= s.at {
			mine = mine[1:]
		}
		if len(mine) == 0 {
			s.at = end
			s.again = time.Time{}
			continue
		}
		h := dispatched{shard: s, end: end}
		if s.single > s.at && len(mine) > 1 {
			h.end, mine = mine[1].Pos-1, mine[:1]
		}
		h.batch = &Batch{Shard: n, Rows: mine, Head: read.Head(), Change: store.NewChange(), take: len(mine)}
		h.batch.Change.LowPriority = true
		s.late = now.Add(-time.Duration(read.Head()-mine[0].Pos) * time.Microsecond)
		h.err = panicked(func() (err error) {
			h.then, err = f.def.Handle(ctx, read, h.batch)
			return err
		})
		if h.batch.take < len(mine) {
			h.end = mine[h.batch.take].Pos - 1
			h.batch.Rows = mine[:h.batch.take]
		}
		list = append(list, h)
	}
	return list
}

// finish calls the function that the handler returned, in a goroutine, and moves the
// cursor.
func (f *follower) finish(ctx context.Context, h dispatched) {
	h.shard.busy = true
	f.active++
	go func() {
		err := h.err
		if err == nil && h.then != nil {
			err = panicked(func() error { return h.then(ctx) })
		}
		if err == nil {
			err = f.conclude(ctx, h)
		}
		f.results <- result{h.shard, h.batch, h.end, err}
	}()
}

// conclude commits what a handler has done, also when the instance stops: otherwise it would be done again.
func (f *follower) conclude(ctx context.Context, h dispatched) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackTime)
	defer cancel()
	return f.move(ctx, h.shard.cursor, h.end, h.batch.Change)
}

// move commits a change together with the move of a cursor.
func (f *follower) move(ctx context.Context, cur readerdb.Cursor, to store.Position, c *store.Change) error {
	readerdb.MoveCursor(c, cur, to, ErrFenced)
	_, err := f.runner.store.Commit(ctx, c)
	if err == nil {
		f.metrics.moves.Add(1)
	}
	return err
}

// settle processes the outcome of a batch.
func (f *follower) settle(res result) {
	f.active--
	s := res.shard
	s.busy = false
	current := f.shards[s.cursor.Shard] == s // else it was given up meanwhile
	switch {
	case res.err == nil:
		s.cursor.Pos, s.at, s.moved = res.end, max(s.at, res.end), time.Now()
		s.failed, s.paused, s.again, s.late = 0, 0, time.Time{}, time.Time{}
		if res.batch != nil {
			f.metrics.rows.Add(uint64(len(res.batch.Rows)))
		}
	case errors.Is(res.err, ErrFenced), errors.Is(res.err, store.ErrOutcomeUnknown):
		// The cursor is read again, if this instance still owns the shard.
		f.metrics.fenced.Add(1)
		if current {
			delete(f.shards, s.cursor.Shard)
		}
		f.runner.log.Debug("a cursor is read again", "reader", f.def.Name, "shard", s.cursor.Shard, "err", res.err)
	case transient(res.err) || res.batch == nil:
		s.paused++
		s.again = time.Now().Add(f.def.Backoff.after(s.paused))
	default:
		f.failure(s, res)
	}
}

// failure decides how to continue after a failure of the handler: first the rows of the
// batch one at a time, then the failing row again and again, in the end the row after it.
func (f *follower) failure(s *shard, res result) {
	f.metrics.failures.Add(1)
	rows := res.batch.Rows
	if len(rows) > 1 {
		s.single = rows[len(rows)-1].Pos
		s.again = time.Time{}
		return
	}
	s.failed++
	if s.failed < f.def.Tries {
		s.again = time.Now().Add(f.def.Backoff.after(s.failed))
		f.runner.log.Warn("a row of the stream is tried again", "reader", f.def.Name, "shard", s.cursor.Shard,
			"pos", int64(rows[0].Pos), "attempt", s.failed, "err", res.err)
		return
	}
	s.busy = true
	f.active++
	go func() {
		c := store.NewChange()
		readerdb.AddAside(c, readerdb.Aside{
			Name: f.def.Name, Shard: s.cursor.Shard, Row: rows[0], Tries: s.failed, Error: reason(res.err),
		})
		err := f.move(context.Background(), s.cursor, res.end, c) // short, and must not be lost
		if err == nil {
			f.runner.log.Error("a row of the stream was set aside", "reader", f.def.Name, "shard", s.cursor.Shard,
				"pos", int64(rows[0].Pos), "attempt", s.failed, "err", res.err)
			f.metrics.aside.Add(1)
		}
		f.results <- result{s, nil, res.end, err}
	}()
}

// moveLazily moves the cursors of shards that have had no rows for a long time.
func (f *follower) moveLazily(ctx context.Context) {
	now := time.Now()
	for _, s := range f.shards {
		if s.busy || s.at == s.cursor.Pos || now.Sub(s.moved) < lazyMove || s.again.After(now) {
			continue
		}
		s.busy = true
		f.active++
		go func() {
			c := store.NewChange()
			c.LowPriority = true
			f.results <- result{s, nil, s.at, f.move(ctx, s.cursor, s.at, c)}
		}()
	}
}

// retryAside calls the handler with rows that an operator wants retried, beside the
// shards' own rows.
func (f *follower) retryAside(ctx context.Context) {
	if len(f.shards) == 0 || time.Since(f.retried) < min(retryEvery, 10*f.runner.opt.tick) || f.trying.Load() {
		return
	}
	f.retried = time.Now()
	owned := make([]int64, 0, len(f.shards))
	for n := range f.shards {
		owned = append(owned, int64(n))
	}
	f.trying.Store(true)
	f.retries.Go(func() {
		defer f.trying.Store(false)
		var list []readerdb.Aside
		err := f.runner.store.Read(ctx, func(read *store.Read) (err error) {
			list, err = readerdb.Retries(read, f.def.Name, owned, retryPage)
			return err
		})
		if err != nil {
			return // the next round tries again
		}
		for _, a := range list {
			if err := f.retryOne(ctx, a); err != nil && ctx.Err() == nil {
				f.runner.log.Warn("a row that was set aside failed again", "reader", f.def.Name, "pos", int64(a.Row.Pos), "err", err)
			}
		}
	})
}

func (f *follower) retryOne(ctx context.Context, a readerdb.Aside) error {
	b := &Batch{Shard: a.Shard, Rows: []store.StreamRow{a.Row}, Change: store.NewChange(), take: 1}
	var then func(context.Context) error
	err := f.runner.store.Read(ctx, func(read *store.Read) error {
		b.Head = read.Head()
		return panicked(func() (err error) {
			then, err = f.def.Handle(ctx, read, b)
			return err
		})
	})
	if err == nil && then != nil {
		err = panicked(func() error { return then(ctx) })
	}
	if err == nil {
		readerdb.DropAside(b.Change, a.Name, a.Shard, a.Row.Pos, ErrNotFound)
		_, err = f.runner.store.Commit(ctx, b.Change)
		return err
	}
	if transient(err) {
		return err
	}
	c := store.NewChange()
	readerdb.FailAside(c, a.Name, a.Shard, a.Row.Pos, reason(err))
	_, cerr := f.runner.store.Commit(ctx, c)
	return errors.Join(err, cerr)
}

// measure updates the lag for the metrics.
func (f *follower) measure() {
	var first *time.Time
	for _, s := range f.shards {
		if !s.late.IsZero() && (first == nil || s.late.Before(*first)) {
			late := s.late
			first = &late
		}
	}
	f.metrics.late.Store(first)
}
