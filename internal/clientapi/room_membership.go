package clientapi

import (
	"context"
	"encoding/json"
	"net/http"

	"stoa/internal/httpkit"
	"stoa/internal/room"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// joinedRooms serves GET /_matrix/client/v3/joined_rooms.
//
// Spec: client-server-api#get_matrixclientv3joined_rooms
func (a *API) joinedRooms(r *http.Request) (any, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return nil, err
	}
	rooms, err := a.history.JoinedRooms(r.Context(), caller.UserID)
	if err != nil {
		return nil, err
	}
	if rooms == nil {
		rooms = []id.RoomID{}
	}
	return struct {
		JoinedRooms []id.RoomID `json:"joined_rooms"`
	}{rooms}, nil
}

// invite serves POST /_matrix/client/v3/rooms/{roomId}/invite.
//
// Spec: client-server-api#post_matrixclientv3roomsroomidinvite
func (a *API) invite(r *http.Request) (httpkit.Empty, error) {
	return a.changeMembership(r, true, func(ctx context.Context, req room.MembershipRequest) error {
		if err := a.opt.Limits.TakeInvitation(req.Sender.String(), req.Target.String()); err != nil {
			return err
		}
		return a.rooms.Invite(ctx, req)
	})
}

// kick serves POST /_matrix/client/v3/rooms/{roomId}/kick.
//
// Spec: client-server-api#post_matrixclientv3roomsroomidkick
func (a *API) kick(r *http.Request) (httpkit.Empty, error) {
	return a.changeMembership(r, false, a.rooms.Kick)
}

// ban serves POST /_matrix/client/v3/rooms/{roomId}/ban.
//
// Spec: client-server-api#post_matrixclientv3roomsroomidban
func (a *API) ban(r *http.Request) (httpkit.Empty, error) {
	return a.changeMembership(r, false, a.rooms.Ban)
}

// unban serves POST /_matrix/client/v3/rooms/{roomId}/unban.
//
// Spec: client-server-api#post_matrixclientv3roomsroomidunban
func (a *API) unban(r *http.Request) (httpkit.Empty, error) {
	return a.changeMembership(r, false, a.rooms.Unban)
}

// changeMembership reads a change of somebody's membership and makes it. With
// threepids, the person may be given by mail address or telephone number, which
// this server refuses.
func (a *API) changeMembership(r *http.Request, threepids bool, change func(context.Context, room.MembershipRequest) error) (httpkit.Empty, error) {
	none := httpkit.Empty{}
	caller, roomID, err := a.actorInRoom(r)
	if err != nil {
		return none, err
	}
	var body struct {
		UserID  id.UserID `json:"user_id"`
		Reason  string    `json:"reason"`
		Medium  string    `json:"medium"`
		Address string    `json:"address"`
	}
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return none, err
	}
	switch {
	case !body.UserID.IsZero():
	case threepids && body.Medium != "" && body.Address != "":
		return none, errNoThreepids
	default:
		return none, mxerr.BadJSON("user_id is missing")
	}
	err = change(r.Context(), room.MembershipRequest{RoomID: roomID, Sender: caller.UserID, Target: body.UserID, Reason: body.Reason})
	return none, a.history.HideFrom(r.Context(), caller.UserID, roomID, err)
}

// join serves POST /_matrix/client/v3/rooms/{roomId}/join.
//
// Spec: client-server-api#post_matrixclientv3roomsroomidjoin
func (a *API) join(r *http.Request) (roomAnswer, error) {
	caller, roomID, err := a.actorInRoom(r)
	if err != nil {
		return roomAnswer{}, err
	}
	return a.joinRoom(r, caller, roomID)
}

// joinByName serves POST /_matrix/client/v3/join/{roomIdOrAlias}.
//
// Spec: client-server-api#post_matrixclientv3joinroomidoralias
func (a *API) joinByName(r *http.Request) (roomAnswer, error) {
	caller, err := a.actor(r)
	if err != nil {
		return roomAnswer{}, err
	}
	roomID, err := a.roomByName(r)
	if err != nil {
		return roomAnswer{}, err
	}
	return a.joinRoom(r, caller, roomID)
}

func (a *API) joinRoom(r *http.Request, caller who.Caller, roomID id.RoomID) (roomAnswer, error) {
	req, err := joinRequest(r)
	if err != nil {
		return roomAnswer{}, err
	}
	req.RoomID, req.Sender = roomID, caller.UserID
	if err := a.opt.Limits.Check(httpkit.RateRoomJoins, roomID.String()); err != nil {
		return roomAnswer{}, err
	}
	if err := a.rooms.Join(r.Context(), req); err != nil {
		return roomAnswer{}, err
	}
	a.opt.Limits.Count(httpkit.RateRoomJoins, roomID.String())
	return roomAnswer{RoomID: roomID}, a.followUpgrade(r, caller, roomID)
}

// followUpgrade gives a caller who has come into a room what they had set for the
// room that it replaces.
//
// Spec: client-server-api#room-upgrades
func (a *API) followUpgrade(r *http.Request, caller who.Caller, roomID id.RoomID) error {
	old, err := a.history.Predecessor(r.Context(), caller.UserID, roomID)
	if err != nil || old.IsZero() {
		return err
	}
	return a.data.FollowUpgrade(r.Context(), caller.User, old, roomID)
}

// joinRequest reads the body of a join: what else is in it becomes content of the
// event.
func joinRequest(r *http.Request) (room.MembershipRequest, error) {
	raw, err := httpkit.ReadBody(r, httpkit.MaxBody)
	if err != nil || len(raw) == 0 {
		return room.MembershipRequest{}, err
	}
	var body struct {
		Reason           string `json:"reason"`
		ThirdPartySigned *struct {
			Sender     id.UserID                    `json:"sender"`
			MXID       id.UserID                    `json:"mxid"`
			Token      *string                      `json:"token"`
			Signatures map[string]map[string]string `json:"signatures"`
		} `json:"third_party_signed"`
	}
	if err := httpkit.DecodeJSON(raw, &body); err != nil {
		return room.MembershipRequest{}, err
	}
	if s := body.ThirdPartySigned; s != nil && (s.Sender.IsZero() || s.MXID.IsZero() || s.Token == nil || s.Signatures == nil) {
		return room.MembershipRequest{}, mxerr.BadJSON("third_party_signed needs sender, mxid, token and signatures")
	}
	var content map[string]json.RawMessage
	if err := json.Unmarshal(raw, &content); err != nil {
		return room.MembershipRequest{}, err
	}
	for _, key := range []string{"reason", "third_party_signed", "membership", "displayname", "avatar_url"} {
		delete(content, key)
	}
	req := room.MembershipRequest{Reason: body.Reason}
	if len(content) > 0 {
		req.Content, err = json.Marshal(content)
	}
	return req, err
}

// knock serves POST /_matrix/client/v3/knock/{roomIdOrAlias}.
//
// Spec: client-server-api#post_matrixclientv3knockroomidoralias
func (a *API) knock(r *http.Request) (roomAnswer, error) {
	caller, err := a.actor(r)
	if err != nil {
		return roomAnswer{}, err
	}
	roomID, err := a.roomByName(r)
	if err != nil {
		return roomAnswer{}, err
	}
	reason, err := optionalReason(r)
	if err != nil {
		return roomAnswer{}, err
	}
	return roomAnswer{RoomID: roomID}, a.rooms.Knock(r.Context(), room.MembershipRequest{RoomID: roomID, Sender: caller.UserID, Reason: reason})
}

// optionalReason reads a body that may have nothing but a reason.
func optionalReason(r *http.Request) (string, error) {
	var body struct {
		Reason string `json:"reason"`
	}
	err := httpkit.ReadOptionalJSON(r, &body)
	return body.Reason, err
}

// leave serves POST /_matrix/client/v3/rooms/{roomId}/leave.
//
// Spec: client-server-api#post_matrixclientv3roomsroomidleave
func (a *API) leave(r *http.Request) (httpkit.Empty, error) {
	none := httpkit.Empty{}
	caller, roomID, err := a.callerInRoom(r)
	if err != nil {
		return none, err
	}
	reason, err := optionalReason(r)
	if err != nil {
		return none, err
	}
	if err := a.notices.MayLeave(r.Context(), caller.User, roomID); err != nil {
		return none, err
	}
	return none, a.rooms.Leave(r.Context(), room.MembershipRequest{RoomID: roomID, Sender: caller.UserID, Reason: reason})
}

// forget serves POST /_matrix/client/v3/rooms/{roomId}/forget.
//
// Spec: client-server-api#post_matrixclientv3roomsroomidforget
func (a *API) forget(r *http.Request) (httpkit.Empty, error) {
	caller, roomID, err := a.callerInRoom(r)
	if err != nil {
		return httpkit.Empty{}, err
	}
	return httpkit.Empty{}, a.rooms.Forget(r.Context(), roomID, caller.UserID)
}
