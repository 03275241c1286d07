package clientsync

import (
	"context"
	"sync"
	"time"

	"stoa/internal/store"
)

// why says what ended a wait.
type why uint8

const (
	stillWaiting why = iota
	news             // something happened that the user can see
	timedOut
	closing // the server stops
	hungUp  // the client has gone
)

// waiter is one waiting request, or in the wheel something else that is to be done at a time. The hub's lock guards it.
type waiter struct {
	then       func()        // what is to be done; nil for a request
	wake       chan struct{} // capacity 1
	line       Line          // woken instead of wake, if not nil
	cache      *Hub
	user       *user
	why        why
	held       bool  // in the wheel for news, not for the end of its wait
	tick       int64 // its slot of the wheel, 0 = not in it
	next, prev *waiter
}

var waiters = sync.Pool{New: func() any { return &waiter{wake: make(chan struct{}, 1)} }}

// Line is a connection on which a client waits.
type Line interface {
	// Context is that of the work on the request at the moment.
	Context() context.Context
	// Wait has resume called in another goroutine, once: with true after Wake, which may have come before, or if the client
	// does something; with false if it has gone.
	Wait(resume func(here bool))
	// Wake ends Wait, now or when it is called. It does not block.
	Wake()
}

// attach makes a request wait until the user has news, or the deadline. Called with the hub's lock held.
func (h *Hub) attach(u *user, w *waiter, deadline time.Time) {
	w.user, w.why, w.held = u, stillWaiting, false
	u.waiters = append(u.waiters, w)
	h.wheel.add(w, deadline)
	h.metrics.waiting.Inc()
	if h.wheel.count == 1 && store.Position(h.told.Load()) > h.ring.head {
		h.hurry() // the look that nobody waited for is late for this one
	}
}

// detach ends a wait. Called with the hub's lock held.
func (h *Hub) detach(w *waiter) {
	if w.user == nil {
		return
	}
	h.wheel.remove(w)
	list := w.user.waiters
	for i, x := range list {
		if x == w {
			list[i] = list[len(list)-1]
			list[len(list)-1] = nil
			w.user.waiters = list[:len(list)-1]
			break
		}
	}
	w.user = nil
	h.metrics.waiting.Dec()
}

// hold has a wait end at a tick, if its end is not nearer anyway. Called with the hub's lock held.
func (h *Hub) hold(w *waiter, tick int64) {
	w.held = true
	if tick < w.tick {
		h.wheel.remove(w)
		h.wheel.addAt(w, tick)
	}
}

// end ends one wait. Called with the hub's lock held.
func (h *Hub) end(w *waiter, reason why) {
	w.why = reason
	h.detach(w)
	h.metrics.wakeups.Inc()
	if w.line != nil {
		w.line.Wake()
		return
	}
	w.wake <- struct{}{} // empty: a waiter is ended once for each time it is attached
}

// Tick ends the waits whose time has come. The hub's goroutine calls it; tests call it with a time of their own.
func (h *Hub) Tick(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wheel.advance(now, func(w *waiter) {
		switch {
		case w.then != nil:
			w.then()
		case w.held:
			h.end(w, news)
		default:
			h.end(w, timedOut)
		}
	})
	h.releaseStale(now)
}

// wait waits until the waiter is ended.
func (w *waiter) wait(ctx context.Context) (why, error) {
	select {
	case <-w.wake:
		reason := w.why
		waiters.Put(w)
		return reason, nil
	case <-ctx.Done():
	}
	w.cache.mu.Lock()
	w.cache.detach(w)
	w.cache.mu.Unlock()
	select {
	case <-w.wake: // ended just now
	default:
	}
	waiters.Put(w)
	return 0, ctx.Err()
}

// hangUp says why a wait on a line has ended, and ends it if it was the client that did something.
func (w *waiter) hangUp(here bool) why {
	w.cache.mu.Lock()
	reason := w.why
	w.cache.detach(w)
	w.cache.mu.Unlock()
	switch {
	case !here:
		reason = hungUp
	case reason == stillWaiting:
		reason = timedOut // the client has sent something: it wants an answer
	}
	w.line = nil
	waiters.Put(w)
	return reason
}
