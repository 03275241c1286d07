package room

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
	"stoa/matrix/roomversion"
)

// SetProfile shows a local user's new profile in all rooms that they have joined.
// It returns when all of them have it; a room that can't have it (the user may
// have left it meanwhile) is passed over.
//
// Spec: client-server-api#events-on-change-of-profile-information
func (rs *Rooms) SetProfile(ctx context.Context, user id.UserID) error {
	profile, err := rs.profile(ctx, user)
	if err != nil {
		return err
	}
	var joined []roomdb.JoinedRoom
	err = rs.store.Read(ctx, func(read *store.Read) error {
		num, err := rs.store.UserNum(read, user.String())
		if err != nil {
			return err
		}
		joined, err = roomdb.JoinedRooms(read, num)
		return err
	})
	if err != nil {
		return fmt.Errorf("rooms of %s: %w", user, err)
	}
	// Rooms are independent, so their commits share groups.
	var group errgroup.Group
	group.SetLimit(profileRooms)
	failed := make([]error, len(joined))
	for i, j := range joined {
		group.Go(func() error {
			roomID, err := id.ParseRoomID(j.RoomID)
			if err != nil {
				return err
			}
			err = rs.setProfile(ctx, roomID, user, profile)
			if refusal, ok := mxerr.As(err); err != nil && (!ok || refusal.Status >= 500) {
				failed[i] = fmt.Errorf("profile of %s in %s: %w", user, roomID, err)
			}
			return nil
		})
	}
	return errors.Join(group.Wait(), errors.Join(failed...))
}

// profileRooms is in how many rooms at once a new profile is written.
const profileRooms = 16

// setProfile writes the join again, with another name and avatar.
func (rs *Rooms) setProfile(ctx context.Context, roomID id.RoomID, user id.UserID, profile Profile) error {
	key := eventauth.Key{Type: event.TypeMember, StateKey: user.String()}
	need := func(rules *roomversion.Rules) []eventauth.Key {
		return []eventauth.Key{key, {Type: event.TypePowerLevels}, {Type: event.TypeJoinRules}, {Type: event.TypeCreate}}
	}
	return rs.write(ctx, roomID, need, func(t *turn) error {
		now, err := t.entry(key)
		if err != nil {
			return err
		}
		if membershipOf(now) != event.MembershipJoin {
			return errNothing
		}
		var content map[string]any
		if err := json.Unmarshal(now.pdu.Content(), &content); err != nil {
			return err
		}
		for _, dropped := range []string{"displayname", "avatar_url", "reason", keyAuthoriser} {
			delete(content, dropped)
		}
		raw, err := json.Marshal(memberContent(event.MembershipJoin, profile, "", content))
		if err != nil {
			return err
		}
		_, err = t.send(Draft{RoomID: roomID, Sender: user, Type: event.TypeMember, StateKey: &key.StateKey, Content: raw})
		return err
	})
}
