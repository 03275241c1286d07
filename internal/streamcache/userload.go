package streamcache

import (
	"context"
	"fmt"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/who"
	"stoa/matrix/id"
)

// user returns a user with the joined rooms as of the ring's head, and loads them if needed. Waiting, or holding the cache's lock,
// pins the user; otherwise it may be dropped at any time and is then only out of date.
func (sc *Cache) user(ctx context.Context, v who.Device) (*user, error) {
	sc.mu.Lock()
	if u := sc.users[v.UserNum]; u != nil && !u.loading {
		sc.used.touch(u)
		sc.mu.Unlock()
		return u, nil
	}
	sc.mu.Unlock()
	return sc.load(ctx, v)
}

// load reads a user's rooms. If two requests do so at the same time, the later one uses
// the result of the first.
func (sc *Cache) load(ctx context.Context, v who.Device) (*user, error) {
	u := &user{num: v.UserNum, id: v.UserID, loading: true}
	sc.mu.Lock()
	if old := sc.users[v.UserNum]; old != nil {
		// Another request is reading them. This one reads too, and the first result is
		// used.
		u = old
	} else {
		sc.users[v.UserNum] = u
		sc.used.push(u)
		sc.dropUsers(u)
	}
	floor := sc.ring.floor
	sc.loadingUsers++
	sc.mu.Unlock()

	var rooms []roomdb.JoinedRoom
	var own []store.OwnChange
	var at store.Position
	err := sc.store.Read(ctx, func(r *store.Read) (err error) {
		at = r.Head()
		if rooms, err = roomdb.JoinedRooms(r, v.UserNum); err != nil {
			return err
		}
		own, err = r.OwnChanges(v.UserNum, floor)
		return err
	})
	if err == nil {
		err = sc.Await(ctx, at)
	}
	sc.mu.Lock()
	defer sc.mu.Unlock()
	sc.loadingUsers--
	if err != nil {
		if u.loading && sc.users[v.UserNum] == u {
			sc.forget(u)
		}
		return nil, fmt.Errorf("read the rooms of %s: %w", v.UserID, err)
	}
	if !u.loading {
		return u, nil
	}
	sc.finishLoading(u, at, rooms, own)
	return u, nil
}

// finishLoading adds the rooms from a snapshot, and the changes that the stream brought
// since. Called with the lock held.
func (m *memory) finishLoading(u *user, at store.Position, rooms []roomdb.JoinedRoom, own []store.OwnChange) {
	u.loading, u.from = false, at
	u.rooms = make([]userRoom, 0, len(rooms))
	for _, j := range rooms {
		r := m.room(j.Room)
		if r.id.IsZero() {
			if roomID, err := id.ParseRoomID(j.RoomID); err == nil {
				r.id = roomID
			}
		}
		if r.timeline.last <= at {
			r.joined = j.Joined
		}
		u.enter(r, j.Slot)
	}
	for _, o := range own {
		if int(o.Kind) < OwnKinds {
			u.last[o.Kind] = max(u.last[o.Kind], o.Last)
		}
	}
	for _, change := range u.pending {
		if change.pos > at {
			m.move(u, change)
		}
	}
	u.pending = nil
	m.measure(u)
	m.dropUsers(u)
	m.metrics.users.Set(float64(len(m.users)))
}

// forget drops a user. Requests that still hold it find that out by gone. Called with the lock held.
func (m *memory) forget(u *user) {
	for i := range u.rooms {
		u.unlink(i)
	}
	u.rooms, u.gone = nil, true
	m.userBytes -= u.bytes
	u.bytes = 0
	delete(m.users, u.num)
	m.used.remove(u)
	for len(u.waiters) > 0 {
		m.end(u.waiters[len(u.waiters)-1], News)
	}
}

// measure updates the memory of a user that has changed. Called with the lock held.
func (m *memory) measure(u *user) {
	if u.gone {
		return
	}
	m.userBytes -= u.bytes
	u.bytes = u.size()
	m.userBytes += u.bytes
}

// dropLooks bounds the users that dropUsers looks at in one call.
const dropLooks = 64

// dropUsers keeps the users within their bounds in number and in bytes, except one. It drops those that have not been used for
// longest; users who wait or are being loaded count as used now. Called with the lock held.
func (m *memory) dropUsers(except *user) {
	for range dropLooks {
		if len(m.users) <= m.maxUsers && m.userBytes <= m.maxUserBytes {
			return
		}
		u := m.used.oldest
		if u == except || u.loading || len(u.waiters) > 0 {
			m.used.touch(u)
		} else {
			m.forget(u)
		}
	}
}
