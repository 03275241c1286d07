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

// Replication. An instance sends the groups that it commits to the others (Options.Replicate), if they contain only messages,
// receipts and changes of single users. A group names the position before it: an instance that has applied the stream up to there
// applies the group like its own, and reads nothing. Nothing relies on replication: a group that is lost, late or too large is read
// from the store.

const (
	// replicationWait is how long after an announcement a poll is put off, if the group is expected by replication.
	replicationWait = 50 * time.Millisecond
	// replicationExpectedFor is how long after a group more groups are expected.
	replicationExpectedFor = time.Second
	// wantedFor is how long groups are requested after a client last waited for news.
	wantedFor = 5 * time.Second
	// queuedGroups and queuedBytes bound the groups that wait for earlier ones.
	queuedGroups, queuedBytes = 1024, 8 << 20
	// maxGroupRows bounds the rows of a received group; one of 512 changes has fewer.
	maxGroupRows = 4096
	// maxGroupBytes bounds a group that is sent with its contents.
	maxGroupBytes = 256 << 10
	// maxBytesWithMembers bounds a group that is sent with the membership events of its senders; larger groups go without them, to
	// stay below maxGroupBytes.
	maxBytesWithMembers = 64 << 10
)

// groupQueue holds received groups that wait for earlier ones.
type groupQueue struct {
	mu    sync.Mutex // guards what follows; nothing is locked under it
	after map[store.Position]*group
	bytes int
	// wanted is when a client last waited for news here.
	wanted time.Time
	// arrived has capacity 1 and gets a value with each group. The goroutine that applies this instance's own groups waits for it.
	arrived chan struct{}
	// expectedUntil is how long more groups are expected, in ms since 1970.
	expectedUntil atomic.Int64
}

// group is a group of another instance.
type group struct {
	prev, last store.Position
	// whole is set if the group carries its contents; if not, it is read from the store.
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

// appendGroup appends a group in its replicated form.
func appendGroup(dst []byte, b *store.Batch) []byte {
	if whole, ok := appendWhole(nil, b); ok && len(whole) <= maxGroupBytes {
		return packed.AppendText(dst, whole)
	}
	return packed.AppendText(dst, appendGroupHead(nil, b, false))
}

func appendGroupHead(dst []byte, b *store.Batch, whole bool) []byte {
	return packed.AppendBool(packed.AppendNumber(packed.AppendNumber(dst, b.Prev), b.Last), whole)
}

// appendWhole appends a group with its contents; false if they cannot be replicated.
func appendWhole(dst []byte, b *store.Batch) ([]byte, bool) {
	dst = appendGroupHead(dst, b, true)
	dst = packed.AppendNumber(dst, len(b.Rows))
	for _, row := range b.Rows {
		if !isReplicated(row.OwnerKind, row.Kind) {
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
		text, ok := c.AppendPacked(nil, len(dst) < maxBytesWithMembers)
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

// isReplicated reports whether a group carries all that has to be known of rows of a kind.
func isReplicated(owner store.OwnerKind, kind store.Kind) bool {
	if owner == store.OwnerRoom {
		return kind == store.KindTimeline || kind == store.KindReceipts
	}
	return owner == store.OwnerUser && (kind == store.KindToDevice || kind == store.KindKeys)
}

// parseGroup parses a group. Its rooms are parsed when they are applied.
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
		if row.Pos <= pos || !isReplicated(row.OwnerKind, row.Kind) {
			return nil, packed.ErrMalformed
		}
		pos = row.Pos
	}
	if pos != g.last || len(g.rows) > maxGroupRows {
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

// replicate sends the groups of this instance to the others, until the tail ends. It does not wait until they are applied here,
// which may have to wait for groups of others.
func (f *following) replicate(ctx context.Context, tail *store.Subscription) {
	for {
		b, err := tail.Next(ctx)
		if err != nil {
			return // the one who applies them says why
		}
		if len(b.Rows) > 0 {
			f.cache.opt.Replicate(func(dst []byte) []byte { return appendGroup(dst, b) })
		}
	}
}

// ReceiveGroups takes groups of another instance, as Options.Replicate appended them there. They are applied in the order of the
// stream. more reports whether a client waits for news here; if not, the other instance may stop sending.
func (f *following) ReceiveGroups(groups []byte) (more bool, err error) {
	more = f.wantsGroups()
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
		f.queueGroup(g)
		f.Wake(g.last)
	}
	select {
	case f.received.arrived <- struct{}{}:
	default:
	}
	f.requestPoll()
	return more, nil
}

// wantsGroups reports whether a client waits for news here, or did within wantedFor.
func (f *following) wantsGroups() bool {
	f.cache.mu.Lock()
	waits := f.cache.timers.count > 0 || len(f.cache.barriers) > 0
	f.cache.mu.Unlock()
	f.received.mu.Lock()
	defer f.received.mu.Unlock()
	now := time.Now()
	if waits {
		f.received.wanted = now
	}
	wants := now.Sub(f.received.wanted) < wantedFor
	if wants {
		f.received.expectedUntil.Store(now.Add(replicationExpectedFor).UnixMilli())
	}
	return wants
}

// queueGroup queues a group until those before it are applied.
func (f *following) queueGroup(g *group) {
	head := f.cache.Head()
	f.received.mu.Lock()
	defer f.received.mu.Unlock()
	if g.last <= head || f.received.after[g.prev] != nil {
		return
	}
	if g.prev != head && (len(f.received.after) >= queuedGroups || f.received.bytes+g.size > queuedBytes) {
		return // it will be read
	}
	f.received.after[g.prev] = g
	f.received.bytes += g.size
}

// next returns the group that follows a position, or nil. It drops earlier ones.
func (d *groupQueue) next(head store.Position) *group {
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

func (d *groupQueue) clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.after)
	d.bytes = 0
}

// expected reports whether replication is likely to bring what others have announced.
func (d *groupQueue) expected() bool { return time.Now().UnixMilli() < d.expectedUntil.Load() }

// applyReceived applies the received groups that come next in the stream. gap reports that the next group is known and has to be
// read from the store. The caller holds the follow lock.
func (f *following) applyReceived(ctx context.Context) (gap bool, err error) {
	for {
		if f.doubted.Load() {
			return true, nil
		}
		g := f.received.next(f.cache.Head())
		if g == nil || !g.whole {
			return g != nil, nil
		}
		if err := f.applyGroup(ctx, g); errors.Is(err, packed.ErrMalformed) {
			f.cache.log.Warn("apply a replicated group", "pos", int64(g.last), "err", err)
			g.whole = false // the next poll finds it
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
	a.skipped = f.cache.irrelevant(g.rows)
	f.cache.mu.Unlock()
	for _, r := range g.rooms {
		if len(a.skipped) > 0 && !slices.ContainsFunc(g.rows, func(row store.StreamRow) bool { return row.Room() == r.num && !a.skipped[row.Pos] }) {
			continue
		}
		c, err := room.ParsePacked(r.text, func(member store.EventNum) bool { return f.knowsMember(r.num, member) })
		if err != nil {
			return err
		}
		f.addPayload(a, c)
	}
	f.addPayload(a, g.receipts)
	if err := f.notify(nil, g.rows, g.prev, g.last); err != nil {
		return err
	}
	return f.finish(ctx, a)
}

// followUpTo applies the groups of other instances up to a position, after which a group of this instance comes: from replication,
// else from the store. The caller holds the follow lock.
func (f *following) followUpTo(ctx context.Context, upTo store.Position) error {
	if late := f.awaitReceived(ctx, upTo); late != nil && !errors.Is(late, errNotReplicated) {
		return late
	}
	if f.cache.Head() >= upTo {
		return nil
	}
	_, err := f.readUp(ctx, upTo)
	return err
}

// errNotReplicated means that replication does not bring the next group, or not soon.
var errNotReplicated = errors.New("not replicated")

func (f *following) awaitReceived(ctx context.Context, upTo store.Position) error {
	timer := time.NewTimer(replicationWait)
	defer timer.Stop()
	for {
		gap, err := f.applyReceived(ctx)
		if err != nil || f.cache.Head() >= upTo {
			return err
		}
		if gap || !f.received.expected() {
			return errNotReplicated
		}
		select {
		case <-f.received.arrived:
		case <-timer.C:
			return errNotReplicated
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
