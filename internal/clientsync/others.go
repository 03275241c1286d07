package clientsync

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"stoa/internal/store"
)

// Follower keeps something in memory that rows of the store say, and drops what other instances have changed.
type Follower interface {
	// Follow is told rows that were read from the stream, those of other instances and perhaps some of this one. r is a
	// snapshot that holds them. Whoever asks the store after Follow has returned finds what they stand for; nobody has been
	// told yet that they are there.
	Follow(r *store.Read, rows []store.StreamRow) error
	// Forget drops everything: rows were missed.
	Forget()
}

// others is what the hub needs to follow other instances.
type others struct {
	// told is the newest position that another instance has announced.
	told atomic.Int64
	// nudge says that there is something to look at earlier than planned.
	nudge chan struct{} // capacity 1
	// follows says that somebody waits for nudges.
	follows atomic.Bool
	// doubted says that the end of the ring may be gone from the stream.
	doubted atomic.Bool
	// heard is when the stream was last read to its end. The hub's lock guards it.
	heard time.Time
}

const (
	// lookAnyway is how long after the last look into the store the next one comes, whatever was announced. It bounds the
	// delay when announcements are lost.
	lookAnyway = time.Second
	// gapUrgent, gapBusy and gapIdle are how far apart looks are: when a request waits for one; when clients wait for news;
	// and when nobody does. What is written meanwhile is read at once.
	gapUrgent = time.Millisecond
	gapBusy   = 4 * time.Millisecond
	gapIdle   = 50 * time.Millisecond
	// gapFailed is how long after a look that failed the next one comes.
	gapFailed = 250 * time.Millisecond
	// frozenAfter is how long the one who follows must have been away to doubt what it knew.
	frozenAfter = 5 * time.Second
)

// Wake says that another instance has written up to a position. It does not block.
func (h *Hub) Wake(at store.Position) {
	for {
		old := h.told.Load()
		if old >= int64(at) {
			return
		}
		if h.told.CompareAndSwap(old, int64(at)) {
			h.hurry()
			return
		}
	}
}

// Doubt has the next look find out whether the end of the ring is still in the stream, and has it come soon: announcements
// may have been missed, from a database that is no longer the same.
func (h *Hub) Doubt() {
	h.doubted.Store(true)
	h.hurry()
}

func (h *Hub) hurry() {
	select {
	case h.nudge <- struct{}{}:
	default:
	}
}

// followOthers follows what other instances write until the function that it returns is called.
func (h *Hub) followOthers(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	h.follows.Store(true)
	go func() {
		defer close(done)
		h.lookOut(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

// lookOut looks into the store whenever there is something new, but not more often than is of use.
func (h *Hub) lookOut(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	looked, failed := time.Now(), false
	for {
		now := time.Now()
		if now.Sub(looked) > frozenAfter {
			h.doubted.Store(true)
		}
		wait := h.untilLook(looked, now, failed)
		if wait <= 0 {
			looked = now
			err := h.CatchUp(ctx)
			if unlessEnded(ctx, err) != nil && !failed {
				h.log.Warn("can't follow the stream", "err", err)
			}
			failed = err != nil
			wait = h.untilLook(looked, time.Now(), failed)
		}
		timer.Reset(max(wait, 0))
		select {
		case <-h.nudge:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}

// untilLook is how long to wait for the next look.
func (h *Hub) untilLook(looked, now time.Time, failed bool) time.Duration {
	gap := lookAnyway
	h.mu.Lock()
	switch {
	case failed:
		gap = gapFailed
	case h.awaited():
		gap = gapUrgent
	case store.Position(h.told.Load()) <= h.ring.head:
	case h.wheel.count > 0:
		gap = gapBusy
	default:
		gap = gapIdle
	}
	h.mu.Unlock()
	return gap - now.Sub(looked)
}

// awaited says whether a request waits for what no batch of this instance's own will bring. Called with the lock held.
func (h *Hub) awaited() bool {
	if h.doubted.Load() {
		return true
	}
	own := h.store.Committed()
	for _, b := range h.barriers {
		if b.at > own || b.looks < h.looks {
			return true
		}
	}
	return false
}

// CatchUp reads what is in the store and not yet in memory: after the start, and when another instance has written.
func (h *Hub) CatchUp(ctx context.Context) error {
	h.follow.Lock()
	defer h.follow.Unlock()
	h.mu.Lock()
	h.looks++
	look := h.looks
	h.mu.Unlock()
	head, err := h.readUp(ctx, 0)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.heardNow()
	h.release(look, head)
	return nil
}

// Barrier waits until the hub, and all that follows with it, has applied whatever was acknowledged anywhere before the
// call. With one instance on SQLite it costs nothing.
func (h *Hub) Barrier(ctx context.Context) error {
	if !h.store.IsPostgres() {
		return nil
	}
	at, err := h.store.Barrier(ctx)
	if err != nil {
		return err
	}
	err = h.Await(ctx, at)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("wait for position %d: %w", at, err)
	}
	return err
}
