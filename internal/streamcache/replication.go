package streamcache

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"stoa/internal/packed"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
)

// An instance hands what it has committed to the others (Options.Hand), as far as it is messages, receipts and what is for
// single users. A group says which position was the last before it: who has applied the stream up to there applies the group
// as if it were its own, and reads nothing. Nothing relies on it. A group that is lost, or comes late, or can't be handed over
// whole, is read from the store.

const (
	// handPatience is how long after an announcement the store is not looked into for groups that will be handed over.
	handPatience = 50 * time.Millisecond
	// handingFor is how long an instance counts on being handed more since it was last.
	handingFor = time.Second
	// wantedFor is how long it wants more since somebody last waited for news.
	wantedFor = 5 * time.Second
	// handedGroups and handedBytes bound the groups that wait for those before them.
	handedGroups, handedBytes = 1024, 8 << 20
	// handedRows bounds the rows of a group that is taken: more than one of 512 changes has.
	handedRows = 4096
	// handGroup is the largest group, in bytes, that is handed over whole.
	handGroup = 256 << 10
	// handMembers is up to which size of a group, in bytes, the membership events of its senders go with it: with them a large one
	// would be too large to be handed over at all.
	handMembers = 64 << 10
)

// replication holds groups of other instances that wait for those before them.
type replication struct {
	mu    sync.Mutex // guards what follows; nothing is locked under it
	after map[store.Position]*group
	bytes int
	// wanted is when somebody last waited for news here.
	wanted time.Time
	// came says that there is another; capacity 1. The one who applies this instance's own groups waits for it.
	came chan struct{}
	// until is how long more is expected, in ms since 1970.
	until atomic.Int64
}

// group is a group of another instance.
type group struct {
	prev, last store.Position
	// whole says that the rest is there. Else the group has to be read from the store.
	whole bool
	rows  []store.StreamRow
	// rooms are packed Committeds, receipts those of all rooms.
	rooms    []groupRoom
	receipts []roomdb.Receipt
	size     int
}

type groupRoom struct {
	num  store.RoomNum
	text string
}

// appendGroup appends a group as it is handed over.
func appendGroup(dst []byte, b *store.Batch) []byte {
	if whole, ok := appendWhole(nil, b); ok && len(whole) <= handGroup {
		return packed.AppendText(dst, whole)
	}
	return packed.AppendText(dst, appendGroupHead(nil, b, false))
}

func appendGroupHead(dst []byte, b *store.Batch, whole bool) []byte {
	return packed.AppendBool(packed.AppendNumber(packed.AppendNumber(dst, b.Prev), b.Last), whole)
}

// appendWhole appends a group with all that it did; false if that can't be said.
func appendWhole(dst []byte, b *store.Batch) ([]byte, bool) {
	dst = appendGroupHead(dst, b, true)
	dst = packed.AppendNumber(dst, len(b.Rows))
	for _, row := range b.Rows {
		if !handsOver(row.OwnerKind, row.Kind) {
			return dst, false
		}
		dst = packed.AppendNumber(packed.AppendNumber(dst, row.Pos-b.Prev), row.OwnerKind)
		dst = packed.AppendNumber(packed.AppendNumber(dst, row.Owner), row.Kind)
		dst = packed.AppendNumber(packed.AppendNumber(dst, row.First), row.Last)
	}
	var rooms []*room.Committed
	var receipts []roomdb.Receipt
	for _, p := range b.Payloads {
		switch p := p.(type) {
		case *room.Committed:
			rooms = append(rooms, p)
		case []roomdb.Receipt:
			receipts = append(receipts, p...)
		default:
			return dst, false
		}
	}
	dst = packed.AppendNumber(dst, len(rooms))
	for _, c := range rooms {
		text, ok := c.AppendPacked(nil, len(dst) < handMembers)
		if !ok {
			return dst, false
		}
		dst = packed.AppendText(packed.AppendNumber(dst, c.Room), text)
	}
	dst = packed.AppendNumber(dst, len(receipts))
	for _, x := range receipts {
		dst = packed.AppendNumber(packed.AppendNumber(dst, x.Room), x.User)
		dst = packed.AppendText(packed.AppendNumber(packed.AppendText(dst, x.UserID), x.Kind), x.Thread)
		if x.Off != 0 {
			return dst, false // about an event that came late; rare
		}
		dst = packed.AppendNumber(packed.AppendText(packed.AppendNumber(dst, x.Slot), x.EventID), x.TS)
	}
	return dst, true
}

// handsOver says of which rows no more has to be known than a group says.
func handsOver(owner store.OwnerKind, kind store.Kind) bool {
	if owner == store.OwnerRoom {
		return kind == store.KindTimeline || kind == store.KindReceipts
	}
	return owner == store.OwnerUser && (kind == store.KindToDevice || kind == store.KindKeys)
}

// parseGroup reads a group. Its rooms are read when they are needed.
func parseGroup(text string) (*group, error) {
	r := packed.Read(text)
	g := &group{prev: store.Position(r.Number()), last: store.Position(r.Number()), whole: r.Bool(), size: 200 + len(text)}
	if g.last <= g.prev {
		return nil, packed.ErrMalformed
	}
	if !g.whole {
		return g, r.Done()
	}
	g.rows = make([]store.StreamRow, r.Count(6))
	pos := g.prev
	for i := range g.rows {
		row := &g.rows[i]
		row.Pos, row.OwnerKind = g.prev+store.Position(r.Number()), store.OwnerKind(r.Number())
		row.Owner, row.Kind = int64(r.Number()), store.Kind(r.Number())
		row.First, row.Last = store.Slot(r.Number()), store.Slot(r.Number())
		if row.Pos <= pos || !handsOver(row.OwnerKind, row.Kind) {
			return nil, packed.ErrMalformed
		}
		pos = row.Pos
	}
	if pos != g.last || len(g.rows) > handedRows {
		return nil, packed.ErrMalformed
	}
	g.rooms = make([]groupRoom, r.Count(2))
	for i := range g.rooms {
		g.rooms[i] = groupRoom{store.RoomNum(r.Number()), r.Text()}
	}
	g.receipts = make([]roomdb.Receipt, r.Count(8))
	for i := range g.receipts {
		x := &g.receipts[i]
		x.Room, x.User = store.RoomNum(r.Number()), store.UserNum(r.Number())
		// They outlive the group, whose text would stay with them.
		x.UserID, x.Kind, x.Thread = strings.Clone(r.Text()), roomdb.ReceiptKind(r.Number()), strings.Clone(r.Text())
		x.Slot, x.EventID, x.TS = store.Slot(r.Number()), strings.Clone(r.Text()), int64(r.Number())
	}
	return g, r.Done()
}

// handOver hands the groups of this instance to the others until the tail ends: before they are applied here, which may have to
// wait for others.
func (f *following) handOver(ctx context.Context, tail *store.Tail) {
	for {
		b, err := tail.Next(ctx)
		if err != nil {
			return // the one who applies them says why
		}
		if len(b.Rows) > 0 {
			f.cache.opt.Hand(func(dst []byte) []byte { return appendGroup(dst, b) })
		}
	}
}

// TakeHanded takes groups that another instance hands over: one after another what Options.Hand appended there. They are
// applied in the order of the stream, whenever that comes. more says that somebody waits for news here: else the next look is
// soon enough.
func (f *following) TakeHanded(groups []byte) (more bool, err error) {
	more = f.wantsHanded()
	r := packed.Read(string(groups))
	for r.More() {
		text := r.Text()
		if r.Broken() {
			return false, packed.ErrMalformed
		}
		g, err := parseGroup(strings.Clone(text))
		if err != nil {
			return false, err
		}
		f.keepHanded(g)
		f.Wake(g.last)
	}
	select {
	case f.handed.came <- struct{}{}:
	default:
	}
	f.hurry()
	return more, nil
}

// wantsHanded says whether somebody waits for news here, or did of late. Then more is expected.
func (f *following) wantsHanded() bool {
	f.cache.mu.Lock()
	waits := f.cache.wheel.count > 0 || len(f.cache.barriers) > 0
	f.cache.mu.Unlock()
	f.handed.mu.Lock()
	defer f.handed.mu.Unlock()
	now := time.Now()
	if waits {
		f.handed.wanted = now
	}
	wants := now.Sub(f.handed.wanted) < wantedFor
	if wants {
		f.handed.until.Store(now.Add(handingFor).UnixMilli())
	}
	return wants
}

// keepHanded keeps a group until it is its turn.
func (f *following) keepHanded(g *group) {
	head := f.cache.Head()
	f.handed.mu.Lock()
	defer f.handed.mu.Unlock()
	if g.last <= head || f.handed.after[g.prev] != nil {
		return
	}
	if g.prev != head && (len(f.handed.after) >= handedGroups || f.handed.bytes+g.size > handedBytes) {
		return // it will be read
	}
	f.handed.after[g.prev] = g
	f.handed.bytes += g.size
}

// next is the group that follows a position; nil if it is not there. Those before are dropped then.
func (d *replication) next(head store.Position) *group {
	d.mu.Lock()
	defer d.mu.Unlock()
	if next := d.after[head]; next != nil {
		return next
	}
	for at, g := range d.after {
		if g.last <= head {
			d.bytes -= g.size
			delete(d.after, at)
		}
	}
	return nil
}

func (d *replication) clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.after)
	d.bytes = 0
}

// expected says whether what others have announced is likely to be handed over soon.
func (d *replication) expected() bool { return time.Now().UnixMilli() < d.until.Load() }

// applyHanded applies the groups that come next in the stream. hole says that the next is known, and has to be read from the
// store. The caller holds the follow lock.
func (f *following) applyHanded(ctx context.Context) (hole bool, err error) {
	for {
		if f.doubted.Load() {
			return true, nil
		}
		g := f.handed.next(f.cache.Head())
		if g == nil || !g.whole {
			return g != nil, nil
		}
		if err := f.applyGroup(ctx, g); errors.Is(err, packed.ErrMalformed) {
			f.cache.log.Warn("apply what another instance handed over", "pos", int64(g.last), "err", err)
			g.whole = false // the next look finds it
			return true, nil
		} else if err != nil {
			return true, err
		}
		f.cache.metrics.followed.WithLabelValues("handed").Inc()
	}
}

// applyGroup applies a group of another instance.
func (f *following) applyGroup(ctx context.Context, g *group) error {
	a := &applied{rows: g.rows, last: g.last, rooms: map[store.RoomNum]*appliedRoom{}}
	f.cache.mu.Lock()
	a.passed = f.cache.unseen(g.rows)
	f.cache.mu.Unlock()
	for _, r := range g.rooms {
		if len(a.passed) > 0 && !slices.ContainsFunc(g.rows, func(row store.StreamRow) bool { return row.Room() == r.num && !a.passed[row.Pos] }) {
			continue
		}
		c, err := room.ParsePacked(r.text, func(member store.EventNum) bool { return f.knowsMember(r.num, member) })
		if err != nil {
			return err
		}
		f.take(a, c)
	}
	f.take(a, g.receipts)
	if err := f.tell(nil, g.rows, g.prev, g.last); err != nil {
		return err
	}
	return f.settle(ctx, a)
}

// followUpTo applies what other instances wrote up to a position, after which a group of this instance comes: what they hand
// over, and if that does not come, what is in the store. The caller holds the follow lock.
func (f *following) followUpTo(ctx context.Context, upTo store.Position) error {
	if late := f.awaitHanded(ctx, upTo); late != nil && !errors.Is(late, errNotReplicated) {
		return late
	}
	if f.cache.Head() >= upTo {
		return nil
	}
	_, err := f.readUp(ctx, upTo)
	return err
}

// errNotReplicated says that what comes next is not handed over, or not soon.
var errNotReplicated = errors.New("not handed over")

func (f *following) awaitHanded(ctx context.Context, upTo store.Position) error {
	timer := time.NewTimer(handPatience)
	defer timer.Stop()
	for {
		hole, err := f.applyHanded(ctx)
		if err != nil || f.cache.Head() >= upTo {
			return err
		}
		if hole || !f.handed.expected() {
			return errNotReplicated
		}
		select {
		case <-f.handed.came:
		case <-timer.C:
			return errNotReplicated
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
