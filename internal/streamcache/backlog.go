package streamcache

import (
	"context"
	"time"

	"stoa/internal/store"
	"stoa/matrix/id"
)

// Back-pressure. Several senders in a room with many waiting devices are acknowledged faster than their messages are delivered, and
// without a limit deliveries grow older and older. In such a room at most backlogWindow messages may be undelivered: further
// sends wait until half of a sample of its devices have asked for what comes next, which acknowledges what they were sent. A room
// with fewer messages than that in one round trip of its devices never waits.

const (
	// backlogWindow is how many messages of a room may be undelivered.
	backlogWindow = 16
	// backlogWait is how long a send waits at most.
	backlogWait = time.Second
	// backlogSample is how many active users of a room are sampled.
	backlogSample = 32
	// activeTicks is for how many ticks of the timer wheel a user counts as active after the last answer.
	activeTicks = int64(time.Second / timerTick)
)

// backlog is what is undelivered in a room with more than promptRoom users in memory.
type backlog struct {
	room     *roomState
	first    store.Position // of its first message
	after    int            // messages after the first
	awaited  int            // sampled users who still have to acknowledge the first message
	begun    int64          // tick
	finished bool
	done     chan struct{} // closed when finished
}

// noteMessage counts a message of a room whose waiting requests were woken for it. Called with the lock held.
func (l *waitlist) noteMessage(r *roomState) {
	if len(r.members) <= l.limits.promptRoom {
		return
	}
	if b := l.backlogs[r.id]; b != nil {
		if b.after++; l.timers.tick-b.begun <= activeTicks {
			return
		}
		l.finish(b) // the sampled devices have gone
	}
	b := &backlog{room: r, first: r.timeline.last, begun: l.timers.tick, done: make(chan struct{})}
	sampled := 0
	for part := range backlogSample { // evenly spread, since requests are woken in the order of members
		from, to := part*len(r.members)/backlogSample, (part+1)*len(r.members)/backlogSample
		for i := to - 1; i >= from; i-- {
			if u := r.members[i]; l.isActive(u) && (u.sampledBy == nil || u.sampledBy.finished) {
				u.sampledBy = b
				sampled++
				break
			}
		}
	}
	if sampled > 0 {
		b.awaited = (sampled + 1) / 2
		l.backlogs[r.id] = b
		l.hasBacklogs.Store(true)
	}
}

// isActive reports whether a device of a user waits or was answered within activeTicks. Called with the lock held.
func (l *waitlist) isActive(u *user) bool {
	return len(u.waiters) > 0 || u.lastActive != 0 && l.timers.tick-u.lastActive <= activeTicks
}

// acknowledge notes that a device of a user has everything up to a position. Called with the lock held.
func (l *waitlist) acknowledge(u *user, since store.Position) {
	u.lastActive = l.timers.tick
	b := u.sampledBy
	if b == nil || since < b.first && !b.finished {
		return
	}
	u.sampledBy = nil
	if b.finished {
		return
	}
	if b.awaited--; b.awaited == 0 {
		l.finish(b)
		if b.after > 0 {
			l.noteMessage(b.room)
		}
	}
}

// finish releases the senders that wait for a backlog. Called with the lock held.
func (l *waitlist) finish(b *backlog) {
	b.finished = true
	close(b.done)
	delete(l.backlogs, b.room.id)
	l.hasBacklogs.Store(len(l.backlogs) > 0)
}

// AwaitDeliveries makes a sender to a room wait while too many messages of the room are undelivered, for a second at most. Other
// rooms do not matter.
func (sc *Cache) AwaitDeliveries(ctx context.Context, roomID id.RoomID) {
	if !sc.hasBacklogs.Load() {
		return
	}
	sc.mu.Lock()
	b := sc.backlogs[roomID]
	if b != nil && b.after < backlogWindow {
		b = nil
	}
	sc.mu.Unlock()
	if b == nil {
		return
	}
	sc.metrics.delayedSends.Inc()
	timer := time.NewTimer(backlogWait)
	defer timer.Stop()
	select {
	case <-b.done:
	case <-timer.C:
	case <-ctx.Done():
	}
}
