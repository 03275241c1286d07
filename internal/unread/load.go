package unread

import (
	"errors"
	"fmt"

	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/pushrule"
)

// load is one read of counters.
type load struct {
	c      *Counter
	r      *store.Read
	member *member
	places []Place
	marks  map[store.RoomNum]*marks
}

// marks are a member's read markers in a room, as slots: for all threads at once, for the
// main timeline, and for single threads.
type marks struct {
	all, main store.Slot
	threads   map[string]store.Slot
}

// readMarks reads receipts and own events. Of public and private receipts and the
// member's own newest event, the latest counts.
//
// Spec: client-server-api#marking-notifications-as-read
func (l *load) readMarks() error {
	nums := make([]store.RoomNum, len(l.places))
	for i, p := range l.places {
		nums[i] = p.Room
		l.marks[p.Room] = &marks{all: p.Joined}
	}
	receipts, err := roomdb.ReceiptsOf(l.r, l.member.num, nums)
	if err != nil {
		return fmt.Errorf("read receipts: %w", err)
	}
	for _, x := range receipts {
		slot := x.Slot
		if x.Off < 0 {
			slot-- // an event that was backfilled before the live one of its slot
		}
		m := l.marks[x.Room]
		switch x.Thread {
		case "":
			m.all = max(m.all, slot)
		case mainThread:
			m.main = max(m.main, slot)
		default:
			m.thread(x.Thread, slot)
		}
	}
	own, err := roomdb.OwnEvents(l.r, l.member.num, nums)
	if err != nil {
		return fmt.Errorf("read own events: %w", err)
	}
	for _, e := range own {
		m := l.marks[e.Room]
		if e.Thread == "" {
			m.main = max(m.main, e.Slot)
		} else {
			m.thread(e.Thread, e.Slot)
		}
	}
	for _, m := range l.marks {
		m.main = max(m.main, m.all)
	}
	return nil
}

func (m *marks) thread(root string, slot store.Slot) {
	if m.threads == nil {
		m.threads = map[string]store.Slot{}
	}
	m.threads[root] = max(m.threads[root], slot)
}

// of is the read marker of a thread.
func (m *marks) of(root string) store.Slot { return max(m.all, m.threads[root]) }

// begin returns a counter whose totals have yet to be read.
func (l *load) begin(p *Place, rules *pushrule.Rules) *RoomCounter {
	m := l.marks[p.Room]
	return &RoomCounter{member: l.member, counter: rules.In(p.RoomID), slot: p.Slot, seen: m.all, read: m.main}
}

// readTotals reads the totals at the read markers and at the end.
func (l *load) readTotals(counters []*RoomCounter) error {
	now := make([]room.Totals, len(counters))
	var ask []roomdb.RoomSlot
	for i, t := range counters {
		var err error
		if now[i], err = room.ParseTotals(l.places[i].Totals); err != nil {
			return fmt.Errorf("totals of room number %d: %w", l.places[i].Room, err)
		}
		t.main.now, t.main.last = now[i].Main(), t.slot
		if t.read >= t.slot {
			t.main.base = t.main.now
		} else {
			ask = append(ask, roomdb.RoomSlot{Room: l.places[i].Room, Slot: t.read})
		}
	}
	found, err := roomdb.TotalsOf(l.r, ask)
	if err != nil {
		return fmt.Errorf("read totals: %w", err)
	}
	byRoom := make(map[store.RoomNum]pushrule.Totals, len(found))
	for _, f := range found {
		totals, err := room.ParseTotals(f.Totals)
		if err != nil {
			return fmt.Errorf("totals at slot %d of room number %d: %w", f.Slot, f.Room, err)
		}
		byRoom[f.Room] = totals.Main()
	}
	for i, t := range counters {
		if t.read < t.slot {
			t.main.base = byRoom[l.places[i].Room]
		}
		if !now[i].Threaded.IsZero() && t.seen < t.slot {
			if err := l.readThreads(t, l.places[i].Room); err != nil {
				return err
			}
		}
	}
	return nil
}

// readThreads reads the threads with unread events.
func (l *load) readThreads(t *RoomCounter, num store.RoomNum) error {
	active, err := roomdb.ActiveThreads(l.r, num, t.seen, threadLimit)
	if err != nil {
		return fmt.Errorf("read threads: %w", err)
	}
	m := l.marks[num]
	for _, a := range active {
		if a.Newest <= m.of(a.Root) {
			continue
		}
		p := &part{from: m.of(a.Root), last: a.Newest}
		if p.base, err = l.threadTotals(num, a.Root, m.of(a.Root)); err != nil {
			return err
		}
		if p.now, err = l.threadTotals(num, a.Root, a.Newest); err != nil {
			return err
		}
		if t.threads == nil {
			t.threads = map[string]*part{}
		}
		t.threads[a.Root] = p
	}
	return nil
}

func (l *load) threadTotals(num store.RoomNum, root string, slot store.Slot) (pushrule.Totals, error) {
	stored, err := roomdb.ThreadTotalsAt(l.r, num, root, slot)
	if errors.Is(err, store.ErrNotFound) {
		return pushrule.Totals{}, nil
	}
	if err != nil {
		return pushrule.Totals{}, fmt.Errorf("read totals of thread %s: %w", root, err)
	}
	return pushrule.ParseTotals(stored)
}

// readHighlights adds the unread events with a higher verdict than their class.
func (l *load) readHighlights(counters []*RoomCounter) error {
	byRoom := make(map[store.RoomNum]*RoomCounter, len(counters))
	var ask []roomdb.RoomSlot
	for i, t := range counters {
		if t.seen < t.slot && t.counter.Raises() {
			byRoom[l.places[i].Room] = t
			ask = append(ask, roomdb.RoomSlot{Room: l.places[i].Room, Slot: t.seen})
		}
	}
	if len(ask) == 0 {
		return nil
	}
	list, err := roomdb.HighlightsOf(l.r, l.member.num, ask, highlightLimit)
	if err != nil {
		return fmt.Errorf("read highlights: %w", err)
	}
	for _, h := range list {
		t, m := byRoom[h.Room], l.marks[h.Room]
		p := &t.main
		switch {
		case h.Thread == "" && h.Slot <= m.main, h.Thread != "" && h.Slot <= m.of(h.Thread):
			continue
		case h.Thread != "":
			if p = t.threads[h.Thread]; p == nil {
				continue // its thread is beyond the limit
			}
		}
		class, err := l.classAt(h.Room, h.Slot)
		if err != nil {
			return err
		}
		p.raise(raised{h.Slot, class, verdictOf(h.Kind)})
	}
	return nil
}

func verdictOf(kind roomdb.HighlightKind) pushrule.Verdict {
	if kind == roomdb.CountsAsHighlight {
		return pushrule.Highlights
	}
	return pushrule.Notifies
}

// classAt returns the class of the live event at a slot: the difference of the totals
// after and before it.
func (l *load) classAt(num store.RoomNum, slot store.Slot) (pushrule.Class, error) {
	stored, err := roomdb.TotalsAt(l.r, num, slot, 2)
	if err != nil {
		return 0, fmt.Errorf("read totals: %w", err)
	}
	var totals [2]room.Totals
	for i, s := range stored {
		if totals[i], err = room.ParseTotals(s); err != nil {
			return 0, fmt.Errorf("totals of room number %d: %w", num, err)
		}
	}
	class, _ := totals[0].All.Minus(totals[1].All).Only()
	return class, nil
}
