package streamcache

import (
	"sync"
	"sync/atomic"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/id"
)

// What happens in a room wakes the requests that wait in it at one of two ranks. Messages, and whatever is addressed to one
// user, wake at once; a room in which very many wait is woken in batches, so that answers for other rooms come in between.
// Receipts, typing notices, presence and device lists are merged: each waiting request has one moment a second at which it is
// answered if there is such news, and takes it along if a message comes first.

const (
	// fanOutBatch is how many waiting requests one room wakes in an interval, fanOutInterval is that interval.
	fanOutBatch    = 500
	fanOutInterval = wheelTick

	// mergeTime is how long merged news waits at most.
	mergeTime = time.Second
	// promptRoom is up to how many waiting requests a room has in which it is told at once that somebody begins to type.
	promptRoom = 100
	// mergeRoom is up to how many waiting requests a room has in which merged news wakes at all. In larger rooms it comes with
	// the next answer.
	mergeRoom = 1000
)

// fanOutLimits are the constants of these names; tests have smaller ones.
type fanOutLimits struct{ batch, promptRoom, mergeRoom int }

// waitlist is the requests that wait and what wakes them. Its methods are called with the cache's lock held.
type waitlist struct {
	lock    *sync.Mutex // the cache's
	metrics *metrics
	wheel   *wheel
	limits  fanOutLimits
	// backlogs are the undelivered messages of large rooms, hasBacklogs reports whether there are any.
	backlogs    map[id.RoomID]*backlog
	hasBacklogs atomic.Bool
}

// fanOut says how many waiting requests a room has woken, or will wake, in the last interval for which it has any.
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
	now := l.wheel.tick
	for _, u := range r.members {
		for i := len(u.waiters) - 1; i >= 0; i-- {
			w := u.waiters[i]
			if w.held && w.tick <= r.fanOut.tick {
				continue // it is woken soon, for what was said here before or for something else
			}
			if at := r.fanOut.take(now, l.limits.batch); at <= now {
				l.end(w, News)
			} else {
				l.hold(w, at)
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

// mergeRoom has the requests that wait in a room answered at their next moment, unless they are too many. Called with the
// lock held.
func (l *waitlist) mergeRoom(r *roomState) {
	if r.waiting(l.limits.mergeRoom) > l.limits.mergeRoom {
		return
	}
	for _, u := range r.members {
		l.mergeUser(u)
	}
}

// mergeUser has the requests of a user answered at their next moment. Called with the lock held.
func (l *waitlist) mergeUser(u *user) {
	for _, w := range u.waiters {
		if !w.held {
			l.hold(w, nextMoment(l.wheel.tick, u.num))
		}
	}
}

// mergeTicks is mergeTime in ticks.
const mergeTicks = int64(mergeTime / wheelTick)

// nextMoment is the first tick after one at which merged news of a user is told. Those of different users are spread evenly.
func nextMoment(tick int64, user store.UserNum) int64 {
	return tick + mergeTicks - (tick+int64(user))%mergeTicks
}

// waiting counts the requests that wait in a room, up to one more than a limit or so. Called with the lock held.
func (r *roomState) waiting(limit int) int {
	n := 0
	for _, u := range r.members {
		if n += len(u.waiters); n > limit {
			break
		}
	}
	return n
}

// mergeReceipts has those answered who see receipts: of a private one, nobody but its owner, whose other devices are told in
// rooms of any size. An empty list stands for receipts that are not known. Called with the lock held.
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

// WakeTyping wakes the members of a room in which somebody began or stopped to type: at once if they began and few wait.
// That somebody stopped is mostly followed by what they typed, so it is merged.
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
