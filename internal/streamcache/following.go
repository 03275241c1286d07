package streamcache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"stoa/internal/store"
)

// Follower is a cache of something in the store; it drops entries that other instances have changed.
type Follower interface {
	// Follow receives rows of the stream: those of other instances, and those of this instance if it is not certain that it wrote
	// them. Their changes are in the store already, and no client has been notified of them yet. r is a snapshot that contains
	// them; it is nil if none is of KindAccountData, the only kind whose rows do not say enough.
	Follow(r *store.Read, rows []store.StreamRow) error
	// Forget drops everything, because rows were missed.
	Forget()
}

// following is the part of the cache that follows other instances.
type following struct {
	cache    *Cache
	received groupQueue
	// announced is the newest position that another instance has announced.
	announced atomic.Int64
	// pollNow makes the poller read the stream earlier than planned.
	pollNow chan struct{} // capacity 1
	// pollSoon is set while the next poll is near, so that announcements need not request one.
	pollSoon atomic.Bool
	// follows is set while the poller runs.
	follows atomic.Bool
	// doubted is set if the end of the ring may be missing in the stream.
	doubted atomic.Bool
	// lastPoll is when the stream was last read to its end. The cache's lock guards it.
	lastPoll time.Time
	// notifying is held while followers are notified. It is taken under the follow lock and under a separate snapshot; the
	// followers' locks are taken under it.
	notifying sync.Mutex
	// notified is the position up to which followers have received the rows of other instances, at or above the ring's head. It
	// moves under notifying.
	notified atomic.Int64
}

const (
	// pollInterval is the longest time between two polls of the stream. It bounds the delay when announcements are lost.
	pollInterval = time.Second
	// pollGapUrgent, pollGapBusy and pollGapIdle are the shortest times between two polls: when a request waits for one, when
	// clients wait for news, and when nobody waits. One poll reads everything that was written in between.
	pollGapUrgent = time.Millisecond
	pollGapBusy   = 4 * time.Millisecond
	pollGapIdle   = 200 * time.Millisecond
	// pollGapFactor times the duration of a poll, up to pollGapMax, is added to its gap while clients wait, so that polls take a
	// share of a busy machine and not all of it.
	pollGapFactor = 4
	pollGapMax    = 20 * time.Millisecond
	// pollGapFailed is the time from a failed poll to the next.
	pollGapFailed = 250 * time.Millisecond
	// frozenAfter is how long the poller must have been stopped to doubt what is in memory.
	frozenAfter = 5 * time.Second
)

// Wake announces that another instance has written up to a position. It does not block.
func (f *following) Wake(at store.Position) {
	for {
		old := f.announced.Load()
		if old >= int64(at) {
			return
		}
		if f.announced.CompareAndSwap(old, int64(at)) {
			if !f.pollSoon.Load() {
				f.requestPoll()
			}
			return
		}
	}
}

// Doubt requests a poll that checks whether the end of the ring is still in the stream: announcements may have been missed, from a
// database that is no longer the same.
func (f *following) Doubt() {
	f.doubted.Store(true)
	f.requestPoll()
}

func (f *following) requestPoll() {
	select {
	case f.pollNow <- struct{}{}:
	default:
	}
}

// startPolling follows what other instances write until stop is called.
func (f *following) startPolling(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	f.follows.Store(true)
	go func() {
		defer close(done)
		f.pollStream(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

// pollStream reads the stream when there is something new, but not more often than the gaps allow.
func (f *following) pollStream(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var l poll
	l.begun = time.Now()
	for {
		now := time.Now()
		if now.Sub(l.begun) > frozenAfter {
			f.doubted.Store(true)
		}
		l.gap = f.followReceived(ctx)
		wait := f.untilPoll(&l, now)
		if wait <= 0 {
			l.begun = now
			err := f.CatchUp(ctx)
			if unlessEnded(ctx, err) != nil && !l.failed && !errors.Is(err, store.ErrUnreachable) {
				f.cache.log.Warn("can't follow the stream", "err", err)
			}
			l.failed, now = err != nil, time.Now()
			l.took, l.gap = now.Sub(l.begun), false
			wait = f.untilPoll(&l, now)
		}
		timer.Reset(max(wait, 0))
		select {
		case <-f.pollNow:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}

// poll is the poller's record of its last poll.
type poll struct {
	begun  time.Time     // when it began
	took   time.Duration // it
	failed bool
	behind time.Time // since when something was announced that is not in the ring; zero: nothing is
	gap    bool      // the next group is not replicated
}

// followReceived applies received groups. It reports whether the next part of the stream has to be read from the store.
func (f *following) followReceived(ctx context.Context) (gap bool) {
	f.cache.follow.Lock()
	defer f.cache.follow.Unlock()
	gap, err := f.applyReceived(ctx)
	if unlessEnded(ctx, err) != nil {
		f.cache.log.Warn("apply a replicated group", "err", err) // the next poll finds it
	}
	return gap
}

// untilPoll is the time to wait before the next poll.
func (f *following) untilPoll(l *poll, now time.Time) time.Duration {
	gap := pollInterval
	f.pollSoon.Store(false) // before told is read, so that no announcement falls in between
	f.cache.mu.Lock()
	behind := store.Position(f.announced.Load()) > f.cache.ring.head
	hurried := f.hasUrgentBarrier()
	switch {
	case l.failed:
		gap = pollGapFailed
	case hurried:
		gap = pollGapUrgent
	case !behind:
	case f.cache.timers.count > 0 || len(f.cache.barriers) > 0:
		gap = max(pollGapBusy, l.took+min(pollGapFactor*l.took, pollGapMax))
	default:
		gap = pollGapIdle
	}
	f.pollSoon.Store(gap < pollInterval)
	f.cache.mu.Unlock()
	wait := gap - now.Sub(l.begun)
	switch {
	case !behind:
		l.behind = time.Time{}
	case l.behind.IsZero():
		l.behind = now
	}
	if behind && !hurried && !l.gap && f.received.expected() {
		wait = max(wait, replicationWait-now.Sub(l.behind))
	}
	return wait
}

// hasUrgentBarrier reports whether a request waits for a position that no group of this instance will reach. Called with the lock
// held.
func (f *following) hasUrgentBarrier() bool {
	if f.doubted.Load() {
		return true
	}
	own := f.cache.store.Committed()
	for _, b := range f.cache.barriers {
		if !b.lowPriority && (b.at > own || b.polls < f.cache.polls) {
			return true
		}
	}
	return false
}

// CatchUp reads what is in the store and not yet in memory: at the start, and when another instance has written.
func (f *following) CatchUp(ctx context.Context) error {
	f.cache.follow.Lock()
	defer f.cache.follow.Unlock()
	f.cache.mu.Lock()
	f.cache.polls++
	poll := f.cache.polls
	f.cache.mu.Unlock()
	head, err := f.readUp(ctx, 0)
	if err != nil {
		return err
	}
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	f.notePoll()
	f.cache.release(poll, head)
	return nil
}

// barrierTimeout is how long a request waits for the changes of other instances, after the store has said which position that is (5
// s at most).
const barrierTimeout = 3 * time.Second

// Barrier waits until the followers know everything that was acknowledged anywhere before the call. The ring may be older; its
// readers wait with Await. Barrier fails after some seconds. With one instance on SQLite it costs nothing.
func (f *following) Barrier(ctx context.Context) error {
	if !f.cache.store.Shared() {
		return nil
	}
	at, err := f.cache.store.Barrier(ctx, barrierView{f.cache})
	if err != nil || store.Position(f.notified.Load()) >= at {
		return err
	}
	soon, cancel := context.WithTimeout(ctx, barrierTimeout)
	defer cancel()
	err = f.cache.Await(soon, at)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("wait for position %d: %w", at, err)
	}
	return err
}

// barrierView notifies the followers from the query of a barrier, so that requests need not wait until the ring has read the
// contents of the rows.
type barrierView struct{ cache *Cache }

// Known implements store.StreamRows.
func (g barrierView) Known() store.Position {
	if !g.cache.follows.Load() || g.cache.doubted.Load() {
		return 0
	}
	return store.Position(g.cache.notified.Load())
}

// Add implements store.StreamRows.
func (g barrierView) Add(ctx context.Context, known, head store.Position, rows []store.StreamRow) error {
	needs := func(row store.StreamRow) bool { return !row.Own && row.Kind == store.KindAccountData }
	if !slices.ContainsFunc(rows, needs) {
		if err := g.cache.notify(nil, rows, known, head); err != nil {
			return err
		}
		g.cache.skipRows(rows, known, head)
		return nil
	}
	return g.cache.store.ReadReserved(ctx, func(r *store.Read) error { return g.cache.notify(r, rows, known, head) })
}

// skipRows moves the ring past rows if they concern nobody in memory, so that they need not be read again. rows are all rows of the
// stream between the two positions. It does not block: if the ring is busy, the next poll finds the rows too.
func (f *following) skipRows(rows []store.StreamRow, after, upTo store.Position) {
	if !f.cache.follow.TryLock() {
		return
	}
	defer f.cache.follow.Unlock()
	f.cache.mu.Lock()
	passed := f.cache.irrelevant(rows)
	next := f.cache.ring.head == after
	f.cache.mu.Unlock()
	if next && len(passed) == len(rows) {
		f.cache.put(&applied{rows: rows, last: upTo, skipped: passed})
	}
}

// notify passes rows of other instances to the followers. rows are all rows of the stream between the two positions, r is a
// snapshot that contains them.
func (f *following) notify(r *store.Read, rows []store.StreamRow, after, upTo store.Position) error {
	f.notifying.Lock()
	defer f.notifying.Unlock()
	known := store.Position(f.notified.Load())
	if upTo <= known || after > known { // after all was forgotten they may not reach back far enough
		return nil
	}
	news := make([]store.StreamRow, 0, len(rows))
	for _, row := range rows {
		if row.Pos > known && !row.Own {
			news = append(news, row)
		}
	}
	if len(news) > 0 {
		for _, f := range f.cache.opt.Followers {
			if err := f.Follow(r, news); err != nil {
				return err
			}
		}
	}
	f.notified.Store(int64(upTo))
	return nil
}

// noteOwn records a group of this instance. The followers know everything before it.
func (f *following) noteOwn(last store.Position) {
	f.notifying.Lock()
	defer f.notifying.Unlock()
	f.notified.Store(max(f.notified.Load(), int64(last)))
}
