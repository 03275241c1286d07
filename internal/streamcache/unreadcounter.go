package streamcache

import (
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
)

// newSegmentsLimit bounds the segments that a counter may lag behind.
const newSegmentsLimit = 256

// newReceiptsLimit bounds the receipts that a counter may lag behind.
const newReceiptsLimit = 8

// noteReceipts passes receipts to the counters of users in memory. Called with the cache's lock held.
func (m *memory) noteReceipts(r *roomState, pos store.Position, list []roomdb.Receipt) {
	if len(list) == 0 { // whose they are is not known
		for _, u := range r.members {
			j := u.find(r.num)
			j.counter, j.receiptsAt = nil, pos
		}
		return
	}
	for _, x := range list {
		u := m.users[x.User]
		if u == nil {
			continue
		}
		j := u.find(r.num)
		if j == nil {
			continue
		}
		j.receiptsAt = pos
		switch {
		case j.counter == nil:
		case len(j.counter.newReceipts) == newReceiptsLimit:
			j.counter = nil
		default:
			j.counter.newReceipts = append(j.counter.newReceipts, x)
		}
	}
}

// counts returns a user's unread counts in a room; false if memory does not know them. Called with the lock held.
func (m *memory) counts(u *user, num store.RoomNum, threads bool) (Counts, bool) {
	j := u.find(num)
	if j == nil || j.counter == nil {
		return Counts{}, false
	}
	if j.counter.at < u.last[store.KindAccountData] || !m.updateCounter(j) {
		j.counter = nil
		return Counts{}, false
	}
	return j.counter.Counts(threads), true
}

// updateCounter applies everything that has happened since a counter was made.
func (m *memory) updateCounter(j *userRoom) bool {
	var missed []*Segment
	complete := j.room.newest == nil || j.room.newest.Last <= j.counter.Slot()
	if !complete {
		m.ring.since(&j.room.timeline, 0, func(r *record) bool {
			if r.timeline.Last <= j.counter.Slot() || len(missed) == newSegmentsLimit {
				return false
			}
			missed = append(missed, r.timeline)
			return true
		})
	}
	for i := len(missed) - 1; i >= 0; i-- {
		s := missed[i]
		if s.counted == nil && len(s.Events) > 0 || !j.counter.Apply(s.First, s.Last, s.counted) {
			return false
		}
	}
	for _, x := range j.counter.newReceipts {
		if !j.counter.Read(readSlot(x), x.Thread, m.totalsAt(j.room, x)) {
			return false
		}
	}
	j.counter.newReceipts = nil
	return complete || len(missed) > 0
}

// readSlot is the slot up to which a receipt reads.
func readSlot(x roomdb.Receipt) store.Slot {
	if x.Off < 0 {
		return x.Slot - 1
	}
	return x.Slot
}

// totalsAt returns the totals at a receipt's event, if the ring holds it and it is in the receipt's thread.
func (m *memory) totalsAt(r *roomState, x roomdb.Receipt) (totals *room.Totals) {
	steps := 0
	m.ring.since(&r.timeline, 0, func(rec *record) bool {
		if steps++; x.Slot > rec.timeline.Last || steps > newSegmentsLimit {
			return false
		}
		for i := range rec.timeline.counted {
			e := &rec.timeline.counted[i]
			if e.Slot == x.Slot && (x.Thread == "" || x.Thread == "main" || x.Thread == e.Thread.String()) {
				totals = &e.Totals
			}
		}
		return x.Slot < rec.timeline.First
	})
	return totals
}

// UnreadCounter counts the unread events of one member in one room, and is updated as the room goes on. The cache's lock guards it.
type UnreadCounter interface {
	// Slot is the last counted slot.
	Slot() store.Slot
	// Apply counts a segment of the room; false if the counter must be read anew.
	Apply(first, last store.Slot, events []room.Counted) bool
	// Read subtracts the events that a receipt of the member covers; false if the counter
	// must be read anew. thread is "" for all threads. totals are those at the slot; nil
	// if they are unknown, or if the event is outside the thread.
	Read(slot store.Slot, thread string, totals *room.Totals) bool
	// Counts returns the numbers of unread events: of the whole room, or of the main timeline and each thread.
	Counts(threads bool) Counts
}

// Counts are a room's numbers of unread events.
type Counts struct {
	Notifications, Highlights int64
	// Threads are those with unread events, if requested; the counts above are then those
	// of the main timeline.
	Threads []ThreadCounts
}

// ThreadCounts are a thread's numbers of unread events.
type ThreadCounts struct {
	Root                      string
	Notifications, Highlights int64
}
