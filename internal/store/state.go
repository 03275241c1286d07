// Tables current_state, state_log, state_versions. Written by package room.

package store

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
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
func AfterSlot(slot Slot) StateRef { return -StateRef(slot) - 1 }

// OfVersion refers to a version.
func OfVersion(v VersionNum) StateRef { return StateRef(v) }

// Slot is the slot of an AfterSlot; ok is false for versions and 0.
func (s StateRef) Slot() (slot Slot, ok bool) { return Slot(-s - 1), s < 0 }

// Version is the version of an OfVersion; ok is false for slots and 0.
func (s StateRef) Version() (v VersionNum, ok bool) { return VersionNum(s), s > 0 }

// StateEntry is one entry of a room state. In a delta Event 0 means removed.
type StateEntry struct {
	Key   KeyNum
	Event EventNum
}

// StateDelta is one entry that changed.
type StateDelta struct {
	Key        KeyNum
	Event      EventNum   // 0: removed
	Prev       EventNum   // 0: was not there
	Membership Membership // of Event, if it is a m.room.member; written only
}

var (
	upsertCurrent = Prepare(`INSERT INTO current_state (room, key, event, slot, membership) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (room, key) DO UPDATE SET event = excluded.event, slot = excluded.slot, membership = excluded.membership`)
	deleteCurrent  = Prepare(`DELETE FROM current_state WHERE room = $1 AND key = $2`)
	insertStateLog = Prepare(`INSERT INTO state_log (room, slot, key, event, prev_event) VALUES ($1, $2, $3, $4, $5)`)

	selectCurrentKey = Prepare(`SELECT event, slot FROM current_state WHERE room = $1 AND key = $2`)
	selectCurrent    = Prepare(`SELECT key, event FROM current_state WHERE room = $1 ORDER BY key`)
	countCurrent     = Prepare(`SELECT COUNT(*) FROM current_state WHERE room = $1`)
	selectLogKey     = Prepare(`SELECT event FROM state_log WHERE room = $1 AND key = $2 AND slot <= $3 ORDER BY slot DESC LIMIT 1`)
	selectLogRange   = Prepare(`SELECT key, event, prev_event FROM state_log WHERE room = $1 AND slot > $2 AND slot <= $3 ORDER BY slot, key`)
	countLogRange    = Prepare(`SELECT COUNT(*) FROM (SELECT 1 FROM state_log WHERE room = $1 AND slot > $2 AND slot <= $3 LIMIT $4) AS part`)
)

// SetState changes the current state of a room at a slot that the change takes.
func (c *Change) SetState(room RoomNum, slot Slot, deltas ...StateDelta) {
	for _, d := range deltas {
		if d.Event == 0 {
			c.Exec(deleteCurrent, room, d.Key)
		} else {
			c.Exec(upsertCurrent, room, d.Key, d.Event, slot, int64(d.Membership))
		}
		c.Exec(insertStateLog, room, slot, d.Key, d.Event, d.Prev)
	}
}

func scanStateEntry(row *Row) (e StateEntry) {
	row.Scan(&e.Key, &e.Event)
	return e
}

func scanStateDelta(row *Row) (d StateDelta) {
	row.Scan(&d.Key, &d.Event, &d.Prev)
	return d
}

// CurrentKey returns the event of one entry of the current state, 0 = none.
func (r *Read) CurrentKey(room RoomNum, key KeyNum) (EventNum, error) {
	event, err := QueryOne(r, selectCurrentKey, Num[EventNum], room, key)
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	return event, err
}

// CurrentKeys returns entries of the current state; what is not there is left out.
func (r *Read) CurrentKeys(room RoomNum, keys []KeyNum) ([]StateEntry, error) {
	var out []StateEntry
	for _, key := range keys {
		event, err := r.CurrentKey(room, key)
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
func (r *Read) CurrentState(room RoomNum) ([]StateEntry, error) {
	return Query(r, selectCurrent, scanStateEntry, room)
}

// StateKeyAt returns the event of one entry of the state after a slot, 0 = none.
func (r *Read) StateKeyAt(room RoomNum, slot Slot, key KeyNum) (EventNum, error) {
	type entry struct {
		event EventNum
		slot  Slot
	}
	now, err := QueryOne(r, selectCurrentKey, func(row *Row) (e entry) { row.Scan(&e.event, &e.slot); return e }, room, key)
	if err == nil && now.slot <= slot {
		return now.event, nil
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return 0, err
	}
	event, err := QueryOne(r, selectLogKey, Num[EventNum], room, key, slot)
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	return event, err
}

// StateLog returns the changes of the state after one slot up to another, in
// order, also those undone within.
func (r *Read) StateLog(room RoomNum, after, upTo Slot) ([]StateDelta, error) {
	return Query(r, selectLogRange, scanStateDelta, room, after, upTo)
}

// StateBetween returns the entries in which the state after slot from and the
// state after slot to differ, by key: Prev is the former's, Event the latter's.
// from may be the greater one.
func (r *Read) StateBetween(room RoomNum, from, to Slot) ([]StateDelta, error) {
	if from > to {
		ds, err := r.StateBetween(room, to, from)
		for i := range ds {
			ds[i].Event, ds[i].Prev = ds[i].Prev, ds[i].Event
		}
		return ds, err
	}
	log, err := r.StateLog(room, from, to)
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

// StateAt returns the whole state after a slot, by key: the log replayed from
// the start, or the current state with what came later undone, whichever reads
// less.
func (r *Read) StateAt(room RoomNum, slot Slot) ([]StateEntry, error) {
	size, err := QueryOne(r, countCurrent, (*Row).Int, room)
	if err != nil {
		return nil, err
	}
	before, err := QueryOne(r, countLogRange, (*Row).Int, room, 0, slot, size+1)
	if err != nil {
		return nil, err
	}
	if before <= size {
		log, err := r.StateLog(room, 0, slot)
		return applyDeltas(nil, netDeltas(log)), err
	}
	now, err := r.CurrentState(room)
	if err != nil {
		return nil, err
	}
	undo, err := r.StateBetween(room, 1<<62, slot)
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

// Version is an immutable state that was not current at any slot: the current
// state after the slot Root with deltas on top. Its chain is in memory. Deltas
// grow at least twofold towards the root, so that a chain is short and
// an entry is written again only a logarithmic number of times.
type Version struct {
	Num   VersionNum
	Room  RoomNum
	Root  Slot
	Base  *Version     // nil: Delta is against Root itself
	Delta []StateEntry // by key; Event 0 = removed
	Depth int          // deltas up to the root, at most versionDepth
}

const versionDepth = 32

// Derive makes a version on top of v (nil: of the state after slot root). delta
// need not be sorted; it becomes the version's.
func Derive(room RoomNum, n VersionNum, v *Version, root Slot, delta []StateEntry) *Version {
	slices.SortFunc(delta, func(a, b StateEntry) int { return cmp.Compare(a.Key, b.Key) })
	if v != nil {
		root = v.Root
	}
	for v != nil && (len(v.Delta) <= 2*len(delta) || v.Depth >= versionDepth) {
		delta = mergeEntries(v.Delta, delta)
		v = v.Base
	}
	out := &Version{Num: n, Room: room, Root: root, Base: v, Delta: delta, Depth: 1}
	if v != nil {
		out.Depth = v.Depth + 1
	}
	return out
}

// mergeEntries puts a newer delta over an older one.
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

// Lookup finds an entry in the deltas. found is false if the entry is that of the
// state after slot Root.
func (v *Version) Lookup(key KeyNum) (event EventNum, found bool) {
	for ; v != nil; v = v.Base {
		i, ok := slices.BinarySearchFunc(v.Delta, key, func(e StateEntry, k KeyNum) int { return cmp.Compare(e.Key, k) })
		if ok {
			return v.Delta[i].Event, true
		}
	}
	return 0, false
}

// flat is all of a version's deltas in one.
func (v *Version) flat() []StateEntry {
	var out []StateEntry
	for ; v != nil; v = v.Base {
		out = mergeEntries(v.Delta, out)
	}
	return out
}

var (
	insertVersion = Prepare(`INSERT INTO state_versions (room, num, base_slot, base_version, depth, delta) VALUES ($1, $2, $3, $4, $5, $6)`)
	selectVersion = Prepare(`SELECT base_slot, base_version, depth, delta FROM state_versions WHERE room = $1 AND num = $2`)
	deleteVersion = Prepare(`DELETE FROM state_versions WHERE room = $1 AND num = $2`)
	selectUnused  = Prepare(`SELECT num FROM state_versions AS v WHERE room = $1 AND num < $2
		AND NOT EXISTS (SELECT 1 FROM events WHERE room = v.room AND state_before = v.num AND state_before > 0)
		AND NOT EXISTS (SELECT 1 FROM state_versions AS w WHERE w.room = v.room AND w.base_version = v.num)
		ORDER BY num LIMIT $3`)
)

// AddVersion writes a version. Its base must have been written before, or
// earlier in this change.
func (c *Change) AddVersion(v *Version) {
	var base VersionNum
	if v.Base != nil {
		base = v.Base.Num
	}
	c.Exec(insertVersion, v.Room, v.Num, v.Root, base, v.Depth, encodeEntries(v.Delta))
}

// DropVersion forgets a version that nothing refers to.
func (c *Change) DropVersion(room RoomNum, v VersionNum) { c.Exec(deleteVersion, room, v) }

// UnusedVersions returns versions below a number to which no event and no other
// version refers.
func (r *Read) UnusedVersions(room RoomNum, below VersionNum, limit int) ([]VersionNum, error) {
	return Query(r, selectUnused, Num[VersionNum], room, below, limit)
}

// Version loads a version with its chain.
func (r *Read) Version(room RoomNum, n VersionNum) (*Version, error) {
	type stored struct {
		Version
		base VersionNum
	}
	var first, last *Version
	for n != 0 {
		s, err := QueryOne(r, selectVersion, func(row *Row) (s stored) {
			s.Room, s.Num = room, n
			var delta []byte
			row.Scan(&s.Root, &s.base, &s.Depth, &delta)
			var err error
			s.Delta, err = decodeEntries(delta)
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
		return nil, ErrNotFound
	}
	return first, nil
}

// VersionKey returns the event of one entry of a version, 0 = none.
func (r *Read) VersionKey(v *Version, key KeyNum) (EventNum, error) {
	if event, found := v.Lookup(key); found {
		return event, nil
	}
	return r.StateKeyAt(v.Room, v.Root, key)
}

// VersionState returns a whole version, by key.
func (r *Read) VersionState(v *Version) ([]StateEntry, error) {
	root, err := r.StateAt(v.Room, v.Root)
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
func (r *Read) StateKeyOf(room RoomNum, ref StateRef, key KeyNum) (EventNum, error) {
	if slot, ok := ref.Slot(); ok {
		return r.StateKeyAt(room, slot, key)
	}
	v, err := r.Version(room, VersionNum(ref))
	if err != nil {
		return 0, err
	}
	return r.VersionKey(v, key)
}

// StateOf returns a whole state, by key.
func (r *Read) StateOf(room RoomNum, ref StateRef) ([]StateEntry, error) {
	if slot, ok := ref.Slot(); ok {
		return r.StateAt(room, slot)
	}
	v, err := r.Version(room, VersionNum(ref))
	if err != nil {
		return nil, err
	}
	return r.VersionState(v)
}

// DiffStates returns the entries in which two states of a room differ, by key:
// Prev is a's, Event b's. It takes time by their difference, and by what changed
// between their roots, not by the size of the room. A nil version stands for the
// state after the slot beside it.
func (r *Read) DiffStates(room RoomNum, a *Version, slotA Slot, b *Version, slotB Slot) ([]StateDelta, error) {
	if a != nil {
		slotA = a.Root
	}
	if b != nil {
		slotB = b.Root
	}
	between, err := r.StateBetween(room, slotA, slotB)
	if err != nil {
		return nil, err
	}
	common := commonBase(a, b)
	if slotA != slotB {
		common = nil
	}
	da, db := flatUntil(a, common), flatUntil(b, common)
	keys := make([]KeyNum, 0, len(between)+len(da)+len(db))
	rootA, rootB := map[KeyNum]EventNum{}, map[KeyNum]EventNum{}
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
	side := func(v *Version, slot Slot, root map[KeyNum]EventNum, key KeyNum) (EventNum, error) {
		if event, found := v.Lookup(key); found {
			return event, nil
		}
		if event, found := root[key]; found {
			return event, nil
		}
		return r.StateKeyAt(room, slot, key)
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
	seen := map[VersionNum]bool{}
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
