package streamcache

import (
	"slices"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/timeline"
	"stoa/internal/who"
	"stoa/matrix/id"
)

// What answers have read of users and rooms is kept beside the stream, so that the next answer needs no snapshot. Each method
// that keeps something is told the position of the snapshot from which it comes, and keeps nothing that the stream has passed.

// Kept is what answers have read of users and rooms and is kept for the next.
type Kept struct{ cache *Cache }

// Kept is what is kept for answers.
func (sc *Cache) Kept() *Kept { return &Kept{sc} }

// known is a user who is in memory; nil for others. Called with the lock held.
func (m *memory) known(num store.UserNum) *user {
	u := m.users[num]
	if u == nil || u.loading {
		return nil
	}
	return u
}

// Ignored are the users whom a user ignores, if that is known.
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

func (j *joinedRoom) public() JoinedRoom {
	out := JoinedRoom{Num: j.room.num, ID: j.room.id, Joined: j.joined}
	if j.room.newest != nil {
		out.Last = j.room.newest.Last
	}
	return out
}

// JoinedRoom finds a room that a user is in, by its ID; false if the user is not there, or not in memory.
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

// deviceEpoch is from which position on what a device was sent counts.
type deviceEpoch struct {
	device id.DeviceID
	at     store.Position
}

// epochLimit bounds the devices of one user whose epochs are remembered.
const epochLimit = 16

// Epoch returns the position from which on what the device was sent counts: that of its last initial sync, or for a device
// of which nothing is remembered, the token that it came with.
func (k *Kept) Epoch(v who.Device, since store.Position, initial bool, upto store.Position) store.Position {
	k.cache.mu.Lock()
	defer k.cache.mu.Unlock()
	u := k.cache.users[v.UserNum]
	if u == nil {
		return upto // nothing that was sent before counts
	}
	for i := range u.epochs {
		if u.epochs[i].device == v.DeviceID {
			if initial {
				u.epochs[i].at = upto
			}
			return u.epochs[i].at
		}
	}
	if initial {
		since = upto
	}
	if len(u.epochs) >= epochLimit {
		u.epochs = u.epochs[1:]
	}
	u.epochs = append(u.epochs, deviceEpoch{v.DeviceID, since})
	return since
}

// fragment is a part of all answers to one device, as of a position.
type fragment struct {
	key    string
	device id.DeviceID
	at     store.Position
	value  []byte
}

// fragmentLimit bounds the fragments of one user.
const fragmentLimit = 32

// Fragment is what was kept as a part of all answers to a device, unless one of some kinds of changes of the user has happened
// since.
func (k *Kept) Fragment(v who.Device, key string, kinds []store.Kind) ([]byte, bool) {
	k.cache.mu.Lock()
	defer k.cache.mu.Unlock()
	u := k.cache.known(v.UserNum)
	if u == nil {
		return nil, false
	}
	for _, f := range u.fragments {
		if f.key == key && f.device == v.DeviceID {
			return f.value, !slices.ContainsFunc(kinds, func(k store.Kind) bool { return u.last[k] > f.at })
		}
	}
	return nil, false
}

// KeepFragment keeps a part of all answers to a device, as of a snapshot.
func (k *Kept) KeepFragment(v who.Device, key string, value []byte, snapshot store.Position) {
	k.cache.mu.Lock()
	defer k.cache.mu.Unlock()
	u := k.cache.known(v.UserNum)
	if u == nil || snapshot < u.from {
		return
	}
	f := fragment{key: key, device: v.DeviceID, at: snapshot, value: value}
	for i := range u.fragments {
		if u.fragments[i].key == key && u.fragments[i].device == v.DeviceID {
			u.fragments[i] = f
			return
		}
	}
	if len(u.fragments) >= fragmentLimit {
		u.fragments = u.fragments[1:]
	}
	u.fragments = append(u.fragments, f)
}

// Openness says whether members of a room may see all of its history, whenever they joined.
type Openness uint8

// The values of Openness.
const (
	OpenUnknown Openness = iota
	OpenToMembers
	OpenInParts
)

// Openness says it of a room, if it is known.
func (k *Kept) Openness(num store.RoomNum) Openness {
	k.cache.mu.Lock()
	defer k.cache.mu.Unlock()
	if r := k.cache.rooms[num]; r != nil {
		return r.open
	}
	return OpenUnknown
}

// KeepOpenness keeps it, as of a snapshot.
func (k *Kept) KeepOpenness(num store.RoomNum, open Openness, snapshot store.Position) {
	k.cache.mu.Lock()
	defer k.cache.mu.Unlock()
	if r := k.cache.rooms[num]; r != nil && r.timeline.last <= snapshot {
		r.open = open
	}
}

// Roster is what heroes are chosen from: the first members of a room, as many as are needed for any viewer.
type Roster struct {
	Named   bool
	Present []string // joined and invited
	Gone    []string // left and banned
}

// Roster returns a room's roster if it is in memory.
func (k *Kept) Roster(num store.RoomNum) (Roster, bool) {
	k.cache.mu.Lock()
	defer k.cache.mu.Unlock()
	r := k.cache.rooms[num]
	if r == nil || r.roster == nil {
		return Roster{}, false
	}
	return *r.roster, true
}

// KeepRoster keeps a roster, as of a snapshot.
func (k *Kept) KeepRoster(num store.RoomNum, roster Roster, snapshot store.Position) {
	k.cache.mu.Lock()
	defer k.cache.mu.Unlock()
	if r := k.cache.rooms[num]; r != nil && r.timeline.last <= snapshot {
		r.roster = &roster
	}
}

// MemberAt is a member of a room as of a slot.
type MemberAt struct {
	Room   store.RoomNum
	UserID string
	At     store.Slot
}

// Members finds those membership events that memory holds, for an answer up to a position, and the places of the others. busy is
// closed when another answer has read one of them; nil if nobody does.
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

// ClaimMembers says that an answer reads members, until done: when somebody speaks, all answers of the room want to know the
// same.
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

// RecentDepth is how many slots of a room are kept at least: the timeline of an initial sync of usual clients, and one more to
// know whether there are others.
const RecentDepth = recentDepth

// Recent returns the newest part of a room's timeline, if it is in memory up to a slot and goes back to another. What it holds
// must not be changed.
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

// Counts are a user's numbers of unread events in a room, if they are known.
func (k *Kept) Counts(user store.UserNum, num store.RoomNum, threads bool) (Counts, bool) {
	k.cache.mu.Lock()
	defer k.cache.mu.Unlock()
	u := k.cache.known(user)
	if u == nil {
		return Counts{}, false
	}
	return k.cache.counts(u, num, threads)
}

// Uncounted are rooms of a user whose tallies are not in memory, but for some.
func (k *Kept) Uncounted(user store.UserNum, limit int, not func(store.RoomNum) bool) (rooms []JoinedRoom) {
	k.cache.mu.Lock()
	defer k.cache.mu.Unlock()
	u := k.cache.known(user)
	if u == nil {
		return nil
	}
	for i := 0; i < len(u.rooms) && len(rooms) < limit; i++ {
		if j := &u.rooms[i]; j.kept == nil && !j.room.id.IsZero() && !not(j.room.num) {
			rooms = append(rooms, j.public())
		}
	}
	return rooms
}

// KeepTally keeps a tally of a user in a room that was read in a snapshot, unless the user has read on since.
func (k *Kept) KeepTally(user store.UserNum, num store.RoomNum, tally Tally, snapshot store.Position) {
	k.cache.mu.Lock()
	defer k.cache.mu.Unlock()
	u := k.cache.known(user)
	if u == nil {
		return
	}
	if j := u.find(num); j != nil && j.movedAt <= snapshot && u.last[store.KindAccountData] <= snapshot {
		j.kept = &keptTally{Tally: tally, at: snapshot}
	}
}
