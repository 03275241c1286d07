package streamcache

import (
	"stoa/internal/room"
	"stoa/internal/store"
)

// memory is the newest part of the stream and what it needs. Its methods are called with the cache's lock held, except FillTyping.
type memory struct {
	waitlist
	events *eventCache // has a lock of its own
	typing TypingHashes
	// began is the head of the stream when this process began: typing in tokens up to it was that of an earlier process, unless
	// another instance has shared it.
	began store.Position

	ring *ring
	// present holds the newest changes of presence, in the one chain presences. It is apart from the ring, so that everybody coming
	// online at once does not push messages out.
	present   *ring
	presences chain
	rooms     map[store.RoomNum]*roomState
	users     map[store.UserNum]*user
	used      lru
	maxUsers  int
	// userBytes is the memory of all users, the sum of their bytes.
	userBytes, maxUserBytes int
	members                 *memberCache
	recent                  *recentTimelines
	// skipped is the newest row that was not read because it concerned no user in memory.
	// loadingUsers counts the users being loaded, for whom that is unknown.
	skipped      store.Position
	loadingUsers int
	// barriers are the requests that wait for the ring to reach a position, polls counts the polls of the stream.
	barriers []barrier
	polls    uint64
	closed   bool
}

// advance moves the head and releases the barriers that waited for it. Called with the lock held.
func (m *memory) advance(head store.Position) {
	m.ring.head = head
	kept := m.barriers[:0]
	for _, b := range m.barriers {
		if b.at <= head {
			close(b.done)
		} else {
			kept = append(kept, b)
		}
	}
	m.barriers = kept
}

// release releases the barriers for positions that are not in the store: above the head found by a poll that began after them.
// Called with the lock held.
func (m *memory) release(poll uint64, head store.Position) {
	kept := m.barriers[:0]
	for _, b := range m.barriers {
		if b.polls < poll && b.at > head {
			close(b.done)
		} else {
			kept = append(kept, b)
		}
	}
	m.barriers = kept
}

// applyRoomRow applies a row of a room. Called with the lock held.
func (m *memory) applyRoomRow(a *applied, row store.StreamRow) {
	r := m.room(row.Room())
	if a.skipped[row.Pos] {
		m.skip(r, row)
		return
	}
	switch row.Kind {
	case store.KindTimeline:
		if s, ok := a.read[row.Pos]; ok {
			r.id = s.roomID
			m.addSegment(r, row.Pos, s.segment, s.size)
		} else if at := a.rooms[r.num]; at != nil {
			r.id = at.id
			for _, s := range at.segments {
				m.addSegment(r, row.Pos, s.segment, s.size)
				for _, e := range s.members {
					m.members.learn(r.num, e)
				}
			}
			m.redact(r, at.redacted, row.Pos) // at this row, of whose timeline the redacted events may be
		} else {
			r.timeline.last = row.Pos // a slot with nothing to show
		}
		m.wakeRoom(r)
		m.noteMessage(r)
	case store.KindReceipts:
		list := a.receipts[r.num]
		if read, ok := a.readReceipts[row.Pos]; ok {
			if list = read; len(list) == 0 {
				return // all of them have moved: a later row follows
			}
		}
		m.ring.add(&r.receipts, record{pos: row.Pos, size: 200 + 250*len(list), receipts: list})
		m.noteReceipts(r, row.Pos, list)
		m.mergeReceipts(r, list)
	case store.KindRoomUpdate:
		r.updated, r.heroes = row.Pos, nil // a name may have been redacted
		m.recent.drop(r.num)
	}
}

// redact replaces events in memory by their redacted forms. Called with the lock held.
func (m *memory) redact(r *roomState, redacted []room.Redacted, pos store.Position) {
	for i := range redacted {
		m.ring.redact(&r.timeline, &redacted[i])
		m.events.drop(redacted[i].Target, redacted[i].TargetID, pos)
		m.members.drop(r.num, &redacted[i])
	}
}

// addSegment adds a segment to the ring, and updates the rooms of users who joined or left in it.
func (m *memory) addSegment(r *roomState, pos store.Position, s *Segment, size int) {
	m.ring.add(&r.timeline, record{pos: pos, size: size, timeline: s})
	r.newest, r.joined = s, s.Joined
	m.members.apply(r.num, s)
	m.recent.apply(r.num, s)
	for i := range s.Changes {
		c := &s.Changes[i]
		switch c.Type {
		case "m.room.member", "m.room.name", "m.room.canonical_alias":
			r.heroes = nil
		case "m.room.history_visibility":
			r.open = OpenUnknown
		}
		if c.user == 0 {
			continue
		}
		joined := c.Event != nil && c.Event.Membership == "join"
		m.applyMembership(c.user, membershipChange{pos: pos, room: r.num, roomID: r.id, slot: c.Slot, joined: joined})
	}
}

// applyMembership keeps a user's joined rooms up to date.
func (m *memory) applyMembership(num store.UserNum, change membershipChange) {
	u := m.users[num]
	if u == nil {
		return
	}
	if u.loading {
		u.pending = append(u.pending, change)
		return
	}
	m.move(u, change)
}

func (m *memory) move(u *user, change membershipChange) {
	if change.joined {
		u.enter(m.room(change.room), change.slot)
	} else {
		u.leave(change.room)
	}
	m.measure(u)
}

// applyUserRow applies a row of a user. Called with the lock held.
func (m *memory) applyUserRow(a *applied, row store.StreamRow) {
	u := m.users[row.User()]
	shared := SharedIndex(row.Kind)
	if u != nil && int(row.Kind) < OwnKinds {
		u.last[row.Kind] = row.Pos
		if shared >= 0 {
			m.mergeUser(u)
		} else {
			m.wakeUser(u)
		}
	}
	if shared < 0 {
		return
	}
	if row.Kind == store.KindPresence {
		m.addPresence(a, row)
	}
	if u != nil && !u.loading {
		for i := range u.rooms {
			m.share(u.rooms[i].room, shared, row.Pos)
		}
		return
	}
	for _, num := range a.sharers[row.User()] {
		if r := m.rooms[num]; r != nil {
			m.share(r, shared, row.Pos)
		}
	}
}

// share records in a room that a member has changed something that the others see. Called with the lock held.
func (m *memory) share(r *roomState, shared int, pos store.Position) {
	if shared == SharedIndex(store.KindPresence) && !r.small() {
		return
	}
	r.shared[shared] = pos
	m.mergeRoom(r)
}

// room returns the state of a room, a new one if there is none. Called with the lock held.
func (m *memory) room(num store.RoomNum) *roomState {
	r := m.rooms[num]
	if r == nil {
		r = &roomState{num: num}
		m.rooms[num] = r
		m.forgetRooms()
	}
	return r
}

// forgetRooms drops rooms without members in memory and without records in the ring, a few for each new one, so that the map stays
// small. Called with the lock held.
func (m *memory) forgetRooms() {
	looked := 0
	for num, r := range m.rooms {
		if looked++; looked > 4 {
			return
		}
		if len(r.members) == 0 && r.timeline.seq < m.ring.first && r.receipts.seq < m.ring.first && !r.fresh(m.ring.floor) {
			delete(m.rooms, num)
		}
	}
}

// fresh reports whether something is known of the room that is newer than the ring's floor.
func (r *roomState) fresh(floor store.Position) bool {
	newest := max(r.timeline.last, r.receipts.last)
	for _, p := range r.shared {
		newest = max(newest, p)
	}
	return newest > floor || newest == 0
}
