// Tables current_state, state_log, state_versions.

package roomdb

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"stoa/internal/store"
)

// Membership of a user in a room, as stored; 0 = not a membership event.
type Membership int64

const (
	Join   Membership = 1
	Invite Membership = 2
	Leave  Membership = 3
	Ban    Membership = 4
	Knock  Membership = 5
)

// StateRef refers to one immutable state of a room: the current state after a
// slot, or a version. 0 = none.
type StateRef int64

// AfterSlot refers to the current state after a slot; after slot 0 it is empty.
func AfterSlot(slot store.Slot) StateRef { return -StateRef(slot) - 1 }

// OfVersion refers to a version.
func OfVersion(v store.VersionNum) StateRef { return StateRef(v) }

// Slot is the slot of an AfterSlot; ok is false for versions and 0.
func (s StateRef) Slot() (slot store.Slot, ok bool) { return store.Slot(-s - 1), s < 0 }

// Version is the version of an OfVersion; ok is false for slots and 0.
func (s StateRef) Version() (v store.VersionNum, ok bool) { return store.VersionNum(s), s > 0 }

// StateEntry is one entry of a room state. In a delta Event 0 means removed.
type StateEntry struct {
	Key   store.KeyNum
	Event store.EventNum
}

// StateDelta is one entry that changed.
type StateDelta struct {
	Key        store.KeyNum
	Event      store.EventNum // 0: removed
	Prev       store.EventNum // 0: there was none
	Membership Membership     // of Event, if it is a m.room.member; written only
}

var (
	upsertCurrent = store.Prepare(`INSERT INTO current_state (room, key, event, slot, membership) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (room, key) DO UPDATE SET event = excluded.event, slot = excluded.slot, membership = excluded.membership`)
	deleteCurrent  = store.Prepare(`DELETE FROM current_state WHERE room = $1 AND key = $2`)
	insertStateLog = store.Prepare(`INSERT INTO state_log (room, slot, key, event, prev_event) VALUES ($1, $2, $3, $4, $5)`)

	selectCurrentKey = store.Prepare(`SELECT event, slot FROM current_state WHERE room = $1 AND key = $2`)
	selectCurrent    = store.Prepare(`SELECT key, event FROM current_state WHERE room = $1 ORDER BY key`)
	countCurrent     = store.Prepare(`SELECT COUNT(*) FROM current_state WHERE room = $1`)
	selectLogKey     = store.Prepare(`SELECT event FROM state_log WHERE room = $1 AND key = $2 AND slot <= $3 ORDER BY slot DESC LIMIT 1`)
	selectLogRange   = store.Prepare(`SELECT key, event, prev_event FROM state_log WHERE room = $1 AND slot > $2 AND slot <= $3 ORDER BY slot, key`)
	countLogRange    = store.Prepare(`SELECT COUNT(*) FROM (SELECT 1 FROM state_log WHERE room = $1 AND slot > $2 AND slot <= $3 LIMIT $4) AS part`)
)

// SetState changes the current state of a room at a slot that the change takes.
func SetState(c *store.Change, room store.RoomNum, slot store.Slot, deltas ...StateDelta) {
	for _, d := range deltas {
		if d.Event == 0 {
			c.Exec(deleteCurrent, room, d.Key)
		} else {
			c.Exec(upsertCurrent, room, d.Key, d.Event, slot, int64(d.Membership))
		}
		c.Exec(insertStateLog, room, slot, d.Key, d.Event, d.Prev)
	}
}

func scanStateEntry(row *store.Row) (e StateEntry) {
	row.Scan(&e.Key, &e.Event)
	return e
}

func scanStateDelta(row *store.Row) (d StateDelta) {
	row.Scan(&d.Key, &d.Event, &d.Prev)
	return d
}

// CurrentKey returns the event of one entry of the current state, 0 = none.
func CurrentKey(r *store.Read, room store.RoomNum, key store.KeyNum) (store.EventNum, error) {
	event, err := store.QueryOne(r, selectCurrentKey, store.Num[store.EventNum], room, key)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	return event, err
}

// CurrentKeys returns entries of the current state, without missing ones.
func CurrentKeys(r *store.Read, room store.RoomNum, keys []store.KeyNum) ([]StateEntry, error) {
	var out []StateEntry
	for _, key := range keys {
		event, err := CurrentKey(r, room, key)
		if err != nil {
			return nil, err
		}
		if event != 0 {
			out = append(out, StateEntry{key, event})
		}
	}
	return out, nil
}

// CurrentState returns the whole current state, by key.
func CurrentState(r *store.Read, room store.RoomNum) ([]StateEntry, error) {
	return store.Query(r, selectCurrent, scanStateEntry, room)
}

// StateKeyAt returns the event of one entry of the state after a slot, 0 = none.
func StateKeyAt(r *store.Read, room store.RoomNum, slot store.Slot, key store.KeyNum) (store.EventNum, error) {
	type entry struct {
		event store.EventNum
		slot  store.Slot
	}
	now, err := store.QueryOne(r, selectCurrentKey, func(row *store.Row) (e entry) { row.Scan(&e.event, &e.slot); return e }, room, key)
	if err == nil && now.slot <= slot {
		return now.event, nil
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return 0, err
	}
	event, err := store.QueryOne(r, selectLogKey, store.Num[store.EventNum], room, key, slot)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	return event, err
}

// StateLog returns the changes of the state after one slot up to another, in order, even
// if later ones undo them.
func StateLog(r *store.Read, room store.RoomNum, after, upTo store.Slot) ([]StateDelta, error) {
	return store.Query(r, selectLogRange, scanStateDelta, room, after, upTo)
}

// StateBetween returns the entries in which the state after slot from and the state after
// slot to differ, by key: Prev is the former's, Event the latter's. from may be greater
// than to.
func StateBetween(r *store.Read, room store.RoomNum, from, to store.Slot) ([]StateDelta, error) {
	if from > to {
		ds, err := StateBetween(r, room, to, from)
		for i := range ds {
			ds[i].Event, ds[i].Prev = ds[i].Prev, ds[i].Event
		}
		return ds, err
	}
	log, err := StateLog(r, room, from, to)
	if err != nil {
		return nil, err
	}
	return netDeltas(log), nil
}

// netDeltas folds a log, oldest first, into one delta per key that changed.
func netDeltas(log []StateDelta) []StateDelta {
	slices.SortStableFunc(log, func(a, b StateDelta) int { return cmp.Compare(a.Key, b.Key) })
	out := log[:0]
	for i := 0; i < len(log); {
		d := log[i]
		for i++; i < len(log) && log[i].Key == d.Key; i++ {
			d.Event = log[i].Event
		}
		if d.Event != d.Prev {
			out = append(out, d)
		}
	}
	return out
}

// StateAt returns the whole state after a slot, by key. It replays the log from the
// start, or undoes the later changes of the current state, whichever reads less.
func StateAt(r *store.Read, room store.RoomNum, slot store.Slot) ([]StateEntry, error) {
	size, err := store.QueryOne(r, countCurrent, (*store.Row).Int, room)
	if err != nil {
		return nil, err
	}
	before, err := store.QueryOne(r, countLogRange, (*store.Row).Int, room, 0, slot, size+1)
	if err != nil {
		return nil, err
	}
	if before <= size {
		log, err := StateLog(r, room, 0, slot)
		return applyDeltas(nil, netDeltas(log)), err
	}
	now, err := CurrentState(r, room)
	if err != nil {
		return nil, err
	}
	undo, err := StateBetween(r, room, 1<<62, slot)
	return applyDeltas(now, undo), err
}

// applyDeltas merges deltas into a state; both are sorted by key.
func applyDeltas(state []StateEntry, deltas []StateDelta) []StateEntry {
	out := make([]StateEntry, 0, len(state)+len(deltas))
	for _, d := range deltas {
		for len(state) > 0 && state[0].Key < d.Key {
			out = append(out, state[0])
			state = state[1:]
		}
		if len(state) > 0 && state[0].Key == d.Key {
			state = state[1:]
		}
		if d.Event != 0 {
			out = append(out, StateEntry{d.Key, d.Event})
		}
	}
	return append(out, state...)
}

// Version is an immutable state that was not current at any slot: the current state after
// the slot Root with deltas on top. The whole chain is in memory. Deltas at least double
// in size towards the root, so a chain is short, and an entry is rewritten only a
// logarithmic number of times.
type Version struct {
	Num   store.VersionNum
	Room  store.RoomNum
	Root  store.Slot
	Base  *Version     // nil: Delta is against Root itself
	Delta []StateEntry // by key; Event 0 = removed
	Depth int          // deltas up to the root, at most VersionDepth
}

const VersionDepth = 32

// Derive builds a version on top of v (nil: on the state after slot root). delta need not
// be sorted; the version retains it.
func Derive(room store.RoomNum, n store.VersionNum, v *Version, root store.Slot, delta []StateEntry) *Version {
	slices.SortFunc(delta, func(a, b StateEntry) int { return cmp.Compare(a.Key, b.Key) })
	if v != nil {
		root = v.Root
	}
	for v != nil && (len(v.Delta) <= 2*len(delta) || v.Depth >= VersionDepth) {
		delta = mergeEntries(v.Delta, delta)
		v = v.Base
	}
	out := &Version{Num: n, Room: room, Root: root, Base: v, Delta: delta, Depth: 1}
	if v != nil {
		out.Depth = v.Depth + 1
	}
	return out
}

// mergeEntries applies a newer delta to an older one.
func mergeEntries(older, newer []StateEntry) []StateEntry {
	out := make([]StateEntry, 0, len(older)+len(newer))
	for _, e := range newer {
		for len(older) > 0 && older[0].Key < e.Key {
			out = append(out, older[0])
			older = older[1:]
		}
		if len(older) > 0 && older[0].Key == e.Key {
			older = older[1:]
		}
		out = append(out, e)
	}
	return append(out, older...)
}

// Lookup finds an entry in the deltas. If found is false, the entry is that of the state
// after slot Root.
func (v *Version) Lookup(key store.KeyNum) (event store.EventNum, found bool) {
	for ; v != nil; v = v.Base {
		i, ok := slices.BinarySearchFunc(v.Delta, key, func(e StateEntry, k store.KeyNum) int { return cmp.Compare(e.Key, k) })
		if ok {
			return v.Delta[i].Event, true
		}
	}
	return 0, false
}

// flat merges all deltas of a version.
func (v *Version) flat() []StateEntry {
	var out []StateEntry
	for ; v != nil; v = v.Base {
		out = mergeEntries(v.Delta, out)
	}
	return out
}

var (
	insertVersion = store.Prepare(`INSERT INTO state_versions (room, num, base_slot, base_version, depth, delta) VALUES ($1, $2, $3, $4, $5, $6)`)
	selectVersion = store.Prepare(`SELECT base_slot, base_version, depth, delta FROM state_versions WHERE room = $1 AND num = $2`)
	deleteVersion = store.Prepare(`DELETE FROM state_versions WHERE room = $1 AND num = $2`)
	selectUnused  = store.Prepare(`SELECT num FROM state_versions AS v WHERE room = $1 AND num < $2
		AND NOT EXISTS (SELECT 1 FROM events WHERE room = v.room AND state_before = v.num AND state_before > 0)
		AND NOT EXISTS (SELECT 1 FROM state_versions AS w WHERE w.room = v.room AND w.base_version = v.num)
		ORDER BY num LIMIT $3`)
)

// AddVersion writes a version. Its base must have been written before, or
// earlier in this change.
func AddVersion(c *store.Change, v *Version) {
	var base store.VersionNum
	if v.Base != nil {
		base = v.Base.Num
	}
	c.Exec(insertVersion, v.Room, v.Num, v.Root, base, v.Depth, encodeEntries(v.Delta))
}

// DropVersion deletes a version that nothing refers to.
func DropVersion(c *store.Change, room store.RoomNum, v store.VersionNum) {
	c.Exec(deleteVersion, room, v)
}

// UnusedVersions returns versions below a number to which no event and no other
// version refers.
func UnusedVersions(r *store.Read, room store.RoomNum, below store.VersionNum, limit int) ([]store.VersionNum, error) {
	return store.Query(r, selectUnused, store.Num[store.VersionNum], room, below, limit)
}

// LoadVersion loads a version with its chain.
func LoadVersion(r *store.Read, room store.RoomNum, n store.VersionNum) (*Version, error) {
	type stored struct {
		Version
		base store.VersionNum
	}
	var first, last *Version
	for n != 0 {
		s, err := store.QueryOne(r, selectVersion, func(row *store.Row) (s stored) {
			s.Room, s.Num = room, n
			var delta []byte
			row.Scan(&s.Root, &s.base, &s.Depth, &delta)
			var err error
			s.Delta, err = DecodeEntries(delta)
			row.Fail(err)
			return s
		}, room, n)
		if err != nil {
			return nil, fmt.Errorf("state version %d: %w", n, err)
		}
		v := &s.Version
		if last == nil {
			first = v
		} else {
			last.Base = v
		}
		last, n = v, s.base
	}
	if first == nil {
		return nil, store.ErrNotFound
	}
	return first, nil
}

// VersionKey returns the event of one entry of a version, 0 = none.
func VersionKey(r *store.Read, v *Version, key store.KeyNum) (store.EventNum, error) {
	if event, found := v.Lookup(key); found {
		return event, nil
	}
	return StateKeyAt(r, v.Room, v.Root, key)
}

// VersionState returns a whole version, by key.
func VersionState(r *store.Read, v *Version) ([]StateEntry, error) {
	root, err := StateAt(r, v.Room, v.Root)
	return applyDeltas(root, asDeltas(v.flat())), err
}

func asDeltas(entries []StateEntry) []StateDelta {
	out := make([]StateDelta, len(entries))
	for i, e := range entries {
		out[i] = StateDelta{Key: e.Key, Event: e.Event}
	}
	return out
}

// StateKeyOf returns the event of one entry of a state, 0 = none.
func StateKeyOf(r *store.Read, room store.RoomNum, ref StateRef, key store.KeyNum) (store.EventNum, error) {
	if slot, ok := ref.Slot(); ok {
		return StateKeyAt(r, room, slot, key)
	}
	v, err := LoadVersion(r, room, store.VersionNum(ref))
	if err != nil {
		return 0, err
	}
	return VersionKey(r, v, key)
}

// StateOf returns a whole state, by key.
func StateOf(r *store.Read, room store.RoomNum, ref StateRef) ([]StateEntry, error) {
	if slot, ok := ref.Slot(); ok {
		return StateAt(r, room, slot)
	}
	v, err := LoadVersion(r, room, store.VersionNum(ref))
	if err != nil {
		return nil, err
	}
	return VersionState(r, v)
}

// DiffStates returns the entries in which two states of a room differ, by key: Prev is
// a's, Event b's. The time grows with their difference and with the changes between their
// roots, not with the size of the room. A nil version stands for the state after its
// slot.
func DiffStates(r *store.Read, room store.RoomNum, a *Version, slotA store.Slot, b *Version, slotB store.Slot) ([]StateDelta, error) {
	if a != nil {
		slotA = a.Root
	}
	if b != nil {
		slotB = b.Root
	}
	between, err := StateBetween(r, room, slotA, slotB)
	if err != nil {
		return nil, err
	}
	common := commonBase(a, b)
	if slotA != slotB {
		common = nil
	}
	da, db := flatUntil(a, common), flatUntil(b, common)
	keys := make([]store.KeyNum, 0, len(between)+len(da)+len(db))
	rootA, rootB := map[store.KeyNum]store.EventNum{}, map[store.KeyNum]store.EventNum{}
	for _, d := range between {
		keys = append(keys, d.Key)
		rootA[d.Key], rootB[d.Key] = d.Prev, d.Event
	}
	for _, e := range da {
		keys = append(keys, e.Key)
	}
	for _, e := range db {
		keys = append(keys, e.Key)
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	side := func(v *Version, slot store.Slot, root map[store.KeyNum]store.EventNum, key store.KeyNum) (store.EventNum, error) {
		if event, found := v.Lookup(key); found {
			return event, nil
		}
		if event, found := root[key]; found {
			return event, nil
		}
		return StateKeyAt(r, room, slot, key)
	}
	var out []StateDelta
	for _, key := range keys {
		was, err := side(a, slotA, rootA, key)
		if err != nil {
			return nil, err
		}
		is, err := side(b, slotB, rootB, key)
		if err != nil {
			return nil, err
		}
		if was != is {
			out = append(out, StateDelta{Key: key, Event: is, Prev: was})
		}
	}
	return out, nil
}

// commonBase is the newest version in both chains, nil if none.
func commonBase(a, b *Version) *Version {
	seen := map[store.VersionNum]bool{}
	for ; a != nil; a = a.Base {
		seen[a.Num] = true
	}
	for ; b != nil; b = b.Base {
		if seen[b.Num] {
			return b
		}
	}
	return nil
}

// flatUntil merges the deltas of a chain above a version in it.
func flatUntil(v, end *Version) []StateEntry {
	var out []StateEntry
	for ; v != nil && (end == nil || v.Num != end.Num); v = v.Base {
		out = mergeEntries(v.Delta, out)
	}
	return out
}

var selectKeyLog = store.Prepare(`SELECT slot, event FROM state_log WHERE room = $1 AND key = $2 ORDER BY slot DESC LIMIT $3`)

// KeyChange is one change of one entry of a room's current state.
type KeyChange struct {
	Slot  store.Slot
	Event store.EventNum // 0: removed
}

// KeyLog returns the newest changes of one entry of a room's current state,
// newest first.
func KeyLog(r *store.Read, room store.RoomNum, key store.KeyNum, limit int) ([]KeyChange, error) {
	return store.Query(r, selectKeyLog, func(row *store.Row) (c KeyChange) {
		row.Scan(&c.Slot, &c.Event)
		return c
	}, room, key, limit)
}
