package clientsync

import (
	"slices"
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
	wake chan struct{} // capacity 1
	line Line          // woken instead of wake, if not nil
	user *user
	why  why
	held bool // in the wheel for the end of its hold, not of its wait
	// isMessage says that it is held for a message, and not only for what comes after messages.
	isMessage bool
	// until is the tick after which it is held no longer, however much there is to do.
	until int64
	ended time.Time // when it was woken

	tick       int64 // its slot of the wheel, 0 = not in it
	next, prev *waiter
}

// attach makes a request wait until the user has news, or the deadline. Called with the hub's lock held.
func (h *Hub) attach(u *user, w *waiter, deadline time.Time) {
	w.user, w.why, w.held, w.isMessage = u, stillWaiting, false, false
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
	now := h.clock()
	h.holdUntil(w, now.Add(holdTime), now.Add(holdMost))
}

func (h *Hub) holdUntil(w *waiter, at, latest time.Time) {
	if !w.held {
		w.held, w.until = true, w.tick // its own end
	}
	w.until = min(w.until, tickOf(latest))
	if tickOf(at) < w.tick {
		h.wheel.remove(w)
		h.wheel.add(w, at)
	}
}

const (
	// crowd is how many members of a room are woken at once. Of a larger one crowdLead are; of several instances each wakes as many.
	crowd, crowdLead = 2000, 500
	// crowdMost is when the last of the others are woken, however busy the instance is.
	crowdMost = 2500 * time.Millisecond
	// holdMost is the same for those whom only receipts, device lists, presence or typing have woken.
	holdMost = 10 * time.Second
	// crowdPart is how many of those who are held for a message are woken in a tick of the wheel, 10,000 in a second, if the
	// instance keeps up with that, and heldPart how many of the others; leastPart are woken anyway.
	crowdPart, heldPart, leastPart = 500, 100, 5
	// promptly is how soon those who are woken go on in an instance that keeps up.
	promptly = 20 * time.Millisecond
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
				h.holdUntil(w, now.Add(wheelTick), now.Add(crowdMost))
				w.isMessage = true
			}
			woken++
		}
	}
}

// share is how many of a part may be woken now: fewer when those who were woken since the last time had to wait for their turn
// on the machine, since others who should not wait would have to as well.
func share(part int, lag time.Duration) int {
	if lag <= promptly {
		return part
	}
	return max(int(time.Duration(part)*promptly/lag), leastPart)
}

// goesOn notes how long somebody who was woken has waited for the machine.
func (h *Hub) goesOn(w *waiter) {
	lag := int64(time.Since(w.ended))
	for {
		most := h.lag.Load()
		if lag <= most || h.lag.CompareAndSwap(most, lag) {
			return
		}
	}
}

// end ends one wait. Called with the hub's lock held.
func (h *Hub) end(w *waiter, reason why) {
	w.why, w.ended = reason, time.Now()
	h.detach(w)
	h.metrics.wakeups.Inc()
	if w.line != nil {
		w.line.Wake()
		return
	}
	w.wake <- struct{}{} // empty: a waiter is ended once for each time it is attached
}

// lags are for how long those who were woken of late had to wait for the machine, by ticks.
type lags struct {
	newest [lagTicks]time.Duration
	next   int
}

// lagTicks is how many ticks count: half a second. A burst is over when there was none that lagged for so long: what can wait
// would else begin whenever one did not.
const lagTicks = 10

// add notes the lag of a tick, and returns the longest.
func (l *lags) add(lag time.Duration) (longest time.Duration) {
	l.newest[l.next] = lag
	l.next = (l.next + 1) % lagTicks
	return slices.Max(l.newest[:])
}

// Tick ends the waits whose time has come, of those who are held only as many as the instance keeps up with. The hub's
// goroutine calls it; tests call it with a time of their own.
func (h *Hub) Tick(now time.Time) { h.tickBehind(now, time.Duration(h.lag.Swap(0))) }

func (h *Hub) tickBehind(now time.Time, lag time.Duration) {
	h.mu.Lock()
	longest := h.lags.add(lag)
	h.mu.Unlock()
	behind := longest > promptly
	h.behind.Store(behind)
	messages, others := share(crowdPart, lag), share(share(heldPart, longest), longest)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wheel.advance(now, func(w *waiter) {
		part := &others
		if w.isMessage {
			part = &messages
		}
		switch {
		case !w.held:
			h.end(w, timedOut)
		case *part > 0 || h.wheel.tick >= w.until:
			*part--
			h.end(w, news)
		default:
			h.wheel.again(w)
		}
	})
	h.letGo(now)
}
