package slidingsync

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/streamcache"
	"stoa/internal/timeline"
	"stoa/internal/token"
	"stoa/matrix/event"
	"stoa/matrix/id"
)

// builder makes one attempt at one answer.
type builder struct {
	*pendingSync
	ctx   context.Context
	cfg   *Config
	delta *streamcache.Delta
	upto  store.Position
	// first is set if the client knows nothing, fromStore if memory does not suffice.
	first, fromStore bool
	// whole is set if all rooms are looked at, not only those in which something happened: another room may have come into a window.
	whole  bool
	reader timeline.Reader
	viewer string

	snapshot *store.Read // nil until something is read
	l        *streamcache.Loader

	asked  map[store.RoomNum]*asked
	rooms  map[store.RoomNum]listRoom // those asked for or changed
	order  []store.RoomNum            // of rooms, newest first
	counts []int                      // by list
	news   map[store.RoomNum]*roomNews
	starts map[store.RoomNum]store.RoomStart // after the cursor

	parts        []*part
	changed      map[store.RoomNum]sentRoom
	combinations [][]string

	out     []byte
	hasNews bool
	// unsettled is set if not everything that was asked for fitted into the answer.
	unsettled bool
}

// roomNews is what happened in a room after the cursor.
type roomNews struct {
	timeline bool
	// delta is what memory has of it, nil if it is to be read.
	delta *streamcache.DeltaRoom
	// moved says that the user's own membership changed.
	moved bool
}

// answer makes an answer of a delta. It returns nil if there turns out to be nothing new and the request may still wait; the cursor then
// moves past what was checked.
func (x *pendingSync) answer(ctx context.Context, p *streamcache.Delta, must bool) (*streamcache.Answer, error) {
	b := &builder{
		pendingSync: x, ctx: ctx, cfg: x.req.Config, delta: p, upto: p.Upto, first: x.req.Pos == nil, viewer: x.req.UserID.String(),
		changed: map[store.RoomNum]sentRoom{}, combinations: x.conn.combinations,
	}
	defer b.close()
	b.fromStore = p.FromStore || b.first
	b.reader = timeline.Reader{UserID: x.req.UserID, DeviceID: x.req.DeviceID.String(), Now: x.r.clock().UnixMilli()}
	a := streamcache.NewAnswer(b.fromStore)
	b.out = append(a.Body()[:0], '{')
	c := x.c
	err := b.run(&c)
	switch {
	case err != nil:
	case b.hasNews || must:
		err = b.finish(c)
	default:
		x.c = c
		x.stash(b)
	}
	a.SetBody(b.out)
	if err != nil || !b.hasNews && !must {
		a.Release()
		return nil, err
	}
	return a, nil
}

func (b *builder) close() {
	if b.snapshot != nil {
		b.snapshot.Close()
		b.snapshot = nil
	}
}

// open returns the snapshot, and opens it on first use.
func (b *builder) open(ctx context.Context) (*store.Read, error) {
	if b.snapshot == nil {
		r, err := b.r.store.Snapshot(ctx)
		if err != nil {
			return nil, fmt.Errorf("open a snapshot: %w", err)
		}
		b.snapshot, b.l = r, b.r.cache.Loader(r)
	}
	return b.snapshot, nil
}

// run collects the answer and appends it, but for its pos. It moves the cursor.
func (b *builder) run(c *streamcache.Cursor) error {
	for _, step := range []func() error{b.begin, b.ignored, b.findNews, b.findRooms, b.plan, b.appendRooms, func() error { return extensionWriter{b}.appendExtensions(c) }} {
		if err := step(); err != nil {
			return err
		}
	}
	c.Since, c.Typing = b.upto, b.delta.TypingHash
	b.close()
	return extensionWriter{b}.appendDeviceLists()
}

// begin determines the range of the stream.
func (b *builder) begin() error {
	source := "memory"
	if b.fromStore {
		source = "store"
		// What memory holds is asked as well, so it has to be as new as what this instance has committed.
		if err := b.r.cache.AwaitOwn(b.ctx); err != nil {
			return err
		}
		s, err := b.open(b.ctx)
		if err != nil {
			return err
		}
		b.upto = s.Head()
		if !b.first {
			oldest, err := s.OldestPosition()
			if err != nil {
				return fmt.Errorf("read the oldest position of the stream: %w", err)
			}
			if b.c.Since > b.upto || b.c.Since < oldest {
				return errUnknownPos()
			}
		}
	}
	b.r.metrics.answers.WithLabelValues(source).Inc()
	return nil
}

// ignored finds out whom the viewer ignores. It is kept in memory until the viewer's account data changes.
func (b *builder) ignored() error {
	if ignored, known := b.r.kept.Ignored(b.req.UserNum); known {
		b.reader.Ignored = ignored
		return nil
	}
	s, err := b.open(b.ctx)
	if err != nil {
		return err
	}
	list, err := b.r.opt.AccountData.Ignored(s, b.req.User)
	if err != nil {
		return fmt.Errorf("read the ignored users of %s: %w", b.req.UserID, err)
	}
	if len(list) > 0 {
		b.reader.Ignored = make(map[id.UserID]bool, len(list))
		for _, u := range list {
			b.reader.Ignored[u] = true
		}
	}
	b.r.kept.KeepIgnored(b.req.UserNum, b.reader.Ignored, s.Head())
	return nil
}

// findNews finds the rooms in which something happened after the cursor.
func (b *builder) findNews() error {
	b.news = map[store.RoomNum]*roomNews{}
	b.whole = b.first || b.conn.digest != b.cfg.digest || b.fromStore || b.delta.Own[store.KindAccountData]
	if b.first {
		return nil
	}
	if b.fromStore {
		return b.readNews()
	}
	for i := range b.delta.Rooms {
		d := &b.delta.Rooms[i]
		b.news[d.Num] = &roomNews{timeline: len(d.Segments) > 0, delta: d}
		for _, s := range d.Segments {
			for _, ch := range s.Changes {
				b.whole = b.whole || ch.Type == event.TypeEncryption || ch.Type == event.TypeSpaceChild
			}
		}
	}
	return nil
}

// readNews reads the rooms in which something happened after the cursor, among those that the client has.
func (b *builder) readNews() error {
	s := b.snapshot
	first, err := b.delta.ReadOwn(s, b.req.UserNum, b.c.Since)
	if err != nil {
		return err
	}
	nums := make([]store.RoomNum, len(b.conn.rooms))
	for i, sent := range b.conn.rooms {
		nums[i] = sent.num
	}
	starts, err := s.RoomStarts(nums, b.c.Since)
	if err != nil {
		return fmt.Errorf("read where rooms stood: %w", err)
	}
	b.starts = make(map[store.RoomNum]store.RoomStart, len(starts))
	for _, start := range starts {
		if start.Timeline != 0 || start.Receipts != 0 {
			b.starts[start.Room] = start
			b.news[start.Room] = &roomNews{timeline: start.Timeline != 0}
		}
	}
	if first == 0 {
		return nil
	}
	rows, err := roomdb.SyncRooms(s, b.req.UserNum, true)
	if err == nil {
		var left []roomdb.SyncRoom
		left, err = roomdb.SyncLeft(s, b.req.UserNum, first-1)
		rows = append(rows, left...)
	}
	if err != nil {
		return fmt.Errorf("read the rooms of %s: %w", b.req.UserID, err)
	}
	for _, row := range rows {
		if row.UserSlot >= first {
			n := b.news[row.Room]
			if n == nil {
				n = &roomNews{}
				b.news[row.Room] = n
			}
			n.moved = true
		}
	}
	return nil
}

// findRooms finds the rooms that the client asks for, and how many each list has.
func (b *builder) findRooms() error {
	b.asked, b.rooms = map[store.RoomNum]*asked{}, map[store.RoomNum]listRoom{}
	b.counts = make([]int, len(b.cfg.Lists))
	if len(b.cfg.Lists)+len(b.cfg.Subscriptions)+len(b.conn.rooms) == 0 {
		return b.findTyping(nil)
	}
	x, err := b.r.lockIndex(b.ctx, b.req.Device, b.cfg, b.upto, b.open)
	if err != nil {
		return err
	}
	defer x.mu.Unlock()
	children := make([]map[string]bool, len(b.cfg.Lists))
	for i := range b.cfg.Lists {
		for _, space := range b.cfg.Lists[i].Filter.Spaces {
			rooms, err := b.r.children(b.ctx, x, space, b.open)
			if err != nil {
				return err
			}
			if children[i] == nil {
				children[i] = map[string]bool{}
			}
			for room := range rooms {
				children[i][room] = true
			}
		}
	}
	for at := range x.rooms {
		room := &x.rooms[at]
		a := b.match(room, children)
		n := b.news[room.num]
		if a.matches() && (b.whole || n != nil) || n != nil {
			b.asked[room.num] = a
			b.rooms[room.num] = *room
			b.order = append(b.order, room.num)
		}
	}
	return b.findTyping(x)
}

// match finds the rules that a room matches. It is called with all rooms, in their order.
func (b *builder) match(room *listRoom, children []map[string]bool) *asked {
	var a *asked
	get := func() *asked {
		if a == nil {
			a = &asked{}
		}
		return a
	}
	for i := range b.cfg.Lists {
		list := &b.cfg.Lists[i]
		if !list.Filter.selects(room, children[i]) {
			continue
		}
		at := b.counts[i]
		b.counts[i]++
		if list.Ranges == nil || slices.ContainsFunc(list.Ranges, func(r [2]int) bool { return r[0] <= at && at <= r[1] }) {
			get().lists = append(get().lists, i)
			a.add(list.Room)
		}
	}
	if len(b.cfg.Subscriptions) > 0 {
		if r, is := b.cfg.Subscriptions[room.id]; is {
			get().subscribed = true
			a.add(r)
		}
	}
	if a == nil {
		return &nothingAsked
	}
	return a
}

var nothingAsked asked

// findTyping completes what a delta from the store lacks.
func (b *builder) findTyping(x *roomIndex) error {
	if !b.fromStore {
		return nil
	}
	b.delta.Joined = b.delta.Joined[:0]
	if x != nil {
		for i := range x.rooms {
			if x.rooms[i].membership == roomdb.Join {
				b.delta.Joined = append(b.delta.Joined, x.rooms[i].num)
			}
		}
		slices.Sort(b.delta.Joined)
	}
	b.r.cache.FillTyping(b.delta)
	b.r.cache.CompareTyping(b.delta, &b.c)
	return nil
}

// roomsPerAnswer bounds the rooms that are sent for the first time in one answer.
const roomsPerAnswer = 1000

// plan decides what is sent of each room.
func (b *builder) plan() error {
	var gone []store.RoomNum
	for _, num := range b.order {
		room := b.rooms[num]
		b.planRoom(&room, b.asked[num], b.news[num])
	}
	for num, n := range b.news {
		if _, listed := b.rooms[num]; listed || !n.moved && !n.timeline {
			continue
		}
		if sent, ok := b.conn.find(num); ok {
			gone = append(gone, num)
			sent.flags |= sentGone
			b.changed[num] = sent
		}
	}
	slices.Sort(gone)
	for _, num := range gone {
		sent, _ := b.conn.find(num)
		b.parts = append(b.parts, &part{num: num, asked: &nothingAsked, membership: roomdb.Leave, since: 0, sent: sent, left: true})
	}
	return nil
}

// planRoom decides what is sent of a room of the index.
func (b *builder) planRoom(room *listRoom, a *asked, n *roomNews) {
	sent, known := b.conn.find(room.num)
	if !a.matches() {
		if known && n != nil && (n.timeline || n.moved) && sent.behind == 0 {
			sent.behind = b.c.Since
			b.changed[room.num] = sent
		}
		return
	}
	p := &part{num: room.num, id: room.id, asked: a, membership: room.membership, dm: room.dm, sent: sent, known: known, from: b.c.Since}
	if n != nil {
		p.delta = n.delta
	}
	is := sentRoom{num: room.num, filters: b.combination(a.filters), limit: uint16(a.limit)}
	if room.dm {
		is.flags |= sentDM
	}
	moved := n != nil && n.moved
	switch room.membership {
	case roomdb.Invite, roomdb.Knock:
		is.flags |= sentPart
		if known && sent.flags&sentPart != 0 && !moved && sent.behind == 0 && sent.flags&sentDM == is.flags&sentDM {
			return
		}
		p.stripped = true
	case roomdb.Leave, roomdb.Ban:
		is.flags |= sentLeft
		if known && sent.flags&sentLeft != 0 && !moved && sent.behind == 0 {
			return
		}
		p.left = true
		p.initial = !known || sent.flags&(sentPart|sentLeft) != 0
	default:
		p.joined = true
		if !known || sent.flags&(sentPart|sentLeft) != 0 {
			p.initial = true
			break
		}
		if sent.behind != 0 {
			p.from, p.delta = sent.behind, nil
		}
		p.expanded = a.limit > int(sent.limit)
		is.limit = max(is.limit, sent.limit)
		p.dmChanged = sent.flags&sentDM != is.flags&sentDM
		p.added = b.addedFilters(sent.filters, a.filters)
		quiet := (n == nil || !n.timeline) && sent.behind == 0
		if quiet && !p.expanded && !p.dmChanged && len(p.added) == 0 {
			if is.filters != sent.filters {
				b.changed[room.num] = is // it asks for less
			}
			return
		}
		p.quiet = quiet
	}
	p.is = is
	b.parts = append(b.parts, p)
}

// combination returns the index of a set of state filters.
func (b *builder) combination(filters []*StateFilter) uint16 {
	texts := make([]string, len(filters))
	for i, f := range filters {
		texts[i] = f.text
	}
	slices.Sort(texts)
	for i, list := range b.combinations {
		if slices.Equal(list, texts) {
			return uint16(i)
		}
	}
	b.combinations = append(slices.Clip(b.combinations), texts)
	return uint16(len(b.combinations) - 1)
}

// addedFilters are the filters that are not in a combination.
func (b *builder) addedFilters(combination uint16, filters []*StateFilter) (added []*StateFilter) {
	if int(combination) >= len(b.conn.combinations) {
		return filters
	}
	for _, f := range filters {
		if !slices.Contains(b.conn.combinations[combination], f.text) {
			added = append(added, f)
		}
	}
	return added
}

const (
	// chunk is how many rooms are read at once.
	chunk = 50
	// answerBytes is the size from which on an answer takes no more rooms.
	answerBytes = 8 << 20
)

// appendRooms reads the rooms of the answer, and appends `rooms` and `lists`.
func (b *builder) appendRooms() error {
	w := roomWriter{b}
	w.appendLists()
	mark := len(b.out)
	b.out = append(streamcache.Separate(b.out), `"rooms":{`...)
	begin := len(b.out)
	slices.SortStableFunc(b.parts, func(x, y *part) int { return cmp.Compare(b2i(x.initial), b2i(y.initial)) })
	var done []*part
	for len(b.parts) > 0 {
		n := min(chunk, len(b.parts))
		now := b.parts[:n]
		if len(b.out)-begin > answerBytes || len(done) > roomsPerAnswer && now[0].initial {
			b.postpone(b.parts)
			break
		}
		b.parts = b.parts[n:]
		if err := b.load(now); err != nil {
			return err
		}
		for _, p := range now {
			if !p.dropped {
				w.appendPart(p)
			}
		}
		done = append(done, now...)
	}
	b.parts = slices.DeleteFunc(done, func(p *part) bool { return p.dropped })
	if len(b.out) == begin {
		b.out = b.out[:mark]
		return nil
	}
	b.out = append(b.out, '}')
	b.hasNews = true
	return nil
}

func b2i(x bool) int {
	if x {
		return 1
	}
	return 0
}

// postpone leaves rooms for the next answers.
func (b *builder) postpone(parts []*part) {
	b.unsettled = true
	for _, p := range parts {
		if sent := p.sent; p.known && sent.behind == 0 {
			sent.behind = b.c.Since
			sent.flags &^= sentGone
			b.changed[p.num] = sent
		}
	}
}

// noteSent notes the rooms of the answer among those that have changed.
func (b *builder) noteSent() {
	for _, p := range b.parts {
		if p.is.num == 0 {
			continue // the room is to be forgotten
		}
		if was, ok := b.conn.find(p.num); !ok || was != p.is {
			b.changed[p.num] = p.is
		}
	}
}

// stash remembers changes of the connection until there is an answer.
func (x *pendingSync) stash(b *builder) {
	b.noteSent()
	if len(b.changed) == 0 {
		return
	}
	if x.changed == nil {
		x.changed = map[store.RoomNum]sentRoom{}
	}
	maps.Copy(x.changed, b.changed)
	view := *x.conn
	view.combinations, view.rooms = b.combinations, mergeRooms(x.conn.rooms, sorted(b.changed))
	x.conn = &view
}

func sorted(changed map[store.RoomNum]sentRoom) []sentRoom {
	return slices.SortedFunc(maps.Values(changed), func(a, b sentRoom) int { return cmp.Compare(a.num, b.num) })
}

// leave returns the connection after the answer, and saves it if it is another.
func (b *builder) leave() (*connection, error) {
	b.noteSent()
	digest := b.cfg.digest
	if b.unsettled {
		digest &= bitSet | bitAccountData
	}
	if len(b.changed)+len(b.pendingSync.changed) == 0 && digest == b.saved.digest && !b.first {
		return b.saved, nil
	}
	was := b.saved
	all := maps.Clone(b.pendingSync.changed)
	if all == nil {
		all = map[store.RoomNum]sentRoom{}
	}
	maps.Copy(all, b.changed)
	list := sorted(all)
	is := was.next(list, b.combinations, digest)
	if is.combinationBytes() > maxCombinations {
		if is.compact(); is.combinationBytes() > maxCombinations {
			return nil, errUnknownPos()
		}
		is.rows = maxRows + 1 // written whole
	}
	return is, b.r.save(b.ctx, b.req.Device, b.req.ConnID, was, is, list)
}

// maxCombinations bounds the memory of the state filters that a connection was sent rooms with, in bytes.
const maxCombinations = 256 << 10

// finish appends the pos.
func (b *builder) finish(c streamcache.Cursor) error {
	conn, err := b.leave()
	if err != nil {
		return err
	}
	if b.req.TxnID != "" {
		b.out = appendString(streamcache.AppendKey(b.out, "txn_id"), b.req.TxnID)
	}
	pos := token.Sliding{Conn: conn.id, Gen: conn.gen, Nonce: conn.nonce, Stream: c.Token()}
	b.out = append(appendString(streamcache.AppendKey(b.out, "pos"), pos.String()), '}')
	return nil
}
