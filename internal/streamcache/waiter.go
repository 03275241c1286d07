package streamcache

import (
	"context"
	"sync"
	"time"

	"stoa/internal/store"
)

// Reason says what ended a wait.
type Reason uint8

const (
	stillWaiting Reason = iota
	News                // something happened that the user can see
	TimedOut
	closing // the server stops
	HungUp  // the client has gone
)

// Waiter is one waiting request. The cache's lock guards it.
type Waiter struct {
	wake       chan struct{} // capacity 1
	line       Line          // woken instead of wake, if not nil
	cache      *Cache
	user       *user
	why        Reason
	held       bool  // in the wheel for news, not for the end of its wait
	tick       int64 // its slot of the wheel, 0 = not in it
	next, prev *Waiter
}

var waiters = sync.Pool{New: func() any { return &Waiter{wake: make(chan struct{}, 1)} }}

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

// attach makes a request wait until the user has news, or the deadline. Called with the cache's lock held.
func (sc *Cache) attach(u *user, w *Waiter, deadline time.Time) {
	w.user, w.why, w.held = u, stillWaiting, false
	u.waiters = append(u.waiters, w)
	sc.wheel.add(w, deadline)
	sc.metrics.waiting.Inc()
	if sc.wheel.count == 1 && store.Position(sc.announced.Load()) > sc.ring.head {
		sc.requestPoll() // the look that nobody waited for is late for this one
	}
}

// detach ends a wait. Called with the cache's lock held.
func (l *waitlist) detach(w *Waiter) {
	if w.user == nil {
		return
	}
	l.wheel.remove(w)
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
	l.metrics.waiting.Dec()
}

// hold has a wait end at a tick, if its end is not nearer anyway. Called with the cache's lock held.
func (l *waitlist) hold(w *Waiter, tick int64) {
	w.held = true
	if tick < w.tick {
		l.wheel.remove(w)
		l.wheel.addAt(w, tick)
	}
}

// end ends one wait. Called with the cache's lock held.
func (l *waitlist) end(w *Waiter, reason Reason) {
	w.why = reason
	if w.user != nil {
		w.user.lastActive = l.wheel.tick
	}
	l.detach(w)
	l.metrics.wakeups.Inc()
	if w.line != nil {
		w.line.Wake()
		return
	}
	w.wake <- struct{}{} // empty: a waiter is ended once for each time it is attached
}

// Tick ends the waits whose time has come. The cache's goroutine calls it; tests call it with a time of their own.
func (sc *Cache) Tick(now time.Time) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	sc.wheel.advance(now, func(w *Waiter) {
		switch {
		case w.held:
			sc.end(w, News)
		default:
			sc.end(w, TimedOut)
		}
	})
	sc.endStaleWaits(now)
}

// Wait waits until the waiter is ended.
func (w *Waiter) Wait(ctx context.Context) (Reason, error) {
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

// HangUp says why a wait on a line has ended, and ends it if it was the client that did something.
func (w *Waiter) HangUp(here bool) Reason {
	w.cache.mu.Lock()
	reason := w.why
	w.cache.detach(w)
	w.cache.mu.Unlock()
	switch {
	case !here:
		reason = HungUp
	case reason == stillWaiting:
		reason = TimedOut // the client has sent something: it wants an answer
	}
	w.line = nil
	waiters.Put(w)
	return reason
}
