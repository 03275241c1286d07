package clientapi

import (
	"encoding/json"
	"math"
	"net/http"
	"slices"

	"stoa/internal/history"
	"stoa/internal/httpkit"
	"stoa/internal/timeline"
	"stoa/internal/token"
	"stoa/internal/who"
	"stoa/matrix/eventfilter"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// reader is for whom events are shown.
func (a *API) reader(caller who.Caller) *timeline.Reader {
	return &timeline.Reader{UserID: caller.UserID, DeviceID: caller.DeviceID.String(), Now: a.opt.Clock().UnixMilli()}
}

// show gives a view as JSON.
func show(reader *timeline.Reader, roomID id.RoomID, v *history.View) json.RawMessage {
	return v.Append(nil, reader, roomID)
}

// shown is a list of events as JSON. encoding/json would copy it twice, and keep buffers of
// its size.
type shown []json.RawMessage

// AppendJSON implements httpkit.Appender.
func (s shown) AppendJSON(dst []byte) ([]byte, error) {
	size := 2
	for _, text := range s {
		size += len(text) + 1
	}
	dst = append(slices.Grow(dst, size), '[')
	for i, text := range s {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, text...)
	}
	return append(dst, ']'), nil
}

// showAll gives views as a list of JSON, not nil.
func showAll(reader *timeline.Reader, roomID id.RoomID, views []history.View) shown {
	shown := make(shown, len(views))
	for i := range views {
		shown[i] = show(reader, roomID, &views[i])
	}
	return shown
}

// event serves GET /_matrix/client/v3/rooms/{roomId}/event/{eventId}.
//
// Spec: client-server-api#get_matrixclientv3roomsroomideventeventid
func (a *API) event(r *http.Request) (httpkit.Raw, error) {
	caller, roomID, eventID, err := a.callerAndEvent(r)
	if err != nil {
		return nil, err
	}
	view, err := a.history.Event(r.Context(), caller.UserID, roomID, eventID)
	if err != nil {
		return nil, err
	}
	return httpkit.Raw(show(a.reader(caller), roomID, &view)), nil
}

// stateEvent serves GET /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey},
// the state key being empty if the path has none.
//
// Spec: client-server-api#get_matrixclientv3roomsroomidstateeventtypestatekey
func (a *API) stateEvent(r *http.Request) (httpkit.Raw, error) {
	caller, roomID, err := a.callerInRoom(r)
	if err != nil {
		return nil, err
	}
	query, err := httpkit.ParseQuery(r)
	if err != nil {
		return nil, err
	}
	format, err := query.Enum("format", "content", "event")
	if err != nil {
		return nil, err
	}
	view, err := a.history.StateEvent(r.Context(), caller.UserID, roomID, r.PathValue("eventType"), r.PathValue("stateKey"))
	if err != nil {
		return nil, history.HideUnknown(err)
	}
	if format == "event" {
		return httpkit.Raw(show(a.reader(caller), roomID, &view)), nil
	}
	return httpkit.Raw(view.Content()), nil
}

// state serves GET /_matrix/client/v3/rooms/{roomId}/state.
//
// Spec: client-server-api#get_matrixclientv3roomsroomidstate
func (a *API) state(r *http.Request) (shown, error) {
	caller, roomID, err := a.callerInRoom(r)
	if err != nil {
		return nil, err
	}
	views, err := a.history.CurrentState(r.Context(), caller.UserID, roomID)
	return showAll(a.reader(caller), roomID, views), history.HideUnknown(err)
}

type chunk struct {
	Chunk shown `json:"chunk"`
}

// AppendJSON implements httpkit.Appender.
func (c chunk) AppendJSON(dst []byte) ([]byte, error) {
	dst, err := c.Chunk.AppendJSON(append(dst, `{"chunk":`...))
	return append(dst, '}'), err
}

// members serves GET /_matrix/client/v3/rooms/{roomId}/members.
//
// Spec: client-server-api#get_matrixclientv3roomsroomidmembers
func (a *API) members(r *http.Request) (chunk, error) {
	caller, roomID, err := a.callerInRoom(r)
	if err != nil {
		return chunk{}, err
	}
	query, err := httpkit.ParseQuery(r)
	if err != nil {
		return chunk{}, err
	}
	var q history.MembersQuery
	if q.At, err = tokenOf(query, "at"); err != nil {
		return chunk{}, err
	}
	for name, to := range map[string]*string{"membership": &q.Membership, "not_membership": &q.NotMembership} {
		if *to, err = query.Enum(name, "", "join", "invite", "knock", "leave", "ban"); err != nil {
			return chunk{}, err
		}
	}
	views, err := a.history.Members(r.Context(), caller.UserID, roomID, q)
	return chunk{showAll(a.reader(caller), roomID, views)}, history.HideUnknown(err)
}

// joinedMembers serves GET /_matrix/client/v3/rooms/{roomId}/joined_members.
//
// Spec: client-server-api#get_matrixclientv3roomsroomidjoined_members
func (a *API) joinedMembers(r *http.Request) (any, error) {
	caller, roomID, err := a.callerInRoom(r)
	if err != nil {
		return nil, err
	}
	members, err := a.history.JoinedMembers(r.Context(), caller.UserID, roomID)
	if err != nil {
		return nil, history.HideUnknown(err)
	}
	// Both keys are there for everybody, null for what a member does not have.
	type member struct {
		DisplayName *string `json:"display_name"`
		AvatarURL   *string `json:"avatar_url"`
	}
	orNull := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	joined := make(map[id.UserID]member, len(members))
	for user, profile := range members {
		joined[user] = member{orNull(profile.DisplayName), orNull(profile.AvatarURL)}
	}
	return struct {
		Joined map[id.UserID]member `json:"joined"`
	}{joined}, nil
}

// tokenOf gives a pagination token of the query, nil if there is none.
func tokenOf(query httpkit.Query, name string) (*token.Token, error) {
	text := query.Get(name)
	if text == "" {
		return nil, nil
	}
	t, err := token.Parse(text)
	if err != nil {
		return nil, mxerr.InvalidParam("%s is not a token of this server", name).Because(err)
	}
	return &t, nil
}

// direction gives the required parameter dir.
func direction(query httpkit.Query) (history.Direction, error) {
	if _, err := query.Required("dir"); err != nil {
		return history.Backwards, err
	}
	return optionalDirection(query, "dir")
}

// optionalDirection gives the direction of a parameter, backwards if there is none.
func optionalDirection(query httpkit.Query, name string) (history.Direction, error) {
	dir, err := query.Enum(name, "b", "f")
	return history.Direction(dir == "f"), err
}

// eventFilter gives the filter of the query, nil if there is none.
func eventFilter(query httpkit.Query) (*eventfilter.RoomEventFilter, error) {
	text := query.Get("filter")
	if text == "" {
		return nil, nil
	}
	return eventfilter.ParseRoomEvents([]byte(text))
}

// Sizes of pages of events.
const (
	pageSize    = 10
	maxPageSize = 1000
)

type messagesAnswer struct {
	Start string `json:"start"`
	End   string `json:"end,omitempty"`
	Chunk shown  `json:"chunk"`
	State shown  `json:"state,omitempty"`
}

// AppendJSON implements httpkit.Appender.
func (m messagesAnswer) AppendJSON(dst []byte) ([]byte, error) {
	rest, err := json.Marshal(struct {
		Start string `json:"start"`
		End   string `json:"end,omitempty"`
	}{m.Start, m.End})
	if err != nil {
		return dst, err
	}
	dst = append(dst, rest[:len(rest)-1]...)
	if dst, err = m.Chunk.AppendJSON(append(dst, `,"chunk":`...)); err == nil && len(m.State) > 0 {
		dst, err = m.State.AppendJSON(append(dst, `,"state":`...))
	}
	return append(dst, '}'), err
}

// messages serves GET /_matrix/client/v3/rooms/{roomId}/messages.
//
// Spec: client-server-api#get_matrixclientv3roomsroomidmessages
func (a *API) messages(r *http.Request) (messagesAnswer, error) {
	caller, roomID, err := a.callerInRoom(r)
	if err != nil {
		return messagesAnswer{}, err
	}
	query, err := httpkit.ParseQuery(r)
	if err != nil {
		return messagesAnswer{}, err
	}
	var q history.HistoryQuery
	if q.Dir, err = direction(query); err != nil {
		// Who may not look at the room is told that rather than what is wrong.
		if hidden := a.history.MayLook(r.Context(), caller.UserID, roomID); hidden != nil {
			return messagesAnswer{}, history.HideUnknown(hidden)
		}
		return messagesAnswer{}, err
	}
	if q.From, err = tokenOf(query, "from"); err != nil {
		return messagesAnswer{}, err
	}
	if q.To, err = tokenOf(query, "to"); err != nil {
		return messagesAnswer{}, err
	}
	if q.Filter, err = eventFilter(query); err != nil {
		return messagesAnswer{}, err
	}
	size := pageSize
	if q.Filter != nil {
		size = max(q.Filter.LimitOr(pageSize), 1)
	}
	if q.Limit, err = query.Limit("limit", size, maxPageSize); err != nil {
		return messagesAnswer{}, err
	}
	page, err := a.history.Messages(r.Context(), caller.UserID, roomID, q)
	if err != nil {
		return messagesAnswer{}, history.HideUnknown(err)
	}
	reader := a.reader(caller)
	answer := messagesAnswer{Start: page.Start.String(), Chunk: showAll(reader, roomID, page.Events)}
	if q.From != nil {
		answer.Start = query.Get("from")
	}
	if page.HasEnd {
		answer.End = page.End.String()
	}
	if len(page.State) > 0 {
		answer.State = showAll(reader, roomID, page.State)
	}
	return answer, nil
}

type contextAnswer struct {
	Start        string            `json:"start"`
	End          string            `json:"end"`
	Event        json.RawMessage   `json:"event"`
	EventsBefore []json.RawMessage `json:"events_before"`
	EventsAfter  []json.RawMessage `json:"events_after"`
	State        []json.RawMessage `json:"state"`
}

// eventContext serves GET /_matrix/client/v3/rooms/{roomId}/context/{eventId}.
//
// Spec: client-server-api#get_matrixclientv3roomsroomidcontexteventid
func (a *API) eventContext(r *http.Request) (contextAnswer, error) {
	caller, roomID, eventID, err := a.callerAndEvent(r)
	if err != nil {
		return contextAnswer{}, err
	}
	query, err := httpkit.ParseQuery(r)
	if err != nil {
		return contextAnswer{}, err
	}
	limit, err := query.Int("limit", pageSize, 0, math.MaxInt32)
	if err != nil {
		return contextAnswer{}, err
	}
	filter, err := eventFilter(query)
	if err != nil {
		return contextAnswer{}, err
	}
	c, err := a.history.Context(r.Context(), caller.UserID, roomID, eventID, int(limit), filter)
	if err != nil {
		return contextAnswer{}, err
	}
	reader := a.reader(caller)
	return contextAnswer{
		Start: c.Start.String(), End: c.End.String(), Event: show(reader, roomID, &c.Event),
		EventsBefore: showAll(reader, roomID, c.Before), EventsAfter: showAll(reader, roomID, c.After),
		State: showAll(reader, roomID, c.State),
	}, nil
}

type timestampAnswer struct {
	EventID        id.EventID `json:"event_id"`
	OriginServerTS int64      `json:"origin_server_ts"`
}

// timestampToEvent serves GET /_matrix/client/v1/rooms/{roomId}/timestamp_to_event.
//
// Spec: client-server-api#get_matrixclientv1roomsroomidtimestamp_to_event
func (a *API) timestampToEvent(r *http.Request) (timestampAnswer, error) {
	caller, roomID, err := a.callerInRoom(r)
	if err != nil {
		return timestampAnswer{}, err
	}
	query, err := httpkit.ParseQuery(r)
	if err != nil {
		return timestampAnswer{}, err
	}
	if _, err := query.Required("ts"); err != nil {
		return timestampAnswer{}, err
	}
	ts, err := query.Int("ts", 0, 0, math.MaxInt64)
	if err != nil {
		return timestampAnswer{}, err
	}
	dir, err := direction(query)
	if err != nil {
		return timestampAnswer{}, err
	}
	view, err := a.history.TimestampToEvent(r.Context(), caller.UserID, roomID, ts, dir)
	if err != nil {
		return timestampAnswer{}, history.HideUnknown(err)
	}
	return timestampAnswer{EventID: view.PDU.EventID(), OriginServerTS: view.PDU.OriginServerTS()}, nil
}
