package clientapi

import (
	"encoding/json"
	"net/http"
	"time"

	"stoa/internal/clientsync"
	"stoa/internal/ephemeral"
	"stoa/internal/httpkit"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// callerInRoom gives the caller and the room of the path.
func (a *API) callerInRoom(r *http.Request) (who.Caller, id.RoomID, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return caller, id.RoomID{}, err
	}
	roomID, err := id.ParseRoomID(r.PathValue("roomId"))
	if err != nil {
		return caller, roomID, mxerr.InvalidParam("%q is not a room ID", r.PathValue("roomId")).Because(err)
	}
	return caller, roomID, nil
}

// setTyping serves PUT /_matrix/client/v3/rooms/{roomId}/typing/{userId}.
//
// Spec: client-server-api#put_matrixclientv3roomsroomidtypinguserid
func (a *API) setTyping(r *http.Request) (httpkit.Empty, error) {
	none := httpkit.Empty{}
	caller, roomID, err := a.callerInRoom(r)
	if err != nil {
		return none, err
	}
	user, err := id.ParseUserID(r.PathValue("userId"))
	if err != nil {
		return none, mxerr.InvalidParam("%q is not a user ID", r.PathValue("userId")).Because(err)
	}
	if user != caller.UserID {
		return none, mxerr.Forbidden("You can only type yourself")
	}
	var body struct {
		Typing  *bool `json:"typing"`
		Timeout int64 `json:"timeout"`
	}
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return none, err
	}
	if body.Typing == nil {
		return none, mxerr.BadJSON("typing is missing")
	}
	const hour = int64(time.Hour / time.Millisecond) // more is cut anyway, and can't overflow so
	timeout := time.Duration(min(body.Timeout, hour)) * time.Millisecond
	return none, a.typing.Set(r.Context(), caller.User, roomID, *body.Typing, timeout)
}

// sendReceipt serves POST /_matrix/client/v3/rooms/{roomId}/receipt/{receiptType}/{eventId}.
//
// Spec: client-server-api#post_matrixclientv3roomsroomidreceiptreceipttypeeventid
func (a *API) sendReceipt(r *http.Request) (httpkit.Empty, error) {
	none := httpkit.Empty{}
	caller, roomID, err := a.callerInRoom(r)
	if err != nil {
		return none, err
	}
	eventID, err := id.ParseEventID(r.PathValue("eventId"))
	if err != nil {
		return none, mxerr.InvalidParam("%q is not an event ID", r.PathValue("eventId")).Because(err)
	}
	var body struct {
		ThreadID json.RawMessage `json:"thread_id"`
	}
	if err := httpkit.ReadOptionalJSON(r, &body); err != nil {
		return none, err
	}
	receipt := ephemeral.Receipt{Type: r.PathValue("receiptType"), EventID: eventID}
	if body.ThreadID != nil {
		// What is no string has an errcode of its own here.
		if err := json.Unmarshal(body.ThreadID, &receipt.Thread); err != nil || receipt.Thread == "" {
			return none, mxerr.InvalidParam("thread_id must be a string that is not empty")
		}
	}
	return none, a.receipts.Send(r.Context(), caller.User, roomID, receipt)
}

// setReadMarkers serves POST /_matrix/client/v3/rooms/{roomId}/read_markers.
//
// Spec: client-server-api#post_matrixclientv3roomsroomidread_markers
func (a *API) setReadMarkers(r *http.Request) (httpkit.Empty, error) {
	none := httpkit.Empty{}
	caller, roomID, err := a.callerInRoom(r)
	if err != nil {
		return none, err
	}
	var body struct {
		FullyRead   id.EventID `json:"m.fully_read"`
		Read        id.EventID `json:"m.read"`
		ReadPrivate id.EventID `json:"m.read.private"`
	}
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return none, err
	}
	var receipts []ephemeral.Receipt
	for _, mark := range []ephemeral.Receipt{{Type: ephemeral.TypeFullyRead, EventID: body.FullyRead},
		{Type: ephemeral.TypeRead, EventID: body.Read}, {Type: ephemeral.TypeReadPrivate, EventID: body.ReadPrivate}} {
		if !mark.EventID.IsZero() {
			receipts = append(receipts, mark)
		}
	}
	return none, a.receipts.Send(r.Context(), caller.User, roomID, receipts...)
}

// userOfPath gives the caller and the user of the path.
func (a *API) userOfPath(r *http.Request) (who.Caller, id.UserID, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return caller, id.UserID{}, err
	}
	user, err := id.ParseUserID(r.PathValue("userId"))
	if err != nil {
		return caller, user, mxerr.InvalidParam("%q is not a user ID", r.PathValue("userId")).Because(err)
	}
	return caller, user, nil
}

// setPresence serves PUT /_matrix/client/v3/presence/{userId}/status.
//
// Spec: client-server-api#put_matrixclientv3presenceuseridstatus
func (a *API) setPresence(r *http.Request) (httpkit.Empty, error) {
	none := httpkit.Empty{}
	caller, user, err := a.userOfPath(r)
	if err != nil {
		return none, err
	}
	if user != caller.UserID {
		return none, mxerr.Forbidden("You can only set your own presence")
	}
	var body struct {
		Presence  *string `json:"presence"`
		StatusMsg *string `json:"status_msg"`
	}
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return none, err
	}
	if body.Presence == nil {
		return none, mxerr.BadJSON("presence is missing")
	}
	return none, a.presence.Set(r.Context(), caller.User, *body.Presence, body.StatusMsg)
}

// presenceOf serves GET /_matrix/client/v3/presence/{userId}/status.
//
// Spec: client-server-api#get_matrixclientv3presenceuseridstatus
func (a *API) presenceOf(r *http.Request) (httpkit.Raw, error) {
	caller, user, err := a.userOfPath(r)
	if err != nil {
		return nil, err
	}
	presence, err := a.presence.Of(r.Context(), caller.User, user)
	if err != nil {
		return nil, err
	}
	return httpkit.Raw(clientsync.AppendPresence(nil, presence, a.opt.Clock())), nil
}
