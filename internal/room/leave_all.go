package room

import (
	"context"

	"stoa/internal/reader"
	"stoa/internal/room/eachroom"
	"stoa/internal/store/roomdb"
	"stoa/matrix/id"
)

// leaveAll does a LeaveAllJob. It is idempotent.
func (rs *Rooms) leaveAll(ctx context.Context, w *reader.Work) error {
	return eachroom.Do(ctx, rs.store, w, func(_ context.Context, user id.UserID) (func(context.Context, eachroom.Room) error, error) {
		return func(ctx context.Context, r eachroom.Room) error {
			if r.Membership != roomdb.Join && r.Membership != roomdb.Invite && r.Membership != roomdb.Knock {
				return nil
			}
			return rs.Leave(ctx, MembershipRequest{RoomID: r.ID, Sender: user})
		}, nil
	})
}
