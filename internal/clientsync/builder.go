package clientsync

import (
	"context"
	"fmt"
	"slices"

	"stoa/internal/history"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/streamcache"
	"stoa/internal/timeline"
	"stoa/matrix/event"
	"stoa/matrix/eventfilter"
	"stoa/matrix/id"
)

// responseBuilder makes one attempt at one answer.
type responseBuilder struct {
	r     *Renderer
	cache *streamcache.Cache
	kept  *streamcache.Kept
	req   *Request
	ctx   context.Context
	// c is the cursor of the request, and at the end that of the answer's token.
	c     streamcache.Cursor
	delta *streamcache.Delta
	upto  store.Position
	// initial is set if the client knows nothing, forgotten if the stream no longer reaches back to the token.
	initial, forgotten bool
	// sentSince is the position from which on members sent to the device count; see streamcache.SentMembers.
	sentSince store.Position
	reader    timeline.Reader

	snapshot *store.Read // nil until something is read
	read     *store.Read
	l        *streamcache.Loader

	entries []*entry
	pdus    map[store.EventNum]*event.PDU // for the federation format
	query   Query
	global  []streamcache.Datum // global account data
	out     []byte
	// memory is where the answer's memory is taken, nil if it does not count here; taken is how much was taken, in bytes.
	memory Memory
	taken  int64
	// hasNews is set if a waiting request is to be answered.
	hasNews bool
}

// entry is one joined or left room of an answer.
type entry struct {
	timelineRange
	joinedRoom bool // else left
	membership roomdb.Membership
	// leftAt is the slot at which the viewer left the room, 0 if they were never in it. The state of a left room is that of this slot,
	// except for the viewer's own membership.
	leftAt   store.Slot
	timeline selection
	state    []*timeline.Event
	// base is the room's current state, log its newest changes, oldest first; a whole state is made of them.
	base []roomdb.StateSlot
	log  []roomdb.StateChange
	// slotNow is the room's last slot in the snapshot. Events are read down to the slot read, the log from logFrom on.
	slotNow, read, logFrom store.Slot
	totals                 []byte // of the room, as of slotNow
	// member is the viewer's membership event.
	member store.EventNum

	receipts       []roomdb.Receipt
	receiptsUnread bool
	receiptsAfter  store.Slot
	ownReceipt     bool
	typing         *streamcache.TypingRoom
	data           []streamcache.Datum
	counts         streamcache.Counts
	// membersMoved is set if a membership changed since the token, nameMoved if the name or the canonical alias did.
	membersMoved, nameMoved bool
	summary                 summary
	bundles                 map[id.EventID]*timeline.Bundle
	// open is set if members see all events, replacedSlots has slots of replaced events that the replacing ones do not name.
	open          bool
	replacedSlots map[id.EventID]store.Slot
}

// buildAnswer makes an answer of a delta. It returns nil if there turns out to be nothing new and the request may still wait; the
// cursor then moves past what was checked.
func (r *Renderer) buildAnswer(ctx context.Context, req *Request, c *streamcache.Cursor, p *streamcache.Delta, memory Memory, must bool) (*streamcache.Answer, error) {
	k := &responseBuilder{r: r, memory: memory, cache: r.cache, kept: r.kept, req: req, ctx: ctx, c: *c, delta: p, upto: p.Upto}
	defer k.close()
	k.reader = timeline.Reader{UserID: req.UserID, DeviceID: string(req.DeviceID), Now: r.clock().UnixMilli()}
	a := streamcache.NewAnswer(p.FromStore || c.Since == 0 || req.FullState)
	k.out = append(a.Body()[:0], '{')
	err := k.run()
	if err == nil && !k.hasNews && !must {
		*c = k.c
	}
	a.SetBody(k.out)
	if err == nil && (k.hasNews || must) {
		err = k.sized(len(k.out))
	}
	if err != nil || !k.hasNews && !must {
		k.giveBack(k.taken)
		a.Release()
		return nil, err
	}
	if n := k.taken; n > 0 {
		a.OnRelease(func() { k.giveBack(n) })
	}
	return a, nil
}

// countedAnswer is the size from which an answer counts.
const countedAnswer = 64 << 10

// take takes memory for an answer of about so many bytes, and waits until it is free. It closes the snapshot first: one that waits could
// keep others from moving on.
func (k *responseBuilder) take(bytes int64) (err error) {
	if k.memory == nil || bytes < countedAnswer {
		return nil
	}
	k.close()
	k.snapshot = nil
	k.cache.Blocking(k.ctx, func() { err = k.memory.Take(k.ctx, k.req.UserID.String(), bytes) })
	if err == nil {
		k.taken = bytes
	}
	return err
}

// sized replaces the memory that was taken by that of the answer, whose size is known now. Of an answer from the store nothing was
// taken, since the connections to the store bound how many are made at a time. If there is no memory for it, the client asks again.
func (k *responseBuilder) sized(size int) error {
	n := int64(size)
	switch {
	case k.memory == nil || n < countedAnswer && k.taken == 0:
	case k.taken == 0:
		if err := k.memory.TryTake(k.req.UserID.String(), n); err != nil {
			return err
		}
		k.taken = n
	default:
		k.giveBack(k.taken - n)
		k.taken = n
	}
	return nil
}

func (k *responseBuilder) giveBack(bytes int64) {
	if bytes != 0 {
		k.memory.Add(k.req.UserID.String(), -bytes)
	}
}

// eventBytes is the size of the events that were taken from memory.
func (k *responseBuilder) eventBytes() (bytes int64) {
	for _, e := range k.entries {
		for _, ev := range e.timeline.events {
			bytes += int64(ev.Size())
		}
		for _, ev := range e.state {
			bytes += int64(ev.Size())
		}
	}
	return bytes
}

func (k *responseBuilder) close() {
	if k.snapshot != nil {
		k.snapshot.Close()
	}
}

// open returns the snapshot, and opens it on first use.
func (k *responseBuilder) open(ctx context.Context) (*store.Read, error) {
	if k.snapshot == nil {
		r, err := k.r.store.Snapshot(ctx)
		if err != nil {
			return nil, fmt.Errorf("open a snapshot: %w", err)
		}
		k.snapshot, k.read = r, r
		k.l = k.cache.Loader(r)
	}
	return k.snapshot, nil
}

// run collects the parts of the answer and appends them.
func (k *responseBuilder) run() error {
	fromStore := k.delta.FromStore || k.c.Since == 0 || k.req.FullState
	if fromStore {
		// What memory holds is asked as well, so it has to be as new as what this instance has committed. No snapshot is
		// open yet: waiting with one could keep others from moving on.
		if err := k.cache.AwaitOwn(k.ctx); err != nil {
			return err
		}
	}
	if err := k.ignored(); err != nil {
		return err
	}
	var rooms *storedRooms
	var err error
	if fromStore {
		k.r.answers.WithLabelValues("store").Inc()
		rooms, err = snapshotReader{k}.collectStored()
	} else {
		k.r.answers.WithLabelValues("memory").Inc()
		k.collectDelta()
		err = k.take(k.eventBytes())
	}
	if err != nil {
		return err
	}
	for _, step := range []func() error{k.takeData, k.takeSummaries, memberReader{k}.takeMembers, k.takeReceipts, k.takeCounts, k.takeOpen, k.takeFederation} {
		if err := step(); err != nil {
			return err
		}
	}
	w := writer{k}
	w.appendRooms(rooms)
	if err := w.appendSections(); err != nil {
		return err
	}
	k.c.Since, k.c.Typing = k.upto, k.delta.TypingHash
	k.out = append(streamcache.Separate(k.out), `"next_batch":"`...)
	k.out = append(k.out, k.c.Token().String()...)
	k.out = append(k.out, `"}`...)
	return nil
}

// collectDelta makes the entries of what memory holds.
func (k *responseBuilder) collectDelta() {
	k.initialQuery()
	for i := range k.delta.Rooms {
		p := &k.delta.Rooms[i]
		e := &entry{joinedRoom: true, membership: roomdb.Join, receipts: p.Receipts, receiptsUnread: p.ReceiptsUnread, typing: p.Typing}
		e.timelineRange = timelineRange{num: p.Num, id: p.ID, joined: p.Joined}
		if n := len(p.Segments); n > 0 {
			e.since, e.upto = p.Segments[0].First-1, p.Segments[n-1].Last
			e.summary.joined, e.summary.invited = p.Segments[n-1].Joined, p.Segments[n-1].Invited
		}
		e.events, e.changes = join(p.Segments)
		for _, s := range p.Segments {
			e.membersMoved = e.membersMoved || s.MovesMembers
			k.noteChanges(e, s.Changes)
		}
		if !k.req.Filter.Room.AllowsRoom(p.ID) {
			continue
		}
		k.selectTimeline(e)
		if !k.req.StateAfter {
			e.skipReplaced(&e.timeline, len(e.changes), func(i int) (store.KeyNum, store.EventNum) {
				if ev := e.changes[i].Event; ev != nil {
					return e.changes[i].Key, ev.Num
				}
				return e.changes[i].Key, 0
			})
		}
		e.state = e.stateDelta(&e.timeline, k.req.StateAfter)
		k.entries = append(k.entries, e)
	}
}

// join joins segments.
func join(segments []*streamcache.Segment) ([]*timeline.Event, []streamcache.Change) {
	if len(segments) == 1 {
		return streamcache.Live(segments[0].Events), segments[0].Changes
	}
	var events []*timeline.Event
	var changes []streamcache.Change
	for _, s := range segments {
		events = append(events, streamcache.Live(s.Events)...)
		changes = append(changes, s.Changes...)
	}
	return events, changes
}

// selectTimeline chooses an entry's timeline.
func (k *responseBuilder) selectTimeline(e *entry) {
	f := &k.req.Filter.Room.Timeline
	e.timeline = e.selectEvents(f, f.Limit(), k.reader.Ignored)
}

// noteChanges notes whether the name of a room changed, and who joined and left, for the sections about other users.
func (k *responseBuilder) noteChanges(e *entry, changes []streamcache.Change) {
	for i := range changes {
		ch := &changes[i]
		if ch.Slot <= e.since {
			continue
		}
		e.nameMoved = e.nameMoved || ch.Type == "m.room.name" || ch.Type == "m.room.canonical_alias"
		if ch.Type != "m.room.member" || ch.StateKey == k.req.UserID.String() {
			continue
		}
		userID, err := id.ParseUserID(ch.StateKey)
		if err != nil {
			continue // a member event of an old room whose state key is no user
		}
		joined := ch.Event != nil && ch.Event.Membership == "join"
		was := ch.Event != nil && ch.Event.Replaced != nil && ch.Event.Replaced.Membership == "join"
		switch {
		case joined && !was:
			k.query.JoinedMembers = append(k.query.JoinedMembers, MemberMove{e.num, userID})
		case !joined && (was || ch.Event == nil):
			k.query.LeftMembers = append(k.query.LeftMembers, MemberMove{e.num, userID})
		}
	}
}

// initialQuery prepares the query of the sections.
func (k *responseBuilder) initialQuery() {
	k.query.Device, k.query.Filter = k.req.Device, k.req.Filter
	k.query.Since, k.query.Upto = k.c.Since, k.upto
	k.query.Forgotten = k.forgotten
	if k.initial {
		k.query.Since = 0
	}
	k.query.read = k.open
	k.query.cache = k.cache
	k.query.Rooms = k.delta.Joined
}

// ignored finds out whom the viewer ignores. It is kept in memory until the viewer's account data changes.
func (k *responseBuilder) ignored() error {
	if k.r.opt.AccountData == nil {
		return nil
	}
	if ignored, known := k.kept.Ignored(k.req.UserNum); known {
		k.reader.Ignored = ignored
		return nil
	}
	r, err := k.open(k.ctx)
	if err != nil {
		return err
	}
	list, err := k.r.opt.AccountData.Ignored(r, k.req.User)
	if err != nil {
		return fmt.Errorf("read the ignored users of %s: %w", k.req.UserID, err)
	}
	if len(list) > 0 {
		k.reader.Ignored = make(map[id.UserID]bool, len(list))
		for _, x := range list {
			k.reader.Ignored[x] = true
		}
	}
	k.kept.KeepIgnored(k.req.UserNum, k.reader.Ignored, r.Head())
	return nil
}

// takeFederation reads the PDUs of the answer's events, for a filter that asks for the federation format.
func (k *responseBuilder) takeFederation() error {
	if k.req.Filter.EventFormat != eventfilter.FormatFederation {
		return nil
	}
	if _, err := k.open(k.ctx); err != nil {
		return err
	}
	k.pdus = map[store.EventNum]*event.PDU{}
	for _, e := range k.entries {
		for _, ev := range slices.Concat(e.timeline.events, e.state) {
			pdu, err := k.l.Stored(ev.Num)
			if err != nil {
				return err
			}
			k.pdus[ev.Num] = pdu
		}
	}
	return nil
}

// show returns what the viewer sees of an event beside its client form.
func (k *responseBuilder) show(e *entry, ev *timeline.Event) timeline.Show {
	s := timeline.Show{Federation: k.pdus[ev.Num], Bundle: e.bundles[ev.ID]}
	switch {
	case e.joined != 0 && ev.Slot >= e.joined:
		s.Membership = "join"
	case e.visibility != nil:
		s.Membership = e.visibility.membershipAt(ev)
	}
	if ev.Replaced != nil {
		slot := e.replacedSlot(ev)
		s.SeesReplaced = e.open || slot != 0 && (e.joined != 0 && slot >= e.joined ||
			e.visibility != nil && history.Visible(e.visibility.visibilityAt(slot)))
	}
	return s
}
