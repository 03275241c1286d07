package clientapi

import (
	"net/http"

	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// actor gives the caller, who must not be suspended.
func (a *API) actor(r *http.Request) (who.Caller, error) {
	caller, err := a.auth.Caller(r)
	if err == nil {
		err = caller.MayAct()
	}
	return caller, err
}

// actorInRoom is callerInRoom for a caller who must not be suspended.
func (a *API) actorInRoom(r *http.Request) (who.Caller, id.RoomID, error) {
	caller, roomID, err := a.callerInRoom(r)
	if err == nil {
		err = caller.MayAct()
	}
	return caller, roomID, err
}

// eventOfPath gives the event ID of the path.
func eventOfPath(r *http.Request) (id.EventID, error) {
	eventID, err := id.ParseEventID(r.PathValue("eventId"))
	if err != nil {
		return eventID, mxerr.InvalidParam("%q is not an event ID", r.PathValue("eventId")).Because(err)
	}
	return eventID, nil
}

// callerAndEvent gives the caller, the room and the event of the path.
func (a *API) callerAndEvent(r *http.Request) (who.Caller, id.RoomID, id.EventID, error) {
	caller, roomID, err := a.callerInRoom(r)
	if err != nil {
		return caller, roomID, id.EventID{}, err
	}
	eventID, err := eventOfPath(r)
	return caller, roomID, eventID, err
}

// roomByName gives the room of a path that names it by its ID or by an alias.
func (a *API) roomByName(r *http.Request) (id.RoomID, error) {
	name := r.PathValue("roomIdOrAlias")
	if len(name) > 0 && name[0] == '#' {
		alias, err := id.ParseRoomAlias(name)
		if err != nil {
			return id.RoomID{}, mxerr.InvalidParam("%q is not a room alias", name).Because(err)
		}
		roomID, _, err := a.directory.Resolve(r.Context(), alias)
		return roomID, err
	}
	roomID, err := id.ParseRoomID(name)
	if err != nil {
		return roomID, mxerr.InvalidParam("%q is neither a room ID nor a room alias", name).Because(err)
	}
	return roomID, nil
}

// roomOfPath gives the room ID of the path.
func roomOfPath(r *http.Request) (id.RoomID, error) {
	roomID, err := id.ParseRoomID(r.PathValue("roomId"))
	if err != nil {
		return roomID, mxerr.InvalidParam("%q is not a room ID", r.PathValue("roomId")).Because(err)
	}
	return roomID, nil
}
