package room

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"stoa/internal/store"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
	"stoa/matrix/roomversion"
)

// MembershipRequest asks for a change of membership.
type MembershipRequest struct {
	RoomID id.RoomID
	// Sender is the local user who asks, Target whose membership is to change:
	// zero for the sender's own.
	Sender, Target id.UserID
	// Reason is shown with the change; empty for none.
	Reason string
	// Content are more keys of the event, a JSON object; nil for none.
	Content json.RawMessage
}

// Join makes the sender a member of the room. A member stays one, without a new
// event. A room with the join rule `restricted` is joined by one of its
// conditions, with a local member who may invite as the authoriser.
//
// Errors: M_FORBIDDEN, M_NOT_FOUND.
//
// Spec: client-server-api#joining-rooms, client-server-api#restricted-rooms
func (rs *Rooms) Join(ctx context.Context, req MembershipRequest) error {
	_, err := rs.member(ctx, event.MembershipJoin, req)
	return err
}

// Invite invites the target. Somebody who is invited stays so, without a new event.
//
// Spec: client-server-api#joining-rooms
func (rs *Rooms) Invite(ctx context.Context, req MembershipRequest) error {
	_, err := rs.member(ctx, event.MembershipInvite, req)
	return err
}

// Leave ends the sender's membership, rejects an invite, or retracts a knock. Who
// has left already gets no error.
//
// Spec: client-server-api#leaving-rooms
func (rs *Rooms) Leave(ctx context.Context, req MembershipRequest) error {
	req.Target = req.Sender
	_, err := rs.member(ctx, event.MembershipLeave, req)
	return err
}

// Kick ends the membership of the target, who must be in the room, invited or
// knocking; M_FORBIDDEN if not.
//
// Spec: client-server-api#leaving-rooms
func (rs *Rooms) Kick(ctx context.Context, req MembershipRequest) error {
	_, err := rs.change(ctx, event.MembershipLeave, req, func(now string) error {
		if now == event.MembershipJoin || now == event.MembershipInvite || now == event.MembershipKnock {
			return nil
		}
		return mxerr.Forbidden("%s is not in the room", req.Target)
	})
	return err
}

// Ban bans the target. Somebody who is banned stays so, without a new event.
//
// Spec: client-server-api#banning-users-in-a-room
func (rs *Rooms) Ban(ctx context.Context, req MembershipRequest) error {
	_, err := rs.member(ctx, event.MembershipBan, req)
	return err
}

// Unban lets a banned target come again; M_BAD_STATE if they are not banned.
//
// Spec: client-server-api#banning-users-in-a-room
func (rs *Rooms) Unban(ctx context.Context, req MembershipRequest) error {
	_, err := rs.change(ctx, event.MembershipLeave, req, func(now string) error {
		if now == event.MembershipBan {
			return nil
		}
		return mxerr.BadState("%s is not banned", req.Target).WithStatus(403)
	})
	return err
}

// Knock asks to be let in. Who knocks already gets no new event.
//
// Spec: client-server-api#knocking-on-rooms
func (rs *Rooms) Knock(ctx context.Context, req MembershipRequest) error {
	_, err := rs.member(ctx, event.MembershipKnock, req)
	return err
}

// Forget takes a room that a local user has left off their list, with its
// history. M_UNKNOWN if they have not left it, M_NOT_FOUND if they never were
// in it.
//
// Spec: client-server-api#leaving-rooms
func (rs *Rooms) Forget(ctx context.Context, roomID id.RoomID, user id.UserID) error {
	var row store.RoomMembership
	err := rs.store.Read(ctx, func(read *store.Read) error {
		num, err := rs.store.UserNum(read, user.String())
		if err != nil {
			return err
		}
		room, err := read.RoomNum(roomID.String())
		if err != nil {
			return err
		}
		row, err = read.Membership(num, room)
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return mxerr.NotFound("You were never in %s", roomID)
	case err != nil:
		return fmt.Errorf("load membership in %s: %w", roomID, err)
	case row.Membership != store.Leave && row.Membership != store.Ban:
		return mxerr.Unknown("User %s is in room %s", user, roomID).WithStatus(400)
	case row.Forgotten:
		return nil
	}
	change := store.NewChange()
	change.ForgetRoom(row.User, row.Room)
	_, err = rs.store.Commit(ctx, change)
	return refused(err)
}

// sendMember is Send of an m.room.member: the membership that the content says.
func (rs *Rooms) sendMember(ctx context.Context, d Draft) (id.EventID, error) {
	target, err := id.ParseUserID(*d.StateKey)
	if err != nil {
		return id.EventID{}, mxerr.BadJSON("The state key is not a user ID").Because(err)
	}
	var content struct {
		Membership string `json:"membership"`
	}
	if err := json.Unmarshal(d.Content, &content); err != nil || content.Membership == "" {
		return id.EventID{}, mxerr.BadJSON("The content has no membership").Because(err)
	}
	return rs.change(ctx, content.Membership, MembershipRequest{
		RoomID: d.RoomID, Sender: d.Sender, Target: target, Content: d.Content,
	}, nil)
}

// member changes a membership unless it is so already.
func (rs *Rooms) member(ctx context.Context, to string, req MembershipRequest) (id.EventID, error) {
	return rs.change(ctx, to, req, func(now string) error {
		if now == to {
			return errNothing
		}
		return nil
	})
}

// change makes the member event. check has the last word, given the target's
// membership, and may say errNothing.
func (rs *Rooms) change(ctx context.Context, to string, req MembershipRequest, check func(now string) error) (eventID id.EventID, err error) {
	if req.Target.IsZero() {
		req.Target = req.Sender
	}
	content, err := rs.content(ctx, to, req)
	if err != nil {
		return id.EventID{}, err
	}
	target := req.Target.String()
	d := Draft{RoomID: req.RoomID, Sender: req.Sender, Type: event.TypeMember, StateKey: &target, Content: content}
	if err := checkDraft(&d); err != nil {
		return id.EventID{}, err
	}
	if err := rs.intern(ctx, d); err != nil {
		return id.EventID{}, err
	}
	for range maxTries {
		plain := d
		var joins *joinCheck
		err = rs.write(ctx, req.RoomID, d.needs, func(t *turn) (err error) {
			if check != nil {
				now, err := t.membership(req.Target)
				if err != nil {
					return err
				}
				if err := check(now); err != nil {
					return err
				}
			}
			if joins, err = t.restricted(&plain); err != nil {
				return err
			}
			eventID, err = t.send(plain)
			return err
		})
		if joins == nil || !errors.Is(err, errUnauthorised) {
			break
		}
		// The room wants a condition fulfilled, which other rooms decide: they are
		// asked outside the turn.
		authoriser, err := rs.authorise(ctx, req, joins)
		if err != nil {
			return id.EventID{}, err
		}
		if d.Content, err = withAuthoriser(content, authoriser); err != nil {
			return id.EventID{}, err
		}
	}
	if errors.Is(err, errUnauthorised) {
		err = mxerr.Forbidden("The rules of the room changed meanwhile, try again")
	}
	return eventID, err
}

// content makes the content of a member event: the keys that were given, the
// membership, and for the sender's own join, knock or invite the profile.
func (rs *Rooms) content(ctx context.Context, membership string, req MembershipRequest) (json.RawMessage, error) {
	extra := map[string]any{}
	if req.Content != nil {
		if err := json.Unmarshal(req.Content, &extra); err != nil || extra == nil {
			return nil, mxerr.BadJSON("The content is not an object").Because(err)
		}
		// Only the server says who vouched for a join.
		delete(extra, keyAuthoriser)
	}
	var profile Profile
	shown := membership == event.MembershipJoin || membership == event.MembershipKnock || membership == event.MembershipInvite
	if shown && rs.isLocal(req.Target) {
		var err error
		if profile, err = rs.profile(ctx, req.Target); err != nil {
			return nil, err
		}
	}
	if extra["displayname"] != nil {
		profile.DisplayName = "" // what the client gave stays
	}
	if extra["avatar_url"] != nil {
		profile.AvatarURL = ""
	}
	return json.Marshal(memberContent(membership, profile, req.Reason, extra))
}

func (rs *Rooms) profile(ctx context.Context, user id.UserID) (Profile, error) {
	if rs.opt.Profiles == nil {
		return Profile{}, nil
	}
	profile, err := rs.opt.Profiles.Profile(ctx, user)
	if err != nil {
		return Profile{}, fmt.Errorf("profile of %s: %w", user, err)
	}
	return profile, nil
}

const keyAuthoriser = "join_authorised_via_users_server"

// withAuthoriser adds who vouches for a join to the content of its event.
func withAuthoriser(content json.RawMessage, authoriser id.UserID) (json.RawMessage, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(content, &keys); err != nil {
		return nil, err
	}
	keys[keyAuthoriser] = canonicaljson.AppendString(nil, authoriser.String())
	return json.Marshal(keys)
}

// errUnauthorised says that a join needs somebody who vouches for it.
var errUnauthorised = errors.New("the join needs an authoriser")

// joinCheck is what must be found out about a join of a restricted room.
type joinCheck struct {
	allow []id.RoomID
	// power is the content of the room's power levels and create event.
	powers *eventauth.Powers
}

// restricted says whether a draft is a join that needs an authoriser and has none
// yet: then the error is errUnauthorised.
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
		return nil, err // allowed without, or refused anyway
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

// authorise checks the conditions of a restricted join and finds a local member
// who may invite and so vouch for it.
//
// Spec: server-server-api#restricted-rooms
func (rs *Rooms) authorise(ctx context.Context, req MembershipRequest, check *joinCheck) (authoriser id.UserID, err error) {
	err = rs.store.Read(ctx, func(read *store.Read) error {
		fulfilled, err := rs.isMemberOfAny(read, req.Sender, check.allow)
		if err != nil {
			return err
		}
		if !fulfilled {
			return mxerr.Forbidden("You are in none of the rooms whose members may join")
		}
		room, err := read.RoomNum(req.RoomID.String())
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

// isMemberOfAny says whether a user is joined to one of some rooms.
func (rs *Rooms) isMemberOfAny(read *store.Read, user id.UserID, rooms []id.RoomID) (bool, error) {
	keys, err := rs.store.KeyNums(read, []store.Pair{{Type: event.TypeMember, StateKey: user.String()}})
	if err != nil || keys[0] == 0 {
		return false, err
	}
	for _, roomID := range rooms {
		room, err := read.RoomNum(roomID.String())
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return false, err
		}
		member, err := read.Member(room, keys[0])
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return false, err
		}
		if err == nil && member.Membership == store.Join {
			return true, nil
		}
	}
	return false, nil
}

// inviter finds a joined local user who may invite; zero if there is none. It
// looks at those with a level of their own and the creators first, then at the
// members in order, of whom the first will do or none.
func (rs *Rooms) inviter(read *store.Read, room store.RoomNum, powers *eventauth.Powers) (id.UserID, error) {
	const page = 200
	for after := store.UserNum(0); ; {
		members, err := read.LocalMembers(room, store.Join, after, page)
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
	var joined []store.JoinedRoom
	err = rs.store.Read(ctx, func(read *store.Read) error {
		num, err := rs.store.UserNum(read, user.String())
		if err != nil {
			return err
		}
		joined, err = read.JoinedRooms(num)
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

// JoinedRooms returns the rooms that a local user has joined.
//
// Spec: client-server-api#room-membership
func (rs *Rooms) JoinedRooms(ctx context.Context, user id.UserID) (rooms []id.RoomID, err error) {
	err = rs.store.Read(ctx, func(read *store.Read) error {
		num, err := rs.store.UserNum(read, user.String())
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		joined, err := read.JoinedRooms(num)
		if err != nil {
			return err
		}
		rooms = slices.Grow(rooms, len(joined))
		for _, j := range joined {
			roomID, err := id.ParseRoomID(j.RoomID)
			if err != nil {
				return err
			}
			rooms = append(rooms, roomID)
		}
		return nil
	})
	return rooms, err
}
