package clientsync

import (
	"time"

	"stoa/internal/store"
)

// holdTime is how long a waiter that only receipts, device lists, presence or typing have woken is held for more.
const holdTime = 500 * time.Millisecond

// why says what ended a wait.
type why uint8

const (
	stillWaiting why = iota
	news             // something happened that the user can see
	timedOut
	closing // the server stops
	hungUp  // the client has gone
)

// waiter is one waiting request. The hub's lock guards it.
type waiter struct {
	wake       chan struct{} // capacity 1
	line       Line          // woken instead of wake, if not nil
	user       *user
	why        why
	held       bool  // in the wheel for the end of its hold, not of its wait
	tick       int64 // its slot of the wheel, 0 = not in it
	next, prev *waiter
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

// wakeUser ends the waits of a user, or if lazily, lets them end soon. Called with the hub's lock held.
func (h *Hub) wakeUser(u *user, lazily bool) {
	for i := len(u.waiters) - 1; i >= 0; i-- {
		w := u.waiters[i]
		if !lazily {
			h.end(w, news)
			continue
		}
		if !w.held {
			h.hold(w)
		}
	}
}

// hold moves the end of a wait forward to the end of the hold, if it is not nearer anyway.
func (h *Hub) hold(w *waiter) {
	h.holdUntil(w, h.clock().Add(holdTime))
}

func (h *Hub) holdUntil(w *waiter, at time.Time) {
	w.held = true
	if tickOf(at) < w.tick {
		h.wheel.remove(w)
		h.wheel.add(w, at)
	}
}

const (
	// crowd is how many members of a room are woken at once. Of a larger one crowdLead are; of several instances each wakes as many.
	crowd, crowdLead = 2000, 500
)

// wakeCrowd ends the waits of the members of a very large room, from some number on in parts. All at once would not be
// answered sooner, but whatever happens elsewhere would be answered after them. Called with the hub's lock held.
func (h *Hub) wakeCrowd(r *hubRoom) {
	woken, now := 0, h.clock()
	for _, u := range r.members {
		for i := len(u.waiters) - 1; i >= 0; i-- {
			if w := u.waiters[i]; woken < h.crowdLead {
				h.end(w, news)
			} else {
				h.holdUntil(w, now.Add(wheelTick))
			}
			woken++
		}
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
		if w.held {
			h.end(w, news)
		} else {
			h.end(w, timedOut)
		}
	})
	h.releaseStale(now)
}
