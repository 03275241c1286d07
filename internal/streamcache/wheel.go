package streamcache

import "time"

const (
	// wheelTick is how exactly a wait ends: a wake-up comes at most one tick after its time.
	wheelTick = 50 * time.Millisecond
	// wheelSlots times wheelTick is the longest wait that the wheel can hold.
	wheelSlots = 4096
	// MaxTimeout is the longest that a request may ask to wait; a longer wish is shortened to it.
	MaxTimeout = 3 * time.Minute
)

// wheel holds the deadlines of all waiting requests in one ring of lists, so that ten thousand long polls need one
// ticker and no timer of their own. It has no lock: the cache's guards it.
//
// Deadlines further away than a whole turn come one turn early; MaxTimeout keeps them out.
type wheel struct {
	slots [wheelSlots]*Waiter
	// tick is the last tick whose slot has been emptied.
	tick  int64
	count int
}

func newWheel(now time.Time) *wheel {
	return &wheel{tick: tickOf(now)}
}

func tickOf(t time.Time) int64 { return t.UnixNano() / int64(wheelTick) }

// add puts a waiter into the slot of its deadline, rounded up, and at least one tick ahead. A waiter is in the wheel at
// most once.
func (w *wheel) add(x *Waiter, deadline time.Time) {
	w.addAt(x, tickOf(deadline.Add(wheelTick-1)))
}

// addAt puts a waiter into the slot of a tick, as add does.
func (w *wheel) addAt(x *Waiter, tick int64) {
	tick = min(max(tick, w.tick+1), w.tick+wheelSlots-1)
	x.tick = tick
	slot := &w.slots[tick%wheelSlots]
	x.next, x.prev = *slot, nil
	if x.next != nil {
		x.next.prev = x
	}
	*slot = x
	w.count++
}

// remove takes a waiter out; one that is not in the wheel stays out.
func (w *wheel) remove(x *Waiter) {
	if x.tick == 0 {
		return
	}
	if x.prev != nil {
		x.prev.next = x.next
	} else {
		w.slots[x.tick%wheelSlots] = x.next
	}
	if x.next != nil {
		x.next.prev = x.prev
	}
	x.prev, x.next, x.tick = nil, nil, 0
	w.count--
}

// advance takes out everybody whose deadline is at or before now and hands each to expired.
func (w *wheel) advance(now time.Time, expired func(*Waiter)) {
	last := tickOf(now)
	if last-w.tick > wheelSlots {
		w.tick = last - wheelSlots
	}
	for w.tick < last {
		w.tick++
		for x := w.slots[w.tick%wheelSlots]; x != nil; x = w.slots[w.tick%wheelSlots] {
			w.remove(x)
			expired(x)
		}
	}
}
