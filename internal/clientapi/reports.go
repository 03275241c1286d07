package clientapi

import (
	"net/http"
	"strconv"
	"strings"

	"stoa/internal/httpkit"
	"stoa/internal/store"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// reasonOf reads the reason of a report. It is required, though it may be blank, in reports
// of rooms and users.
func reasonOf(r *http.Request, required bool) (string, error) {
	var body struct {
		Reason *string `json:"reason"`
	}
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return "", err
	}
	if body.Reason == nil {
		if required {
			return "", mxerr.BadJSON("reason is missing")
		}
		return "", nil
	}
	return *body.Reason, nil
}

// reportRoom serves POST /_matrix/client/v3/rooms/{roomId}/report.
//
// Spec: client-server-api#post_matrixclientv3roomsroomidreport
func (a *API) reportRoom(r *http.Request) (httpkit.Empty, error) {
	none := httpkit.Empty{}
	caller, roomID, err := a.callerInRoom(r)
	if err != nil {
		return none, err
	}
	reason, err := reasonOf(r, true)
	if err != nil {
		return none, err
	}
	return none, a.reports.Room(r.Context(), caller.Device, roomID, reason)
}

// reportEvent serves POST /_matrix/client/v3/rooms/{roomId}/report/{eventId}.
//
// Spec: client-server-api#post_matrixclientv3roomsroomidreporteventid
func (a *API) reportEvent(r *http.Request) (httpkit.Empty, error) {
	none := httpkit.Empty{}
	caller, roomID, eventID, err := a.callerAndEvent(r)
	if err != nil {
		return none, err
	}
	reason, err := reasonOf(r, false)
	if err != nil {
		return none, err
	}
	return none, a.reports.Event(r.Context(), caller.Device, roomID, eventID, reason)
}

// reportUser serves POST /_matrix/client/v3/users/{userId}/report.
//
// Spec: client-server-api#post_matrixclientv3usersuseridreport
func (a *API) reportUser(r *http.Request) (httpkit.Empty, error) {
	none := httpkit.Empty{}
	caller, user, err := a.userOfPath(r)
	if err != nil {
		return none, err
	}
	reason, err := reasonOf(r, true)
	if err != nil {
		return none, err
	}
	return none, a.reports.User(r.Context(), caller.Device, user, reason)
}

// mutualPage is the number of rooms in a page of mutual rooms.
const mutualPage = 100

type mutualRooms struct {
	Joined []id.RoomID `json:"joined"`
	Count  int         `json:"count"`
	Next   string      `json:"next_batch,omitempty"`
}

// mutualRooms serves GET /_matrix/client/v1/mutual_rooms.
//
// Spec: client-server-api#get_matrixclientv1mutual_rooms
func (a *API) mutualRooms(r *http.Request) (mutualRooms, error) {
	out := mutualRooms{Joined: []id.RoomID{}}
	caller, err := a.auth.Caller(r)
	if err != nil {
		return out, err
	}
	query, err := httpkit.ParseQuery(r)
	if err != nil {
		return out, err
	}
	name, err := query.Required("user_id")
	if err != nil {
		return out, err
	}
	user, err := id.ParseUserID(name)
	if err != nil {
		return out, mxerr.InvalidParam("user_id is not a user ID").Because(err)
	}
	if user == caller.UserID {
		return out, mxerr.InvalidParam("user_id is your own")
	}
	var after int64
	if from := query.Get("from"); from != "" {
		number, ok := strings.CutPrefix(from, "m")
		if after, err = strconv.ParseInt(number, 10, 64); err != nil || !ok || after < 1 {
			return out, mxerr.InvalidParam("from is not a token of this server")
		}
	}
	rooms, last, count, err := a.history.SharedRooms(r.Context(), caller.UserNum, user, store.RoomNum(after), mutualPage)
	out.Joined, out.Count = append(out.Joined, rooms...), count
	if last != 0 {
		out.Next = "m" + strconv.FormatInt(int64(last), 10)
	}
	return out, err
}
