package clientsync

import (
	"context"
	"fmt"

	"stoa/internal/store"
	"stoa/matrix/id"
)

// catchUpRows is how far behind the hub may be to read what it missed. If it is further behind it forgets everything and
// begins anew: older tokens are answered from the store.
const catchUpRows = 4096

// readUp takes over rows that other instances have written, up to a position.
func (h *Hub) readUp(ctx context.Context, upTo store.Position) error {
	from := h.Head()
	var rows []store.StreamRow
	err := h.store.Read(ctx, func(r *store.Read) (err error) {
		rows, err = r.Stream(from, upTo, catchUpRows+1)
		return err
	})
	if err != nil {
		return fmt.Errorf("read the stream after %d: %w", from, err)
	}
	if len(rows) > catchUpRows {
		h.reset(upTo)
		return nil
	}
	return h.settle(ctx, &applied{rows: rows, last: upTo, rooms: map[store.RoomNum]*appliedRoom{}})
}

// reset forgets all that the hub knows, up to a position.
func (h *Hub) reset(head store.Position) {
	h.log.Warn("forgot the newest part of the stream", "pos", int64(head))
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, u := range h.users {
		h.forget(u)
	}
	clear(h.rooms)
	h.ring.reset(head)
	h.members.events.Purge()
	h.tails.tails.Purge()
	h.events.clear(head)
	h.advance(head)
}

// complete reads what rows refer to and no payload told: the timelines that other instances wrote, and the rooms of users
// who are not in memory and have changed something that others see.
func (h *Hub) complete(ctx context.Context, a *applied) error {
	var missing []store.StreamRow
	var sharers []store.UserNum
	h.mu.Lock()
	for _, row := range a.rows {
		switch {
		case row.Kind == store.KindTimeline && a.rooms[row.Room()] == nil:
			missing = append(missing, row)
		case row.OwnerKind == store.OwnerUser && sharedIndex(row.Kind) >= 0:
			if u := h.users[row.User()]; u == nil || u.loading {
				sharers = append(sharers, row.User())
			}
		}
	}
	h.mu.Unlock()
	if len(missing) == 0 && len(sharers) == 0 {
		return nil
	}
	return h.store.Read(ctx, func(r *store.Read) error {
		for _, row := range missing {
			if err := h.readStretch(r, a, row); err != nil {
				return fmt.Errorf("read the timeline of room number %d: %w", row.Owner, err)
			}
		}
		return h.readSharers(r, a, sharers)
	})
}

// readStretch reads what a row of a timeline refers to.
func (h *Hub) readStretch(r *store.Read, a *applied, row store.StreamRow) error {
	info, err := r.RoomByNum(row.Room())
	if err != nil {
		return skipGone(err)
	}
	roomID, err := id.ParseRoomID(info.RoomID)
	if err != nil {
		return err
	}
	l := h.loader(r)
	found, err := r.SyncStretch(row.Room(), row.First-1, row.Last, int(row.Last-row.First)+1, l.known)
	if err != nil {
		return err
	}
	log, err := r.SyncLog(row.Room(), row.First-1, row.Last)
	if err != nil {
		return err
	}
	l.version(row.Room(), info.Version)
	l.wantEvents(found)
	l.wantLog(log)
	l.wantChanged(log)
	if err := l.load(); err != nil {
		return err
	}
	s := &stretch{first: row.First, last: row.Last, joined: info.Joined, invited: info.Invited}
	size := 200
	for i := len(found) - 1; i >= 0; i-- {
		if e := l.event(found[i].Num); e != nil {
			s.events = append(s.events, e)
			size += e.Size()
		}
	}
	if s.changes, err = l.changes(log); err != nil {
		return err
	}
	for i := range s.changes {
		s.movesMembers = s.movesMembers || s.changes[i].evType == "m.room.member"
	}
	at := a.rooms[row.Room()]
	if at == nil {
		at = &appliedRoom{id: roomID}
		a.rooms[row.Room()] = at
	}
	at.stretches = append(at.stretches, s)
	at.sizes = append(at.sizes, size)
	return nil
}

// skipGone passes over a reference whose target is gone.
func skipGone(err error) error {
	if err == store.ErrNotFound {
		return nil
	}
	return err
}

// sharedRoomLimit bounds the rooms of one user who changed something that others see.
const sharedRoomLimit = 10_000

func (h *Hub) readSharers(r *store.Read, a *applied, users []store.UserNum) error {
	if len(users) == 0 {
		return nil
	}
	a.sharers = make(map[store.UserNum][]store.RoomNum, len(users))
	userIDs, err := h.store.UserIDs(r, users)
	if err != nil {
		return fmt.Errorf("read user IDs: %w", err)
	}
	for i, num := range users {
		keys, err := h.store.KeyNums(r, []store.Pair{{Type: "m.room.member", StateKey: userIDs[i]}})
		if err != nil {
			return fmt.Errorf("look up the member %s: %w", userIDs[i], err)
		}
		if keys[0] == 0 {
			continue
		}
		if a.sharers[num], err = r.RoomsOfKey(keys[0], store.Join, 0, sharedRoomLimit); err != nil {
			return fmt.Errorf("read the rooms of %s: %w", userIDs[i], err)
		}
	}
	return nil
}

// changes makes the changes of state that rows of the log tell of. The loader holds their events.
func (l *loader) changes(log []store.StateChange) ([]change, error) {
	nums := make([]store.KeyNum, len(log))
	for i, c := range log {
		nums[i] = c.Key
	}
	pairs, err := l.hub.store.Pairs(l.read, nums)
	if err != nil {
		return nil, fmt.Errorf("read state keys: %w", err)
	}
	out := make([]change, 0, len(log))
	for i, c := range log {
		ch := change{slot: c.Slot, key: c.Key, evType: pairs[i].Type, stateKey: pairs[i].StateKey}
		if c.Event != 0 {
			ch.event = l.event(c.Event)
		}
		if ch.evType == "m.room.member" {
			if ch.user, err = l.hub.localUser(l.read, ch.stateKey); err != nil {
				return nil, err
			}
		}
		out = append(out, ch)
	}
	return out, nil
}

// localUser is the number of a user whom the hub may have in memory, 0 for somebody who has none.
func (h *Hub) localUser(r *store.Read, userID string) (store.UserNum, error) {
	num, err := h.store.UserNum(r, userID)
	if err != nil {
		return 0, skipGone(err)
	}
	return num, nil
}
