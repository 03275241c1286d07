package streamcache

import (
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
)

// missedLimit bounds the segments that a tally may lag behind.
const missedLimit = 256

// movedLimit bounds the receipts that a tally may lag behind.
const movedLimit = 8

// moveReceipts notes the receipts of users in memory for their tallies. Called with the cache's lock held.
func (m *memory) moveReceipts(r *roomState, pos store.Position, list []roomdb.Receipt) {
	if len(list) == 0 { // whose they are is not known
		for _, u := range r.members {
			j := u.find(r.num)
			j.kept, j.movedAt = nil, pos
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
		j.movedAt = pos
		switch {
		case j.kept == nil:
		case len(j.kept.moved) == movedLimit:
			j.kept = nil
		default:
			j.kept.moved = append(j.kept.moved, x)
		}
	}
}

// counts returns a user's counts in a room from memory; false if they are not known there. Called with the lock held.
func (m *memory) counts(u *user, num store.RoomNum, threads bool) (Counts, bool) {
	j := u.find(num)
	if j == nil || j.kept == nil {
		return Counts{}, false
	}
	if j.kept.at < u.last[store.KindAccountData] || !m.keepUp(j) {
		j.kept = nil
		return Counts{}, false
	}
	return j.kept.Counts(threads), true
}

// keepUp takes over what has happened since a tally was made.
func (m *memory) keepUp(j *joinedRoom) bool {
	var missed []*Segment
	complete := j.room.newest == nil || j.room.newest.Last <= j.kept.Slot()
	if !complete {
		m.ring.since(&j.room.timeline, 0, func(r *record) bool {
			if r.timeline.Last <= j.kept.Slot() || len(missed) == missedLimit {
				return false
			}
			missed = append(missed, r.timeline)
			return true
		})
	}
	for i := len(missed) - 1; i >= 0; i-- {
		s := missed[i]
		if s.counted == nil && len(s.Events) > 0 || !j.kept.Apply(s.First, s.Last, s.counted) {
			return false
		}
	}
	for _, x := range j.kept.moved {
		if !j.kept.Read(readSlot(x), x.Thread, m.totalsAt(j.room, x)) {
			return false
		}
	}
	j.kept.moved = nil
	return complete || len(missed) > 0
}

// readSlot is the slot up to which a receipt reads.
func readSlot(x roomdb.Receipt) store.Slot {
	if x.Off < 0 {
		return x.Slot - 1
	}
	return x.Slot
}

// totalsAt are the totals at a receipt's event, if the ring holds it, and if it is in the thread of the receipt.
func (m *memory) totalsAt(r *roomState, x roomdb.Receipt) (totals *room.Totals) {
	steps := 0
	m.ring.since(&r.timeline, 0, func(rec *record) bool {
		if steps++; x.Slot > rec.timeline.Last || steps > missedLimit {
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

// Tally is the unread events of one member in one room, which can be kept up as the room goes on. The cache's lock guards it.
type Tally interface {
	// Slot is the last slot that has been counted.
	Slot() store.Slot
	// Apply counts a segment of the room; false if the tally has to be read anew.
	Apply(first, last store.Slot, events []room.Counted) bool
	// Read takes away what a receipt of the member covers; false if the tally has to be read anew. thread is "" for all
	// threads, and totals are those at the slot, nil if they are not known or are those of an event outside of the thread.
	Read(slot store.Slot, thread string, totals *room.Totals) bool
	// Counts returns the numbers of unread events: of the whole room, or of the main timeline and each thread.
	Counts(threads bool) Counts
}

// Counts are a room's numbers of unread events.
type Counts struct {
	Notifications, Highlights int64
	// Threads are those of the threads with unread events, if they were asked for; those above are of the main timeline then.
	Threads []ThreadCounts
}

// ThreadCounts are a thread's numbers of unread events.
type ThreadCounts struct {
	Root                      string
	Notifications, Highlights int64
}
