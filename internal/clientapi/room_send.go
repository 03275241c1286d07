package clientapi

import (
	"net/http"

	"stoa/internal/httpkit"
	"stoa/internal/room"
	"stoa/internal/who"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

type sent struct {
	EventID id.EventID `json:"event_id"`
}

// sendEvent serves PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}.
//
// Spec: client-server-api#put_matrixclientv3roomsroomidsendeventtypetxnid
func (a *API) sendEvent(r *http.Request) (sent, error) {
	caller, roomID, err := a.actorInRoom(r)
	if err != nil {
		return sent{}, err
	}
	content, err := httpkit.ReadObject(r, httpkit.MaxBody)
	if err != nil {
		return sent{}, err
	}
	evType := r.PathValue("eventType")
	txn, err := txnOf(r, caller, "/rooms/"+roomID.String()+"/send/"+evType)
	if err != nil {
		return sent{}, err
	}
	a.awaitDeliveries(r, roomID)
	eventID, err := a.rooms.Send(r.Context(), room.Draft{
		RoomID: roomID, Sender: caller.UserID, Type: evType, Content: content, Txn: txn,
	})
	return sent{EventID: eventID}, a.history.HideFrom(r.Context(), caller.UserID, roomID, err)
}

// awaitDeliveries has a sender wait while what was said before in the room is being delivered.
func (a *API) awaitDeliveries(r *http.Request, roomID id.RoomID) {
	if a.stream != nil {
		a.stream.AwaitDeliveries(r.Context(), roomID)
	}
}

// txnOf is the transaction ID of the path, for an endpoint.
func txnOf(r *http.Request, caller who.Caller, path string) (room.Txn, error) {
	txnID, err := nameOf(r, "txnId")
	return room.Txn{UserID: caller.UserID, DeviceID: caller.DeviceID.String(), Path: path, ID: txnID}, err
}

// maxName bounds names that clients choose and the store keeps, as those of events are bounded.
const maxName = 255

// nameOf is a part of the path that becomes a key in the store.
func nameOf(r *http.Request, part string) (string, error) {
	name := r.PathValue(part)
	if len(name) > maxName {
		return "", mxerr.InvalidParam("%s must have at most %d bytes", part, maxName)
	}
	return name, nil
}

// sendState serves PUT /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey},
// the state key being empty if the path has none.
//
// Spec: client-server-api#put_matrixclientv3roomsroomidstateeventtypestatekey
func (a *API) sendState(r *http.Request) (sent, error) {
	caller, roomID, err := a.actorInRoom(r)
	if err != nil {
		return sent{}, err
	}
	content, err := httpkit.ReadObject(r, httpkit.MaxBody)
	if err != nil {
		return sent{}, err
	}
	stateKey := r.PathValue("stateKey")
	draft := room.Draft{RoomID: roomID, Sender: caller.UserID, Type: r.PathValue("eventType"), StateKey: &stateKey, Content: content}
	send := a.rooms.Send
	if draft.Type == event.TypeCanonicalAlias && stateKey == "" {
		send = a.directory.SetCanonicalAlias
	}
	if draft.Type == event.TypeMember {
		if err := a.limitMember(caller, roomID, stateKey, content); err != nil {
			return sent{}, err
		}
	}
	a.awaitDeliveries(r, roomID)
	eventID, err := send(r.Context(), draft)
	return sent{EventID: eventID}, a.history.HideFrom(r.Context(), caller.UserID, roomID, err)
}

// limitMember counts an m.room.member event that is sent as state against the limits of
// the membership endpoints.
func (a *API) limitMember(caller who.Caller, roomID id.RoomID, target string, content []byte) error {
	switch membership, _ := canonicaljson.String(canonicaljson.Get(content, "membership")); membership {
	case event.MembershipInvite:
		if err := a.opt.Limits.Take(httpkit.RateInvite, caller.UserID.String(), 1); err != nil {
			return err
		}
		return a.opt.Limits.TakeInvitation(caller.UserID.String(), target)
	case event.MembershipJoin: // or a new name in one room
		if err := a.opt.Limits.Take(httpkit.RateJoin, caller.UserID.String(), 1); err != nil {
			return err
		}
		return a.opt.Limits.Take(httpkit.RateRoomJoins, roomID.String(), 1)
	}
	return nil
}

// redact serves PUT /_matrix/client/v3/rooms/{roomId}/redact/{eventId}/{txnId}.
//
// Spec: client-server-api#put_matrixclientv3roomsroomidredacteventidtxnid
func (a *API) redact(r *http.Request) (sent, error) {
	caller, roomID, target, err := a.callerAndEvent(r)
	if err != nil {
		return sent{}, err
	}
	reason, err := optionalReason(r)
	if err != nil {
		return sent{}, err
	}
	txn, err := txnOf(r, caller, "/rooms/"+roomID.String()+"/redact/"+target.String())
	if err != nil {
		return sent{}, err
	}
	if suspended := caller.MayAct(); suspended != nil {
		// A suspended account may still take back what it said itself.
		view, err := a.history.Event(r.Context(), caller.UserID, roomID, target)
		if err != nil {
			return sent{}, a.history.HideFrom(r.Context(), caller.UserID, roomID, err)
		}
		if view.PDU.Sender() != caller.UserID {
			return sent{}, suspended
		}
	}
	eventID, err := a.rooms.Redact(r.Context(), room.RedactRequest{
		RoomID: roomID, Sender: caller.UserID, EventID: target, Reason: reason, Txn: txn,
	})
	return sent{EventID: eventID}, a.history.HideFrom(r.Context(), caller.UserID, roomID, err)
}
