package streamcache

import (
	"slices"
	"stoa/internal/store"
	"stoa/internal/store/userdb"
)

const (
	// presentRecords and presentBytes bound the presence changes in memory: some minutes of a morning on which 26,000 people come.
	presentRecords, presentBytes = 1 << 13, 4 << 20
	// PresenceScanLimit bounds the presence changes, of all users, that one answer scans.
	PresenceScanLimit = 2000
)

// presenceChange is a user's presence at a position of the stream.
type presenceChange struct {
	userdb.Presence
	// rooms are those of a user who was not in memory then, else nil.
	rooms []store.RoomNum
}

// addPresence puts a change of presence into the ring. Called with the lock held.
func (m *memory) addPresence(a *applied, row store.StreamRow) {
	rec := record{pos: row.Pos, size: 250}
	if x, ok := a.presence[row.User()]; ok {
		rec.presence = &presenceChange{x, a.sharers[row.User()]}
		rec.size += len(x.UserID) + 8*len(rec.presence.rooms)
		if x.StatusMsg != nil {
			rec.size += len(*x.StatusMsg)
		}
	}
	m.present.add(&m.presences, rec)
}

// PresenceChanges returns the presence of users who changed it after one position up to another, and who share a small room with
// the viewer or are the viewer; each once. ask are users for whom memory cannot tell. known is false if memory does not reach back,
// or lacks a change.
func (sc *Cache) PresenceChanges(viewer store.UserNum, after, upTo store.Position, limit int) (rows []userdb.Presence, ask []store.UserNum, known bool) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	u := sc.users[viewer]
	if u == nil || u.loading || after < max(sc.ring.floor, sc.present.floor) || upTo > sc.ring.head {
		return nil, nil, false
	}
	if sc.presences.last <= after {
		return nil, nil, true
	}
	known = true
	steps, looked := 0, map[store.UserNum]bool{}
	sc.present.since(&sc.presences, after, func(r *record) bool {
		if steps++; r.pos > upTo {
			return steps < PresenceScanLimit
		}
		x := r.presence
		if known = x != nil; !known {
			return false
		}
		if looked[x.User] {
			return steps < PresenceScanLimit
		}
		looked[x.User] = true
		switch meets, known := sc.sharesSmallRoom(u, x.User); {
		case meets:
			rows = append(rows, x.Presence)
		case known:
		case x.rooms == nil, u.last[store.KindMembership] > r.pos: // in the latter case they may not have been in a room together
			ask = append(ask, x.User)
		case slices.ContainsFunc(x.rooms, func(num store.RoomNum) bool { j := u.find(num); return j != nil && j.room.small() }):
			rows = append(rows, x.Presence)
		}
		return steps < PresenceScanLimit && len(rows) < limit
	})
	if !known {
		return nil, nil, false
	}
	return rows, ask, true
}

// MayShare removes from users, in place, those who are known to share no small room with a viewer: when many come online at once
// that is almost everybody, and the store would have to be asked about each.
func (sc *Cache) MayShare(viewer store.UserNum, users []store.UserNum) []store.UserNum {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	u := sc.users[viewer]
	if u == nil || u.loading {
		return users
	}
	return slices.DeleteFunc(users, func(num store.UserNum) bool {
		meets, known := sc.sharesSmallRoom(u, num)
		return known && !meets
	})
}

// sharesSmallRoom reports whether a user in memory shares a small room with another, or is the other; not known for users who are
// not in memory. Called with the lock held.
func (m *memory) sharesSmallRoom(u *user, num store.UserNum) (meets, known bool) {
	other := m.users[num]
	if other == nil || other.loading {
		return false, false
	}
	return other == u || u.sharesSmallRoom(other), true
}

// sharesSmallRoom reports whether two users have joined the same room of a size in which presence is sent.
func (u *user) sharesSmallRoom(other *user) bool {
	fewer, more := u, other
	if len(fewer.rooms) > len(more.rooms) {
		fewer, more = more, fewer
	}
	for i := range fewer.rooms {
		if r := fewer.rooms[i].room; r.small() && more.find(r.num) != nil {
			return true
		}
	}
	return false
}
