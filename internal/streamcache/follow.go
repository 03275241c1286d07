package streamcache

import (
	"context"
	"fmt"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/userdb"
)

// catchUpRows bounds the rows that a poll reads. If the cache is further behind, it drops everything and starts at the head; older
// tokens are answered from the store.
const catchUpRows = 4096

// readUp reads the store up to a position, 0 = its head, and returns the head that it found. The caller holds the follow lock.
func (f *following) readUp(ctx context.Context, upTo store.Position) (head store.Position, err error) {
	from := f.cache.Head()
	doubted := f.doubted.Load()
	a := &applied{}
	lost, late := false, false
	err = f.cache.store.ReadReserved(ctx, func(r *store.Read) (err error) {
		head = r.Head()
		if lost, err = f.lost(r, from, doubted); err != nil || lost {
			return err
		}
		if a.last = upTo; upTo == 0 {
			a.last = head
		}
		if a.last <= from {
			return nil
		}
		if a.rows, err = f.cache.store.StreamWithOrigin(r, from, a.last, catchUpRows+1); err != nil {
			return err
		}
		if late = len(a.rows) > catchUpRows; late {
			return nil
		}
		if err := f.completeFrom(r, a); err != nil {
			return err
		}
		return f.notify(r, a.rows, from, a.last)
	})
	switch {
	case err != nil:
		return 0, fmt.Errorf("read the stream after %d: %w", from, err)
	case lost:
		f.cache.store.Forget(head)
		f.reset(head)
	case late:
		f.reset(a.last)
	case a.last > from:
		f.cache.put(a)
		f.cache.metrics.followed.WithLabelValues("store").Inc()
	}
	if doubted {
		f.doubted.Store(false)
	}
	return head, nil
}

// lost reports whether the end of the ring is missing in the stream: the database may have been restored from a backup.
func (f *following) lost(r *store.Read, from store.Position, doubted bool) (bool, error) {
	if r.Head() < from {
		return true, nil
	}
	if !doubted || from == 0 {
		return false, nil
	}
	has, err := r.Has(from)
	return !has, err
}

// Forget drops all that is in memory, as if the stream had been lost: older tokens are answered from the store.
func (sc *Cache) Forget() { sc.reset(sc.Head()) }

// reset drops everything in memory, up to a position.
func (f *following) reset(head store.Position) {
	f.received.clear()
	f.cache.log.Warn("forgot the newest part of the stream", "pos", int64(head))
	f.forgetAll(head)
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	for _, u := range f.cache.users {
		f.cache.forget(u)
	}
	clear(f.cache.rooms)
	f.cache.ring.reset(head)
	f.cache.present.reset(head)
	f.cache.members.events.Purge()
	f.cache.recent.rooms.Purge()
	f.cache.events.clear(head)
	f.cache.rules.Purge() // the numbers may be other rooms' now
	f.cache.advance(head)
}

// forgetAll makes the followers drop everything, up to a position.
func (f *following) forgetAll(head store.Position) {
	f.notifying.Lock()
	defer f.notifying.Unlock()
	for _, f := range f.cache.opt.Followers {
		f.Forget()
	}
	f.notified.Store(int64(head))
}

// complete reads the contents of this instance's rows that came without a payload.
func (f *following) complete(ctx context.Context, a *applied) error {
	if missing := f.missing(a); missing.isEmpty() {
		return nil
	}
	return f.cache.store.ReadReserved(ctx, func(r *store.Read) error { return f.completeFrom(r, a) })
}

// completeFrom reads the contents of rows that came without a payload: timelines, receipts and redactions of other instances, and
// the rooms of users who are not in memory and changed something that others see.
func (f *following) completeFrom(r *store.Read, a *applied) error {
	missing := f.missing(a)
	if err := f.readSegments(r, a, missing.timelines); err != nil {
		return fmt.Errorf("read timelines: %w", err)
	}
	if err := readReceipts(r, a, missing.receipts); err != nil {
		return fmt.Errorf("read receipts: %w", err)
	}
	if len(missing.presence) > 0 {
		rows, err := userdb.Presences(r, missing.presence)
		if err != nil {
			return fmt.Errorf("read presence: %w", err)
		}
		a.takePresence(rows)
	}
	return f.readSharers(r, a, missing.sharers)
}

// missing are the rows that came without a payload.
type missing struct {
	timelines, receipts []store.StreamRow
	sharers, presence   []store.UserNum
}

func (m missing) isEmpty() bool {
	return len(m.timelines)+len(m.receipts)+len(m.sharers)+len(m.presence) == 0
}

func (f *following) missing(a *applied) (m missing) {
	own := a.rooms != nil
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	if !own {
		a.skipped = f.cache.irrelevant(a.rows)
	}
	for _, row := range a.rows {
		switch {
		case a.skipped[row.Pos]:
		case row.Kind == store.KindTimeline:
			if a.rooms[row.Room()] == nil {
				m.timelines = append(m.timelines, row)
			}
		case row.Kind == store.KindReceipts:
			if !own {
				m.receipts = append(m.receipts, row)
			}
		case row.Kind == store.KindRoomUpdate:
			if !own {
				if a.unknownUpdates == nil {
					a.unknownUpdates = map[store.Position]bool{}
				}
				a.unknownUpdates[row.Pos] = true
			}
		case row.OwnerKind == store.OwnerUser && SharedIndex(row.Kind) >= 0:
			if u := f.cache.users[row.User()]; u == nil || u.loading {
				m.sharers = append(m.sharers, row.User())
			}
			if row.Kind == store.KindPresence && !own && len(f.cache.users) > 0 {
				m.presence = append(m.presence, row.User())
			}
		}
	}
	return m
}

// irrelevant returns the rows, by position, of rooms without members in memory. Their contents need not be read: a user who comes
// later is answered from the store. It returns nil if a user in memory may have joined a room by these rows. Called with the lock
// held.
func (m *memory) irrelevant(rows []store.StreamRow) map[store.Position]bool {
	if m.loadingUsers > 0 {
		return nil
	}
	changed := map[store.RoomNum]bool{} // rooms in which old events were changed
	for _, row := range rows {
		if row.Kind == store.KindMembership && m.users[row.User()] != nil {
			return nil
		}
		if row.Kind == store.KindRoomUpdate {
			changed[row.Room()] = true
		}
	}
	out := map[store.Position]bool{}
	for _, row := range rows {
		if row.Kind != store.KindTimeline && row.Kind != store.KindReceipts || changed[row.Room()] {
			continue
		}
		if r := m.rooms[row.Room()]; r == nil || len(r.members) == 0 {
			out[row.Pos] = true
		}
	}
	return out
}

// skip records a row of a room without members in memory. Cached parts of the room may be stale. Called with the lock held.
func (m *memory) skip(r *roomState, row store.StreamRow) {
	r.skipped, m.skipped = row.Pos, row.Pos
	if row.Kind == store.KindReceipts {
		r.receipts.last = row.Pos
		return
	}
	r.timeline.last = row.Pos
	r.newest, r.heroes, r.open = nil, nil, OpenUnknown
	m.recent.drop(r.num)
	m.members.dropRoom(r.num)
}

// skipGone ignores a reference to something deleted.
func skipGone(err error) error {
	if err == store.ErrNotFound {
		return nil
	}
	return err
}

// sharedRoomLimit bounds the rooms of one user who changed something that others see.
const sharedRoomLimit = 10_000

func (f *following) readSharers(r *store.Read, a *applied, users []store.UserNum) error {
	if len(users) == 0 {
		return nil
	}
	a.sharers = make(map[store.UserNum][]store.RoomNum, len(users))
	userIDs, err := f.cache.store.UserIDs(r, users)
	if err != nil {
		return fmt.Errorf("read user IDs: %w", err)
	}
	for i, num := range users {
		keys, err := f.cache.store.KeyNums(r, []store.Pair{{Type: "m.room.member", StateKey: userIDs[i]}})
		if err != nil {
			return fmt.Errorf("look up the member %s: %w", userIDs[i], err)
		}
		a.sharers[num] = []store.RoomNum{} // read, though there may be none
		if keys[0] == 0 {
			continue
		}
		rooms, err := roomdb.RoomsOfKey(r, keys[0], roomdb.Join, 0, sharedRoomLimit)
		if err != nil {
			return fmt.Errorf("read the rooms of %s: %w", userIDs[i], err)
		}
		a.sharers[num] = append(a.sharers[num], rooms...)
	}
	return nil
}

// Changes turns rows of the state log into changes. The loader must have loaded their
// events.
func (l *Loader) Changes(log []roomdb.StateChange) ([]Change, error) {
	nums := make([]store.KeyNum, len(log))
	for i, c := range log {
		nums[i] = c.Key
	}
	pairs, err := l.cache.store.Pairs(l.read, nums)
	if err != nil {
		return nil, fmt.Errorf("read state keys: %w", err)
	}
	out := make([]Change, 0, len(log))
	for i, c := range log {
		ch := Change{Slot: c.Slot, Key: c.Key, Type: pairs[i].Type, StateKey: pairs[i].StateKey}
		if c.Event != 0 {
			ch.Event = l.Event(c.Event)
		}
		if ch.Type == "m.room.member" {
			if ch.user, err = l.cache.localUser(l.read, ch.StateKey); err != nil {
				return nil, err
			}
		}
		out = append(out, ch)
	}
	return out, nil
}

// localUser returns the number of a user who may be in memory, 0 for other users.
func (sc *Cache) localUser(r *store.Read, userID string) (store.UserNum, error) {
	num, err := sc.store.UserNum(r, userID)
	if err != nil {
		return 0, skipGone(err)
	}
	return num, nil
}
