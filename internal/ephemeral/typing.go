package ephemeral

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"hash/fnv"
	"slices"
	"strconv"
	"sync"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

const (
	// defaultTyping is how long somebody types who doesn't say how long.
	defaultTyping = 30 * time.Second
	// longestTyping is how long anybody types without saying so again.
	longestTyping = 2 * time.Minute
	// fellSilent is how long a room in which nobody types any more is told of.
	// A client that asks later has asked before, or takes nobody to be typing.
	fellSilent = 5 * time.Minute
	// maxTypingRooms bounds the rooms in memory, maxPeople those who type or have
	// just stopped in one, maxAllPeople those of all rooms together, and maxTypists
	// the users shown of one.
	maxTypingRooms = 10_000
	maxPeople      = 200
	maxAllPeople   = 50_000
	maxTypists     = 50
	// maxUserRooms bounds the rooms in which one user types at a time, so that nobody uses up the bounds above.
	maxUserRooms = 50
)

// Typing knows who types where. It is in memory only: after a restart nobody
// types until their client says so again, which it does every few seconds.
//
// Several instances tell one another; see share. What one knows is the newest that
// was said of each user and room, whatever order it came in, and of many users
// those of whom the newest was said, so all come to know the same, and a digest
// means the same everywhere.
//
// Spec: client-server-api#typing-notifications
type Typing struct {
	store   *store.Store
	clock   func() time.Time
	changed func(num store.RoomNum, began bool)
	bus     Bus // nil if there is no other instance

	mu    sync.Mutex // guards what follows; only the bus takes a lock after it
	rooms map[store.RoomNum]*typingRoom
	// ends are the same rooms, the one in which something ends first at the top.
	ends roomsByEnd
	// people counts those of all rooms.
	people int
	// typed holds when the typing of users ends that this instance was told of, by room: at most maxUserRooms of each.
	typed map[id.UserID]map[store.RoomNum]time.Time
	// mark is the newest that was given or heard of.
	mark uint64
	// sharedAt and asked are when this instance shared all that it knows, and asked for
	// that, the last time.
	sharedAt, asked time.Time
	next            time.Time     // what Run waits for, the zero time for nothing
	wake            chan struct{} // there is something earlier to wait for
}

type typingRoom struct {
	num    store.RoomNum
	people []typist // by user ID
	// end is when something of the people ends next, place the room's in Typing.ends.
	end   time.Time
	place int
	// digest is 0 until anybody is known to have typed; silence after that has one too.
	digest uint32
	// visible is the digest of those who are shown alone, 0 for nobody.
	visible uint32
	// top is the newest mark of the room, also of those who are forgotten.
	top uint64
	// typed says that somebody has typed, perhaps before what is known of them.
	typed bool
}

// roomsByEnd is a heap. A room of many who come and go costs what its own people do,
// and not what all rooms do that somebody has typed in of late.
type roomsByEnd []*typingRoom

func (l roomsByEnd) Len() int           { return len(l) }
func (l roomsByEnd) Less(i, j int) bool { return l[i].end.Before(l[j].end) }
func (l roomsByEnd) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].place, l[j].place = i, j
}

func (l *roomsByEnd) Push(x any) {
	room := x.(*typingRoom)
	room.place = len(*l)
	*l = append(*l, room)
}

func (l *roomsByEnd) Pop() any {
	last := len(*l) - 1
	room := (*l)[last]
	(*l)[last] = nil
	*l = (*l)[:last]
	return room
}

// typist is what was said last of a user in a room.
type typist struct {
	user   id.UserID
	mark   uint64
	typing bool
	// until is when the typing ends, or when it is forgotten that it has ended.
	until time.Time
}

// newer says which of two sayings of one user counts. Two instances may give the
// same mark: then it is the one that ends the typing.
func (p *typist) newer(than *typist) bool {
	return p.mark > than.mark || p.mark == than.mark && !p.typing && than.typing
}

// NewTyping makes it. bus is nil if there is no other instance. Run must run.
func NewTyping(s *store.Store, clock func() time.Time, bus Bus) *Typing {
	return &Typing{
		store: s, clock: clock, changed: func(store.RoomNum, bool) {}, bus: bus,
		rooms: map[store.RoomNum]*typingRoom{}, typed: map[id.UserID]map[store.RoomNum]time.Time{}, wake: make(chan struct{}, 1),
	}
}

// OnChange has changed called, without a lock, after the list of a room has
// changed; began says that somebody began to type, and not only that somebody
// stopped. It comes before Run and the first Set.
func (t *Typing) OnChange(changed func(num store.RoomNum, began bool)) { t.changed = changed }

// Set says that a user types in a room for some time (0 = the usual), or stops.
// M_FORBIDDEN if the user is not in the room.
//
// Spec: client-server-api#put_matrixclientv3roomsroomidtypinguserid
func (t *Typing) Set(ctx context.Context, user who.User, roomID id.RoomID, typing bool, timeout time.Duration) error {
	var num store.RoomNum
	err := t.store.ReadCommitted(ctx, func(r *store.Read) (err error) {
		num, err = joinedRoom(r, user, roomID)
		return err
	})
	if err != nil {
		return err
	}
	if timeout <= 0 {
		timeout = defaultTyping
	}
	timeout = min(timeout, longestTyping)
	if err := t.admit(num, user.UserID, typing, timeout); err != nil {
		return err
	}
	// That they began may be known to another instance only, as yet.
	if t.set(num, user.UserID, typing, timeout, t.bus != nil) {
		t.changed(num, typing)
	}
	return nil
}

// admit counts the rooms in which a user types.
//
// Errors: M_LIMIT_EXCEEDED.
func (t *Typing) admit(num store.RoomNum, user id.UserID, typing bool, timeout time.Duration) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	rooms, now := t.typed[user], t.clock()
	if !typing {
		delete(rooms, num)
		if len(rooms) == 0 {
			delete(t.typed, user)
		}
		return nil
	}
	if _, again := rooms[num]; !again && len(rooms) >= maxUserRooms {
		first := now.Add(longestTyping)
		for room, until := range rooms {
			if !until.After(now) {
				delete(rooms, room)
			} else if until.Before(first) {
				first = until
			}
		}
		if len(rooms) >= maxUserRooms {
			return mxerr.LimitExceeded(first.Sub(now))
		}
	}
	if rooms == nil {
		rooms = map[store.RoomNum]time.Time{}
		t.typed[user] = rooms
	}
	rooms[num] = now.Add(timeout)
	return nil
}

// forgetTyped drops the counts of those who stopped typing everywhere. Called with the lock held.
func (t *Typing) forgetTyped(now time.Time) {
	for user, rooms := range t.typed {
		for room, until := range rooms {
			if !until.After(now) {
				delete(rooms, room)
			}
		}
		if len(rooms) == 0 {
			delete(t.typed, user)
		}
	}
}

var errNotJoined = mxerr.Forbidden("You are not in this room")

// joinedRoom gives the number of a room in which the user is.
func joinedRoom(r *store.Read, user who.User, roomID id.RoomID) (store.RoomNum, error) {
	num, err := roomdb.JoinedRoomNum(r, user.UserNum, roomID.String())
	if errors.Is(err, store.ErrNotFound) {
		err = errNotJoined
	}
	return num, err
}

// set reports whether the list of the room has changed, and tells the other
// instances what was said. That somebody stops who is not known to type is noted
// only if anyway.
func (t *Typing) set(num store.RoomNum, user id.UserID, typing bool, timeout time.Duration, anyway bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !typing {
		if !anyway && !t.types(num, user) {
			return false
		}
		timeout = fellSilent
	}
	t.mark = max(t.mark+1, uint64(t.clock().UnixMilli())<<16)
	changed, taken := t.take(num, typist{user: user, mark: t.mark, typing: typing, until: t.clock().Add(timeout)})
	if taken {
		t.tell(saying{Room: num, User: user.String(), Mark: t.mark, Typing: typing, MS: timeout.Milliseconds()})
	}
	return changed
}

// types says whether somebody is known to type. Called with the lock held.
func (t *Typing) types(num store.RoomNum, user id.UserID) bool {
	room := t.rooms[num]
	if room == nil {
		return false
	}
	i, there := room.find(user)
	return there && room.people[i].typing
}

// take takes over what was said of somebody, here or on another instance, if it is
// newer than what is known. It says whether that was so, and whether the list of
// the room has changed. Called with the lock held.
func (t *Typing) take(num store.RoomNum, said typist) (changed, taken bool) {
	room := t.rooms[num]
	if room == nil {
		if len(t.rooms) >= maxTypingRooms || t.people >= maxAllPeople {
			return false, false
		}
		room = &typingRoom{num: num, end: said.until}
		t.rooms[num] = room
		heap.Push(&t.ends, room)
	}
	t.mark = max(t.mark, said.mark)
	room.top = max(room.top, said.mark)
	room.typed = room.typed || said.typing
	if i, there := room.find(said.user); there {
		if taken = said.newer(&room.people[i]); taken {
			room.people[i] = said
		}
	} else {
		taken = t.add(room, i, said)
	}
	if taken {
		t.reckon(room)
		if t.next.IsZero() || room.end.Before(t.next) {
			t.next = room.end
			select {
			case t.wake <- struct{}{}:
			default:
			}
		}
	}
	return room.seal(), taken
}

// reckon finds out when something ends next in a room; in one without people, at
// once. Called with the lock held.
func (t *Typing) reckon(room *typingRoom) {
	end := time.Time{}
	for i := range room.people {
		if until := room.people[i].until; i == 0 || until.Before(end) {
			end = until
		}
	}
	if !end.Equal(room.end) {
		room.end = end
		heap.Fix(&t.ends, room.place)
	}
}

// add puts somebody at a place of the list. If the room is full, who was told of
// longest ago makes way, on each instance the same. Called with the lock held.
func (t *Typing) add(room *typingRoom, i int, said typist) bool {
	if len(room.people) < maxPeople {
		if t.people >= maxAllPeople {
			return false
		}
		t.people++
		room.people = slices.Insert(room.people, i, said)
		return true
	}
	oldest := 0
	for j := range room.people {
		if room.people[j].mark < room.people[oldest].mark {
			oldest = j
		}
	}
	if said.mark <= room.people[oldest].mark {
		return false
	}
	room.people = slices.Delete(room.people, oldest, oldest+1)
	if oldest < i {
		i--
	}
	room.people = slices.Insert(room.people, i, said)
	return true
}

func (x *typingRoom) find(user id.UserID) (int, bool) {
	return slices.BinarySearchFunc(x.people, user, func(p typist, u id.UserID) int { return cmp.Compare(p.user.String(), u.String()) })
}

// seal makes the digest of the list, and says whether others are shown. An empty
// list has one of its own for each time that the room falls silent, so that a
// client whose token is from before anybody typed is told that nobody does any
// more. It depends on nothing that instances know differently.
func (x *typingRoom) seal() (changed bool) {
	if !x.typed {
		return false // nobody has to be told of silence
	}
	h := fnv.New32a()
	typing := x.typing()
	if len(typing) == 0 {
		h.Write(strconv.AppendUint(nil, x.top, 10)) // never fails
	}
	for _, user := range typing {
		h.Write([]byte(user.String())) // never fails
		h.Write([]byte{0})
	}
	before := x.visible
	x.digest, x.visible = max(h.Sum32()&^1, 2), 0
	if len(typing) > 0 {
		x.digest |= 1
		x.visible = x.digest
	}
	return x.visible != before
}

// typing are those who are shown to type.
func (x *typingRoom) typing() []id.UserID {
	var users []id.UserID
	for i := range x.people {
		if x.people[i].typing && len(users) < maxTypists {
			users = append(users, x.people[i].user)
		}
	}
	return users
}

// AppendHashes appends a digest for each of some rooms, of the list of those who type
// there: an odd one if somebody does, 0 if nobody did in the last minutes.
func (t *Typing) AppendHashes(dst []uint32, rooms []store.RoomNum) []uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, num := range rooms {
		digest := uint32(0)
		if room := t.rooms[num]; room != nil && room.typed {
			digest = room.digest
		}
		dst = append(dst, digest)
	}
	return dst
}

// Users are those who type in a room, in order.
func (t *Typing) Users(num store.RoomNum) []id.UserID {
	t.mu.Lock()
	defer t.mu.Unlock()
	room := t.rooms[num]
	if room == nil {
		return nil
	}
	return room.typing()
}

// Run ends what has lasted long enough, until the context does.
func (t *Typing) Run(ctx context.Context) error {
	defer t.share()()
	compare := time.NewTicker(compareEvery)
	defer compare.Stop()
	for {
		var next <-chan time.Time
		var timer *time.Timer
		if at, some := t.expire(); some {
			timer = time.NewTimer(max(at.Sub(t.clock()), time.Millisecond))
			next = timer.C
		}
		select {
		case <-ctx.Done():
			return nil
		case <-next:
		case <-t.wake:
		case <-compare.C:
			t.compare()
			t.mu.Lock()
			t.forgetTyped(t.clock())
			t.mu.Unlock()
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

// expire ends what has ended by now and says when the next thing will.
func (t *Typing) expire() (next time.Time, some bool) {
	now := t.clock()
	var changed []store.RoomNum
	t.mu.Lock()
	for len(t.ends) > 0 && !t.ends[0].end.After(now) {
		room := t.ends[0]
		for i := range room.people {
			if p := &room.people[i]; p.typing && !p.until.After(now) {
				p.typing, p.until = false, now.Add(fellSilent)
			}
		}
		before := len(room.people)
		room.people = slices.DeleteFunc(room.people, func(p typist) bool { return !p.until.After(now) })
		t.people -= before - len(room.people)
		if len(room.people) == 0 {
			heap.Pop(&t.ends)
			delete(t.rooms, room.num)
			continue
		}
		t.reckon(room)
		if room.seal() {
			changed = append(changed, room.num)
		}
	}
	if some = len(t.ends) > 0; some {
		next = t.ends[0].end
	}
	t.next = next
	t.mu.Unlock()
	for _, num := range changed {
		t.changed(num, false)
	}
	return next, some
}
