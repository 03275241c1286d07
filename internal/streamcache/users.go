package streamcache

import (
	"cmp"
	"slices"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/userdb"
	"stoa/matrix/id"
)

// The kinds of changes of users that the cache tells apart, as indexes into user.last and bits of a delta.
const (
	OwnKinds    = int(store.KindRoomUpdate) + 1
	sharedKinds = 3
)

// SharedIndex is the place of a kind of change which others see, in roomState.shared; -1 for other kinds.
func SharedIndex(k store.Kind) int {
	switch k {
	case store.KindDeviceList:
		return 0
	case store.KindPresence:
		return 1
	case store.KindProfile:
		return 2
	default:
		return -1
	}
}

// user is what the cache knows of a local user whose devices sync: the joined rooms, kept up to date by the stream. It is
// made by a read of the store and dropped when many others have been used since.
type user struct {
	num store.UserNum
	id  id.UserID
	// from is the position of the snapshot that it was read from. What others did to shared things (device lists,
	// presence) is known from there on; what happened to the user itself, from the ring's floor on.
	from store.Position
	// last are the newest changes of each kind of the user's own, as far as the ring reaches back.
	last [OwnKinds]store.Position
	// rooms are the joined rooms, by number.
	rooms []userRoom
	// ignored are the users on m.ignored_user_list as of the position ignoredAt, if that is not 0.
	ignored   map[id.UserID]bool
	ignoredAt store.Position

	sentSince []deviceSentSince
	sections  []cachedSection
	waiters   []*Waiter
	// lastActive is the tick of the last request or wake-up of the user's devices, sampledBy the backlog whose sample the user is in.
	lastActive int64
	sampledBy  *backlog
	gone       bool // dropped: no longer updated
	bytes      int  // the size that memory.userBytes contains
	// loading is set while the rooms are being read. pending has the changes that the stream brings
	// in that time.
	loading bool
	pending []membershipChange

	newer, older *user // the list of use
}

// userRoom is a user's place in a room.
type userRoom struct {
	room *roomState
	// joined is the slot of the room at which the user became a member.
	joined store.Slot
	// index is the user's place in room.members.
	index int
	// receiptsAt is the position of the viewer's newest receipt here, counter counts the unread events, nil if not known.
	receiptsAt store.Position
	counter    *roomCounter
}

// roomCounter is an unread counter as of the user's push rules at a position, without newReceipts.
type roomCounter struct {
	UnreadCounter
	at          store.Position
	newReceipts []roomdb.Receipt
}

// membershipChange is the effect of a change of a room on one local user.
type membershipChange struct {
	pos    store.Position
	room   store.RoomNum
	roomID id.RoomID
	slot   store.Slot
	joined bool
}

// roomState is the cache's state of a room with recent changes or with users who sync.
type roomState struct {
	num store.RoomNum
	id  id.RoomID
	// timeline and receipts are the room's chains in the ring, updated the newest KindRoomUpdate.
	timeline, receipts chain
	updated            store.Position
	// skipped is the newest row that the chains lack, because no user in memory was in
	// the room.
	skipped store.Position
	// shared are the newest changes of things that members show one another; see SharedIndex.
	shared [sharedKinds]store.Position
	// members are the joined users who are in memory, joined is how many there are in all, 0 if that is not known.
	members []*user
	joined  int64
	// fanOut is the state of the room's fan-out.
	fanOut fanOut
	// newest is the last segment of the timeline that was applied, nil for none since the start.
	newest *Segment
	// heroes are candidates for the heroes of the room, nil if not known.
	heroes *HeroCandidates
	// open says whether members may see all of the room's history.
	open Openness
}

// small reports whether the room may be one in which presence is sent.
func (r *roomState) small() bool {
	return r.joined <= userdb.PresenceRoom && len(r.members) <= userdb.PresenceRoom
}

// The memory of parts of a user, in bytes.
const (
	userOverhead    = 1024
	userRoomBytes   = 96 // with the entry among the room's members
	ignoredBytes    = 160
	sectionOverhead = 160
)

// size estimates the memory of a user in bytes.
func (u *user) size() int {
	n := userOverhead + userRoomBytes*cap(u.rooms) + ignoredBytes*len(u.ignored)
	for i := range u.sections {
		n += sectionOverhead + cap(u.sections[i].value)
	}
	return n
}

// find returns the user's entry of a room, nil if the user has not joined it.
func (u *user) find(num store.RoomNum) *userRoom {
	i, ok := u.search(num)
	if !ok {
		return nil
	}
	return &u.rooms[i]
}

func (u *user) search(num store.RoomNum) (int, bool) {
	return slices.BinarySearchFunc(u.rooms, num, func(j userRoom, n store.RoomNum) int { return cmp.Compare(j.room.num, n) })
}

// enter adds a joined room. An existing entry stays unchanged, since a new name or avatar
// is not a new membership.
func (u *user) enter(r *roomState, joined store.Slot) {
	i, ok := u.search(r.num)
	if ok {
		return
	}
	u.rooms = slices.Insert(u.rooms, i, userRoom{room: r, joined: joined, index: len(r.members)})
	r.members = append(r.members, u)
}

// leave removes a room, if the user is in it.
func (u *user) leave(num store.RoomNum) {
	i, ok := u.search(num)
	if !ok {
		return
	}
	u.unlink(i)
	u.rooms = slices.Delete(u.rooms, i, i+1)
}

// unlink removes the user from the members of their i-th room.
func (u *user) unlink(i int) {
	r, at := u.rooms[i].room, u.rooms[i].index
	last := len(r.members) - 1
	moved := r.members[last]
	r.members[at] = moved
	r.members[last] = nil
	r.members = r.members[:last]
	if moved != u {
		moved.find(r.num).index = at
	}
}

// lru is the order in which users were used.
type lru struct {
	newest, oldest *user
	count          int
}

func (l *lru) push(u *user) {
	u.older, u.newer = l.newest, nil
	if l.newest != nil {
		l.newest.newer = u
	} else {
		l.oldest = u
	}
	l.newest = u
	l.count++
}

func (l *lru) remove(u *user) {
	if u.newer != nil {
		u.newer.older = u.older
	} else {
		l.newest = u.older
	}
	if u.older != nil {
		u.older.newer = u.newer
	} else {
		l.oldest = u.newer
	}
	u.newer, u.older = nil, nil
	l.count--
}

func (l *lru) touch(u *user) {
	if l.newest != u {
		l.remove(u)
		l.push(u)
	}
}
