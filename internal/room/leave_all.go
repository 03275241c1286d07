package room

import (
	"context"

	"stoa/internal/reader"
	"stoa/internal/store/roomdb"
	"stoa/matrix/id"
)

// leaveAll does a LeaveAllJob. It may be done again: what was left stays left.
func (rs *Rooms) leaveAll(ctx context.Context, w *reader.Work) error {
	return rs.overRooms(ctx, w, func(_ context.Context, user id.UserID) (func(context.Context, userRoom) error, error) {
		return func(ctx context.Context, r userRoom) error {
			if r.membership != roomdb.Join && r.membership != roomdb.Invite && r.membership != roomdb.Knock {
				return nil
			}
			return rs.Leave(ctx, MembershipRequest{RoomID: r.id, Sender: user})
		}, nil
	})
}
