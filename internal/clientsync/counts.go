package clientsync

import (
	"fmt"
	"slices"

	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
)

// missedLimit bounds the stretches that a tally may lag behind.
const missedLimit = 256

// movedLimit bounds the receipts that a tally may lag behind.
const movedLimit = 8

// moveReceipts notes the receipts of users in memory for their tallies. Called with the hub's lock held.
func (h *Hub) moveReceipts(r *hubRoom, pos store.Position, list []roomdb.Receipt) {
	if len(list) == 0 { // whose they are is not known
		for _, u := range r.members {
			j := u.find(r.num)
			j.kept, j.movedAt = nil, pos
		}
		return
	}
	for _, x := range list {
		u := h.users[x.User]
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
func (h *Hub) counts(u *user, num store.RoomNum, threads bool) (Counts, bool) {
	j := u.find(num)
	if j == nil || j.kept == nil {
		return Counts{}, false
	}
	if j.kept.at < u.last[store.KindAccountData] || !h.keepUp(j) {
		j.kept = nil
		return Counts{}, false
	}
	return j.kept.Counts(threads), true
}

// keepUp takes over what has happened since a tally was made.
func (h *Hub) keepUp(j *joinedRoom) bool {
	var missed []*stretch
	complete := j.room.newest == nil || j.room.newest.last <= j.kept.Slot()
	if !complete {
		h.ring.since(&j.room.timeline, 0, func(r *record) bool {
			if r.timeline.last <= j.kept.Slot() || len(missed) == missedLimit {
				return false
			}
			missed = append(missed, r.timeline)
			return true
		})
	}
	for i := len(missed) - 1; i >= 0; i-- {
		s := missed[i]
		if s.counted == nil && len(s.events) > 0 || !j.kept.Apply(s.first, s.last, s.counted) {
			return false
		}
	}
	for _, x := range j.kept.moved {
		if !j.kept.Read(readSlot(x), x.Thread, h.totalsAt(j.room, x)) {
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
func (h *Hub) totalsAt(r *hubRoom, x roomdb.Receipt) (totals *room.Totals) {
	steps := 0
	h.ring.since(&r.timeline, 0, func(rec *record) bool {
		if steps++; x.Slot > rec.timeline.last || steps > missedLimit {
			return false
		}
		for i := range rec.timeline.counted {
			e := &rec.timeline.counted[i]
			if e.Slot == x.Slot && (x.Thread == "" || x.Thread == "main" || x.Thread == e.Thread.String()) {
				totals = &e.Totals
			}
		}
		return x.Slot < rec.timeline.first
	})
	return totals
}

// takeCounts counts the unread events of the rooms of which something is told.
func (k *work) takeCounts() error {
	if k.h.opt.Unread == nil {
		return nil
	}
	threads := k.req.Filter.Room.Timeline.UnreadThreadNotifications
	var missing []*entry
	k.h.mu.Lock()
	u := k.h.users[k.req.UserNum]
	for _, e := range k.entries {
		if !e.joinedRoom {
			continue
		}
		known := false
		if u != nil && !u.loading {
			e.counts, known = k.h.counts(u, e.num, threads)
		}
		if !known {
			missing = append(missing, e)
		}
	}
	k.h.mu.Unlock()
	if len(missing) == 0 {
		return nil
	}
	return k.readCounts(missing, threads)
}

// keptTallies bounds the tallies that one answer leaves in memory.
const keptTallies = 16

// readCounts reads the tallies that are not in memory, and keeps them if they are few. Those of the viewer's other rooms are
// read with them, so that news there needs no read: what a tally takes is small, and what it saves is a snapshot.
func (k *work) readCounts(entries []*entry, threads bool) error {
	r, err := k.open(k.ctx)
	if err != nil {
		return err
	}
	wanted := len(entries)
	entries = k.h.withUncounted(k.req.UserNum, entries)
	entries, places, err := readPlaces(r, entries, wanted)
	if err != nil {
		return err
	}
	tallies, err := k.h.opt.Unread.Tallies(r, k.req.User, places)
	if err != nil {
		return fmt.Errorf("count unread events of %s: %w", k.req.UserID, err)
	}
	for i, e := range entries {
		e.counts = tallies[i].Counts(threads)
	}
	if len(entries) <= keptTallies {
		k.h.keepTallies(k.req.UserNum, entries, tallies, r.Head())
	}
	return nil
}

// withUncounted adds to entries, as far as there is room for their tallies, the viewer's rooms whose tallies are not in
// memory. The list may be another one after it.
func (h *Hub) withUncounted(num store.UserNum, entries []*entry) []*entry {
	has := func(num store.RoomNum) bool {
		return slices.ContainsFunc(entries, func(e *entry) bool { return e.num == num })
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	u := h.users[num]
	if u == nil || u.loading {
		return entries
	}
	for i := 0; i < len(u.rooms) && len(entries) < keptTallies; i++ {
		if j := &u.rooms[i]; j.kept == nil && !j.room.id.IsZero() && !has(j.room.num) {
			entries = append(entries, &entry{joinedRoom: true, span: span{num: j.room.num, id: j.room.id, joined: j.joined}})
		}
	}
	return entries
}

// readPlaces reads what of the rooms is not known yet. Of the entries that come after those which are wanted it leaves out the
// ones that are newer than the snapshot.
func readPlaces(r *store.Read, entries []*entry, wanted int) ([]*entry, []Place, error) {
	places := make([]Place, 0, len(entries))
	var unknown []store.RoomNum
	for _, e := range entries {
		if e.slotNow == 0 {
			unknown = append(unknown, e.num)
		}
	}
	rows, err := roomdb.TotalsOfRooms(r, unknown)
	if err != nil {
		return nil, nil, fmt.Errorf("read the totals of rooms: %w", err)
	}
	kept := make([]*entry, 0, len(entries))
	for i, e := range entries {
		p := Place{Room: e.num, RoomID: e.id, Joined: e.joined, Slot: e.slotNow, Totals: e.totals, Members: e.summary.joined}
		if e.slotNow == 0 {
			row, ok := rows[e.num]
			if !ok && i >= wanted {
				continue
			}
			if !ok {
				return nil, nil, fmt.Errorf("read the totals of room number %d: %w", e.num, store.ErrNotFound)
			}
			p.Slot, p.Totals, p.Members = row.Slot, row.Totals, row.Joined
		}
		kept, places = append(kept, e), append(places, p)
	}
	return kept, places, nil
}

// keepTallies keeps tallies that were read in a snapshot, unless the viewer has read on since.
func (h *Hub) keepTallies(num store.UserNum, entries []*entry, tallies []Tally, snapshot store.Position) {
	h.mu.Lock()
	defer h.mu.Unlock()
	u := h.users[num]
	if u == nil || u.loading {
		return
	}
	for i, e := range entries {
		if j := u.find(e.num); j != nil && j.movedAt <= snapshot && u.last[store.KindAccountData] <= snapshot {
			j.kept = &keptTally{Tally: tallies[i], at: snapshot}
		}
	}
}
