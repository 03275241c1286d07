package clientsync

import (
	"fmt"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/streamcache"
	"stoa/internal/timeline"
)

// wantedMember is a membership event for a client that loads members lazily.
type wantedMember struct {
	e      *entry
	userID string
	at     store.Slot // the slot as of which it is wanted
}

// memberReader finds the membership events that lazily loading clients are sent.
type memberReader struct{ *responseBuilder }

// takeMembers adds the membership events that belong to lazily loading clients: of the senders in the timeline, of heroes,
// and the viewer's own with a whole state. Those which the device has been sent already are left out, except from a whole state.
//
// Spec: client-server-api#lazy-loading-room-members
func (k memberReader) takeMembers() error {
	f := &k.req.Filter.Room.State
	if !f.LazyLoadMembers || !f.AllowsType("m.room.member") {
		return nil
	}
	k.sentSince = k.kept.SentSince(k.req.Device, k.c.Since, k.initial, k.upto)
	var found []wantedMember
	for _, e := range k.entries {
		found = append(found, k.wantedMembers(e)...)
	}
	events, err := k.membersAt(found)
	if err != nil {
		return err
	}
	for i, w := range found {
		ev := events[i]
		if ev == nil {
			continue
		}
		key := streamcache.SentKey{User: k.req.UserNum, Device: k.req.DeviceID, Room: w.e.num, Event: ev.Num}
		known := !w.e.wholeState && !f.IncludeRedundantMembers && !k.initial && k.r.sent.Has(key, k.sentSince, k.c.Since)
		if !known {
			w.e.state = append(w.e.state, ev)
			k.r.sent.Add(key, k.sentSince, k.upto)
		}
	}
	return nil
}

// wantedMembers returns the members whom an entry mentions and does not contain otherwise. They are wanted as of the start of the
// timeline if the timeline shows their newest membership, otherwise as of its end: a filter or the visibility may hide the newest one.
func (k memberReader) wantedMembers(e *entry) []wantedMember {
	listed := map[string]bool{}
	for _, ev := range e.state {
		if ev.IsState && ev.Type == "m.room.member" {
			listed[ev.StateKey] = true
		}
	}
	var out []wantedMember
	shown := map[string]bool{}
	for _, ev := range e.timeline.events {
		if ev.IsState && ev.Type == "m.room.member" {
			shown[ev.StateKey] = true
		}
	}
	want := func(userID string) {
		if !listed[userID] {
			listed[userID] = true
			at := k.lastSlot(e)
			if shown[userID] {
				at = k.statePoint(e)
			}
			out = append(out, wantedMember{e, userID, at})
		}
	}
	if e.wholeState {
		want(k.req.UserID.String())
	}
	for _, ev := range e.timeline.events {
		want(ev.Sender.String())
	}
	for _, hero := range e.summary.heroes {
		want(hero)
	}
	return out
}

// membersAt returns membership events as of the wanted slots; nil for users who had none.
func (k memberReader) membersAt(wanted []wantedMember) ([]*timeline.Event, error) {
	at := make([]streamcache.MemberAt, len(wanted))
	for i, w := range wanted {
		at[i] = streamcache.MemberAt{Room: w.e.num, UserID: w.userID, At: w.at}
	}
	events, missing, busy := k.kept.Members(at, k.upto)
	if busy != nil && k.snapshot == nil { // with a snapshot it may be the one who keeps the other from reading
		k.cache.Blocking(k.ctx, func() {
			select {
			case <-busy:
			case <-k.ctx.Done():
			}
		})
		if err := k.ctx.Err(); err != nil {
			return nil, err
		}
		events, missing, _ = k.kept.Members(at, k.upto)
	}
	if len(missing) == 0 {
		return events, nil
	}
	defer k.kept.ClaimMembers(at, missing)()
	if k.snapshot == nil {
		var err error
		if missing, err = k.readCurrentMembers(wanted, missing, events); err != nil || len(missing) == 0 {
			return events, err
		}
	}
	return events, k.readMembers(wanted, missing, events)
}

// readCurrentMembers reads current membership events, with one query and without a snapshot. It returns the indexes of those that
// may have been different at the slot of the answer, or of which more has to be read.
func (k memberReader) readCurrentMembers(wanted []wantedMember, missing []int, events []*timeline.Event) (rest []int, err error) {
	err = k.r.store.ReadCommitted(k.ctx, func(r *store.Read) error {
		keys, err := k.memberKeys(r, wanted, missing)
		if err != nil {
			return err
		}
		ask := make([]roomdb.RoomKey, 0, len(missing))
		for i, m := range missing {
			ask = append(ask, roomdb.RoomKey{Room: wanted[m].e.num, Key: keys[i]})
		}
		l := k.cache.Loader(r)
		rows, err := roomdb.CurrentEntries(r, ask, l.Known)
		if err != nil {
			return fmt.Errorf("read members: %w", err)
		}
		found := make(map[roomdb.RoomKey]roomdb.CurrentEntry, len(rows))
		for _, row := range rows {
			found[roomdb.RoomKey{Room: row.Event.Room, Key: row.Key}] = row
			l.Head = row.Head
			if row.Event.RedactedBy == 0 {
				l.WantEvents([]roomdb.SyncEvent{row.Event})
			}
		}
		if err := l.Load(); err != nil {
			return err
		}
		for i, m := range missing {
			e, point, row := wanted[m].e, wanted[m].at, found[ask[i]]
			ev := l.Event(row.Event.Num)
			if _, changed := e.before(keys[i], point); changed || ev == nil || row.Slot > point {
				rest = append(rest, m)
				continue
			}
			events[m] = ev
			k.kept.KeepMember(e.num, wanted[m].userID, ev, row.Head)
		}
		return nil
	})
	return rest, err
}

// memberKeys returns the state keys of members.
func (k memberReader) memberKeys(r *store.Read, wanted []wantedMember, missing []int) ([]store.KeyNum, error) {
	pairs := make([]store.Pair, len(missing))
	for i, m := range missing {
		pairs[i] = store.Pair{Type: "m.room.member", StateKey: wanted[m].userID}
	}
	keys, err := k.r.store.KeyNums(r, pairs)
	if err != nil {
		return nil, fmt.Errorf("look up members: %w", err)
	}
	return keys, nil
}

// readMembers reads membership events that are not in memory.
func (k memberReader) readMembers(wanted []wantedMember, missing []int, events []*timeline.Event) error {
	r, err := k.open(k.ctx)
	if err != nil {
		return err
	}
	keys, err := k.memberKeys(r, wanted, missing)
	if err != nil {
		return err
	}
	nums := make([]store.EventNum, len(missing))
	listed := make([]bool, len(missing)) // by the entry's log
	ask := make([]roomdb.RoomKey, 0, len(missing))
	for i, m := range missing {
		e := wanted[m].e
		if nums[i], listed[i] = e.before(keys[i], wanted[m].at); !listed[i] {
			ask = append(ask, roomdb.RoomKey{Room: e.num, Key: keys[i]})
		}
	}
	now, err := k.currentEntries(ask)
	if err != nil {
		return err
	}
	for i, m := range missing {
		e := wanted[m].e
		s, point := now[roomdb.RoomKey{Room: e.num, Key: keys[i]}], wanted[m].at
		if !listed[i] {
			nums[i] = s.Event
		}
		if !listed[i] && s.Slot > point {
			if nums[i], err = roomdb.StateKeyAt(r, e.num, point, keys[i]); err != nil {
				return fmt.Errorf("read a member: %w", err)
			}
		}
		k.l.Want(nums[i])
	}
	if err := k.l.Load(); err != nil {
		return err
	}
	for i, m := range missing {
		if nums[i] == 0 {
			continue
		}
		isNow := now[roomdb.RoomKey{Room: wanted[m].e.num, Key: keys[i]}].Event == nums[i]
		if events[m] = k.l.Event(nums[i]); events[m] != nil && isNow {
			k.kept.KeepMember(wanted[m].e.num, wanted[m].userID, events[m], r.Head())
		}
	}
	return nil
}

// before returns what an entry of the state was at a slot, if the log has a change after it.
func (e *entry) before(key store.KeyNum, point store.Slot) (num store.EventNum, known bool) {
	for _, c := range e.log {
		if c.Key == key && c.Slot > point {
			return c.Prev, true
		}
	}
	return 0, false
}

// currentEntries reads entries of the current state.
func (k memberReader) currentEntries(ask []roomdb.RoomKey) (map[roomdb.RoomKey]roomdb.StateSlot, error) {
	if len(ask) == 0 {
		return nil, nil
	}
	slots, err := roomdb.SyncEntries(k.read, ask)
	if err != nil {
		return nil, fmt.Errorf("read members: %w", err)
	}
	now := make(map[roomdb.RoomKey]roomdb.StateSlot, len(slots))
	for _, s := range slots {
		now[roomdb.RoomKey{Room: s.Room, Key: s.Key}] = s
	}
	return now, nil
}
