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

// Follower keeps something in memory that rows of the store say, and drops what other instances have changed.
type Follower interface {
	// Follow is told rows of the stream: those of other instances, and of this one if it does not know whether it wrote them.
	// Whoever asks the store after Follow has returned finds what they stand for; nobody has been told yet that they are there.
	// r is a snapshot that holds them, nil if none of them is of KindAccountData: of these alone a row does not say enough.
	Follow(r *store.Read, rows []store.StreamRow) error
	// Forget drops everything: rows were missed.
	Forget()
}

// following is what the cache needs to follow other instances.
type following struct {
	cache  *Cache
	handed replication
	// told is the newest position that another instance has announced.
	told atomic.Int64
	// nudge says that there is something to look at earlier than planned.
	nudge chan struct{} // capacity 1
	// soon says that the next look is not far off, though nobody waits for it: what is announced until then needs no nudge.
	soon atomic.Bool
	// follows says that somebody waits for nudges.
	follows atomic.Bool
	// doubted says that the end of the ring may be gone from the stream.
	doubted atomic.Bool
	// heard is when the stream was last read to its end. The cache's lock guards it.
	heard time.Time
	// telling is held while followers are told. It is taken under the follow lock and under a snapshot apart; the followers'
	// locks are taken under it.
	telling sync.Mutex
	// knows is the position up to which they have been told what other instances wrote, at or above the ring's head. It is
	// moved under telling.
	knows atomic.Int64
}

const (
	// lookAnyway is how long after the last look into the store the next one comes, whatever was announced. It bounds the
	// delay when announcements are lost.
	lookAnyway = time.Second
	// gapUrgent, gapBusy and gapIdle are how far apart looks are: when a request waits for one; when clients wait for news;
	// and when nobody does. What is written meanwhile is read at once.
	gapUrgent = time.Millisecond
	gapBusy   = 4 * time.Millisecond
	gapIdle   = 200 * time.Millisecond
	// gapTaken is how many times as long as a look took the next gap of clients who wait is, up to gapMost: looks take a part
	// of a busy machine and not all of it.
	gapTaken = 4
	gapMost  = 20 * time.Millisecond
	// gapFailed is how long after a look that failed the next one comes.
	gapFailed = 250 * time.Millisecond
	// frozenAfter is how long the one who follows must have been away to doubt what it knew.
	frozenAfter = 5 * time.Second
)

// Wake says that another instance has written up to a position. It does not block.
func (f *following) Wake(at store.Position) {
	for {
		old := f.told.Load()
		if old >= int64(at) {
			return
		}
		if f.told.CompareAndSwap(old, int64(at)) {
			if !f.soon.Load() {
				f.hurry()
			}
			return
		}
	}
}

// Doubt has the next look find out whether the end of the ring is still in the stream, and has it come soon: announcements
// may have been missed, from a database that is no longer the same.
func (f *following) Doubt() {
	f.doubted.Store(true)
	f.hurry()
}

func (f *following) hurry() {
	select {
	case f.nudge <- struct{}{}:
	default:
	}
}

// followOthers follows what other instances write until the function that it returns is called.
func (f *following) followOthers(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	f.follows.Store(true)
	go func() {
		defer close(done)
		f.lookOut(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

// lookOut looks into the store whenever there is something new, but not more often than is of use.
func (f *following) lookOut(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var l looking
	l.looked = time.Now()
	for {
		now := time.Now()
		if now.Sub(l.looked) > frozenAfter {
			f.doubted.Store(true)
		}
		l.hole = f.followHanded(ctx)
		wait := f.untilLook(&l, now)
		if wait <= 0 {
			l.looked = now
			err := f.CatchUp(ctx)
			if unlessEnded(ctx, err) != nil && !l.failed && !errors.Is(err, store.ErrUnreachable) {
				f.cache.log.Warn("can't follow the stream", "err", err)
			}
			l.failed, now = err != nil, time.Now()
			l.took, l.hole = now.Sub(l.looked), false
			wait = f.untilLook(&l, now)
		}
		timer.Reset(max(wait, 0))
		select {
		case <-f.nudge:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}

// looking is what the one who looks into the store knows of the last look.
type looking struct {
	looked time.Time     // when it began
	took   time.Duration // it
	failed bool
	behind time.Time // since when something was announced that is not in the ring; zero: nothing is
	hole   bool      // what comes next is not handed over
}

// followHanded applies what others have handed over. It says whether what comes next has to be read from the store.
func (f *following) followHanded(ctx context.Context) (hole bool) {
	f.cache.follow.Lock()
	defer f.cache.follow.Unlock()
	hole, err := f.applyHanded(ctx)
	if unlessEnded(ctx, err) != nil {
		f.cache.log.Warn("apply what another instance handed over", "err", err) // the next look finds it
	}
	return hole
}

// untilLook is how long to wait for the next look.
func (f *following) untilLook(l *looking, now time.Time) time.Duration {
	gap := lookAnyway
	f.soon.Store(false) // before told is read, so that no announcement falls in between
	f.cache.mu.Lock()
	behind := store.Position(f.told.Load()) > f.cache.ring.head
	hurried := f.awaited()
	switch {
	case l.failed:
		gap = gapFailed
	case hurried:
		gap = gapUrgent
	case !behind:
	case f.cache.wheel.count > 0 || len(f.cache.barriers) > 0:
		gap = max(gapBusy, l.took+min(gapTaken*l.took, gapMost))
	default:
		gap = gapIdle
	}
	f.soon.Store(gap < lookAnyway)
	f.cache.mu.Unlock()
	wait := gap - now.Sub(l.looked)
	switch {
	case !behind:
		l.behind = time.Time{}
	case l.behind.IsZero():
		l.behind = now
	}
	if behind && !hurried && !l.hole && f.handed.expected() {
		wait = max(wait, handPatience-now.Sub(l.behind))
	}
	return wait
}

// awaited says whether a request waits for what no batch of this instance's own will bring. Called with the lock held.
func (f *following) awaited() bool {
	if f.doubted.Load() {
		return true
	}
	own := f.cache.store.Committed()
	for _, b := range f.cache.barriers {
		if !b.patient && (b.at > own || b.looks < f.cache.looks) {
			return true
		}
	}
	return false
}

// CatchUp reads what is in the store and not yet in memory: after the start, and when another instance has written.
func (f *following) CatchUp(ctx context.Context) error {
	f.cache.follow.Lock()
	defer f.cache.follow.Unlock()
	f.cache.mu.Lock()
	f.cache.looks++
	look := f.cache.looks
	f.cache.mu.Unlock()
	head, err := f.readUp(ctx, 0)
	if err != nil {
		return err
	}
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	f.heardNow()
	f.cache.release(look, head)
	return nil
}

// barrierPatience is how long a request waits for what other instances have written, after the 5 s that the store takes at most
// to say what that is.
const barrierPatience = 3 * time.Second

// Barrier waits until all that is kept in memory is as new as whatever was acknowledged anywhere before the call, but for
// the ring, whose readers wait with Await. After some seconds it fails. With one instance on SQLite it costs nothing.
func (f *following) Barrier(ctx context.Context) error {
	if !f.cache.store.Shared() {
		return nil
	}
	at, err := f.cache.store.Barrier(ctx, glance{f.cache})
	if err != nil || store.Position(f.knows.Load()) >= at {
		return err
	}
	soon, cancel := context.WithTimeout(ctx, barrierPatience)
	defer cancel()
	err = f.cache.Await(soon, at)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("wait for position %d: %w", at, err)
	}
	return err
}

// glance has the followers told by the query of a barrier, so that requests need not wait until the ring has read what the
// rows refer to.
type glance struct{ cache *Cache }

// Known implements store.Glance.
func (g glance) Known() store.Position {
	if !g.cache.follows.Load() || g.cache.doubted.Load() {
		return 0
	}
	return store.Position(g.cache.knows.Load())
}

// Take implements store.Glance.
func (g glance) Take(ctx context.Context, known, head store.Position, rows []store.StreamRow) error {
	needs := func(row store.StreamRow) bool { return !row.Own && row.Kind == store.KindAccountData }
	if !slices.ContainsFunc(rows, needs) {
		if err := g.cache.tell(nil, rows, known, head); err != nil {
			return err
		}
		g.cache.passOver(rows, known, head)
		return nil
	}
	return g.cache.store.ReadApart(ctx, func(r *store.Read) error { return g.cache.tell(r, rows, known, head) })
}

// passOver moves the ring over rows that nobody in memory can see, if all are such, so that they need not be read once more. The
// rows are all that the stream has after one position up to another. It waits for nobody: the next look finds them too.
func (f *following) passOver(rows []store.StreamRow, after, upTo store.Position) {
	if !f.cache.follow.TryLock() {
		return
	}
	defer f.cache.follow.Unlock()
	f.cache.mu.Lock()
	passed := f.cache.unseen(rows)
	next := f.cache.ring.head == after
	f.cache.mu.Unlock()
	if next && len(passed) == len(rows) {
		f.cache.put(&applied{rows: rows, last: upTo, passed: passed})
	}
}

// tell tells the followers what others wrote. The rows are all that the stream has after one position up to another; r is
// a snapshot that holds them.
func (f *following) tell(r *store.Read, rows []store.StreamRow, after, upTo store.Position) error {
	f.telling.Lock()
	defer f.telling.Unlock()
	known := store.Position(f.knows.Load())
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
	f.knows.Store(int64(upTo))
	return nil
}

// wrote notes a group that this instance has written. All before it are known.
func (f *following) wrote(last store.Position) {
	f.telling.Lock()
	defer f.telling.Unlock()
	f.knows.Store(max(f.knows.Load(), int64(last)))
}
