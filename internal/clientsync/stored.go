package clientsync

import (
	"fmt"
	"slices"

	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/streamcache"
	"stoa/internal/timeline"
	"stoa/matrix/id"
)

const (
	// scanPage is how many older events of a room are read at once if too few of the newest pass the filter, scanLimit how many in
	// all. A timeline that is still too short then is limited.
	scanPage  = 100
	scanLimit = 1000
)

// storedRooms are the rooms of an answer with nothing but stripped state.
type storedRooms struct {
	invited, knocked []roomdb.SyncRoom
}

// snapshotReader collects an answer from one snapshot of the store.
type snapshotReader struct{ *responseBuilder }

// collectStored makes the entries of what one snapshot of the store holds.
func (k snapshotReader) collectStored() (*storedRooms, error) {
	r, err := k.open(k.ctx)
	if err != nil {
		return nil, err
	}
	k.upto = r.Head()
	if err := k.checkStreamStart(); err != nil {
		return nil, err
	}
	k.initial = k.c.Since == 0
	since := k.c.Since
	var first store.Slot // the first slot of the user's own changes of membership after the token
	if !k.initial {
		var err error
		if first, err = k.delta.ReadOwn(r, k.req.UserNum, since); err != nil {
			return nil, err
		}
	}
	left := k.req.Filter.Room.IncludeLeave && (k.initial || k.req.FullState)
	rows, err := roomdb.SyncRooms(r, k.req.UserNum, left)
	if err == nil && first != 0 {
		var gone []roomdb.SyncRoom
		gone, err = roomdb.SyncLeft(r, k.req.UserNum, first-1)
		for _, row := range gone {
			if row.Forgotten || !left { // else it is there already
				rows = append(rows, row)
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the rooms of %s: %w", k.req.UserID, err)
	}
	return k.sortRooms(rows, first)
}

// checkStreamStart checks whether the stream still reaches back to the token. If not, the client is answered as if it knew nothing.
func (k snapshotReader) checkStreamStart() error {
	if k.c.Since == 0 {
		return nil
	}
	if k.c.Since > k.upto {
		k.forgotten = true // a token of another database, or of one that was restored
	} else {
		oldest, err := k.read.OldestPosition()
		if err != nil {
			return fmt.Errorf("read the oldest position of the stream: %w", err)
		}
		k.forgotten = k.c.Since < oldest
	}
	if k.forgotten {
		k.c.Since = 0
	}
	return nil
}

// sortRooms makes the entries of the user's rooms. first is the first slot of the user's own changes after the token.
func (k snapshotReader) sortRooms(rows []roomdb.SyncRoom, first store.Slot) (*storedRooms, error) {
	out := &storedRooms{}
	var active, hidden []roomdb.SyncRoom
	k.delta.Joined = k.delta.Joined[:0] // by number, as the rows are
	for _, row := range rows {
		if row.Membership == roomdb.Join {
			k.delta.Joined = append(k.delta.Joined, row.Room)
		}
		roomID, err := id.ParseRoomID(row.RoomID)
		if err != nil {
			return nil, fmt.Errorf("stored room %q: %w", row.RoomID, err)
		}
		if !k.req.Filter.Room.AllowsRoom(roomID) {
			hidden = append(hidden, row)
			continue
		}
		changed := k.initial || k.req.FullState || first != 0 && row.UserSlot >= first
		switch row.Membership {
		case roomdb.Invite:
			if changed {
				out.invited = append(out.invited, row)
			}
		case roomdb.Knock:
			if changed {
				out.knocked = append(out.knocked, row)
			}
		case roomdb.Join:
			active = append(active, row)
		case roomdb.Leave, roomdb.Ban:
			if changed {
				active = append(active, row)
			}
		}
	}
	if err := k.dropUnwanted(out); err != nil {
		return nil, err
	}
	k.initialQuery()
	k.storedTyping()
	return out, k.collectActive(active, hidden, first)
}

// dropUnwanted leaves out the invites of a viewer who takes none.
//
// Spec: client-server-api#invite-permission
func (k snapshotReader) dropUnwanted(out *storedRooms) error {
	if len(out.invited) == 0 {
		return nil
	}
	r, err := k.open(k.ctx)
	if err != nil {
		return err
	}
	blocked, err := room.BlocksInvites(r, k.req.UserNum)
	if err != nil {
		return fmt.Errorf("invite permission of %s: %w", k.req.UserID, err)
	}
	if blocked {
		out.invited = nil
	}
	return nil
}

// storedTyping finds out who types in the viewer's rooms.
func (k snapshotReader) storedTyping() {
	k.cache.FillTyping(k.delta)
	k.cache.CompareTyping(k.delta, &k.c)
}

// collectActive makes the entries of joined and left rooms. Of those that the filter hides, it only notes who came and went.
func (k snapshotReader) collectActive(rows, hidden []roomdb.SyncRoom, first store.Slot) error {
	nums := make([]store.RoomNum, 0, len(rows)+len(hidden))
	for _, row := range rows {
		nums = append(nums, row.Room)
		k.l.Version(row.Room, row.Version)
	}
	for _, row := range hidden {
		nums = append(nums, row.Room)
	}
	moves := &moveReader{q: &k.query, read: k.read, store: k.r.store, l: k.l}
	starts := map[store.RoomNum]store.RoomStart{}
	if !k.initial {
		list, err := k.read.RoomStarts(nums, k.c.Since)
		if err != nil {
			return fmt.Errorf("read where rooms stood: %w", err)
		}
		for _, s := range list {
			starts[s.Room] = s
		}
		for i := range hidden {
			row := &hidden[i]
			if err := moves.add(row, starts[row.Room], first != 0 && row.UserSlot >= first); err != nil {
				return err
			}
		}
	}
	for i := range rows {
		e, err := k.storedEntry(&rows[i], starts[rows[i].Room], first, moves)
		if err != nil {
			return err
		}
		if e != nil {
			k.entries = append(k.entries, e)
		}
	}
	if err := moves.finish(); err != nil {
		return err
	}
	if err := k.readTimelines(); err != nil {
		return err
	}
	return k.readStates()
}

// storedEntry makes the entry of a room; nil if nothing happened there.
func (k snapshotReader) storedEntry(row *roomdb.SyncRoom, start store.RoomStart, first store.Slot, moves *moveReader) (*entry, error) {
	roomID, err := id.ParseRoomID(row.RoomID)
	if err != nil {
		return nil, err
	}
	e := &entry{joinedRoom: row.Membership == roomdb.Join, membership: row.Membership}
	e.timelineRange = timelineRange{num: row.Room, id: roomID, upto: row.RoomSlot, wholeState: k.req.FullState}
	e.summary.joined, e.summary.invited = row.Joined, row.Invited
	e.slotNow, e.member, e.totals = row.RoomSlot, row.Event, row.Totals
	changed := first != 0 && row.UserSlot >= first
	switch {
	case !e.joinedRoom:
		if row.Slot > 0 {
			e.upto = row.Slot
		}
	default:
		e.joined = row.Slot
	}
	if e.joinedRoom {
		e.typing = k.delta.FindTyping(row.Room)
	}
	if k.initial {
		e.wholeState = true
		if !e.joinedRoom {
			return e, k.takeLeft(e, moves)
		}
		return e, nil
	}
	// The room's last slot at the token: before the first slot that came after it.
	e.since = row.RoomSlot
	if start.Timeline != 0 {
		e.since = start.Timeline - 1
	}
	e.membersSince = e.since
	switch {
	case e.joinedRoom && changed:
		if err := moves.addEntered(row.Room, e.since); err != nil {
			return nil, err
		}
		if k.req.Filter.Room.State.LazyLoadMembers {
			if e.visibility, err = k.readVisibilityHistory(e.num); err != nil {
				return nil, err
			}
			e.membersSince = knownUpto(e.visibility.membership, e.since)
		}
		e.since, e.entered, e.wholeState = 0, true, true
	case !e.joinedRoom:
		return e, k.takeLeft(e, moves)
	case start.Timeline == 0 && start.Receipts == 0 && !k.req.FullState && e.typing == nil:
		if !k.delta.Own[store.KindAccountData] {
			return nil, nil
		}
		// Its account data may have changed; if not, the entry stays empty and is left out.
	}
	if start.Receipts != 0 && !e.entered { // who enters gets all
		e.receiptsUnread = true
		e.receiptsAfter = start.Receipts - 1
	}
	return e, nil
}

// takeLeft determines when the viewer left a room, and what the client knows of it: nothing, if the viewer joined and left after the
// token. What a client knows as left has nothing new but the viewer's own membership, a ban for example.
func (k snapshotReader) takeLeft(e *entry, moves *moveReader) (err error) {
	if e.visibility, err = k.readVisibilityHistory(e.num); err != nil {
		return err
	}
	e.leftAt = leaveSlot(e.visibility.membership)
	if k.initial {
		return nil
	}
	e.since = min(e.since, e.upto)
	e.membersSince = knownUpto(e.visibility.membership, e.since)
	switch _, was := at(e.visibility.membership, e.since); {
	case was == "join":
		moves.addLeft(e.num, e.since, e.leftAt)
	case k.req.FullState || e.leftAt > e.since:
		e.since, e.wholeState = 0, true
	}
	return nil
}

// readTimelines reads the events of the entries' timelines.
func (k snapshotReader) readTimelines() error {
	f := &k.req.Filter.Room.Timeline
	depth := f.Limit() + 1
	byRoom := make(map[store.RoomNum]*entry, len(k.entries))
	var nums []store.RoomNum
	for _, e := range k.entries {
		if e.upto == e.slotNow && e.upto > e.since {
			byRoom[e.num] = e
			nums = append(nums, e.num)
		}
	}
	nums = k.recent(byRoom, nums, depth)
	rows, err := roomdb.SyncRecentEvents(k.read, nums, depth, k.l.Known)
	if err != nil {
		return fmt.Errorf("read timelines: %w", err)
	}
	logs, err := roomdb.SyncRecentChanges(k.read, nums, depth)
	if err != nil {
		return fmt.Errorf("read changes of state: %w", err)
	}
	k.l.WantEvents(rows)
	k.l.WantLog(logs)
	if err := k.l.Load(); err != nil {
		return err
	}
	for _, row := range rows {
		e := byRoom[row.Room]
		if row.Place.Slot <= e.since {
			continue
		}
		if ev := k.l.Event(row.Num); ev != nil {
			e.events = append(e.events, ev)
		}
	}
	for _, c := range logs {
		byRoom[c.Room].log = append(byRoom[c.Room].log, c)
	}
	k.keepRecent(nums, byRoom, depth)
	for _, e := range k.entries {
		e.read = e.upto
		if byRoom[e.num] != nil {
			e.read = max(e.slotNow-store.Slot(depth), e.since)
			e.logFrom = max(e.slotNow-store.Slot(depth), 0)
		} else {
			e.logFrom = e.slotNow
		}
		e.older = e.read > e.since
		if err := k.readOlder(e, depth); err != nil {
			return err
		}
	}
	return nil
}

// readOlder reads older events until the timeline is complete.
func (k snapshotReader) readOlder(e *entry, depth int) error {
	if err := k.limitVisibility(e); err != nil {
		return err
	}
	for scanned := depth; ; {
		k.selectTimeline(e)
		if e.timeline.complete || scanned >= scanLimit {
			break
		}
		page := min(scanPage, scanLimit-scanned)
		rows, err := roomdb.SyncEventRange(k.read, e.num, e.since, e.read, page, k.l.Known)
		if err != nil {
			return fmt.Errorf("read a timeline: %w", err)
		}
		scanned += page
		e.older = len(rows) == page
		e.read = e.since
		if e.older {
			e.read = rows[len(rows)-1].Place.Slot - 1
			e.older = e.read > e.since
		}
		k.l.WantEvents(rows)
		if err := k.l.Load(); err != nil {
			return err
		}
		older := make([]*timeline.Event, 0, len(rows)+len(e.events))
		for _, row := range slices.Backward(rows) {
			if ev := k.l.Event(row.Num); ev != nil {
				older = append(older, ev)
			}
		}
		e.events = append(older, e.events...)
	}
	return k.redactErased(e)
}

// limitVisibility reads what the viewer may see, unless that is everything: for a member without a break since before the oldest
// event.
func (k snapshotReader) limitVisibility(e *entry) error {
	if e.visibility != nil {
		return nil
	}
	if e.joined != 0 && e.joined <= e.since+1 {
		return nil
	}
	if e.joined != 0 && !e.selectEvents(&k.req.Filter.Room.Timeline, k.req.Filter.Room.Timeline.Limit(), nil).reaches(e.joined) {
		return nil
	}
	var err error
	e.visibility, err = k.readVisibilityHistory(e.num)
	return err
}

// reaches reports whether a timeline may go back to before a slot.
func (c selection) reaches(slot store.Slot) bool {
	return !c.complete || len(c.events) > 0 && c.events[0].Slot < slot
}

// recent takes the timelines of rooms from memory, if it is as new as the snapshot, and returns the other rooms.
func (k snapshotReader) recent(byRoom map[store.RoomNum]*entry, nums []store.RoomNum, depth int) []store.RoomNum {
	if depth > streamcache.RecentDepth {
		return nums
	}
	missing := nums[:0]
	for _, num := range nums {
		e := byRoom[num]
		from := max(e.slotNow-store.Slot(depth), 0)
		recent, ok := k.kept.Recent(num, from, e.slotNow)
		if !ok {
			missing = append(missing, num)
			continue
		}
		for _, c := range recent.Log {
			if c.Slot > from {
				e.log = append(e.log, c)
			}
		}
		for _, ev := range recent.Events {
			if ev.Slot > e.since && ev.Slot > from {
				e.events = append(e.events, ev)
			}
		}
	}
	return missing
}

// keepRecent keeps the timelines that were read.
func (k snapshotReader) keepRecent(nums []store.RoomNum, byRoom map[store.RoomNum]*entry, depth int) {
	if depth < streamcache.RecentDepth || !k.initial {
		return
	}
	for _, num := range nums {
		e := byRoom[num]
		k.kept.KeepRecent(num, streamcache.Recent{From: max(e.slotNow-store.Slot(depth), 0), Upto: e.slotNow, Events: e.events, Log: e.log}, k.read.Head())
	}
}
