package streamcache

import (
	"slices"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/timeline"
	"stoa/internal/who"
	"stoa/matrix/id"
)

// Kept values are what answers have read of users and rooms and the next answers need again. A method that keeps a value takes the
// position of the snapshot it was read from, and keeps nothing that the stream has passed.

// Kept gives access to the values that answers have read of users and rooms and left for the next.
type Kept struct{ cache *Cache }

// Kept returns the kept values.
func (sc *Cache) Kept() *Kept { return &Kept{sc} }

// known returns a user in memory, or nil. Called with the lock held.
func (m *memory) known(num store.UserNum) *user {
	u := m.users[num]
	if u == nil || u.loading {
		return nil
	}
	return u
}

// Ignored returns the users whom a user ignores, if known.
func (k *Kept) Ignored(num store.UserNum) (ignored map[id.UserID]bool, known bool) {
	k.cache.mu.Lock()
	defer k.cache.mu.Unlock()
	u := k.cache.known(num)
	if u == nil || u.ignoredAt == 0 || u.ignoredAt < u.last[store.KindAccountData] {
		return nil, false
	}
	return u.ignored, true
}

// KeepIgnored keeps the users whom a user ignores, as of a snapshot.
func (k *Kept) KeepIgnored(num store.UserNum, ignored map[id.UserID]bool, snapshot store.Position) {
	k.cache.mu.Lock()
	defer k.cache.mu.Unlock()
	if u := k.cache.known(num); u != nil && snapshot >= u.from && u.ignoredAt <= snapshot {
		u.ignored, u.ignoredAt = ignored, snapshot
		k.cache.measure(u)
	}
}

// JoinedRoom is a room that a user is in.
type JoinedRoom struct {
	Num store.RoomNum
	ID  id.RoomID
	// Joined is the slot at which the user became a member.
	Joined store.Slot
	// Last is the last slot of the newest segment in memory; 0 for none.
	Last store.Slot
}

func (j *userRoom) public() JoinedRoom {
	out := JoinedRoom{Num: j.room.num, ID: j.room.id, Joined: j.joined}
	if j.room.newest != nil {
		out.Last = j.room.newest.Last
	}
	return out
}

// JoinedRoom finds a joined room of a user by its ID; false if the user is not in it, or not in memory.
func (k *Kept) JoinedRoom(num store.UserNum, roomID string) (JoinedRoom, bool) {
	k.cache.mu.Lock()
	defer k.cache.mu.Unlock()
	u := k.cache.users[num]
	if u == nil {
		return JoinedRoom{}, false
	}
	for i := range u.rooms {
		if j := &u.rooms[i]; j.room.id.String() == roomID {
			return j.public(), true
		}
	}
	return JoinedRoom{}, false
}

// ActiveRoom is a joined room with the position of the newest change of its timeline.
type ActiveRoom struct {
	Num  store.RoomNum
	Last store.Position
	// Encryption says that m.room.encryption has changed.
	Encryption bool
}

// Active appends the joined rooms of a user in which something happened after a position, and returns the position up to which that
// is known. It is false if memory does not reach back that far, or if the user's own rooms or account data have changed since.
func (k *Kept) Active(dst []ActiveRoom, num store.UserNum, after store.Position) ([]ActiveRoom, store.Position, bool) {
	k.cache.mu.Lock()
	defer k.cache.mu.Unlock()
	u := k.cache.known(num)
	if u == nil || after < k.cache.ring.floor || u.last[store.KindMembership] > after || u.last[store.KindAccountData] > after {
		return dst, 0, false
	}
	for i := range u.rooms {
		r := u.rooms[i].room
		if r.timeline.last <= after {
			continue
		}
		if r.skipped > after {
			return dst, 0, false
		}
		a := ActiveRoom{Num: r.num, Last: r.timeline.last}
		k.cache.ring.since(&r.timeline, after, func(rec *record) bool {
			a.Encryption = rec.timeline.changes("m.room.encryption")
			return !a.Encryption
		})
		dst = append(dst, a)
	}
	return dst, k.cache.ring.head, true
}

// deviceSentSince is the position from which on the memberships sent to a device count.
type deviceSentSince struct {
	device id.DeviceID
	at     store.Position
}

// sentSinceLimit bounds the remembered devices of one user.
const sentSinceLimit = 16

// SentSince returns the position from which on the memberships sent to a device count: that of its last initial sync, or of the
// token that an unknown device came with.
func (k *Kept) SentSince(v who.Device, since store.Position, initial bool, upto store.Position) store.Position {
	k.cache.mu.Lock()
	defer k.cache.mu.Unlock()
	u := k.cache.users[v.UserNum]
	if u == nil {
		return upto // nothing that was sent before counts
	}
	for i := range u.sentSince {
		if u.sentSince[i].device == v.DeviceID {
			if initial {
				u.sentSince[i].at = upto
			}
			return u.sentSince[i].at
		}
	}
	if initial {
		since = upto
	}
	if len(u.sentSince) >= sentSinceLimit {
		u.sentSince = u.sentSince[1:]
	}
	u.sentSince = append(u.sentSince, deviceSentSince{v.DeviceID, since})
	return since
}

// cachedSection is a section of all answers to one device, as of a position.
type cachedSection struct {
	key    string
	device id.DeviceID
	at     store.Position
	value  []byte
}

// sectionLimit bounds the cached sections of one user.
const sectionLimit = 32

// Section returns the cached section of a device, unless the user had a change of one of the kinds since.
func (k *Kept) Section(v who.Device, key string, kinds []store.Kind) ([]byte, bool) {
	k.cache.mu.Lock()
	defer k.cache.mu.Unlock()
	u := k.cache.known(v.UserNum)
	if u == nil {
		return nil, false
	}
	for _, f := range u.sections {
		if f.key == key && f.device == v.DeviceID {
			return f.value, !slices.ContainsFunc(kinds, func(k store.Kind) bool { return u.last[k] > f.at })
		}
	}
	return nil, false
}

// sectionBytes bounds the memory of one user's cached sections.
const sectionBytes = 256 << 10

// KeepSection keeps a section of the answers to a device, as of a snapshot.
func (k *Kept) KeepSection(v who.Device, key string, value []byte, snapshot store.Position) {
	k.cache.mu.Lock()
	defer k.cache.mu.Unlock()
	u := k.cache.known(v.UserNum)
	if u == nil || snapshot < u.from {
		return
	}
	f := cachedSection{key: key, device: v.DeviceID, at: snapshot, value: value}
	u.sections = slices.DeleteFunc(u.sections, func(s cachedSection) bool { return s.key == key && s.device == v.DeviceID })
	u.sections = append(u.sections, f)
	size := 0
	for i := range u.sections {
		size += cap(u.sections[i].value)
	}
	drop := max(0, len(u.sections)-sectionLimit)
	for i := 0; i < len(u.sections) && (i < drop || size > sectionBytes); i++ {
		drop, size = i+1, size-cap(u.sections[i].value)
	}
	u.sections = slices.Delete(u.sections, 0, drop)
	k.cache.measure(u)
}

// Openness tells whether members of a room may see all of its history, whenever they joined.
type Openness uint8

// The values of Openness.
const (
	OpenUnknown Openness = iota
	OpenToMembers
	OpenInParts
)

// Openness returns the openness of a room, if known.
func (k *Kept) Openness(num store.RoomNum) Openness {
	k.cache.mu.Lock()
	defer k.cache.mu.Unlock()
	if r := k.cache.rooms[num]; r != nil {
		return r.open
	}
	return OpenUnknown
}

// KeepOpenness keeps the openness of a room, as of a snapshot.
func (k *Kept) KeepOpenness(num store.RoomNum, open Openness, snapshot store.Position) {
	k.cache.mu.Lock()
	defer k.cache.mu.Unlock()
	if r := k.cache.rooms[num]; r != nil && r.timeline.last <= snapshot {
		r.open = open
	}
}

// HeroCandidates returns a room's candidates if they are in memory.
func (k *Kept) HeroCandidates(num store.RoomNum) (HeroCandidates, bool) {
	k.cache.mu.Lock()
	defer k.cache.mu.Unlock()
	r := k.cache.rooms[num]
	if r == nil || r.heroes == nil {
		return HeroCandidates{}, false
	}
	return *r.heroes, true
}

// KeepHeroCandidates keeps a room's candidates, as of a snapshot.
func (k *Kept) KeepHeroCandidates(num store.RoomNum, candidates HeroCandidates, snapshot store.Position) {
	k.cache.mu.Lock()
	defer k.cache.mu.Unlock()
	if r := k.cache.rooms[num]; r != nil && max(r.timeline.last, r.updated) <= snapshot {
		r.heroes = &candidates
	}
}

// MemberAt is a member of a room as of a slot.
type MemberAt struct {
	Room   store.RoomNum
	UserID string
	At     store.Slot
}

// Members returns the membership events that memory holds, for an answer up to a position, and the indexes of the others. busy is
// not nil if another answer is reading one of them; it is closed when that is done.
func (k *Kept) Members(wanted []MemberAt, upto store.Position) (events []*timeline.Event, missing []int, busy <-chan struct{}) {
	events = make([]*timeline.Event, len(wanted))
	k.cache.mu.Lock()
	defer k.cache.mu.Unlock()
	current := k.cache.ring.head >= upto
	for i, w := range wanted {
		m := member{w.Room, w.UserID}
		ev := k.cache.members.get(m)
		if ev != nil && current && ev.Slot <= w.At {
			events[i] = ev
			continue
		}
		missing = append(missing, i)
		if reader, ok := k.cache.members.reading[m]; ok && busy == nil {
			busy = reader
		}
	}
	return events, missing, busy
}

// ClaimMembers announces that an answer reads members, until done: after a message, all answers of the room need the same ones.
func (k *Kept) ClaimMembers(wanted []MemberAt, missing []int) (done func()) {
	claims := make([]member, 0, len(missing))
	read := make(chan struct{})
	k.cache.mu.Lock()
	defer k.cache.mu.Unlock()
	for _, i := range missing {
		m := member{wanted[i].Room, wanted[i].UserID}
		if _, ok := k.cache.members.reading[m]; !ok {
			k.cache.members.reading[m] = read
			claims = append(claims, m)
		}
	}
	return func() {
		k.cache.mu.Lock()
		defer k.cache.mu.Unlock()
		for _, m := range claims {
			delete(k.cache.members.reading, m)
		}
		close(read)
	}
}

// KeepMember keeps a membership event that was current in a snapshot, unless the room has moved on since.
func (k *Kept) KeepMember(num store.RoomNum, userID string, ev *timeline.Event, snapshot store.Position) {
	k.cache.mu.Lock()
	defer k.cache.mu.Unlock()
	if r := k.cache.rooms[num]; r != nil && r.timeline.last > snapshot {
		return
	}
	k.cache.members.put(member{num, userID}, ev)
}

// Recent is the newest part of a room's timeline: all live events after slot From, up to slot Upto, oldest first, and the
// changes of state among them.
type Recent struct {
	From, Upto store.Slot
	Events     []*timeline.Event
	Log        []roomdb.StateChange
}

// Recent returns the newest part of a room's timeline from one slot up to another, if it is in memory. It must not be changed.
func (k *Kept) Recent(num store.RoomNum, from, upto store.Slot) (Recent, bool) {
	k.cache.mu.Lock()
	defer k.cache.mu.Unlock()
	t := k.cache.recent.get(num)
	if t == nil || t.upto != upto || t.from > from {
		return Recent{}, false
	}
	return Recent{From: t.from, Upto: t.upto, Events: t.events, Log: t.log}, true
}

// KeepRecent keeps the newest part of a room's timeline, as of a snapshot, unless the room has moved on.
func (k *Kept) KeepRecent(num store.RoomNum, r Recent, snapshot store.Position) {
	k.cache.mu.Lock()
	defer k.cache.mu.Unlock()
	if room := k.cache.rooms[num]; room != nil && max(room.timeline.last, room.updated) > snapshot {
		return
	}
	k.cache.recent.put(num, &recentTimeline{from: r.From, upto: r.Upto, events: r.Events, log: r.Log})
}

// Counts returns a user's unread counts in a room, if known.
func (k *Kept) Counts(user store.UserNum, num store.RoomNum, threads bool) (Counts, bool) {
	k.cache.mu.Lock()
	defer k.cache.mu.Unlock()
	u := k.cache.known(user)
	if u == nil {
		return Counts{}, false
	}
	return k.cache.counts(u, num, threads)
}

// RoomsWithoutCounter returns rooms of a user without an unread counter in memory, except for some.
func (k *Kept) RoomsWithoutCounter(user store.UserNum, limit int, not func(store.RoomNum) bool) (rooms []JoinedRoom) {
	k.cache.mu.Lock()
	defer k.cache.mu.Unlock()
	u := k.cache.known(user)
	if u == nil {
		return nil
	}
	for i := 0; i < len(u.rooms) && len(rooms) < limit; i++ {
		if j := &u.rooms[i]; j.counter == nil && !j.room.id.IsZero() && !not(j.room.num) {
			rooms = append(rooms, j.public())
		}
	}
	return rooms
}

// KeepCounter keeps an unread counter that was read in a snapshot, unless the user has read on since.
func (k *Kept) KeepCounter(user store.UserNum, num store.RoomNum, counter UnreadCounter, snapshot store.Position) {
	k.cache.mu.Lock()
	defer k.cache.mu.Unlock()
	u := k.cache.known(user)
	if u == nil {
		return
	}
	if j := u.find(num); j != nil && j.receiptsAt <= snapshot && u.last[store.KindAccountData] <= snapshot {
		j.counter = &roomCounter{UnreadCounter: counter, at: snapshot}
	}
}
