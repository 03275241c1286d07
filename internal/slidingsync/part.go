package slidingsync

import (
	"cmp"
	"fmt"
	"slices"

	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/slidingdb"
	"stoa/internal/streamcache"
	"stoa/internal/timeline"
	"stoa/internal/token"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/id"
)

// part is one room of an answer.
type part struct {
	num        store.RoomNum
	id         string
	asked      *asked
	membership roomdb.Membership
	// joined rooms are sent whole, left ones as of the viewer's leaving, stripped ones (invites and knocks) as they came in.
	joined, left, stripped bool
	dm, dmChanged          bool
	// sent is what the client was sent of the room, if it is known; is what it will have been.
	sent, is sentRoom
	known    bool
	// from is the position up to which the client knows the room. delta has what happened since, nil if it is to be read.
	from  store.Position
	delta *streamcache.DeltaRoom
	// initial says that the client is to drop what it knows, expanded that the timeline begins before from, quiet that nothing
	// happened. added are state filters of which the client has nothing.
	initial, expanded, quiet bool
	added                    []*StateFilter
	// dropped is set if the room turns out to be another answer's.
	dropped bool

	row   roomdb.SyncRoom
	event *timeline.Event // the viewer's membership, of a room that they are not in
	// since is the last slot that the client knows, 0 for none; upto the last of the answer; live the last from before the pos.
	since, upto, live store.Slot
	// joinedAt is the slot from which on the viewer has been a member without a break.
	joinedAt store.Slot

	events  []*timeline.Event // oldest first
	shows   map[store.EventNum]timeline.Show
	limited bool
	state   []*timeline.Event
	removed []store.Pair
	// membersMoved says that somebody's membership, name or avatar has changed; counted that the counts are known.
	membersMoved, counted bool
	joinedCount, invited  int64
	name, avatar          *string // nil: has not changed; "": there is none
	named                 bool
	heroes                []*timeline.Event
	withHeroes            bool
	bump                  store.Position
}

// load reads what is needed of some rooms.
func (b *builder) load(parts []*part) error {
	var stored []*part
	for _, p := range parts {
		switch {
		case p.joined && p.quiet && !p.initial && !p.expanded && len(p.added) == 0:
		case p.joined && p.delta != nil && !p.initial && !p.expanded && len(p.added) == 0 && !b.fromStore:
			b.fromMemory(p)
		default:
			stored = append(stored, p)
		}
	}
	if len(stored) > 0 {
		if err := (roomReader{b}).read(stored); err != nil {
			return err
		}
	}
	return memberReader{b}.addMembers(parts)
}

// fromMemory takes the news of a room from memory.
func (b *builder) fromMemory(p *part) {
	segments := p.delta.Segments
	p.joinedAt = p.delta.Joined
	if len(segments) == 0 {
		return
	}
	p.since, p.upto = segments[0].First-1, segments[len(segments)-1].Last
	p.live = p.since
	last := segments[len(segments)-1]
	p.joinedCount, p.invited = last.Joined, last.Invited
	newest := map[store.KeyNum]streamcache.Change{}
	var keys []store.KeyNum
	for _, s := range segments {
		p.events = append(p.events, streamcache.Live(s.Events)...)
		p.membersMoved = p.membersMoved || s.MovesMembers
		for _, ch := range s.Changes {
			if _, ok := newest[ch.Key]; !ok {
				keys = append(keys, ch.Key)
			}
			newest[ch.Key] = ch
		}
	}
	p.counted = p.membersMoved
	for _, ev := range p.events {
		if bumps(ev) {
			p.bump = p.delta.Last
		}
	}
	b.limitTimeline(p, false)
	for _, key := range keys {
		ch := newest[key]
		b.takeState(p, ch.Type, ch.StateKey, ch.Event, p.asked.filters, p.asked.lazily() && !p.limited)
	}
}

// bumps reports whether an event moves its room up in a client's list.
func bumps(ev *timeline.Event) bool {
	if ev.IsRedacted() {
		return false
	}
	switch ev.Type {
	case event.TypeCreate, event.TypeMessage, event.TypeEncrypted, "m.sticker", "m.call.invite", "m.poll.start", "m.beacon_info",
		"org.matrix.msc3381.poll.start", "org.matrix.msc3672.beacon_info":
		return true
	}
	return false
}

// takeState adds an entry of state that the client is to have; ev is nil if it was removed. With members, all members are.
func (b *builder) takeState(p *part, evType, key string, ev *timeline.Event, filters []*StateFilter, members bool) {
	if key == "" && evType == event.TypeName {
		name := textOf(ev, "name")
		p.name = &name
	}
	if key == "" && evType == event.TypeAvatar {
		avatar := textOf(ev, "url")
		p.avatar = &avatar
	}
	if !anySelects(filters, evType, key, b.viewer) && !(members && evType == event.TypeMember) {
		return
	}
	if ev != nil {
		p.state = append(p.state, ev)
	} else {
		p.removed = append(p.removed, store.Pair{Type: evType, StateKey: key})
	}
}

func textOf(ev *timeline.Event, field string) string {
	if ev == nil {
		return ""
	}
	text, _ := canonicaljson.String(canonicaljson.Get(ev.Content(), field))
	return text
}

// limitTimeline leaves the newest events that the limit allows. older says that there are more before them.
func (b *builder) limitTimeline(p *part, older bool) {
	p.limited = older
	if len(b.reader.Ignored) > 0 {
		p.events = slices.DeleteFunc(p.events, func(ev *timeline.Event) bool { return !ev.IsState && b.reader.Ignored[ev.Sender] })
	}
	if n := len(p.events) - p.asked.limit; n > 0 {
		p.events, p.limited = p.events[n:], true
	}
	switch {
	case !p.limited && (p.initial || p.expanded):
		p.is.limit = completeTimeline
	case p.initial || p.expanded || p.limited && !p.quiet:
		p.is.limit = uint16(p.asked.limit)
	}
}

// prevBatch is the place before the timeline.
func (p *part) prevBatch() token.Timeline {
	switch {
	case len(p.events) > 0:
		return token.Timeline{Slot: int64(p.events[0].Slot), Offset: p.events[0].Off - 1}
	case p.limited || p.since == 0:
		return token.Timeline{Slot: int64(p.upto)}
	}
	return token.Timeline{Slot: int64(p.since)}
}

// roomReader reads rooms from one snapshot of the store.
type roomReader struct{ *builder }

// read reads some rooms.
func (b roomReader) read(parts []*part) error {
	s, err := b.open(b.ctx)
	if err != nil {
		return err
	}
	nums := make([]store.RoomNum, len(parts))
	for i, p := range parts {
		nums[i] = p.num
	}
	rows, err := roomdb.SyncRoomsOf(s, b.req.UserNum, nums)
	if err != nil {
		return fmt.Errorf("read rooms of %s: %w", b.req.UserID, err)
	}
	byNum := make(map[store.RoomNum]roomdb.SyncRoom, len(rows))
	for _, row := range rows {
		byNum[row.Room] = row
		b.l.Version(row.Room, row.Version)
	}
	var joined []*part
	for _, p := range parts {
		row, ok := byNum[p.num]
		if !ok || p.joined != (row.Membership == roomdb.Join) || p.stripped != (row.Membership == roomdb.Invite || row.Membership == roomdb.Knock) {
			p.dropped = !p.left // it has changed since: the next answer tells
			if p.dropped {
				continue
			}
		}
		if p.roomID(row) == "" {
			p.dropped = true
			continue
		}
		p.row, p.membership = row, row.Membership
		switch {
		case p.joined:
			joined = append(joined, p)
		case p.left:
			if err := b.readLeft(p); err != nil {
				return err
			}
		case p.stripped:
			if err := b.readStripped(p); err != nil {
				return err
			}
		}
	}
	if len(joined) == 0 {
		return nil
	}
	for _, step := range []func([]*part) error{b.readRanges, b.readTimelines, b.readStates, b.readBumps} {
		if err := step(joined); err != nil {
			return err
		}
	}
	return nil
}

func (p *part) roomID(row roomdb.SyncRoom) string {
	if p.id == "" {
		p.id = row.RoomID
	}
	return p.id
}

// readRanges finds out which slots the answer covers, of rooms that the viewer is in.
func (b roomReader) readRanges(parts []*part) error {
	at := map[store.Position]map[store.RoomNum]store.RoomStart{}
	nums := map[store.Position][]store.RoomNum{}
	for _, p := range parts {
		if !b.fromStore {
			nums[b.upto] = append(nums[b.upto], p.num)
		}
		if !b.first && b.c.Since != p.from {
			nums[b.c.Since] = append(nums[b.c.Since], p.num)
		}
		if p.from != 0 {
			nums[p.from] = append(nums[p.from], p.num)
		}
	}
	for pos, list := range nums {
		starts, err := b.snapshot.RoomStarts(list, pos)
		if err != nil {
			return fmt.Errorf("read where rooms stood: %w", err)
		}
		at[pos] = make(map[store.RoomNum]store.RoomStart, len(starts))
		for _, start := range starts {
			at[pos][start.Room] = start
		}
	}
	slotAt := func(p *part, pos store.Position) store.Slot {
		if start := at[pos][p.num]; start.Timeline != 0 {
			return start.Timeline - 1
		}
		return p.row.RoomSlot
	}
	for _, p := range parts {
		p.upto = p.row.RoomSlot
		if !b.fromStore {
			p.upto = slotAt(p, b.upto)
		}
		if p.joinedAt = p.row.Slot; p.joinedAt > p.upto {
			p.dropped = true // the viewer has come back since
			continue
		}
		p.joinedCount, p.invited, p.counted = p.row.Joined, p.row.Invited, p.initial
		if b.first {
			p.live = p.upto
			continue
		}
		p.live = min(slotAt(p, b.c.Since), p.upto)
		if !p.initial {
			p.since = min(slotAt(p, p.from), p.upto)
			if p.joinedAt > p.since {
				p.initial, p.expanded, p.since, p.counted = true, false, 0, true
			}
		}
	}
	return nil
}

// readTimelines reads the events of the timelines.
func (b roomReader) readTimelines(parts []*part) error {
	depth := 0
	var newest []store.RoomNum
	for _, p := range parts {
		if !p.dropped && (p.initial || p.expanded) {
			depth = max(depth, p.asked.limit+1)
			newest = append(newest, p.num)
		}
	}
	recent := map[store.RoomNum][]roomdb.SyncEvent{}
	if len(newest) > 0 && depth > 1 {
		rows, err := roomdb.SyncRecentEvents(b.snapshot, newest, depth, b.l.Known)
		if err != nil {
			return fmt.Errorf("read timelines: %w", err)
		}
		for _, row := range rows {
			recent[row.Room] = append(recent[row.Room], row)
		}
	}
	for _, p := range parts {
		if p.dropped {
			continue
		}
		if err := b.readTimeline(p, recent[p.num], depth); err != nil {
			return err
		}
	}
	return nil
}

// readTimeline reads the events of one timeline. recent are those of the last depth slots of the room, for an answer that begins anew.
func (b roomReader) readTimeline(p *part, recent []roomdb.SyncEvent, depth int) error {
	after := p.since
	if p.initial || p.expanded {
		after = 0
	}
	rows := make([]roomdb.SyncEvent, 0, p.asked.limit+1) // newest first
	from := p.upto
	if p.initial || p.expanded {
		for _, row := range slices.Backward(recent) {
			if row.Place.Slot <= p.upto && len(rows) <= p.asked.limit {
				rows = append(rows, row)
			}
		}
		from = min(from, max(p.row.RoomSlot-store.Slot(depth), 0))
	}
	if missing := p.asked.limit + 1 - len(rows); missing > 0 && from > after {
		more, err := roomdb.SyncEventRange(b.snapshot, p.num, after, from, missing, b.l.Known)
		if err != nil {
			return fmt.Errorf("read a timeline: %w", err)
		}
		rows = append(rows, more...)
	}
	if len(rows) > 0 && rows[len(rows)-1].Place.Slot < p.joinedAt {
		return b.readVisible(p, after)
	}
	b.l.WantEvents(rows)
	if err := b.l.Load(); err != nil {
		return err
	}
	for _, row := range slices.Backward(rows) {
		if ev := b.l.Event(row.Num); ev != nil {
			p.events = append(p.events, ev)
		}
	}
	b.limitTimeline(p, false)
	return nil
}

// readVisible reads a timeline that goes back to before the viewer's joining, or that of a room that the viewer has left.
func (b roomReader) readVisible(p *part, after store.Slot) error {
	roomID, err := id.ParseRoomID(p.id)
	if err != nil {
		return fmt.Errorf("stored room %q: %w", p.id, err)
	}
	views, more, err := b.r.opt.History.Recent(b.snapshot, b.req.UserID, roomID, after, p.upto, p.asked.limit)
	if err != nil {
		return err
	}
	p.shows = make(map[store.EventNum]timeline.Show, len(views))
	for i := range views {
		ev := views[i].Event()
		p.events = append(p.events, ev)
		p.shows[ev.Num] = timeline.Show{Membership: views[i].Membership, SeesReplaced: views[i].SeesReplaced}
	}
	b.limitTimeline(p, more)
	return nil
}

// entryLimit bounds the removed entries of state of one room.
const entryLimit = 1000

// readStates reads the entries of state that the client is to have.
func (b roomReader) readStates(parts []*part) error {
	slots, err := b.readEntries(parts)
	if err != nil {
		return err
	}
	byNum := make(map[store.RoomNum]*part, len(parts))
	for _, p := range parts {
		if !p.dropped {
			byNum[p.num] = p
		}
	}
	keys := make([]store.KeyNum, len(slots))
	for i, slot := range slots {
		keys[i] = slot.Key
	}
	pairs, err := b.r.store.Pairs(b.snapshot, keys)
	if err != nil {
		return fmt.Errorf("read state keys: %w", err)
	}
	wanted := func(i int) (p *part, filters []*StateFilter) {
		p = byNum[slots[i].Room]
		switch {
		case p == nil:
		case p.initial || slots[i].Slot > p.since:
			filters = p.asked.filters
		case len(p.added) > 0:
			filters = p.added
		}
		return p, filters
	}
	for i, slot := range slots {
		p, filters := wanted(i)
		if filters != nil && (anySelects(filters, pairs[i].Type, pairs[i].StateKey, b.viewer) || pairs[i].Type == event.TypeName || pairs[i].Type == event.TypeAvatar) {
			b.l.Want(slot.Event)
		}
		if p != nil && pairs[i] == (store.Pair{Type: event.TypeName}) {
			b.l.Want(slot.Event)
		}
	}
	if err := b.l.Load(); err != nil {
		return err
	}
	for i, slot := range slots {
		p, filters := wanted(i)
		if p == nil {
			continue
		}
		ev := b.l.Event(slot.Event)
		if pairs[i] == (store.Pair{Type: event.TypeName}) {
			p.named = textOf(ev, "name") != ""
		}
		if filters != nil && ev != nil {
			b.takeState(p, pairs[i].Type, pairs[i].StateKey, ev, filters, false)
		}
	}
	for _, p := range byNum {
		if err := b.readLog(p); err != nil {
			return err
		}
	}
	return nil
}

// readEntries reads the entries of current state that may be wanted, each once.
func (b roomReader) readEntries(parts []*part) ([]roomdb.StateSlot, error) {
	type want struct {
		exact        []store.Pair
		all, members bool
	}
	wants := make([]want, len(parts))
	var pairs []store.Pair
	for i, p := range parts {
		if p.dropped {
			continue
		}
		w := &wants[i]
		w.exact = []store.Pair{{Type: event.TypeName}, {Type: event.TypeAvatar}}
		for _, f := range p.asked.filters {
			w.members = w.members || f.selectsAllMembers()
			for _, e := range f.Include {
				switch {
				case e.AnyKey || e.AnyType:
					w.all = w.all || e.AnyType || e.Type != event.TypeMember
				case e.OwnID:
					w.exact = append(w.exact, store.Pair{Type: e.Type, StateKey: b.viewer})
				default:
					w.exact = append(w.exact, store.Pair{Type: e.Type, StateKey: e.StateKey})
				}
			}
		}
		pairs = append(pairs, w.exact...)
	}
	nums, err := b.r.store.KeyNums(b.snapshot, pairs)
	if err != nil {
		return nil, fmt.Errorf("look up state keys: %w", err)
	}
	var ask []roomdb.RoomKey
	var all, withMembers []store.RoomNum
	at := 0
	for i, p := range parts {
		w := &wants[i]
		for range w.exact {
			if nums[at] != 0 && !w.members {
				ask = append(ask, roomdb.RoomKey{Room: p.num, Key: nums[at]})
			}
			at++
		}
		switch {
		case w.members:
			withMembers = append(withMembers, p.num)
		case w.all:
			all = append(all, p.num)
		}
	}
	slots, err := roomdb.SyncEntries(b.snapshot, ask)
	if err == nil && len(all) > 0 {
		var more []roomdb.StateSlot
		more, err = roomdb.SyncState(b.snapshot, all, false)
		slots = append(slots, more...)
	}
	if err == nil && len(withMembers) > 0 {
		var more []roomdb.StateSlot
		more, err = roomdb.SyncState(b.snapshot, withMembers, true)
		slots = append(slots, more...)
	}
	if err != nil {
		return nil, fmt.Errorf("read the state of rooms: %w", err)
	}
	slices.SortFunc(slots, func(a, b roomdb.StateSlot) int { return cmp.Or(cmp.Compare(a.Room, b.Room), cmp.Compare(a.Key, b.Key)) })
	return slices.CompactFunc(slots, func(a, b roomdb.StateSlot) bool { return a.Room == b.Room && a.Key == b.Key }), nil
}

// lazyLog bounds the slots of which a client that loads members lazily is told the members who changed.
const lazyLog = 500

// readLog finds, for a room that the client has, the entries of state that were removed, and the members who changed.
func (b roomReader) readLog(p *part) error {
	if p.initial || p.since >= p.upto {
		return nil
	}
	removed, err := slidingdb.Removed(b.snapshot, p.num, p.since, p.upto, entryLimit)
	if err != nil {
		return fmt.Errorf("read what was removed from a state: %w", err)
	}
	var log []roomdb.StateChange
	if p.upto-p.since <= lazyLog {
		if log, err = roomdb.SyncLog(b.snapshot, p.num, p.since, p.upto); err != nil {
			return fmt.Errorf("read changes of state: %w", err)
		}
	} else {
		p.membersMoved = true
	}
	keys := make([]store.KeyNum, 0, len(removed)+len(log))
	for _, c := range slices.Concat(removed, log) {
		keys = append(keys, c.Key)
	}
	pairs, err := b.r.store.Pairs(b.snapshot, keys)
	if err != nil {
		return fmt.Errorf("read state keys: %w", err)
	}
	lazily := p.asked.lazily() && !p.limited
	newest := map[string]store.EventNum{}
	for i, c := range log {
		if pair := pairs[len(removed)+i]; pair.Type == event.TypeMember {
			p.membersMoved = true
			if newest[pair.StateKey] = c.Event; lazily {
				b.l.Want(c.Event)
			}
		}
	}
	if err := b.l.Load(); err != nil {
		return err
	}
	for i, c := range removed {
		if now := slices.ContainsFunc(log, func(x roomdb.StateChange) bool { return x.Key == c.Key && x.Slot > c.Slot && x.Event != 0 }); !now {
			b.takeState(p, pairs[i].Type, pairs[i].StateKey, nil, p.asked.filters, false)
		}
	}
	if lazily {
		for _, num := range newest {
			if ev := b.l.Event(num); ev != nil && !slices.Contains(p.state, ev) {
				p.state = append(p.state, ev)
			}
		}
	}
	p.counted = p.membersMoved
	return nil
}

const (
	// bumpSlots is how far back in a room the newest event that bumps it is looked for.
	bumpSlots = 200
)

// readBumps reads the bump stamps of rooms: the positions of their newest events that bump them.
func (b roomReader) readBumps(parts []*part) error {
	nums := make([]store.RoomNum, 0, len(parts))
	byNum := make(map[store.RoomNum]*part, len(parts))
	for _, p := range parts {
		if !p.dropped && !p.quiet {
			nums, byNum[p.num] = append(nums, p.num), p
		}
	}
	bumped, err := slidingdb.Bumps(b.snapshot, nums, bumpSlots)
	if err != nil {
		return fmt.Errorf("read what bumps rooms: %w", err)
	}
	for i := range bumped {
		// Without such an event it is the oldest that was looked at, so that the room does not jump up.
		if bumped[i].Slot == 0 {
			bumped[i].Slot = max(1, byNum[bumped[i].Room].row.RoomSlot-bumpSlots)
		}
	}
	places, err := slidingdb.PositionsOf(b.snapshot, bumped)
	if err != nil {
		return fmt.Errorf("read what bumps rooms: %w", err)
	}
	for _, place := range places {
		if p := byNum[place.Room]; p.initial || place.Slot > p.since {
			p.bump = place.At
		}
	}
	return nil
}

// readLeft reads a room that the viewer has left, as of then.
func (b roomReader) readLeft(p *part) error {
	b.l.Want(p.row.Event)
	if err := b.l.Load(); err != nil {
		return err
	}
	p.event = b.l.Event(p.row.Event)
	p.upto, p.bump = p.row.RoomSlot, b.rooms[p.num].active
	if p.event != nil {
		p.state = append(p.state, p.event)
	}
	if p.row.RoomSlot == 0 || p.known && p.sent.flags&(sentPart|sentLeft) != 0 && !p.initial {
		if p.event != nil {
			p.events = append(p.events, p.event)
		}
		return nil
	}
	if p.known && p.sent.flags&(sentPart|sentLeft) == 0 {
		starts, err := b.snapshot.RoomStarts([]store.RoomNum{p.num}, cmp.Or(p.sent.behind, b.c.Since))
		if err != nil {
			return fmt.Errorf("read where a room stood: %w", err)
		}
		if p.since = p.row.RoomSlot; len(starts) > 0 && starts[0].Timeline != 0 {
			p.since = starts[0].Timeline - 1
		}
	}
	if p.asked.limit == 0 {
		limited := *p.asked
		limited.limit = 1 // the leave itself
		p.asked = &limited
	}
	if err := b.readVisible(p, p.since); err != nil {
		return err
	}
	if p.event != nil && !slices.ContainsFunc(p.events, func(ev *timeline.Event) bool { return ev.Num == p.event.Num }) && len(p.events) == 0 {
		p.events = append(p.events, p.event)
	}
	p.live = p.since
	return nil
}

// readStripped checks whether an invite is shown.
func (b roomReader) readStripped(p *part) error {
	p.bump = b.rooms[p.num].active
	if p.row.Membership != roomdb.Invite {
		return nil
	}
	blocked, err := room.BlocksInvites(b.snapshot, b.req.UserNum)
	if err != nil {
		return fmt.Errorf("invite permission of %s: %w", b.req.UserID, err)
	}
	p.dropped = blocked || streamcache.IgnoresInviter(&b.reader, p.row.Stripped)
	return nil
}
