package streamcache

import (
	"errors"
	"fmt"

	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/timeline"
	"stoa/matrix/event"
	"stoa/matrix/id"
)

// readSegment is a segment that was read from the store.
type readSegment struct {
	roomID  id.RoomID
	segment *Segment
	size    int
}

// readRedaction is a redaction that another instance wrote.
type readRedaction struct {
	room.Redacted
	room store.RoomNum
	pos  store.Position
}

// readSlots bounds the slots of one query.
const readSlots = 2000

// pieces cuts rows into pieces of about readSlots slots, and calls f with each and its slots.
func pieces(rows []store.StreamRow, f func([]store.StreamRow, []roomdb.RoomSlot) error) error {
	var slots []roomdb.RoomSlot
	from := 0
	for i, row := range rows {
		for slot := row.First; slot <= row.Last; slot++ {
			slots = append(slots, roomdb.RoomSlot{Room: row.Room(), Slot: slot})
		}
		if len(slots) >= readSlots || i == len(rows)-1 {
			if err := f(rows[from:i+1], slots); err != nil {
				return err
			}
			from, slots = i+1, slots[:0]
		}
	}
	return nil
}

// readSegments reads what rows of timelines refer to, in a few queries for all of them.
func (f *following) readSegments(r *store.Read, a *applied, rows []store.StreamRow) error {
	if len(rows) == 0 {
		return nil
	}
	if a.read == nil {
		a.read = make(map[store.Position]readSegment, len(rows))
	}
	heads, err := roomHeads(r, rows)
	if err != nil {
		return err
	}
	return pieces(rows, func(rows []store.StreamRow, slots []roomdb.RoomSlot) error {
		l := f.cache.Loader(r)
		for num, head := range heads {
			l.Version(num, head.Version)
		}
		found, err := roomdb.EventsAt(r, slots, l.Known)
		if err != nil {
			return err
		}
		log, err := roomdb.LogAt(r, slots)
		if err != nil {
			return err
		}
		for i := range found {
			if found[i].Bytes != nil {
				l.WantEvents([]roomdb.SyncEvent{found[i].SyncEvent})
			}
		}
		l.WantLog(log)
		l.WantChanged(log)
		if err := l.Load(); err != nil {
			return err
		}
		events, changes := bySlot(found, log)
		for _, row := range rows {
			head, ok := heads[row.Room()]
			if !ok {
				continue // gone
			}
			if err := l.readSegment(a, row, head, events, changes); err != nil {
				return err
			}
		}
		return nil
	})
}

// roomHeads reads the rooms of rows.
func roomHeads(r *store.Read, rows []store.StreamRow) (map[store.RoomNum]roomdb.RoomHead, error) {
	heads := make(map[store.RoomNum]roomdb.RoomHead, len(rows))
	nums := make([]store.RoomNum, 0, len(rows))
	for _, row := range rows {
		if _, ok := heads[row.Room()]; !ok {
			heads[row.Room()] = roomdb.RoomHead{}
			nums = append(nums, row.Room())
		}
	}
	clear(heads)
	list, err := roomdb.RoomHeads(r, nums)
	for _, head := range list {
		heads[head.Num] = head
	}
	return heads, err
}

// bySlot groups rows by their slots.
func bySlot(found []roomdb.SlotEvent, log []roomdb.StateChange) (map[roomdb.RoomSlot]roomdb.SlotEvent, map[roomdb.RoomSlot][]roomdb.StateChange) {
	events := make(map[roomdb.RoomSlot]roomdb.SlotEvent, len(found))
	for _, e := range found {
		e.Bytes = nil
		events[roomdb.RoomSlot{Room: e.Room, Slot: e.Place.Slot}] = e
	}
	changes := map[roomdb.RoomSlot][]roomdb.StateChange{}
	for _, c := range log {
		at := roomdb.RoomSlot{Room: c.Room, Slot: c.Slot}
		changes[at] = append(changes[at], c)
	}
	return events, changes
}

// readSegment makes the segment of one row.
func (l *Loader) readSegment(a *applied, row store.StreamRow, head roomdb.RoomHead,
	events map[roomdb.RoomSlot]roomdb.SlotEvent, changes map[roomdb.RoomSlot][]roomdb.StateChange) error {
	roomID, err := id.ParseRoomID(head.RoomID)
	if err != nil {
		return err
	}
	s := &Segment{First: row.First, Last: row.Last, Joined: head.Joined, Invited: head.Invited, counted: []room.Counted{}}
	size := 200
	var log []roomdb.StateChange
	for slot := row.First; slot <= row.Last; slot++ {
		at := roomdb.RoomSlot{Room: row.Room(), Slot: slot}
		log = append(log, changes[at]...)
		found, ok := events[at]
		if !ok {
			continue
		}
		e := l.Event(found.Num)
		if e == nil {
			s.counted = nil
			continue
		}
		s.Events = append(s.Events, e)
		size += e.Size() + 250
		if s.counted != nil {
			s.counted = appendCounted(s.counted, found, e)
		}
	}
	if s.Changes, err = l.Changes(log); err != nil {
		return err
	}
	for i := range s.Changes {
		s.MovesMembers = s.MovesMembers || s.Changes[i].Type == "m.room.member"
		size += 150
	}
	a.read[row.Pos] = readSegment{roomID: roomID, segment: s, size: size}
	return l.readRedactions(a, row, s)
}

// appendCounted adds an event's effect on unread counts. It returns nil if the rows don't
// determine it: the class of an event that has a higher verdict for some member, or
// begins a thread, is not stored.
func appendCounted(list []room.Counted, found roomdb.SlotEvent, e *timeline.Event) []room.Counted {
	totals, err := room.ParseTotals(found.Totals)
	if err != nil || found.Raised || !totals.Thread.IsZero() {
		return nil
	}
	return append(list, room.Counted{Slot: e.Slot, Sender: e.Sender, Totals: totals})
}

// readRedactions finds the events that redactions of a segment have redacted.
func (l *Loader) readRedactions(a *applied, row store.StreamRow, s *Segment) error {
	for _, e := range s.Events {
		if e.Type != event.TypeRedaction || e.IsState {
			continue
		}
		because, err := l.Stored(e.Num)
		if err != nil {
			return err
		}
		if because.Redacts().IsZero() {
			continue
		}
		target, err := roomdb.EventByID(l.read, because.Redacts().String())
		if errors.Is(err, store.ErrNotFound) || err == nil && (target.Room != row.Room() || target.RedactedBy == 0) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the target of redaction %s: %w", e.ID, err)
		}
		if target.RedactedBy != e.Num {
			if because, err = l.Stored(target.RedactedBy); err != nil {
				return err
			}
		}
		targetID, err := id.ParseEventID(target.EventID)
		if err != nil {
			return err
		}
		pdu, err := event.Load(l.rules[row.Room()], targetID, target.Bytes)
		if err != nil {
			return fmt.Errorf("stored event %s: %w", target.EventID, err)
		}
		a.redacted = append(a.redacted, readRedaction{
			Redacted: room.Redacted{Target: target.Num, TargetID: targetID, PDU: pdu, Because: because},
			room:     row.Room(), pos: row.Pos,
		})
	}
	return nil
}

// putRedactions replaces events in memory by their redacted forms. Called with the lock
// held.
func (m *memory) putRedactions(a *applied) {
	known := map[store.RoomNum]bool{}
	for i := range a.redacted {
		red := &a.redacted[i]
		known[red.room] = true
		if r := m.rooms[red.room]; r != nil {
			m.ring.redact(&r.timeline, &red.Redacted)
		}
		m.events.drop(red.Target, red.TargetID, red.pos)
		m.members.drop(red.room, &red.Redacted)
		m.recent.drop(red.room)
	}
	for _, row := range a.rows {
		if a.unknownUpdates[row.Pos] && !known[row.Room()] {
			// An old event has changed, and it is unknown which. This is rare: drop
			// everything before.
			m.ring.floor = max(m.ring.floor, row.Pos)
			m.events.clear(row.Pos)
			m.members.events.Purge()
			m.recent.rooms.Purge()
		}
	}
}

// readReceipts reads the receipts that rows refer to.
func readReceipts(r *store.Read, a *applied, rows []store.StreamRow) error {
	if len(rows) == 0 {
		return nil
	}
	a.readReceipts = make(map[store.Position][]roomdb.Receipt, len(rows))
	return pieces(rows, func(rows []store.StreamRow, slots []roomdb.RoomSlot) error {
		list, err := roomdb.ReceiptsAt(r, slots)
		if err != nil {
			return err
		}
		at := make(map[roomdb.RoomSlot][]roomdb.Receipt, len(list))
		for _, x := range list {
			k := roomdb.RoomSlot{Room: x.Room, Slot: x.Seq}
			at[k] = append(at[k], x)
		}
		for _, row := range rows {
			var of []roomdb.Receipt
			for slot := row.First; slot <= row.Last; slot++ {
				of = append(of, at[roomdb.RoomSlot{Room: row.Room(), Slot: slot}]...)
			}
			a.readReceipts[row.Pos] = of
		}
		return nil
	})
}
