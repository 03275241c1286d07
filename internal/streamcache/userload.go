package streamcache

import (
	"context"
	"fmt"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/who"
	"stoa/matrix/id"
)

// user returns a user with the joined rooms as of the ring's head, reading them if they are not in memory. The caller pins
// it by waiting or by holding the cache's lock; otherwise it may be dropped at any time and is then only out of date.
func (h *Cache) user(ctx context.Context, v who.Device) (*user, error) {
	h.mu.Lock()
	if u := h.users[v.UserNum]; u != nil && !u.loading {
		h.used.touch(u)
		h.mu.Unlock()
		return u, nil
	}
	h.mu.Unlock()
	return h.load(ctx, v)
}

// load reads a user's rooms. Two requests may do so at the same time; the later one takes what the first has made.
func (h *Cache) load(ctx context.Context, v who.Device) (*user, error) {
	u := &user{num: v.UserNum, id: v.UserID, loading: true}
	h.mu.Lock()
	if old := h.users[v.UserNum]; old != nil {
		// Another request reads them just now. This one reads for itself, and whoever is done first wins.
		u = old
	} else {
		h.users[v.UserNum] = u
		h.used.push(u)
		h.dropUsers()
	}
	floor := h.ring.floor
	h.arriving++
	h.mu.Unlock()

	var rooms []roomdb.JoinedRoom
	var own []store.OwnChange
	var at store.Position
	err := h.store.Read(ctx, func(r *store.Read) (err error) {
		at = r.Head()
		if rooms, err = roomdb.JoinedRooms(r, v.UserNum); err != nil {
			return err
		}
		own, err = r.OwnChanges(v.UserNum, floor)
		return err
	})
	if err == nil {
		err = h.Await(ctx, at)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.arriving--
	if err != nil {
		if u.loading && h.users[v.UserNum] == u {
			h.forget(u)
		}
		return nil, fmt.Errorf("read the rooms of %s: %w", v.UserID, err)
	}
	if !u.loading {
		return u, nil
	}
	h.settleUser(u, at, rooms, own)
	return u, nil
}

// settleUser fills in what was read in a snapshot, and what the stream has told since. Called with the lock held.
func (h *Cache) settleUser(u *user, at store.Position, rooms []roomdb.JoinedRoom, own []store.OwnChange) {
	u.loading, u.from = false, at
	u.rooms = make([]joinedRoom, 0, len(rooms))
	for _, j := range rooms {
		r := h.room(j.Room)
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
	for _, m := range u.pending {
		if m.pos > at {
			h.move(u, m)
		}
	}
	u.pending = nil
	h.metrics.users.Set(float64(len(h.users)))
}

// forget drops a user. Requests that still hold it find that out by gone. Called with the lock held.
func (h *Cache) forget(u *user) {
	for i := range u.rooms {
		u.unlink(i)
	}
	u.rooms, u.gone = nil, true
	delete(h.users, u.num)
	h.used.remove(u)
	for len(u.waiters) > 0 {
		h.end(u.waiters[len(u.waiters)-1], News)
	}
}

// dropUsers keeps the number of users within its bound, those used last first. Called with the lock held.
func (h *Cache) dropUsers() {
	for u := h.used.oldest; u != nil && h.used.count > h.opt.Users; {
		newer := u.newer
		if len(u.waiters) == 0 && !u.loading {
			h.forget(u)
		}
		u = newer
	}
}
