package clientapi

import (
	"net/http"

	"stoa/internal/history"
	"stoa/internal/httpkit"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// The values of a room's visibility in the directory.
const (
	visibilityPublic  = "public"
	visibilityPrivate = "private"
)

// aliasOfPath gives the alias of the path.
func aliasOfPath(r *http.Request) (id.RoomAlias, error) {
	alias, err := id.ParseRoomAlias(r.PathValue("roomAlias"))
	if err != nil {
		return alias, mxerr.InvalidParam("%q is not a room alias", r.PathValue("roomAlias")).Because(err)
	}
	return alias, nil
}

type aliasAnswer struct {
	RoomID  id.RoomID       `json:"room_id"`
	Servers []id.ServerName `json:"servers"`
}

// alias serves GET /_matrix/client/v3/directory/room/{roomAlias}.
//
// Spec: client-server-api#get_matrixclientv3directoryroomroomalias
func (a *API) alias(r *http.Request) (aliasAnswer, error) {
	alias, err := aliasOfPath(r)
	if err != nil {
		return aliasAnswer{}, err
	}
	roomID, servers, err := a.directory.Resolve(r.Context(), alias)
	return aliasAnswer{RoomID: roomID, Servers: servers}, err
}

// setAlias serves PUT /_matrix/client/v3/directory/room/{roomAlias}.
//
// Spec: client-server-api#put_matrixclientv3directoryroomroomalias
func (a *API) setAlias(r *http.Request) (httpkit.Empty, error) {
	none := httpkit.Empty{}
	caller, err := a.actor(r)
	if err != nil {
		return none, err
	}
	alias, err := aliasOfPath(r)
	if err != nil {
		return none, err
	}
	var body struct {
		RoomID *string `json:"room_id"`
	}
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return none, err
	}
	if body.RoomID == nil {
		return none, mxerr.BadJSON("room_id is missing")
	}
	roomID, err := id.ParseRoomID(*body.RoomID)
	if err != nil {
		return none, mxerr.InvalidParam("%q is not a room ID", *body.RoomID).Because(err)
	}
	return none, a.directory.SetAlias(r.Context(), caller.UserID, alias, roomID)
}

// deleteAlias serves DELETE /_matrix/client/v3/directory/room/{roomAlias}.
//
// Spec: client-server-api#delete_matrixclientv3directoryroomroomalias
func (a *API) deleteAlias(r *http.Request) (httpkit.Empty, error) {
	none := httpkit.Empty{}
	caller, err := a.actor(r)
	if err != nil {
		return none, err
	}
	alias, err := aliasOfPath(r)
	if err != nil {
		return none, err
	}
	return none, a.directory.DeleteAlias(r.Context(), caller.UserID, caller.Admin, alias)
}

// aliases serves GET /_matrix/client/v3/rooms/{roomId}/aliases.
//
// Spec: client-server-api#get_matrixclientv3roomsroomidaliases
func (a *API) aliases(r *http.Request) (any, error) {
	caller, roomID, err := a.callerInRoom(r)
	if err != nil {
		return nil, err
	}
	aliases, err := a.directory.Aliases(r.Context(), caller.UserID, roomID)
	if err != nil {
		return nil, history.HideUnknown(err)
	}
	return struct {
		Aliases []string `json:"aliases"`
	}{aliases}, nil
}
