package streamcache

import (
	"context"
	"fmt"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/userdb"
)

// catchUpRows is how far behind the cache may be to read what it missed. If it is further behind it forgets everything and
// begins anew: older tokens are answered from the store.
const catchUpRows = 4096

// readUp takes over what is in the store up to a position, 0 = all of it, and returns the head that it found there. The
// caller holds the follow lock.
func (f *following) readUp(ctx context.Context, upTo store.Position) (head store.Position, err error) {
	from := f.cache.Head()
	doubted := f.doubted.Load()
	a := &applied{}
	lost, late := false, false
	err = f.cache.store.ReadApart(ctx, func(r *store.Read) (err error) {
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
		if a.rows, err = f.cache.store.News(r, from, a.last, catchUpRows+1); err != nil {
			return err
		}
		if late = len(a.rows) > catchUpRows; late {
			return nil
		}
		if err := f.completeFrom(r, a); err != nil {
			return err
		}
		return f.tell(r, a.rows, from, a.last)
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

// lost says whether the end of the ring is no longer in the stream: the store has gone back, to a copy of itself say.
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

// reset forgets all that the instance knows, up to a position.
func (f *following) reset(head store.Position) {
	f.handed.clear()
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
	f.cache.recent.tails.Purge()
	f.cache.events.clear(head)
	f.cache.rules.Purge() // the numbers may be other rooms' now
	f.cache.advance(head)
}

// forgetAll has the followers forget what they know, up to a position.
func (f *following) forgetAll(head store.Position) {
	f.telling.Lock()
	defer f.telling.Unlock()
	for _, f := range f.cache.opt.Followers {
		f.Forget()
	}
	f.knows.Store(int64(head))
}

// complete reads what rows of this instance refer to and no payload told.
func (f *following) complete(ctx context.Context, a *applied) error {
	if missing := f.missing(a); missing.none() {
		return nil
	}
	return f.cache.store.ReadApart(ctx, func(r *store.Read) error { return f.completeFrom(r, a) })
}

// completeFrom reads what rows refer to and no payload told: timelines, receipts and redactions that other instances
// wrote, and the rooms of users who are not in memory and have changed something that others see.
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

// missing are the rows that no payload told of.
type missing struct {
	timelines, receipts []store.StreamRow
	sharers, presence   []store.UserNum
}

func (m missing) none() bool {
	return len(m.timelines)+len(m.receipts)+len(m.sharers)+len(m.presence) == 0
}

func (f *following) missing(a *applied) (m missing) {
	own := a.rooms != nil
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	if !own {
		a.passed = f.cache.unseen(a.rows)
	}
	for _, row := range a.rows {
		switch {
		case a.passed[row.Pos]:
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
				if a.vague == nil {
					a.vague = map[store.Position]bool{}
				}
				a.vague[row.Pos] = true
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

// unseen are the rows, by their positions, of rooms that nobody in memory is in, so that what they refer to need not be read:
// who comes and asks for it is answered from the store. If one in memory may have come into a room by these rows, there are
// none. Called with the lock held.
func (m *memory) unseen(rows []store.StreamRow) map[store.Position]bool {
	if m.arriving > 0 {
		return nil
	}
	changed := map[store.RoomNum]bool{} // rooms of whose old events something is told
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

// pass notes a row of a room that nobody in memory is in. What is kept of the room may have changed. Called with the lock
// held.
func (m *memory) pass(r *roomState, row store.StreamRow) {
	r.passed, m.passed = row.Pos, row.Pos
	if row.Kind == store.KindReceipts {
		r.receipts.last = row.Pos
		return
	}
	r.timeline.last = row.Pos
	r.newest, r.roster, r.open = nil, nil, OpenUnknown
	m.recent.drop(r.num)
	m.members.dropRoom(r.num)
}

// skipGone passes over a reference whose target is gone.
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

// Changes makes the changes of state that rows of the log tell of. The loader holds their events.
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

// localUser is the number of a user whom the cache may have in memory, 0 for somebody who has none.
func (sc *Cache) localUser(r *store.Read, userID string) (store.UserNum, error) {
	num, err := sc.store.UserNum(r, userID)
	if err != nil {
		return 0, skipGone(err)
	}
	return num, nil
}
