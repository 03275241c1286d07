package clientapi

import (
	"encoding/json"
	"net/http"

	"stoa/internal/httpkit"
	"stoa/internal/room"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

type roomAnswer struct {
	RoomID id.RoomID `json:"room_id"`
}

// createRoomBody is the body of createRoom.
type createRoomBody struct {
	Visibility      string            `json:"visibility"`
	RoomAliasName   string            `json:"room_alias_name"`
	Name            string            `json:"name"`
	Topic           string            `json:"topic"`
	Invite          []id.UserID       `json:"invite"`
	Invite3PID      []json.RawMessage `json:"invite_3pid"`
	RoomVersion     *string           `json:"room_version"`
	CreationContent json.RawMessage   `json:"creation_content"`
	InitialState    []struct {
		Type     *string         `json:"type"`
		StateKey string          `json:"state_key"`
		Content  json.RawMessage `json:"content"`
	} `json:"initial_state"`
	Preset      string          `json:"preset"`
	IsDirect    bool            `json:"is_direct"`
	PowerLevels json.RawMessage `json:"power_level_content_override"`
}

// createRoom serves POST /_matrix/client/v3/createRoom.
//
// Spec: client-server-api#post_matrixclientv3createroom
func (a *API) createRoom(r *http.Request) (roomAnswer, error) {
	caller, err := a.actor(r)
	if err != nil {
		return roomAnswer{}, err
	}
	var body createRoomBody
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return roomAnswer{}, err
	}
	req, err := body.request(caller.UserID, a.opt.ServerName)
	if err != nil {
		return roomAnswer{}, err
	}
	if err := a.opt.Limits.Take(httpkit.RateInvite, caller.UserID.String(), len(req.Invite)); err != nil {
		return roomAnswer{}, err
	}
	for _, user := range req.Invite {
		if err := a.opt.Limits.TakeInvitation(caller.UserID.String(), user.String()); err != nil {
			return roomAnswer{}, err
		}
	}
	roomID, err := a.directory.CreateRoom(r.Context(), req)
	if err != nil {
		return roomAnswer{}, err
	}
	if canonicaljson.Get(req.CreationContent, "predecessor") != nil {
		err = a.followUpgrade(r, caller, roomID)
	}
	return roomAnswer{RoomID: roomID}, err
}

// request checks the body.
func (b *createRoomBody) request(creator id.UserID, server id.ServerName) (req room.CreateRequest, err error) {
	req = room.CreateRequest{
		Creator: creator, Preset: b.Preset, Name: b.Name, Topic: b.Topic, Invite: b.Invite, IsDirect: b.IsDirect,
	}
	switch b.Visibility {
	case "", visibilityPrivate:
	case visibilityPublic:
		req.Published = true
	default:
		return req, mxerr.InvalidParam("visibility must be public or private")
	}
	if b.RoomVersion != nil {
		if req.Version = *b.RoomVersion; req.Version == "" {
			return req, mxerr.UnsupportedRoomVersion("The room version is empty")
		}
	}
	if len(b.Invite3PID) > 0 {
		return req, errNoThreepids
	}
	if b.RoomAliasName != "" {
		if req.Alias, err = id.NewRoomAlias(b.RoomAliasName, server); err != nil {
			return req, mxerr.InvalidParam("%q can't be the local part of an alias", b.RoomAliasName).Because(err)
		}
	}
	if req.CreationContent, err = optionalObject("creation_content", b.CreationContent); err != nil {
		return req, err
	}
	if req.PowerLevels, err = optionalObject("power_level_content_override", b.PowerLevels); err != nil {
		return req, err
	}
	for i, state := range b.InitialState {
		if state.Type == nil || !canonicaljson.IsObject(state.Content) {
			return req, mxerr.BadJSON("initial_state[%d] needs a type and a content that is an object", i)
		}
		req.InitialState = append(req.InitialState, room.StateEvent{Type: *state.Type, StateKey: state.StateKey, Content: state.Content})
	}
	return req, nil
}

// errNoThreepids is the answer to an invitation by mail address or telephone number.
var errNoThreepids = mxerr.ThreepidDenied("This server has no identity server: people are invited by their user ID")

// optionalObject gives a member of a body that is an object if it is there.
func optionalObject(name string, value json.RawMessage) (json.RawMessage, error) {
	if len(value) == 0 || string(value) == "null" {
		return nil, nil
	}
	if !canonicaljson.IsObject(value) {
		return nil, mxerr.BadJSON("%s is not an object", name)
	}
	return value, nil
}

// upgradeRoom serves POST /_matrix/client/v3/rooms/{roomId}/upgrade.
//
// Spec: client-server-api#post_matrixclientv3roomsroomidupgrade
func (a *API) upgradeRoom(r *http.Request) (any, error) {
	caller, roomID, err := a.actorInRoom(r)
	if err != nil {
		return nil, err
	}
	var body struct {
		NewVersion         *string     `json:"new_version"`
		AdditionalCreators []id.UserID `json:"additional_creators"`
	}
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return nil, err
	}
	if body.NewVersion == nil {
		return nil, mxerr.BadJSON("new_version is missing")
	}
	replacement, err := a.directory.UpgradeRoom(r.Context(), room.UpgradeRequest{
		RoomID: roomID, Sender: caller.UserID, Version: *body.NewVersion, AdditionalCreators: body.AdditionalCreators,
	})
	if err != nil {
		return nil, a.history.HideFrom(r.Context(), caller.UserID, roomID, err)
	}
	if err := a.followUpgrade(r, caller, replacement); err != nil {
		return nil, err
	}
	return struct {
		ReplacementRoom id.RoomID `json:"replacement_room"`
	}{replacement}, nil
}
