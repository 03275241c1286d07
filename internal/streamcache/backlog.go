package streamcache

import (
	"context"
	"time"

	"stoa/matrix/id"
)

// Back-pressure: where several send as fast as they are answered to a room in which many wait, messages would be acknowledged
// faster than they are delivered, and what is delivered would grow older and older. So a send waits while what was said before
// in the same room is being delivered. The deliveries have begun when a piece of work has passed the queue that the answers of
// this instance go through: in a room that keeps up that takes no time.

// backlogMost is how long a send waits at most.
const backlogMost = time.Second

// delivery is a fan-out under way in a room with more than promptRoom users in memory.
type delivery struct {
	begun chan struct{} // closed when all answers that it caused have begun
	next  *delivery     // of what was said since it began; nil for nothing
}

func newDelivery() *delivery { return &delivery{begun: make(chan struct{})} }

// deliver notes that something was said in a room whose waiting requests were woken for it. Called with the lock held.
func (l *waitlist) deliver(r *roomState) {
	if l.queue == nil || len(r.members) <= l.limits.promptRoom {
		return
	}
	d := l.deliveries[r.id]
	switch {
	case d == nil:
		l.beginDelivery(r, newDelivery())
	case d.next == nil:
		d.next = newDelivery()
	}
}

// beginDelivery has a delivery pass the queue of answers, after the last batch of the room. Called with the lock held.
func (l *waitlist) beginDelivery(r *roomState, d *delivery) {
	l.deliveries[r.id] = d
	l.delivering.Store(true)
	// Once for the answers, and once more for the next polls of those who had them.
	pass := func() { l.queue(func() { l.queue(func() { l.endDelivery(r, d) }) }) }
	if r.fanOut.tick <= l.wheel.tick {
		pass()
	} else {
		l.wheel.addAt(&Waiter{then: pass}, r.fanOut.tick+1) // after the last batch
	}
}

// endDelivery ends a delivery. It takes the lock.
func (l *waitlist) endDelivery(r *roomState, d *delivery) {
	l.lock.Lock()
	defer l.lock.Unlock()
	close(d.begun)
	delete(l.deliveries, r.id)
	if d.next != nil {
		l.beginDelivery(r, d.next)
	}
	l.delivering.Store(len(l.deliveries) > 0)
}

// AwaitDeliveries has somebody who is about to send something to a room wait until the answers that tell what was said there
// before have begun, for a second at most. Nobody waits for other rooms.
func (sc *Cache) AwaitDeliveries(ctx context.Context, roomID id.RoomID) {
	if !sc.delivering.Load() {
		return
	}
	sc.mu.Lock()
	d := sc.deliveries[roomID]
	if d != nil && d.next != nil {
		d = d.next
	}
	sc.mu.Unlock()
	if d == nil {
		return
	}
	sc.metrics.heldSends.Inc()
	timer := time.NewTimer(backlogMost)
	defer timer.Stop()
	select {
	case <-d.begun:
	case <-timer.C:
	case <-ctx.Done():
	}
}
