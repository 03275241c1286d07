package ephemeral

import (
	"cmp"
	"context"
	"errors"
	"hash/fnv"
	"slices"
	"strconv"
	"sync"
	"time"

	"stoa/internal/store"
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
	// maxTypingRooms bounds the rooms in memory, and maxTypists the users shown
	// of one.
	maxTypingRooms = 10_000
	maxTypists     = 50
)

// Typing knows who types where. It is in memory only: after a restart nobody
// types until their client says so again, which it does every few seconds.
//
// Spec: client-server-api#typing-notifications
type Typing struct {
	store   *store.Store
	clock   func() time.Time
	changed func(store.RoomNum)

	mu    sync.Mutex // guards rooms; nothing is taken after it
	rooms map[store.RoomNum]*typingRoom
	wake  chan struct{} // there is something earlier to wait for
}

type typingRoom struct {
	typists []typist // by user ID
	digest  uint32   // never 0: silence is told too
	silent  time.Time
}

type typist struct {
	user  id.UserID
	until time.Time
}

// NewTyping makes it. changed is called, without a lock, after the list of a
// room has changed. Run must run.
func NewTyping(s *store.Store, clock func() time.Time, changed func(store.RoomNum)) *Typing {
	return &Typing{store: s, clock: clock, changed: changed, rooms: map[store.RoomNum]*typingRoom{}, wake: make(chan struct{}, 1)}
}

// Set says that a user types in a room for some time (0 = the usual), or stops.
// M_FORBIDDEN if the user is not in the room.
//
// Spec: client-server-api#put_matrixclientv3roomsroomidtypinguserid
func (t *Typing) Set(ctx context.Context, user User, roomID id.RoomID, typing bool, timeout time.Duration) error {
	var num store.RoomNum
	err := t.store.Read(ctx, func(r *store.Read) (err error) {
		num, err = joinedRoom(r, user, roomID)
		return err
	})
	if err != nil {
		return err
	}
	if timeout <= 0 {
		timeout = defaultTyping
	}
	if t.set(num, user.ID, typing, min(timeout, longestTyping)) {
		t.changed(num)
	}
	return nil
}

// joinedRoom gives the number of a room in which the user is.
func joinedRoom(r *store.Read, user User, roomID id.RoomID) (store.RoomNum, error) {
	num, err := r.RoomNum(roomID.String())
	if err == nil {
		var m store.RoomMembership
		if m, err = r.Membership(user.Num, num); err == nil && m.Membership == store.Join {
			return num, nil
		}
	}
	if err == nil || errors.Is(err, store.ErrNotFound) {
		return 0, mxerr.Forbidden("You are not in this room")
	}
	return 0, err
}

// Stopped says that a user no longer types in a room: they have sent what they
// typed, or gone.
func (t *Typing) Stopped(room store.RoomNum, user id.UserID) {
	if t.set(room, user, false, 0) {
		t.changed(room)
	}
}

// set reports whether the list of the room has changed.
func (t *Typing) set(num store.RoomNum, user id.UserID, typing bool, timeout time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	room := t.rooms[num]
	if room == nil {
		if !typing || len(t.rooms) >= maxTypingRooms {
			return false
		}
		room = &typingRoom{}
		t.rooms[num] = room
	}
	i, there := slices.BinarySearchFunc(room.typists, user, func(x typist, u id.UserID) int { return cmp.Compare(x.user.String(), u.String()) })
	switch {
	case typing && there:
		room.typists[i].until = t.clock().Add(timeout)
		return false
	case typing && len(room.typists) < maxTypists:
		room.typists = slices.Insert(room.typists, i, typist{user: user, until: t.clock().Add(timeout)})
	case !typing && there:
		room.typists = slices.Delete(room.typists, i, i+1)
	default:
		return false
	}
	room.seal(t.clock())
	select {
	case t.wake <- struct{}{}:
	default:
	}
	return true
}

// seal makes the digest of the list. An empty list has one of its own for each
// time that the room falls silent, so that a client whose token is from before
// anybody typed is told that nobody does any more.
func (x *typingRoom) seal(now time.Time) {
	h := fnv.New32a()
	if len(x.typists) == 0 {
		x.silent = now
		h.Write(strconv.AppendInt(nil, now.UnixNano(), 10)) // never fails
	}
	for _, p := range x.typists {
		h.Write([]byte(p.user.String())) // never fails
		h.Write([]byte{0})
	}
	x.digest = max(h.Sum32(), 1)
}

// Each calls f for each room in which somebody types or has just stopped, with a
// digest of its list.
func (t *Typing) Each(f func(room store.RoomNum, digest uint32)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for num, room := range t.rooms {
		f(num, room.digest)
	}
}

// Users are those who type in a room, in order.
func (t *Typing) Users(num store.RoomNum) []id.UserID {
	t.mu.Lock()
	defer t.mu.Unlock()
	room := t.rooms[num]
	if room == nil {
		return nil
	}
	users := make([]id.UserID, len(room.typists))
	for i, p := range room.typists {
		users[i] = p.user
	}
	return users
}

// Run ends what has lasted long enough, until the context does.
func (t *Typing) Run(ctx context.Context) error {
	for {
		var next <-chan time.Time
		var timer *time.Timer
		if at, some := t.expire(); some {
			timer = time.NewTimer(max(time.Until(at), time.Millisecond))
			next = timer.C
		}
		select {
		case <-ctx.Done():
			return nil
		case <-next:
		case <-t.wake:
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
	for num, room := range t.rooms {
		before := len(room.typists)
		room.typists = slices.DeleteFunc(room.typists, func(p typist) bool { return !p.until.After(now) })
		if len(room.typists) != before {
			room.seal(now)
			changed = append(changed, num)
		}
		ends := room.silent.Add(fellSilent)
		for i, p := range room.typists {
			if i == 0 || p.until.Before(ends) {
				ends = p.until
			}
		}
		if !ends.After(now) {
			delete(t.rooms, num)
			continue
		}
		if !some || ends.Before(next) {
			next, some = ends, true
		}
	}
	t.mu.Unlock()
	for _, num := range changed {
		t.changed(num)
	}
	return next, some
}
