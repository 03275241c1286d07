package room

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// MembershipRequest describes a change of membership.
type MembershipRequest struct {
	RoomID id.RoomID
	// Sender is the local user who makes the change. Target is the user whose membership
	// changes; zero for the sender.
	Sender, Target id.UserID
	// Reason is shown with the change; empty for none.
	Reason string
	// Content has further keys of the event, as a JSON object; nil for none.
	Content json.RawMessage
}

// Join makes the sender a member of the room. For a member it does nothing. A room with
// the join rule `restricted` is joined by one of its conditions, with a local member who
// may invite as the authoriser.
//
// Errors: M_FORBIDDEN, M_NOT_FOUND.
//
// Spec: client-server-api#joining-rooms, client-server-api#restricted-rooms
func (rs *Rooms) Join(ctx context.Context, req MembershipRequest) error {
	_, err := memberships{rs}.member(ctx, event.MembershipJoin, req)
	return err
}

// Invite invites the target. For an invited user it does nothing.
//
// Spec: client-server-api#joining-rooms
func (rs *Rooms) Invite(ctx context.Context, req MembershipRequest) error {
	_, err := memberships{rs}.member(ctx, event.MembershipInvite, req)
	return err
}

// Leave ends the sender's membership, rejects an invite, or retracts a knock. After an
// earlier leave it does nothing.
//
// Spec: client-server-api#leaving-rooms
func (rs *Rooms) Leave(ctx context.Context, req MembershipRequest) error {
	req.Target = req.Sender
	_, err := memberships{rs}.member(ctx, event.MembershipLeave, req)
	return err
}

// Kick ends the membership of the target, who must be in the room, invited or
// knocking; M_FORBIDDEN if not.
//
// Spec: client-server-api#leaving-rooms
func (rs *Rooms) Kick(ctx context.Context, req MembershipRequest) error {
	_, err := memberships{rs}.change(ctx, event.MembershipLeave, req, func(now string) error {
		if now == event.MembershipJoin || now == event.MembershipInvite || now == event.MembershipKnock {
			return nil
		}
		return mxerr.Forbidden("%s is not in the room", req.Target)
	})
	return err
}

// Ban bans the target. For a banned user it does nothing.
//
// Spec: client-server-api#banning-users-in-a-room
func (rs *Rooms) Ban(ctx context.Context, req MembershipRequest) error {
	_, err := memberships{rs}.member(ctx, event.MembershipBan, req)
	return err
}

// Unban lifts the ban of the target; M_BAD_STATE if they are not banned.
//
// Spec: client-server-api#banning-users-in-a-room
func (rs *Rooms) Unban(ctx context.Context, req MembershipRequest) error {
	_, err := memberships{rs}.change(ctx, event.MembershipLeave, req, func(now string) error {
		if now == event.MembershipBan {
			return nil
		}
		return mxerr.BadState("%s is not banned", req.Target).WithStatus(403)
	})
	return err
}

// Knock asks to be invited. For a knocking user it does nothing.
//
// Spec: client-server-api#knocking-on-rooms
func (rs *Rooms) Knock(ctx context.Context, req MembershipRequest) error {
	_, err := memberships{rs}.member(ctx, event.MembershipKnock, req)
	return err
}

// Forget removes a room that a local user has left from their list, with its history.
// M_UNKNOWN if they have not left it, M_NOT_FOUND if they were never in it.
//
// Spec: client-server-api#leaving-rooms
func (rs *Rooms) Forget(ctx context.Context, roomID id.RoomID, user id.UserID) error {
	var row roomdb.RoomMembership
	err := rs.store.Read(ctx, func(read *store.Read) error {
		num, err := rs.store.UserNum(read, user.String())
		if err != nil {
			return err
		}
		room, err := roomdb.RoomNum(read, roomID.String())
		if err != nil {
			return err
		}
		row, err = roomdb.MembershipOf(read, num, room)
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return mxerr.NotFound("You were never in %s", roomID)
	case err != nil:
		return fmt.Errorf("load membership in %s: %w", roomID, err)
	case row.Membership != roomdb.Leave && row.Membership != roomdb.Ban:
		return mxerr.Unknown("User %s is in room %s", user, roomID).WithStatus(400)
	case row.Forgotten:
		return nil
	}
	change := store.NewChange()
	roomdb.ForgetRoom(change, row.User, row.Room)
	_, err = rs.store.Commit(ctx, change)
	return clientError(err)
}

// sendMember is Send for an m.room.member: it makes the change of membership that the
// content names.
func (rs memberships) sendMember(ctx context.Context, d Draft) (id.EventID, error) {
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

// member changes a membership, unless it already is as wanted.
func (rs memberships) member(ctx context.Context, to string, req MembershipRequest) (id.EventID, error) {
	return rs.change(ctx, to, req, func(now string) error {
		if now == to {
			return errNothing
		}
		return nil
	})
}

// change writes the member event. check gets the target's current membership in the
// room's turn; it can refuse the change, or return errNothing.
func (rs memberships) change(ctx context.Context, to string, req MembershipRequest, check func(now string) error) (eventID id.EventID, err error) {
	if req.Target.IsZero() {
		req.Target = req.Sender
	}
	if to == event.MembershipInvite {
		if err := rs.reachable(req.Target); err != nil {
			return id.EventID{}, err
		}
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
		// Other rooms decide whether the sender meets the condition of the join rule.
		// They are read outside the turn.
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

// reachable refuses invitations of users of other servers, since this server does not
// federate yet.
func (rs memberships) reachable(user id.UserID) error {
	if rs.isLocal(user) {
		return nil
	}
	return mxerr.Forbidden("%s can't be invited: this server does not exchange messages with %s", user, user.ServerName())
}

// content builds the content of a member event: the given keys, the membership, and for
// the sender's own join, knock or invite the profile.
func (rs memberships) content(ctx context.Context, membership string, req MembershipRequest) (json.RawMessage, error) {
	extra := map[string]any{}
	if req.Content != nil {
		if err := json.Unmarshal(req.Content, &extra); err != nil || extra == nil {
			return nil, mxerr.BadJSON("The content is not an object").Because(err)
		}
		// Only the server may name the authoriser of a join.
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
		profile.DisplayName = "" // the client's value stays
	}
	if extra["avatar_url"] != nil {
		profile.AvatarURL = ""
	}
	return json.Marshal(memberContent(membership, profile, req.Reason, extra))
}

func (rs memberships) profile(ctx context.Context, user id.UserID) (Profile, error) {
	if rs.opt.Profiles == nil {
		return Profile{}, nil
	}
	profile, err := rs.opt.Profiles.Profile(ctx, user)
	if err != nil {
		return Profile{}, fmt.Errorf("profile of %s: %w", user, err)
	}
	return profile, nil
}

// memberships writes member events.
type memberships struct{ *Rooms }
