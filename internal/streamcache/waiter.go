package streamcache

import (
	"context"
	"sync"
	"time"

	"stoa/internal/store"
)

// Reason is why a wait ended.
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
	conn       Conn          // woken instead of wake, if not nil
	cache      *Cache
	user       *user
	why        Reason
	scheduled  bool  // in the timer wheel for news, not for the end of its wait
	tick       int64 // its slot of the timer wheel, 0 = not in it
	next, prev *Waiter
}

var waiters = sync.Pool{New: func() any { return &Waiter{wake: make(chan struct{}, 1)} }}

// Conn is a connection on which a client waits.
type Conn interface {
	// Context is the context of the current work on the request.
	Context() context.Context
	// Wait calls resume in another goroutine, once: with true after Wake, which may have come before, or if the client sends
	// something; with false if it has gone.
	Wait(resume func(here bool))
	// Wake ends Wait, now or when it is called. It does not block.
	Wake()
}

// attach makes a request wait until the user has news, or the deadline. Called with the cache's lock held.
func (sc *Cache) attach(u *user, w *Waiter, deadline time.Time) {
	w.user, w.why, w.scheduled = u, stillWaiting, false
	u.waiters = append(u.waiters, w)
	sc.timers.add(w, deadline)
	sc.metrics.waiting.Inc()
	if sc.timers.count == 1 && store.Position(sc.announced.Load()) > sc.ring.head {
		sc.requestPoll() // nothing waited when the announcement came, so the poll was left out
	}
}

// detach ends a wait. Called with the cache's lock held.
func (l *waitlist) detach(w *Waiter) {
	if w.user == nil {
		return
	}
	l.timers.remove(w)
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

// schedule ends a wait at a tick, unless it ends earlier anyway. Called with the cache's lock held.
func (l *waitlist) schedule(w *Waiter, tick int64) {
	w.scheduled = true
	if tick < w.tick {
		l.timers.remove(w)
		l.timers.addAt(w, tick)
	}
}

// end ends one wait. Called with the cache's lock held.
func (l *waitlist) end(w *Waiter, reason Reason) {
	w.why = reason
	if w.user != nil {
		w.user.lastActive = l.timers.tick
	}
	l.detach(w)
	l.metrics.wakeups.Inc()
	if w.conn != nil {
		w.conn.Wake()
		return
	}
	w.wake <- struct{}{} // empty: a waiter is ended once for each time it is attached
}

// Tick ends the waits that are due. The cache's goroutine calls it; tests call it with a time of their own.
func (sc *Cache) Tick(now time.Time) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	sc.timers.advance(now, func(w *Waiter) {
		switch {
		case w.scheduled:
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

// HangUp returns why a wait on a connection has ended, and ends it if the client did something.
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
	w.conn = nil
	waiters.Put(w)
	return reason
}
