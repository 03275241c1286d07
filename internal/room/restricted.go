package room

import (
	"context"
	"encoding/json"
	"errors"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

const keyAuthoriser = "join_authorised_via_users_server"

// withAuthoriser adds the authoriser of a join to the content of its event.
func withAuthoriser(content json.RawMessage, authoriser id.UserID) (json.RawMessage, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(content, &keys); err != nil {
		return nil, err
	}
	keys[keyAuthoriser] = canonicaljson.AppendString(nil, authoriser.String())
	return json.Marshal(keys)
}

// errUnauthorised says that a join needs an authoriser.
var errUnauthorised = errors.New("the join needs an authoriser")

// joinCheck is a join of a restricted room whose conditions have yet to be checked.
type joinCheck struct {
	allow []id.RoomID
	// power is the content of the room's power levels and create event.
	powers *eventauth.Powers
}

// restricted returns errUnauthorised if a draft is a join that needs an authoriser and
// has none yet.
//
// Spec: client-server-api#restricted-rooms
func (t *turn) restricted(d *Draft) (*joinCheck, error) {
	rules := t.r.rules
	if !rules.RestrictedJoins || *d.StateKey != d.Sender.String() {
		return nil, nil
	}
	var wanted struct {
		Membership string `json:"membership"`
		Authoriser string `json:"join_authorised_via_users_server"`
	}
	if err := json.Unmarshal(d.Content, &wanted); err != nil || wanted.Membership != event.MembershipJoin {
		return nil, err
	}
	joinRules, err := t.Event(event.TypeJoinRules, "")
	if err != nil || joinRules == nil {
		return nil, err
	}
	rule, err := joinRules.JoinRules()
	if err != nil {
		return nil, err
	}
	if rule.JoinRule != event.JoinRuleRestricted && (rule.JoinRule != event.JoinRuleKnockRestricted || !rules.KnockRestrictedJoins) {
		return nil, nil
	}
	now, err := t.membership(d.Sender)
	if err != nil || now == event.MembershipJoin || now == event.MembershipInvite || now == event.MembershipBan {
		return nil, err // allowed without an authoriser, or refused anyway
	}
	if wanted.Authoriser != "" {
		return nil, nil
	}
	check := &joinCheck{}
	for _, condition := range rule.Allow {
		if condition.Type == event.AllowRoomMembership {
			check.allow = append(check.allow, condition.RoomID)
		}
	}
	if check.powers, err = eventauth.PowersOf(t); err != nil {
		return nil, err
	}
	return check, errUnauthorised
}

// authorise checks the conditions of a restricted join and finds a local member who may
// invite, as the authoriser.
//
// Spec: server-server-api#restricted-rooms
func (rs memberships) authorise(ctx context.Context, req MembershipRequest, check *joinCheck) (authoriser id.UserID, err error) {
	err = rs.store.Read(ctx, func(read *store.Read) error {
		fulfilled, err := roomdb.IsMemberOfAny(rs.store, read, req.Sender.String(), check.allow)
		if err != nil {
			return err
		}
		if !fulfilled {
			return mxerr.Forbidden("You are in none of the rooms whose members may join")
		}
		room, err := roomdb.RoomNum(read, req.RoomID.String())
		if err != nil {
			return err
		}
		authoriser, err = rs.inviter(read, room, check.powers)
		return err
	})
	if err != nil {
		return id.UserID{}, err
	}
	if authoriser.IsZero() {
		return id.UserID{}, mxerr.Forbidden("Nobody in the room can let you in: no member here may invite")
	}
	return authoriser, nil
}

// inviter finds a joined local user who may invite; zero if there is none.
func (rs memberships) inviter(read *store.Read, room store.RoomNum, powers *eventauth.Powers) (id.UserID, error) {
	const page = 200
	for after := store.UserNum(0); ; {
		members, err := roomdb.LocalMembers(read, room, roomdb.Join, after, page)
		if err != nil {
			return id.UserID{}, err
		}
		nums := make([]store.UserNum, len(members))
		for i, m := range members {
			nums[i] = m.User
		}
		users, err := rs.store.UserIDs(read, nums)
		if err != nil {
			return id.UserID{}, err
		}
		for _, name := range users {
			user, err := id.ParseUserID(name)
			if err == nil && powers.User(user) >= powers.Invite() {
				return user, nil
			}
		}
		if len(members) < page {
			return id.UserID{}, nil
		}
		after = nums[len(nums)-1]
	}
}
