package clientapi

import (
	"encoding/json"
	"net/http"

	"stoa/internal/httpkit"
	"stoa/internal/push"
	"stoa/internal/token"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

type pusherList struct {
	Pushers []push.Pusher `json:"pushers"`
}

// pushers serves GET /_matrix/client/v3/pushers.
//
// Spec: client-server-api#get_matrixclientv3pushers
func (a *API) pushers(r *http.Request) (pusherList, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return pusherList{}, err
	}
	list, err := a.push.Pushers(r.Context(), caller.UserNum)
	return pusherList{Pushers: list}, err
}

// pusherRequest is the body of a request that sets a pusher. Its device is that of the caller.
type pusherRequest struct {
	Kind              json.RawMessage `json:"kind"`
	Pushkey           *string         `json:"pushkey"`
	AppID             *string         `json:"app_id"`
	AppDisplayName    *string         `json:"app_display_name"`
	DeviceDisplayName *string         `json:"device_display_name"`
	ProfileTag        string          `json:"profile_tag"`
	Lang              *string         `json:"lang"`
	Data              json.RawMessage `json:"data"`
	Append            bool            `json:"append"`
	Enabled           *bool           `json:"org.matrix.msc3881.enabled"`
}

// setPusher serves POST /_matrix/client/v3/pushers/set.
//
// Spec: client-server-api#post_matrixclientv3pushersset
func (a *API) setPusher(r *http.Request) (httpkit.Empty, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return httpkit.Empty{}, err
	}
	var body pusherRequest
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return httpkit.Empty{}, err
	}
	if body.Kind == nil || body.AppID == nil || body.Pushkey == nil {
		return httpkit.Empty{}, mxerr.MissingParam("kind, app_id and pushkey are required")
	}
	if string(body.Kind) == "null" {
		return httpkit.Empty{}, a.push.Delete(r.Context(), caller.UserNum, *body.AppID, *body.Pushkey)
	}
	var kind string
	if err := json.Unmarshal(body.Kind, &kind); err != nil {
		return httpkit.Empty{}, mxerr.BadJSON("kind must be a string or null")
	}
	if body.AppDisplayName == nil || body.DeviceDisplayName == nil || body.Lang == nil || body.Data == nil {
		return httpkit.Empty{}, mxerr.MissingParam("app_display_name, device_display_name, lang and data are required")
	}
	return httpkit.Empty{}, a.push.Set(r.Context(), caller.User, push.Pusher{
		Kind: kind, AppID: *body.AppID, Pushkey: *body.Pushkey, Data: body.Data,
		Details: push.Details{
			AppDisplayName: *body.AppDisplayName, DeviceDisplayName: *body.DeviceDisplayName, ProfileTag: body.ProfileTag, Lang: *body.Lang,
		},
		Enabled: body.Enabled == nil || *body.Enabled, DeviceID: caller.DeviceID.String(),
	}, body.Append)
}

// notification is an entry of the list of notifications.
type notification struct {
	Actions json.RawMessage `json:"actions"`
	Event   json.RawMessage `json:"event"`
	Read    bool            `json:"read"`
	RoomID  id.RoomID       `json:"room_id"`
	TS      int64           `json:"ts"`
}

type notificationList struct {
	Notifications []notification `json:"notifications"`
	NextToken     string         `json:"next_token,omitempty"`
}

const (
	notificationsPage = 20
	notificationsMost = 100
)

// notifications serves GET /_matrix/client/v3/notifications.
//
// Spec: client-server-api#get_matrixclientv3notifications
func (a *API) notifications(r *http.Request) (notificationList, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return notificationList{}, err
	}
	query, err := httpkit.ParseQuery(r)
	if err != nil {
		return notificationList{}, err
	}
	q := push.NotificationsQuery{OnlyHighlights: query.Get("only") == "highlight"}
	if q.Limit, err = query.Limit("limit", notificationsPage, notificationsMost); err != nil {
		return notificationList{}, err
	}
	if from := query.Get("from"); from != "" {
		place, err := token.ParseNotifications(from)
		if err != nil {
			return notificationList{}, mxerr.InvalidParam("from is not a token of this list").Because(err)
		}
		q.From = &place
	}
	page, err := a.push.Notifications(r.Context(), caller.User, q)
	if err != nil {
		return notificationList{}, err
	}
	out := notificationList{Notifications: make([]notification, len(page.List))}
	reader := a.reader(caller)
	for i := range page.List {
		n := &page.List[i]
		out.Notifications[i] = notification{Actions: n.Actions, Event: show(reader, id.RoomID{}, &n.Event), Read: n.Read, RoomID: n.Room, TS: n.Event.ReceivedTS}
	}
	if page.Next != nil {
		out.NextToken = page.Next.String()
	}
	return out, nil
}
