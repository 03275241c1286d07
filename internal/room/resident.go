package room

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
	"stoa/matrix/pushrule"
	"stoa/matrix/roomversion"
)

// residents are the rooms in memory. Their number and bytes are bounded; rooms in use may
// exceed the bounds.
type residents struct {
	rooms *Rooms
	limit int
	most  int64        // bytes
	bytes atomic.Int64 // sum over all rooms, as each last reported

	mu    sync.Mutex // guards the fields below, and room.users; nothing is locked under it
	byID  map[id.RoomID]*list.Element
	order list.List // of *room, most recently used first
	// byNum are the rooms whose number is known; loading those that are being loaded. See
	// FollowStream. Both are empty if no other instance can write.
	byNum   map[store.RoomNum]*room
	loading map[*room]*missedRows
}

func (rd *residents) init(rooms *Rooms, limit int, most int64) {
	rd.rooms, rd.limit, rd.most, rd.byID = rooms, limit, most, map[id.RoomID]*list.Element{}
	rd.byNum, rd.loading = map[store.RoomNum]*room{}, map[*room]*missedRows{}
}

// acquire returns the room with an ID, which need not exist. The caller must release it.
func (rd *residents) acquire(roomID id.RoomID) *room {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	if at := rd.byID[roomID]; at != nil {
		rd.order.MoveToFront(at)
		r := at.Value.(*room)
		r.users++
		return r
	}
	r := &room{rooms: rd.rooms, id: roomID.Clone(), users: 1, resident: true}
	rd.insert(r)
	return r
}

// insert adds a room and evicts the least recently used ones.
func (rd *residents) insert(r *room) {
	rd.byID[r.id] = rd.order.PushFront(r)
	rd.shrink()
}

// shrink evicts the least recently used rooms until the bounds are met. The caller holds
// the lock.
func (rd *residents) shrink() {
	for at := rd.order.Back(); at != nil && (rd.order.Len() > rd.limit || rd.bytes.Load() > rd.most); {
		old, before := at.Value.(*room), at.Prev()
		if old.users == 0 {
			rd.order.Remove(at)
			rd.drop(old)
		}
		at = before
	}
}

// all acquires all rooms in memory. The caller must release each.
func (rd *residents) all() []*room {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	rooms := make([]*room, 0, rd.order.Len())
	for at := rd.order.Front(); at != nil; at = at.Next() {
		r := at.Value.(*room)
		r.users++
		rooms = append(rooms, r)
	}
	return rooms
}

func (rd *residents) release(r *room) {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	if r.users--; r.users == 0 && !r.known {
		rd.order.Remove(rd.byID[r.id])
		rd.drop(r)
	}
	if rd.bytes.Load() > rd.most {
		rd.shrink()
	}
}

// drop removes a room from the maps. The caller holds the lock.
func (rd *residents) drop(r *room) {
	rd.bytes.Add(-r.counted.Swap(0))
	delete(rd.byID, r.id)
	if r.num != 0 {
		delete(rd.byNum, r.num)
	}
}

// room is a room in memory: the data that the writer needs to build the next event.
// Entries of the state are loaded when they are first needed.
//
// The room is ahead of the store by the changes in flight. If one of them fails, all that
// were built on it fail too, and the room is loaded again.
type room struct {
	rooms *Rooms
	id    id.RoomID
	users int // guarded by residents.mu
	// counted is the room's share of residents.bytes.
	counted  atomic.Int64
	resident bool          // set when it is made
	known    bool          // the store has it; guarded by residents.mu
	num      store.RoomNum // 0 = not in residents.byNum; guarded by residents.mu

	// turn is held by the caller that builds the next change. It guards the fields below.
	// The store may be read while it is held; residents.mu and inFlight.mu may be locked
	// after it.
	turn   sync.Mutex
	loaded bool
	row    store.Room // as it is after the last change that was built
	rules  *roomversion.Rules
	totals Totals
	// extremities are the forward extremities.
	extremities []extremity
	state       map[eventauth.Key]*entry
	bytes       int64 // of the state
	threads     map[id.EventID]pushrule.Totals
	// evictions counts the evictions from state, so that an entry loaded before one is
	// not added after it.
	evictions uint64
	// last is the last change that was submitted, nil if there was none.
	last        *store.Pending
	memberRules *memberRules
	// stale are users whose push rules or memberships memberRules has yet to update.
	stale map[id.UserID]struct{}

	inFlight inFlight
}

// extremity is a forward extremity.
type extremity struct {
	num store.EventNum
	pdu *event.PDU
}

// entry is one entry of the current state. It is immutable; changes replace it.
type entry struct {
	pdu  *event.PDU // nil: the state has no such entry
	num  store.EventNum
	key  store.KeyNum
	slot store.Slot // of a change that may be in flight, else 0
	// shown is the slot at which the event entered the state, if clients see it there
	// unredacted; else 0.
	shown store.Slot
	// redacted says that clients see the event redacted; pdu is the original.
	redacted bool
}

// clientForm returns the event as clients see it; nil if the state has no such entry.
func (e *entry) clientForm() *event.PDU {
	if e.redacted {
		return e.pdu.Redacted()
	}
	return e.pdu
}

// inFlight counts the changes of a room that were submitted and are not committed yet.
type inFlight struct {
	mu      sync.Mutex // guards the fields below; nothing is locked under it
	pending int
	failed  bool
	// outdated says that another instance has written the room.
	outdated bool
	// stale are users whose push rules another instance has changed.
	stale []id.UserID
	empty chan struct{} // closed when pending falls to 0; nil if nobody waits
	// durable is the last committed slot.
	durable store.Slot
}

func (f *inFlight) begin() {
	f.mu.Lock()
	f.pending++
	f.mu.Unlock()
}

// end records the outcome of a change that takes the slots up to last.
func (f *inFlight) end(last store.Slot, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending--
	if err != nil {
		f.failed = true
	} else if last > f.durable {
		f.durable = last
	}
	if f.pending == 0 && f.empty != nil {
		close(f.empty)
		f.empty = nil
	}
}

// drain waits until no change is in flight. The caller holds the room's turn, so no new
// one begins. It reports whether all of them succeeded.
func (f *inFlight) drain() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.pending > 0 {
		if f.empty == nil {
			f.empty = make(chan struct{})
		}
		empty := f.empty
		f.mu.Unlock()
		<-empty
		f.mu.Lock()
	}
	return !f.failed
}

// needsReload reports whether the room in memory is wrong, because a change failed or
// another instance has written the room. If so, it first waits until no change is in
// flight.
func (f *inFlight) needsReload() (wrong bool) {
	f.mu.Lock()
	for (f.failed || f.outdated) && f.pending > 0 {
		if f.empty == nil {
			f.empty = make(chan struct{})
		}
		empty := f.empty
		f.mu.Unlock()
		<-empty // the commit queue ends every change, so this ends
		f.mu.Lock()
	}
	wrong = f.failed || f.outdated
	f.failed, f.outdated = false, false
	f.mu.Unlock()
	return wrong
}

func (f *inFlight) durableSlot() store.Slot {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.durable
}

// lock takes the room's turn and loads the room if necessary. An unknown room gives
// M_NOT_FOUND.
func (r *room) lock(ctx context.Context) error {
	r.turn.Lock()
	if r.rooms.opt.IsHome != nil && !r.rooms.opt.IsHome(r.id) {
		r.inFlight.drain()
	}
	for {
		if r.inFlight.needsReload() {
			r.unload()
		}
		if r.loaded {
			break
		}
		if err := r.load(ctx); err != nil {
			r.turn.Unlock()
			return err
		}
	}
	r.takeStaleUsers()
	return nil
}

// unload drops everything that is known of the room.
func (r *room) unload() {
	r.loaded = false
	r.extremities, r.state, r.threads, r.memberRules, r.last = nil, nil, nil, nil, nil
	r.bytes = 0
	r.evictions++
}

var ErrUnknown = mxerr.NotFound("This server does not know the room")

// load reads the room's row and its forward extremities.
func (r *room) load(ctx context.Context) error {
	var row store.Room
	var extremities []roomdb.Event
	news := r.rooms.resident.beginLoad(r)
	defer r.rooms.resident.endLoad(r)
	err := r.rooms.store.Read(ctx, func(read *store.Read) (err error) {
		if row, err = roomdb.RoomByID(read, r.id.String()); err != nil {
			return err
		}
		extremities, err = roomdb.EventsByNum(read, row.Extremities)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return ErrUnknown
	}
	if err != nil {
		return fmt.Errorf("load %s: %w", r.id, err)
	}
	rules, ok := roomversion.Of(row.Version)
	if !ok {
		return fmt.Errorf("load %s: unknown room version %q", r.id, row.Version)
	}
	r.row, r.rules = row, rules
	if r.totals, err = ParseTotals(row.Totals); err != nil {
		return fmt.Errorf("load %s: %w", r.id, err)
	}
	r.extremities = r.extremities[:0]
	for _, e := range extremities {
		pdu, err := r.rooms.events.Parse(rules, e)
		if err != nil {
			return fmt.Errorf("load %s: %w", r.id, err)
		}
		r.extremities = append(r.extremities, extremity{num: e.Num, pdu: pdu})
	}
	r.state, r.threads = map[eventauth.Key]*entry{}, map[id.EventID]pushrule.Totals{}
	r.bytes = 0
	r.count()
	r.stale = map[id.UserID]struct{}{}
	r.inFlight.mu.Lock()
	r.inFlight.durable = row.Slot
	r.inFlight.mu.Unlock()
	r.rooms.resident.finishLoad(r, row, news)
	r.loaded = true
	return nil
}

// prepare loads entries of the state that are not in memory, and releases the turn while
// it reads. The caller holds the turn, and holds it again afterwards, but not after an
// error.
func (r *room) prepare(ctx context.Context, keys []eventauth.Key) error {
	missing := r.missing(keys)
	if len(missing) == 0 {
		return nil
	}
	evictions, num, rules := r.evictions, r.row.Num, r.rules
	r.turn.Unlock()
	var found []*entry
	err := r.rooms.store.ReadCommitted(ctx, func(read *store.Read) (err error) {
		found, err = r.rooms.events.entries(read, num, rules, missing)
		return err
	})
	if err != nil {
		return fmt.Errorf("load state of %s: %w", r.id, err)
	}
	if err := r.lock(ctx); err != nil {
		return err
	}
	if r.evictions == evictions {
		for i, key := range missing {
			if r.state[key] == nil {
				r.cacheEntry(key, found[i])
			}
		}
	}
	return nil
}

func (r *room) missing(keys []eventauth.Key) []eventauth.Key {
	var missing []eventauth.Key
	for _, key := range keys {
		if r.state[key] == nil {
			missing = append(missing, key)
		}
	}
	return missing
}

// entryBytes estimates the memory of an entry beside the bytes of its event, including
// the parsed event.
const entryBytes = 1024

func (e *entry) bytes() int64 {
	if e == nil {
		return 0
	}
	if e.pdu == nil {
		return entryBytes / 4
	}
	return entryBytes + int64(len(e.pdu.Bytes()))
}

// count updates the room's bytes. The caller holds the turn.
func (r *room) count() {
	if !r.resident {
		return
	}
	bytes := r.bytes
	for _, ext := range r.extremities {
		bytes += entryBytes + int64(len(ext.pdu.Bytes()))
	}
	r.rooms.resident.bytes.Add(bytes - r.counted.Swap(bytes))
}

// cacheEntry adds an entry to memory, and evicts others if there are too many or they are
// too large.
func (r *room) cacheEntry(key eventauth.Key, e *entry) {
	r.bytes += e.bytes() - r.state[key].bytes()
	r.state[key] = e
	defer r.count()
	if len(r.state) <= entryLimit && r.bytes <= stateBytes {
		return
	}
	durable := r.inFlight.durableSlot()
	tries := 0
	for other, old := range r.state { // in random order
		large := r.bytes > stateBytes && old.bytes() > 2*entryBytes
		if (other.Type == event.TypeMember || large) && old != e && old.slot <= durable {
			delete(r.state, other)
			r.bytes -= old.bytes()
			r.evictions++
			if r.bytes <= stateBytes {
				return
			}
		}
		if tries++; tries == 64 {
			return
		}
	}
}

// Resident counts the rooms in memory.
func (rs *Rooms) Resident() int {
	rs.resident.mu.Lock()
	defer rs.resident.mu.Unlock()
	return rs.resident.order.Len()
}
