package clientsync

import (
	"context"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/token"
	"stoa/internal/who"
	"stoa/matrix/eventfilter"
)

// KeyChanges answers /keys/changes: the users whose device lists changed since a token of /sync, and those who no longer share a
// room with the viewer. It covers everything until now, which includes the second token of the request. A token older than the
// stream gives all users.
//
// Spec: client-server-api#get_matrixclientv3keyschanges
func (x *Renderer) KeyChanges(ctx context.Context, v who.Device, from token.Stream) (changed, left []string, err error) {
	err = x.store.Read(ctx, func(r *store.Read) error {
		q := &Query{Device: v, Filter: eventfilter.Everything(), Since: store.Position(from.Position), Upto: r.Head()}
		oldest, err := r.OldestPosition()
		if err != nil {
			return err
		}
		q.Forgotten = q.Since < oldest
		moves := &moveReader{q: q, read: r, store: x.store, l: x.cache.Loader(r)}
		if err := moves.collect(r); err != nil {
			return err
		}
		changed, left, err = DeviceLists{}.Changes(r, q)
		return err
	})
	return changed, left, err
}

// collect finds the rooms that the viewer joined and left, and the members who joined and left the viewer's rooms.
func (m *moveReader) collect(r *store.Read) error {
	own, err := r.OwnChanges(m.q.UserNum, m.q.Since)
	if err != nil {
		return err
	}
	var firstMove store.Slot
	for _, o := range own {
		if o.Kind == store.KindMembership {
			firstMove = o.First
		}
	}
	rooms, err := roomdb.SyncRooms(r, m.q.UserNum, false)
	if err == nil && firstMove != 0 {
		var gone []roomdb.SyncRoom
		gone, err = roomdb.SyncLeft(r, m.q.UserNum, firstMove-1)
		rooms = append(rooms, gone...)
	}
	if err != nil {
		return err
	}
	nums := make([]store.RoomNum, len(rooms))
	for i, row := range rooms {
		nums[i] = row.Room
		if row.Membership == roomdb.Join {
			m.q.Rooms = append(m.q.Rooms, row.Room)
		}
	}
	starts, err := r.RoomStarts(nums, m.q.Since)
	if err != nil {
		return err
	}
	byRoom := make(map[store.RoomNum]store.RoomStart, len(starts))
	for _, s := range starts {
		byRoom[s.Room] = s
	}
	for i := range rooms {
		row := &rooms[i]
		if err := m.add(row, byRoom[row.Room], firstMove != 0 && row.UserSlot >= firstMove); err != nil {
			return err
		}
	}
	return m.finish()
}
