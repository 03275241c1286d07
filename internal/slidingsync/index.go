package slidingsync

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/slidingdb"
	"stoa/internal/store/userdb"
	"stoa/internal/streamcache"
	"stoa/internal/who"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
)

// roomIndex has the rooms of one user in the order of their last activity. Lists are windows over it. It is kept in memory, and follows
// the stream.
type roomIndex struct {
	mu sync.Mutex // guards all below; the lock of the stream in memory may be taken under it
	// at is the position that the index is as of, dataAt the slot of the user's account data; 0 = nothing was read yet.
	at     store.Position
	rooms  []listRoom // by activity, newest first
	places map[store.RoomNum]int
	// facts says that the facts of the rooms are known.
	facts  bool
	spaces map[string]spaceChildren
	active []streamcache.ActiveRoom // reused
}

// listRoom is a room of the index.
type listRoom struct {
	num        store.RoomNum
	id         string
	active     store.Position
	membership roomdb.Membership
	dm         bool
	encrypted  bool
	roomType   string
	tags       []string
}

// spaceChildren are the rooms in a space, as of the position of the last change of the space.
type spaceChildren struct {
	num   store.RoomNum
	at    store.Position
	rooms map[string]bool
}

const (
	// indexBytes bounds the indexes in memory: for 2,000 users with 100 rooms each.
	indexBytes    = 32 << 20
	listRoomBytes = 160
	// spaceLimit bounds the rooms of one space that a filter knows.
	spaceLimit = 10_000
)

// cachedIndex is an index with the memory that it took when it was read.
type cachedIndex struct {
	index *roomIndex
	bytes int
}

// move puts a room in its place after something happened in it.
func (x *roomIndex) move(num store.RoomNum, active store.Position) {
	i, ok := x.places[num]
	if !ok || x.rooms[i].active >= active {
		return
	}
	moved := x.rooms[i]
	moved.active = active
	for ; i > 0 && x.rooms[i-1].active < active; i-- {
		x.rooms[i] = x.rooms[i-1]
		x.places[x.rooms[i].num] = i
	}
	x.rooms[i] = moved
	x.places[num] = i
}

func (x *roomIndex) sort() {
	slices.SortFunc(x.rooms, func(a, b listRoom) int { return cmp.Or(cmp.Compare(b.active, a.active), cmp.Compare(a.num, b.num)) })
	x.places = make(map[store.RoomNum]int, len(x.rooms))
	for i := range x.rooms {
		x.places[x.rooms[i].num] = i
	}
}

// find returns a room, nil if it is not in the index.
func (x *roomIndex) find(num store.RoomNum) *listRoom {
	i, ok := x.places[num]
	if !ok {
		return nil
	}
	return &x.rooms[i]
}

func (x *roomIndex) findID(roomID string) *listRoom {
	for i := range x.rooms {
		if x.rooms[i].id == roomID {
			return &x.rooms[i]
		}
	}
	return nil
}

// lockIndex returns the index of a user as of a position or later, locked. read opens the snapshot of the answer, which is used only
// if memory does not suffice.
func (r *Renderer) lockIndex(ctx context.Context, v who.Device, cfg *Config, upto store.Position, read func(context.Context) (*store.Read, error)) (*roomIndex, error) {
	cached, ok := r.indexes.Get(v.UserNum)
	if !ok {
		cached = cachedIndex{index: &roomIndex{}}
	}
	x := cached.index
	x.mu.Lock()
	if err := r.updateIndex(ctx, x, v, cfg, upto, read); err != nil {
		x.mu.Unlock()
		return nil, err
	}
	if bytes := 512 + listRoomBytes*len(x.rooms); !ok || bytes > cached.bytes {
		r.indexes.Add(v.UserNum, cachedIndex{x, bytes})
	}
	return x, nil
}

func (r *Renderer) updateIndex(ctx context.Context, x *roomIndex, v who.Device, cfg *Config, upto store.Position, read func(context.Context) (*store.Read, error)) error {
	known := false
	if x.at != 0 {
		var head store.Position
		x.active, head, known = r.kept.Active(x.active[:0], v.UserNum, x.at)
		for _, a := range x.active {
			x.move(a.Num, a.Last)
			x.facts = x.facts && !a.Encryption
		}
		if known = known && (head >= upto || x.at >= upto); known {
			x.at = max(x.at, head)
		}
	}
	wantFacts := slices.ContainsFunc(cfg.Lists, func(l List) bool { return l.Filter.asksFacts() })
	if known && (x.facts || !wantFacts) {
		return nil
	}
	s, err := read(ctx)
	if err != nil {
		return err
	}
	if !known {
		if err := r.readIndex(s, x, v); err != nil {
			return err
		}
	}
	if wantFacts {
		return r.readFacts(s, x)
	}
	return nil
}

// readIndex reads the rooms of a user.
func (r *Renderer) readIndex(s *store.Read, x *roomIndex, v who.Device) error {
	joined, err := slidingdb.Joined(s, v.UserNum)
	if err != nil {
		return fmt.Errorf("read the rooms of %s: %w", v.UserID, err)
	}
	rest, err := slidingdb.Unjoined(s, v.UserNum, v.UserID.String())
	if err != nil {
		return fmt.Errorf("read the rooms of %s: %w", v.UserID, err)
	}
	if rest, err = r.onlyEntered(s, v, rest); err != nil {
		return err
	}
	x.rooms = make([]listRoom, 0, len(joined)+len(rest))
	for _, list := range [][]slidingdb.ListRoom{joined, rest} {
		for _, l := range list {
			x.rooms = append(x.rooms, listRoom{num: l.Room, id: l.RoomID, active: l.Active, membership: l.Membership})
		}
	}
	x.sort()
	x.at, x.facts, x.spaces = s.Head(), false, nil
	return r.readDirect(s, x, v)
}

// onlyEntered leaves out the rooms that the user was removed from without ever having been in them, and invites that the user does not
// take.
func (r *Renderer) onlyEntered(s *store.Read, v who.Device, rooms []slidingdb.ListRoom) ([]slidingdb.ListRoom, error) {
	kept := rooms[:0]
	l := r.cache.Loader(s)
	evType, own := ownMember(v.UserID)
	keys, err := r.store.KeyNums(s, []store.Pair{{Type: evType, StateKey: own}})
	if err != nil {
		return nil, fmt.Errorf("look up the member %s: %w", v.UserID, err)
	}
	for _, room := range rooms {
		if room.Membership == roomdb.Leave || room.Membership == roomdb.Ban {
			was, err := wasIn(s, l, room.Room, keys[0])
			if err != nil {
				return nil, err
			}
			if !was {
				continue
			}
		}
		kept = append(kept, room)
	}
	return kept, nil
}

// memberLogLimit bounds the changes of a membership that are looked at.
const memberLogLimit = 100

// wasIn says whether the member with a state key was ever in a room.
func wasIn(s *store.Read, l *streamcache.Loader, num store.RoomNum, key store.KeyNum) (bool, error) {
	if key == 0 {
		return false, nil
	}
	log, err := roomdb.KeyLog(s, num, key, memberLogLimit)
	if err != nil {
		return false, fmt.Errorf("read a membership over time: %w", err)
	}
	for _, c := range log {
		l.Want(c.Event)
	}
	if err := l.Load(); err != nil {
		return false, err
	}
	for _, c := range log {
		if ev := l.Event(c.Event); ev != nil && ev.Membership == event.MembershipJoin {
			return true, nil
		}
	}
	return false, nil
}

// readDirect reads which rooms are direct chats, and the tags of rooms.
func (r *Renderer) readDirect(s *store.Read, x *roomIndex, v who.Device) error {
	rows, err := userdb.DataOfTypes(s, v.UserNum, roomdb.SyncRoomLimit, "m.direct", "m.tag")
	if err != nil {
		return fmt.Errorf("read direct chats and tags of %s: %w", v.UserID, err)
	}
	direct := map[string]bool{}
	tags := map[string][]string{}
	for _, row := range rows {
		if row.RoomID == "" && row.Type == "m.direct" {
			var chats map[string][]string
			if json.Unmarshal([]byte(row.Content), &chats) != nil {
				continue // clients write it; what is no list of rooms names none
			}
			for _, list := range chats {
				for _, roomID := range list {
					direct[roomID] = true
				}
			}
		}
		if row.RoomID != "" && row.Type == "m.tag" {
			var content struct{ Tags map[string]any }
			if json.Unmarshal([]byte(row.Content), &content) == nil {
				for tag := range content.Tags {
					tags[row.RoomID] = append(tags[row.RoomID], tag)
				}
			}
		}
	}
	for i := range x.rooms {
		room := &x.rooms[i]
		room.dm, room.tags = direct[room.id], tags[room.id]
	}
	return nil
}

// readFacts reads the types of the rooms, and whether they are encrypted.
func (r *Renderer) readFacts(s *store.Read, x *roomIndex) error {
	keys, err := r.store.KeyNums(s, []store.Pair{{Type: event.TypeCreate}, {Type: event.TypeEncryption}})
	if err != nil {
		return fmt.Errorf("look up state keys: %w", err)
	}
	nums := make([]store.RoomNum, 0, len(x.rooms))
	var untyped []store.RoomNum
	for i := range x.rooms {
		nums = append(nums, x.rooms[i].num)
		if roomType, ok := r.types.Get(x.rooms[i].num); ok {
			x.rooms[i].roomType = roomType
		} else {
			untyped = append(untyped, x.rooms[i].num)
		}
	}
	encrypted, err := slidingdb.Having(s, nums, keys[1])
	if err != nil {
		return fmt.Errorf("read which rooms are encrypted: %w", err)
	}
	for i := range x.rooms {
		x.rooms[i].encrypted = false
	}
	for _, num := range encrypted {
		x.find(num).encrypted = true
	}
	creates, err := slidingdb.Entries(s, untyped, keys[0])
	if err != nil {
		return fmt.Errorf("read the types of rooms: %w", err)
	}
	l := r.cache.Loader(s)
	for _, c := range creates {
		l.Want(c.Event)
	}
	if err := l.Load(); err != nil {
		return err
	}
	for _, c := range creates {
		if ev := l.Event(c.Event); ev != nil {
			roomType, _ := canonicaljson.String(canonicaljson.Get(ev.Content(), "type"))
			x.find(c.Room).roomType = roomType
			r.types.Add(c.Room, roomType)
		}
	}
	x.facts = true
	return nil
}

// children returns the rooms of a space that the user is in; none of other spaces.
func (r *Renderer) children(ctx context.Context, x *roomIndex, spaceID string, read func(context.Context) (*store.Read, error)) (map[string]bool, error) {
	space := x.findID(spaceID)
	if space == nil || space.membership != roomdb.Join {
		return nil, nil
	}
	if c, ok := x.spaces[spaceID]; ok && c.at == space.active {
		return c.rooms, nil
	}
	s, err := read(ctx)
	if err != nil {
		return nil, err
	}
	slots, err := roomdb.SyncState(s, []store.RoomNum{space.num}, false)
	if err != nil {
		return nil, fmt.Errorf("read the state of a space: %w", err)
	}
	l := r.cache.Loader(s)
	nums := make([]store.KeyNum, len(slots))
	for i, slot := range slots {
		nums[i] = slot.Key
	}
	pairs, err := r.store.Pairs(s, nums)
	if err != nil {
		return nil, fmt.Errorf("read state keys: %w", err)
	}
	for i, slot := range slots {
		if pairs[i].Type == event.TypeSpaceChild {
			l.Want(slot.Event)
		}
	}
	if err := l.Load(); err != nil {
		return nil, err
	}
	c := spaceChildren{num: space.num, at: space.active, rooms: map[string]bool{}}
	for i, slot := range slots {
		if pairs[i].Type != event.TypeSpaceChild || len(c.rooms) >= spaceLimit {
			continue
		}
		if ev := l.Event(slot.Event); ev != nil && canonicaljson.IsArray(canonicaljson.Get(ev.Content(), "via")) {
			c.rooms[pairs[i].StateKey] = true
		}
	}
	if x.spaces == nil {
		x.spaces = map[string]spaceChildren{}
	}
	x.spaces[spaceID] = c
	return c.rooms, nil
}

// selects reports whether a filter selects a room. children are the rooms in the filter's spaces.
func (f *Filter) selects(room *listRoom, children map[string]bool) bool {
	is := func(want *bool, have bool) bool { return want == nil || *want == have }
	switch {
	case !is(f.IsDM, room.dm), !is(f.IsEncrypted, room.encrypted), !is(f.IsInvite, room.membership == roomdb.Invite):
		return false
	case f.Spaces != nil && !children[room.id]:
		return false
	case f.RoomTypes != nil && !slices.Contains(f.RoomTypes, room.roomType), slices.Contains(f.NotRoomTypes, room.roomType):
		return false
	case f.Tags != nil && !slices.ContainsFunc(room.tags, func(t string) bool { return slices.Contains(f.Tags, t) }):
		return false
	}
	return !slices.ContainsFunc(room.tags, func(t string) bool { return slices.Contains(f.NotTags, t) })
}
