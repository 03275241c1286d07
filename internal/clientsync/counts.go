package clientsync

import (
	"fmt"
	"slices"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
)

// takeCounts counts the unread events of the answer's rooms.
func (k *responseBuilder) takeCounts() error {
	if k.r.opt.Unread == nil {
		return nil
	}
	threads := k.req.Filter.Room.Timeline.UnreadThreadNotifications
	var missing []*entry
	for _, e := range k.entries {
		if !e.joinedRoom {
			continue
		}
		var known bool
		if e.counts, known = k.kept.Counts(k.req.UserNum, e.num, threads); !known {
			missing = append(missing, e)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return k.readCounts(missing, threads)
}

// keptCounters bounds the unread counters that one answer leaves in memory.
const keptCounters = 16

// readCounts reads the unread counters that are not in memory, and keeps them if they are few. Those of the viewer's other rooms
// are read with them, so that news there needs no read: a counter is small, and saves a snapshot.
func (k *responseBuilder) readCounts(entries []*entry, threads bool) error {
	r, err := k.open(k.ctx)
	if err != nil {
		return err
	}
	wanted := len(entries)
	entries = k.addRoomsWithoutCounter(entries)
	entries, places, err := readPlaces(r, entries, wanted)
	if err != nil {
		return err
	}
	counters, err := k.r.opt.Unread.Counters(r, k.req.User, places)
	if err != nil {
		return fmt.Errorf("count unread events of %s: %w", k.req.UserID, err)
	}
	for i, e := range entries {
		e.counts = counters[i].Counts(threads)
	}
	if len(entries) <= keptCounters {
		for i, e := range entries {
			k.kept.KeepCounter(k.req.UserNum, e.num, counters[i], r.Head())
		}
	}
	return nil
}

// addRoomsWithoutCounter adds, up to keptCounters, the viewer's rooms without a counter in memory to entries. It may return another
// list.
func (k *responseBuilder) addRoomsWithoutCounter(entries []*entry) []*entry {
	has := func(num store.RoomNum) bool {
		return slices.ContainsFunc(entries, func(e *entry) bool { return e.num == num })
	}
	for _, j := range k.kept.RoomsWithoutCounter(k.req.UserNum, keptCounters-len(entries), has) {
		entries = append(entries, &entry{joinedRoom: true, timelineRange: timelineRange{num: j.Num, id: j.ID, joined: j.Joined}})
	}
	return entries
}

// readPlaces reads what is not known of the rooms. It leaves out entries after the wanted ones that are newer than the snapshot.
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
