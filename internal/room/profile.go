package room

import (
	"context"
	"encoding/json"

	"stoa/internal/reader"
	"stoa/internal/room/eachroom"
	"stoa/internal/store/roomdb"
	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/id"
	"stoa/matrix/roomversion"
)

// showProfile does a ProfileJob. It is idempotent: a join with the same name and avatar
// is not written again.
func (rs *Rooms) showProfile(ctx context.Context, w *reader.Work) error {
	return eachroom.Do(ctx, rs.store, w, func(ctx context.Context, user id.UserID) (func(context.Context, eachroom.Room) error, error) {
		profile, err := memberships{rs}.profile(ctx, user) // the newest
		return func(ctx context.Context, r eachroom.Room) error {
			if r.Membership != roomdb.Join {
				return nil
			}
			return rs.setProfile(ctx, r.ID, user, profile)
		}, err
	})
}

// setProfile writes the join again with a new name and avatar.
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
