package streamcache

import (
	"sync"
	"sync/atomic"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/id"
)

// Fan-out has two priorities. Messages, and changes for a single user, wake requests at once; in a very large room in batches, so
// that answers for other rooms come in between. Receipts, typing notices, presence and device lists are merged: each waiting
// request has one moment a second at which it is answered if there is such news; a message that comes first takes the news along.

const (
	// fanOutBatch is how many waiting requests a room wakes per fanOutInterval.
	fanOutBatch    = 500
	fanOutInterval = timerTick

	// mergeTime is how long merged news waits at most.
	mergeTime = time.Second
	// promptRoom is the number of waiting requests in a room up to which the start of typing wakes at once.
	promptRoom = 100
	// mergeRoom is the number of waiting requests in a room up to which merged news wakes at all. In larger rooms it comes with the
	// next answer.
	mergeRoom = 1000
)

// fanOutLimits are the constants of these names; tests use smaller ones.
type fanOutLimits struct{ batch, promptRoom, mergeRoom int }

// waitlist holds the waiting requests and wakes them. Its methods are called with the cache's lock held.
type waitlist struct {
	lock    *sync.Mutex // the cache's
	metrics *metrics
	timers  *timerWheel
	limits  fanOutLimits
	// backlogs are the undelivered messages of large rooms, hasBacklogs reports whether there are any.
	backlogs    map[id.RoomID]*backlog
	hasBacklogs atomic.Bool
}

// fanOut is the last tick for which a room wakes requests, and how many.
type fanOut struct {
	tick  int64
	woken int
}

// take returns the tick at which the next request is woken: now or a later one.
func (f *fanOut) take(now int64, batch int) int64 {
	if f.tick < now {
		*f = fanOut{tick: now}
	}
	if f.woken == batch {
		*f = fanOut{tick: f.tick + 1}
	}
	f.woken++
	return f.tick
}

// wakeRoom wakes the requests that wait in a room. Called with the lock held.
func (l *waitlist) wakeRoom(r *roomState) {
	now := l.timers.tick
	for _, u := range r.members {
		for i := len(u.waiters) - 1; i >= 0; i-- {
			w := u.waiters[i]
			if w.scheduled && w.tick <= r.fanOut.tick {
				continue // it will be woken soon anyway
			}
			if at := r.fanOut.take(now, l.limits.batch); at <= now {
				l.end(w, News)
			} else {
				l.schedule(w, at)
			}
		}
	}
}

// wakeUser wakes the requests of a user. Called with the lock held.
func (l *waitlist) wakeUser(u *user) {
	for i := len(u.waiters) - 1; i >= 0; i-- {
		l.end(u.waiters[i], News)
	}
}

// mergeRoom schedules the requests that wait in a room for their next merge tick, unless they are too many. Called with the lock
// held.
func (l *waitlist) mergeRoom(r *roomState) {
	if r.waiting(l.limits.mergeRoom) > l.limits.mergeRoom {
		return
	}
	for _, u := range r.members {
		l.mergeUser(u)
	}
}

// mergeUser schedules the requests of a user for their next merge tick. Called with the lock held.
func (l *waitlist) mergeUser(u *user) {
	for _, w := range u.waiters {
		if !w.scheduled {
			l.schedule(w, nextMergeTick(l.timers.tick, u.num))
		}
	}
}

// mergeTicks is mergeTime in ticks.
const mergeTicks = int64(mergeTime / timerTick)

// nextMergeTick is the first tick after another at which a user gets merged news. Users are spread evenly over the ticks.
func nextMergeTick(tick int64, user store.UserNum) int64 {
	return tick + mergeTicks - (tick+int64(user))%mergeTicks
}

// waiting counts the requests that wait in a room, and stops a little above a limit. Called with the lock held.
func (r *roomState) waiting(limit int) int {
	n := 0
	for _, u := range r.members {
		if n += len(u.waiters); n > limit {
			break
		}
	}
	return n
}

// mergeReceipts schedules the requests of all who see receipts; a private one is seen by its owner alone, whose other devices get
// it in rooms of any size. An empty list stands for unknown receipts. Called with the lock held.
func (m *memory) mergeReceipts(r *roomState, list []roomdb.Receipt) {
	if len(list) == 0 {
		m.mergeRoom(r)
		return
	}
	public := false
	for _, x := range list {
		public = public || x.Kind == roomdb.ReceiptRead
		if u := m.users[x.User]; u != nil {
			m.mergeUser(u)
		}
	}
	if public {
		m.mergeRoom(r)
	}
}

// WakeTyping wakes the members of a room in which somebody began or stopped typing: at once if they began and few wait, else with
// merged news. The end of typing is mostly followed by the message.
func (sc *Cache) WakeTyping(num store.RoomNum, began bool) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	r := sc.rooms[num]
	switch {
	case r == nil:
	case began && r.waiting(sc.limits.promptRoom) <= sc.limits.promptRoom:
		sc.wakeRoom(r)
	default:
		sc.mergeRoom(r)
	}
}
