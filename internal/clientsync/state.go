package clientsync

import (
	"cmp"
	"fmt"
	"slices"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/timeline"
	"stoa/matrix/id"
)

// readStates reads the states of the entries' rooms.
func (k snapshotReader) readStates() error {
	var whole []store.RoomNum
	byRoom := map[store.RoomNum]*entry{}
	for _, e := range k.entries {
		if err := k.readLog(e); err != nil {
			return err
		}
		if !e.wholeState {
			continue
		}
		if e.joinedRoom {
			whole = append(whole, e.num)
			byRoom[e.num] = e
			continue
		}
		if err := k.readOldState(e); err != nil {
			return err
		}
	}
	slots, err := roomdb.SyncState(k.read, whole, !k.req.Filter.Room.State.LazyLoadMembers)
	if err != nil {
		return fmt.Errorf("read the state of rooms: %w", err)
	}
	for _, s := range slots {
		byRoom[s.Room].base = append(byRoom[s.Room].base, s)
	}
	values := make([]map[store.KeyNum]store.EventNum, len(k.entries))
	for i, e := range k.entries {
		if e.wholeState {
			values[i] = e.rewind(k.statePoint(e))
			for _, num := range values[i] {
				k.l.Want(num)
			}
		}
		k.l.Want(e.member)
	}
	if err := k.l.Load(); err != nil {
		return err
	}
	for i, e := range k.entries {
		k.buildState(e, values[i])
	}
	return nil
}

// statePoint is the slot of an entry's whole state.
func (k *responseBuilder) statePoint(e *entry) store.Slot {
	if k.req.StateAfter {
		return k.lastSlot(e)
	}
	return min(e.timeline.start-1, k.lastSlot(e))
}

// lastSlot is the last slot of which an entry tells the viewer.
func (k *responseBuilder) lastSlot(e *entry) store.Slot {
	if e.joinedRoom {
		return e.upto
	}
	return min(e.upto, e.leftAt)
}

// readLog reads the changes of state that an entry needs: those of the range, and those after the slot of a whole state.
func (k snapshotReader) readLog(e *entry) error {
	from := e.since
	if e.wholeState {
		from = min(k.statePoint(e), e.upto)
		if e.membersSince > 0 {
			from = min(from, e.membersSince)
		}
	}
	if readFrom := min(from, e.beforeUnknown()); readFrom < e.logFrom {
		older, err := roomdb.SyncLog(k.read, e.num, readFrom, e.logFrom)
		if err != nil {
			return fmt.Errorf("read changes of state: %w", err)
		}
		e.log = append(older, e.log...)
	}
	own := store.KeyNum(0)
	if !e.joinedRoom {
		var err error
		if own, err = k.ownMemberKey(); err != nil {
			return err
		}
	}
	var log []roomdb.StateChange
	for _, c := range e.log {
		if c.Slot > from && c.Slot <= e.upto && (e.joinedRoom || c.Slot <= e.leftAt || c.Key == own) {
			log = append(log, c)
		}
	}
	if !k.req.StateAfter {
		inRange := log
		for len(inRange) > 0 && inRange[0].Slot <= e.since {
			inRange = inRange[1:]
		}
		e.skipReplaced(&e.timeline, len(inRange), func(i int) (store.KeyNum, store.EventNum) { return inRange[i].Key, inRange[i].Event })
	}
	if err := k.takeReplaced(e); err != nil {
		return err
	}
	if e.wholeState && k.req.Filter.Room.State.LazyLoadMembers {
		var err error
		if log, err = k.withoutMembers(log, e.membersSince); err != nil {
			return err
		}
	}
	k.l.WantLog(log)
	k.l.WantChanged(log)
	if err := k.l.Load(); err != nil {
		return err
	}
	var err error
	if e.changes, err = k.l.Changes(log); err != nil {
		return err
	}
	if e.joinedRoom && e.since > 0 {
		for i := range e.changes {
			e.membersMoved = e.membersMoved || e.changes[i].Type == "m.room.member"
		}
		k.noteChanges(e, e.changes)
	}
	return nil
}

// beforeUnknown returns the slot before the first state event of the timeline of which the log that was read does not say what it replaced;
// a slot after the log if there is none.
func (e *entry) beforeUnknown() store.Slot {
	for _, ev := range e.timeline.events {
		if ev.IsState && ev.Replaced == nil && ev.Slot <= e.logFrom {
			return ev.Slot - 1
		}
	}
	return e.logFrom
}

// takeReplaced adds the events that they replaced to the state events of the timeline that were read without the log.
func (k snapshotReader) takeReplaced(e *entry) error {
	places := map[store.EventNum]int{}
	for i, ev := range e.timeline.events {
		if ev.IsState && ev.Replaced == nil {
			places[ev.Num] = i
		}
	}
	var log []roomdb.StateChange
	for _, c := range e.log {
		if _, shown := places[c.Event]; shown && c.Prev != 0 {
			log = append(log, c)
		}
	}
	if len(log) == 0 {
		return nil
	}
	for _, c := range log {
		k.l.Want(c.Prev)
	}
	if err := k.l.Load(); err != nil {
		return err
	}
	for _, c := range log {
		if prev := k.l.Event(c.Prev); prev != nil {
			i := places[c.Event]
			e.timeline.events[i] = e.timeline.events[i].WithReplaced(prev)
		}
	}
	return nil
}

// withoutMembers removes memberships from a log, up to a slot; all if the slot is 0.
func (k snapshotReader) withoutMembers(log []roomdb.StateChange, upto store.Slot) ([]roomdb.StateChange, error) {
	nums := make([]store.KeyNum, len(log))
	for i, c := range log {
		nums[i] = c.Key
	}
	pairs, err := k.r.store.Pairs(k.read, nums)
	if err != nil {
		return nil, fmt.Errorf("read state keys: %w", err)
	}
	kept := log[:0]
	for i, c := range log {
		if pairs[i].Type != "m.room.member" || upto > 0 && c.Slot > upto {
			kept = append(kept, c)
		}
	}
	return kept, nil
}

// ownMemberKey returns the state key of the viewer's memberships, 0 for a viewer without any.
func (k snapshotReader) ownMemberKey() (store.KeyNum, error) {
	return memberKey(k.r.store, k.read, k.req.UserID)
}

// memberKey returns the state key of a user's memberships, 0 for a user without any.
func memberKey(s *store.Store, read *store.Read, user id.UserID) (store.KeyNum, error) {
	keys, err := s.KeyNums(read, []store.Pair{{Type: "m.room.member", StateKey: user.String()}})
	if err != nil {
		return 0, fmt.Errorf("look up the member %s: %w", user, err)
	}
	return keys[0], nil
}

// readOldState reads the state of a left room as the viewer last saw it, with the viewer's newest membership unless the timeline shows
// that: its filter may hide it.
func (k snapshotReader) readOldState(e *entry) error {
	at := k.statePoint(e)
	shown := slices.ContainsFunc(e.timeline.events, func(ev *timeline.Event) bool { return ev.Num == e.member })
	newest := e.member != 0 && (k.req.StateAfter || !shown)
	if at < 1 {
		own, err := k.ownMemberKey()
		if err == nil && newest && e.leftAt == 0 {
			e.base = []roomdb.StateSlot{{Room: e.num, Key: own, Event: e.member, Slot: e.upto}}
		}
		return err
	}
	state, err := roomdb.StateAt(k.read, e.num, at)
	if err != nil {
		return fmt.Errorf("read the state of a left room: %w", err)
	}
	nums := make([]store.KeyNum, len(state))
	for i, s := range state {
		nums[i] = s.Key
	}
	lazily := k.req.Filter.Room.State.LazyLoadMembers
	pairs, err := k.r.store.Pairs(k.read, nums)
	if err != nil {
		return fmt.Errorf("read state keys: %w", err)
	}
	for i, s := range state {
		if !lazily || pairs[i].Type != "m.room.member" || pairs[i].StateKey == k.req.UserID.String() {
			if newest && pairs[i].Type == "m.room.member" && pairs[i].StateKey == k.req.UserID.String() {
				s.Event = e.member
			}
			e.base = append(e.base, roomdb.StateSlot{Room: e.num, Key: s.Key, Event: s.Event, Slot: at})
		}
	}
	return nil
}

// rewind reverts the current state to a slot. For a left room, base is that state already.
func (e *entry) rewind(at store.Slot) map[store.KeyNum]store.EventNum {
	values := make(map[store.KeyNum]store.EventNum, len(e.base))
	for _, s := range e.base {
		values[s.Key] = s.Event
	}
	if !e.joinedRoom {
		return values
	}
	loaded := make(map[store.KeyNum]bool, len(e.changes))
	for i := range e.changes {
		loaded[e.changes[i].Key] = true
	}
	for _, c := range slices.Backward(e.log) {
		if c.Slot <= at {
			break
		}
		if _, tracked := values[c.Key]; !tracked && !loaded[c.Key] {
			continue // a membership, which a client that loads members lazily does not get here
		}
		if c.Prev != 0 {
			values[c.Key] = c.Prev
		} else {
			delete(values, c.Key)
		}
	}
	return values
}

// buildState makes the list of state of an entry.
func (k snapshotReader) buildState(e *entry, values map[store.KeyNum]store.EventNum) {
	if !e.joinedRoom && e.slotNow == 0 && e.member != 0 {
		// The server is not in this room: all it knows is the viewer's membership.
		if ev := k.l.Event(e.member); ev != nil {
			e.timeline.events = []*timeline.Event{ev}
		}
		return
	}
	if !e.wholeState {
		e.state = e.stateDelta(&e.timeline, k.req.StateAfter)
		return
	}
	lazily := k.req.Filter.Room.State.LazyLoadMembers
	changed := e.stateDelta(&e.timeline, k.req.StateAfter)
	over := make(map[stateKey]bool, len(changed))
	for _, ev := range changed {
		// Values has the rest, but for members whom a client that loads members lazily may have from before the change.
		hidden := !k.req.StateAfter && ev.Slot >= e.timeline.start
		member := lazily && ev.Type == "m.room.member" && ev.StateKey != k.req.UserID.String() && ev.Slot > e.membersSince
		if !hidden && !member {
			continue
		}
		over[stateKey{ev.Type, ev.StateKey}] = true
		e.state = append(e.state, ev)
	}
	for _, num := range values {
		ev := k.l.Event(num)
		if ev == nil {
			continue
		}
		if !over[stateKey{ev.Type, ev.StateKey}] {
			e.state = append(e.state, ev)
		}
	}
	slices.SortFunc(e.state, func(a, b *timeline.Event) int {
		return cmp.Or(cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.Num, b.Num))
	})
}
