package streamcache

import (
	"slices"

	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/timeline"
)

// chain is the sequence of records of an owner, a room and kind. The ring links each record to the one before in the same chain, so
// that reading what happened in one room since a token costs only that.
type chain struct {
	last store.Position // of the newest change that this instance has applied, 0 = none since it started to look
	seq  uint64         // of that change's record, 0 = not in the ring
}

// record is one row of the stream with its contents. It never changes, except that a redaction replaces its timeline.
type record struct {
	pos  store.Position
	prev uint64 // the record before in the same chain, 0 = none in the ring
	size int

	timeline *Segment         // of a room's KindTimeline
	receipts []roomdb.Receipt // of a room's KindReceipts
	presence *presenceChange  // of a user's KindPresence; nil if it has to be read
}

// Segment is what one group did to the timeline and the state of one room.
type Segment struct {
	First, Last store.Slot
	Events      []*timeline.Event
	Changes     []Change
	Joined      int64
	Invited     int64
	// MovesMembers says that somebody joined, left, or changed their name or avatar.
	MovesMembers bool
	// counted are the events as they count for unread counts; nil if not known.
	counted []room.Counted
}

// changes reports whether the segment changes state of a type.
func (s *Segment) changes(evType string) bool {
	return slices.ContainsFunc(s.Changes, func(c Change) bool { return c.Type == evType })
}

// Change is a change of one entry of a room's current state.
type Change struct {
	Slot     store.Slot
	Key      store.KeyNum
	Type     string
	StateKey string
	// Event is the new entry, nil if the entry is gone.
	Event *timeline.Event
	// user is the local user whose membership the entry is; 0 for anything else.
	user store.UserNum
}

// ring is the newest part of the stream in memory. It has no lock: the cache's guards it. Everything after floor, up to
// head, is in it.
type ring struct {
	records  []record // seq modulo length
	first    uint64   // oldest seq in the ring
	next     uint64   // seq of the next record
	bytes    int
	maxBytes int
	floor    store.Position
	head     store.Position
}

func newRing(records, maxBytes int, head store.Position) *ring {
	return &ring{records: make([]record, records), first: 1, next: 1, maxBytes: maxBytes, floor: head, head: head}
}

// add puts a record at the end of its chain. What falls out at the other end raises the floor.
func (r *ring) add(c *chain, rec record) {
	for r.next-r.first == uint64(len(r.records)) || r.bytes+rec.size > r.maxBytes && r.next > r.first {
		old := r.at(r.first)
		r.floor = max(r.floor, old.pos)
		r.bytes -= old.size
		*old = record{}
		r.first++
	}
	rec.prev = c.seq
	c.last, c.seq = rec.pos, r.next
	r.bytes += rec.size
	*r.at(r.next) = rec
	r.next++
}

// reset forgets everything: the ring begins anew at a position.
func (r *ring) reset(head store.Position) {
	clear(r.records)
	r.first, r.bytes, r.floor, r.head = r.next, 0, head, head
}

func (r *ring) at(seq uint64) *record { return &r.records[seq%uint64(len(r.records))] }

// since calls f with the records of a chain after a position, newest first, until f returns false. The caller has seen that
// the position is not below the floor.
func (r *ring) since(c *chain, after store.Position, f func(*record) bool) {
	for seq := c.seq; seq >= r.first && seq != 0; {
		rec := r.at(seq)
		if rec.pos <= after || !f(rec) {
			return
		}
		seq = rec.prev
	}
}

// newSegment takes over what the room's writer passed to the commit.
func newSegment(c *room.Committed) (*Segment, int) {
	s := &Segment{First: c.First, Last: c.Last, Joined: c.Joined, Invited: c.Invited, counted: c.Counted()}
	size := 200
	byNum := make(map[store.EventNum]*timeline.Event, len(c.Events))
	for i := range c.Events {
		t := &c.Events[i]
		e := timeline.New(timeline.Source{
			Num: t.Num, Slot: t.Slot, Off: t.Off, PDU: t.PDU,
			Replaces: t.Replaces, ReplacesSlot: t.ReplacesSlot, RedactedBy: t.RedactedBy,
			TxnUser: t.Txn.UserID, TxnDevice: t.Txn.DeviceID, TxnID: t.Txn.ID,
		})
		s.Events = append(s.Events, e)
		byNum[t.Num] = e
		size += e.Size() + 250
	}
	for i := range c.State {
		t := &c.State[i]
		ch := Change{Slot: t.Slot, Key: t.Key, Type: t.Type, StateKey: t.StateKey, user: t.User}
		if t.Event != nil {
			if ch.Event = byNum[t.Num]; ch.Event == nil {
				ch.Event = timeline.New(timeline.Source{Num: t.Num, Slot: t.Slot, PDU: t.Event, Replaces: t.Previous, ReplacesSlot: t.PreviousSlot})
				size += ch.Event.Size()
			}
		}
		s.Changes = append(s.Changes, ch)
		s.MovesMembers = s.MovesMembers || ch.Type == "m.room.member"
		size += 150
	}
	return s, size
}

// membersOf makes the membership events that were current when a commit's messages were sent, but for those that are known.
func membersOf(c *room.Committed, known func(store.RoomNum, store.EventNum) bool) []*timeline.Event {
	if len(c.State) > 0 {
		return nil // it may have changed them
	}
	var out []*timeline.Event
	for i := range c.Events {
		if m := c.Events[i].SenderMember; m != nil && !known(c.Room, m.Num) {
			out = append(out, timeline.New(timeline.Source{Num: m.Num, Slot: m.Slot, PDU: m.PDU}))
		}
	}
	return out
}

// redact puts the redacted form of an event in the place of the event, wherever the chain of its room still holds it.
func (r *ring) redact(c *chain, red *room.Redacted) {
	for seq := c.seq; seq >= r.first && seq != 0; {
		rec := r.at(seq)
		if s, ok := rec.timeline.redacted(red); ok {
			rec.timeline = s
		}
		seq = rec.prev
	}
}

// redacted is a copy of the segment in which the event is redacted; false if it is not there.
func (s *Segment) redacted(red *room.Redacted) (*Segment, bool) {
	out := *s
	found := false
	for i, e := range s.Events {
		if concerns(e, red) {
			if !found {
				out.Events = append([]*timeline.Event(nil), s.Events...)
				out.Changes = append([]Change(nil), s.Changes...)
				found = true
			}
			out.Events[i] = redactedForm(e, red)
		}
	}
	for i := range s.Changes {
		if e := s.Changes[i].Event; e != nil && concerns(e, red) {
			if !found {
				out.Changes = append([]Change(nil), s.Changes...)
				found = true
			}
			out.Changes[i].Event = redactedForm(e, red)
		}
	}
	return &out, found
}

// concerns says whether an event is the redacted one, or has replaced it.
func concerns(e *timeline.Event, red *room.Redacted) bool {
	return e.Num == red.Target || e.Replaced != nil && e.Replaced.ID == red.TargetID
}

func redactedForm(e *timeline.Event, red *room.Redacted) *timeline.Event {
	if e.Num != red.Target {
		next, replaced := *e, *e.Replaced
		replaced.Content = red.PDU.Redacted().Content()
		next.Replaced = &replaced
		return &next
	}
	if e.IsRedacted() {
		return e
	}
	next := timeline.New(timeline.Source{Num: e.Num, Slot: e.Slot, Off: e.Off, PDU: red.PDU, RedactedBy: red.Because})
	next.Replaced = e.Replaced
	return next
}

// Live leaves out events that were put before others.
func Live(events []*timeline.Event) []*timeline.Event {
	for i, e := range events {
		if e.Off != 0 {
			kept := append([]*timeline.Event(nil), events[:i]...)
			for _, e := range events[i:] {
				if e.Off == 0 {
					kept = append(kept, e)
				}
			}
			return kept
		}
	}
	return events
}
