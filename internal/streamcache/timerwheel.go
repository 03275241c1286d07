package streamcache

import "time"

const (
	// timerTick is the resolution of waits: they end at most one tick late.
	timerTick = 50 * time.Millisecond
	// timerSlots times timerTick is the longest wait that the timer wheel can hold.
	timerSlots = 4096
	// MaxTimeout is the longest wait; requests that ask for more get this.
	MaxTimeout = 3 * time.Minute
)

// timerWheel holds the deadlines of all waiting requests in a ring of lists, so that ten thousand long polls need one ticker and no
// timers of their own. It has no lock: the cache's guards it.
//
// Deadlines further away than a whole round would expire one round early; MaxTimeout keeps them out.
type timerWheel struct {
	slots [timerSlots]*Waiter
	// tick is the last tick whose slot has been emptied.
	tick  int64
	count int
}

func newTimerWheel(now time.Time) *timerWheel {
	return &timerWheel{tick: tickOf(now)}
}

func tickOf(t time.Time) int64 { return t.UnixNano() / int64(timerTick) }

// add puts a waiter into the slot of its deadline, rounded up, and at least one tick ahead. A waiter is in at most one slot.
func (w *timerWheel) add(x *Waiter, deadline time.Time) {
	w.addAt(x, tickOf(deadline.Add(timerTick-1)))
}

// addAt puts a waiter into the slot of a tick, as add does.
func (w *timerWheel) addAt(x *Waiter, tick int64) {
	tick = min(max(tick, w.tick+1), w.tick+timerSlots-1)
	x.tick = tick
	slot := &w.slots[tick%timerSlots]
	x.next, x.prev = *slot, nil
	if x.next != nil {
		x.next.prev = x
	}
	*slot = x
	w.count++
}

// remove takes a waiter out; one that is in no slot stays out.
func (w *timerWheel) remove(x *Waiter) {
	if x.tick == 0 {
		return
	}
	if x.prev != nil {
		x.prev.next = x.next
	} else {
		w.slots[x.tick%timerSlots] = x.next
	}
	if x.next != nil {
		x.next.prev = x.prev
	}
	x.prev, x.next, x.tick = nil, nil, 0
	w.count--
}

// advance removes the waiters whose deadline is at or before now, and calls expired for each.
func (w *timerWheel) advance(now time.Time, expired func(*Waiter)) {
	last := tickOf(now)
	if last-w.tick > timerSlots {
		w.tick = last - timerSlots
	}
	for w.tick < last {
		w.tick++
		for x := w.slots[w.tick%timerSlots]; x != nil; x = w.slots[w.tick%timerSlots] {
			w.remove(x)
			expired(x)
		}
	}
}
