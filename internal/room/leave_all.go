package room

import (
	"context"
	"errors"
	"fmt"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// leavePage is how many memberships LeaveAll looks at at a time.
const leavePage = 200

// LeaveAll ends all memberships of a local user whose account has ended: joined
// rooms are left, invites rejected, knocks retracted. A room that refuses is
// passed over; one that fails does not keep the user in the others.
//
// Spec: client-server-api#account-deactivation
func (rs *Rooms) LeaveAll(ctx context.Context, user id.UserID) error {
	var failed []error
	for after := store.RoomNum(0); ; {
		page, ids, err := rs.membershipPage(ctx, user, after)
		if err != nil {
			return fmt.Errorf("memberships of %s: %w", user, err)
		}
		for i, m := range page {
			after = m.Room
			if m.Membership != roomdb.Join && m.Membership != roomdb.Invite && m.Membership != roomdb.Knock {
				continue
			}
			err := rs.Leave(ctx, MembershipRequest{RoomID: ids[i], Sender: user})
			if _, refused := mxerr.As(err); err != nil && !refused {
				failed = append(failed, fmt.Errorf("leave %s: %w", ids[i], err))
			}
		}
		if len(page) < leavePage {
			return errors.Join(failed...)
		}
	}
}

// membershipPage returns some memberships of a user with the rooms' IDs.
func (rs *Rooms) membershipPage(ctx context.Context, user id.UserID, after store.RoomNum) (page []roomdb.RoomMembership, ids []id.RoomID, err error) {
	err = rs.store.Read(ctx, func(read *store.Read) error {
		num, err := rs.store.UserNum(read, user.String())
		if errors.Is(err, store.ErrNotFound) {
			return nil // was never in any room
		}
		if err != nil {
			return err
		}
		if page, err = roomdb.Memberships(read, num, after, leavePage); err != nil {
			return err
		}
		for _, m := range page {
			text, err := roomdb.RoomID(read, m.Room)
			if err != nil {
				return err
			}
			roomID, err := id.ParseRoomID(text)
			if err != nil {
				return err
			}
			ids = append(ids, roomID)
		}
		return nil
	})
	return page, ids, err
}
