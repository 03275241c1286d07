package clientsync

import (
	"context"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/token"
	"stoa/internal/who"
	"stoa/matrix/eventfilter"
	"stoa/matrix/id"
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
		if err := q.collectMoves(r); err != nil {
			return err
		}
		changed, left, err = DeviceLists{}.Changes(r, q)
		return err
	})
	return changed, left, err
}

// collectMoves finds the rooms that the viewer joined and left, and the members who joined and left the viewer's rooms.
func (q *Query) collectMoves(r *store.Read) error {
	own, err := r.OwnChanges(q.UserNum, q.Since)
	if err != nil {
		return err
	}
	var firstMove store.Slot
	for _, o := range own {
		if o.Kind == store.KindMembership {
			firstMove = o.First
		}
	}
	rooms, err := roomdb.SyncRooms(r, q.UserNum, false)
	if err == nil && firstMove != 0 {
		var gone []roomdb.SyncRoom
		gone, err = roomdb.SyncLeft(r, q.UserNum, firstMove-1)
		rooms = append(rooms, gone...)
	}
	if err != nil {
		return err
	}
	for _, row := range rooms {
		moved := firstMove != 0 && row.UserSlot >= firstMove
		switch {
		case row.Membership == roomdb.Join && moved:
			q.Entered = append(q.Entered, row.Room)
			q.Rooms = append(q.Rooms, row.Room)
		case row.Membership == roomdb.Join:
			q.Rooms = append(q.Rooms, row.Room)
		case moved:
			q.Left = append(q.Left, row.Room)
		}
	}
	starts, err := r.RoomStarts(q.Rooms, q.Since)
	if err != nil {
		return err
	}
	for _, start := range starts {
		if start.Timeline == 0 {
			continue
		}
		moves, err := roomdb.MovedMembers(r, start.Room, start.Timeline-1, deviceListLimit)
		if err != nil {
			return err
		}
		for _, m := range moves {
			user, err := id.ParseUserID(m.UserID)
			if err != nil {
				continue // a member event of an old room whose state key is no user
			}
			if m.Membership == roomdb.Join {
				q.JoinedMembers = append(q.JoinedMembers, MemberMove{start.Room, user})
			} else {
				q.LeftMembers = append(q.LeftMembers, MemberMove{start.Room, user})
			}
		}
	}
	return nil
}
