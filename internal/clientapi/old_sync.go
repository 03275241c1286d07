package clientapi

import (
	"context"
	"encoding/json"
	"maps"
	"math"
	"net/http"
	"slices"
	"time"

	"stoa/internal/clientsync"
	"stoa/internal/history"
	"stoa/internal/httpkit"
	"stoa/internal/token"
	"stoa/internal/who"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// The calls that /sync has replaced. They are made of its answers, so that they show the same.

// maxPeek bounds how long a request for the events of one room waits, and peekEvery is the pause
// between two looks at the room.
const (
	maxPeek   = 30 * time.Second
	peekEvery = time.Second
)

// syncAnswer is the part of a /sync answer that the old calls show.
type syncAnswer struct {
	Next        string     `json:"next_batch"`
	Presence    syncEvents `json:"presence"`
	AccountData syncEvents `json:"account_data"`
	Rooms       struct {
		Join   map[string]syncRoom    `json:"join"`
		Leave  map[string]syncRoom    `json:"leave"`
		Invite map[string]syncInvited `json:"invite"`
	} `json:"rooms"`
}

type syncEvents struct {
	Events []json.RawMessage `json:"events"`
}

type syncRoom struct {
	State      syncEvents `json:"state"`
	StateAfter syncEvents `json:"state_after"`
	Timeline   struct {
		syncEvents
		PrevBatch string `json:"prev_batch"`
	} `json:"timeline"`
	Ephemeral   syncEvents `json:"ephemeral"`
	AccountData syncEvents `json:"account_data"`
}

type syncInvited struct {
	State syncEvents `json:"invite_state"`
}

// syncOnce asks /sync. Messages to devices stay for the next real /sync of the device: the token
// that it returns acknowledges none.
func (a *API) syncOnce(ctx context.Context, caller who.Caller, since *token.Stream, filter string, timeout time.Duration) (answer syncAnswer, err error) {
	req := &clientsync.Request{Device: caller.Device, Since: since, StateAfter: since == nil, Timeout: timeout}
	if since != nil {
		since.ToDevice = 0
	}
	if req.Filter, err = a.syncs.Filter(ctx, caller.Device, filter); err != nil {
		return answer, err
	}
	req.Lasts = func(ctx context.Context) error { return a.auth.Lasts(ctx, caller.UserNum, string(caller.DeviceID)) }
	got, err := a.syncs.Sync(ctx, req)
	if err != nil {
		return answer, err
	}
	defer got.Release()
	if err := json.Unmarshal(got.Body(), &answer); err != nil {
		return answer, err
	}
	next, err := token.ParseStream(answer.Next)
	next.ToDevice = 0
	answer.Next = next.String()
	return answer, err
}

// withRoom adds the room to events of /sync, which don't name it.
func withRoom(dst []json.RawMessage, roomID string, events []json.RawMessage) ([]json.RawMessage, error) {
	name, err := json.Marshal(roomID)
	if err != nil {
		return nil, err
	}
	for _, e := range events {
		named, err := canonicaljson.AppendWith(nil, e, "room_id", name)
		if err != nil {
			return nil, err
		}
		dst = append(dst, named)
	}
	return dst, nil
}

type eventsAnswer struct {
	Start string            `json:"start"`
	End   string            `json:"end"`
	Chunk []json.RawMessage `json:"chunk"`
}

// onlyNow is a filter that lets nothing through, for the token alone.
const onlyNow = `{"room":{"rooms":[]},"presence":{"not_types":["*"]},"account_data":{"not_types":["*"]}}`

// events serves GET /_matrix/client/v3/events: news of all rooms of the caller, or, with room_id, of
// one that they may look at.
//
// Spec: client-server-api#get_matrixclientv3events
func (a *API) events(r *http.Request) (eventsAnswer, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return eventsAnswer{}, err
	}
	query, err := httpkit.ParseQuery(r)
	if err != nil {
		return eventsAnswer{}, err
	}
	ms, err := query.Int("timeout", 0, 0, math.MaxInt64/int64(time.Millisecond))
	if err != nil {
		return eventsAnswer{}, err
	}
	timeout := time.Duration(ms) * time.Millisecond
	if name := query.Get("room_id"); name != "" {
		roomID, err := id.ParseRoomID(name)
		if err != nil {
			return eventsAnswer{}, mxerr.InvalidParam("%q is not a room ID", name).Because(err)
		}
		return a.peek(r.Context(), caller, roomID, query.Get("from"), timeout)
	}
	var since token.Stream
	if from := query.Get("from"); from == "" {
		now, err := a.syncOnce(r.Context(), caller, nil, onlyNow, 0)
		if err != nil {
			return eventsAnswer{}, err
		}
		if since, err = token.ParseStream(now.Next); err != nil {
			return eventsAnswer{}, err
		}
	} else if since, err = token.ParseStream(from); err != nil {
		return eventsAnswer{}, mxerr.InvalidParam("from is not a token of this server").Because(err)
	}
	since.ToDevice = 0
	start, deadline := since.String(), time.Now().Add(timeout)
	for {
		answer, err := a.syncOnce(r.Context(), caller, &since, "", max(time.Until(deadline), 0))
		if err != nil {
			return eventsAnswer{}, err
		}
		chunk, err := answer.events()
		if err != nil || len(chunk) > 0 || !time.Now().Before(deadline) {
			return eventsAnswer{Start: start, End: answer.Next, Chunk: chunk}, err
		}
		// What has woken it is not for this call, such as a message to the device.
		if since, err = token.ParseStream(answer.Next); err != nil {
			return eventsAnswer{}, err
		}
	}
}

// events returns all events of an answer as one list.
func (s *syncAnswer) events() (chunk []json.RawMessage, err error) {
	chunk = []json.RawMessage{}
	for _, rooms := range []map[string]syncRoom{s.Rooms.Join, s.Rooms.Leave} {
		for _, roomID := range slices.Sorted(maps.Keys(rooms)) {
			room := rooms[roomID]
			for _, list := range [][]json.RawMessage{room.State.Events, room.Timeline.Events, room.Ephemeral.Events, room.AccountData.Events} {
				if chunk, err = withRoom(chunk, roomID, list); err != nil {
					return nil, err
				}
			}
		}
	}
	for _, roomID := range slices.Sorted(maps.Keys(s.Rooms.Invite)) {
		if chunk, err = withRoom(chunk, roomID, s.Rooms.Invite[roomID].State.Events); err != nil {
			return nil, err
		}
	}
	return append(append(chunk, s.Presence.Events...), s.AccountData.Events...), nil
}

// peek waits for events of a room that the caller may look at without being in it. It looks once a
// second: people who are not in a room are not told of its news.
//
// Spec: client-server-api#room-previews
func (a *API) peek(ctx context.Context, caller who.Caller, roomID id.RoomID, from string, timeout time.Duration) (eventsAnswer, error) {
	q := history.HistoryQuery{Dir: history.Forwards, Limit: pageSize * 10}
	if from == "" {
		newest, err := a.history.Messages(ctx, caller.UserID, roomID, history.HistoryQuery{Limit: 1})
		if err != nil {
			return eventsAnswer{}, history.HideUnknown(err)
		}
		q.From = &token.Token{Timeline: newest.Start, IsTimeline: true}
		from = newest.Start.String()
	} else {
		at, err := token.Parse(from)
		if err != nil {
			return eventsAnswer{}, mxerr.InvalidParam("from is not a token of this server").Because(err)
		}
		q.From = &at
	}
	deadline := time.Now().Add(min(timeout, maxPeek))
	for {
		page, err := a.history.Messages(ctx, caller.UserID, roomID, q)
		if err != nil {
			return eventsAnswer{}, history.HideUnknown(err)
		}
		left := time.Until(deadline)
		if len(page.Events) > 0 || left <= 0 {
			answer := eventsAnswer{Start: from, End: from, Chunk: []json.RawMessage{}}
			if len(page.Events) > 0 {
				answer.End = page.Events[len(page.Events)-1].At().String()
			}
			reader := a.reader(caller)
			for i := range page.Events {
				answer.Chunk = append(answer.Chunk, show(reader, roomID, &page.Events[i]))
			}
			return answer, nil
		}
		timer := time.NewTimer(min(left, peekEvery))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return eventsAnswer{}, ctx.Err()
		}
	}
}

// oneEvent serves GET /_matrix/client/v3/events/{eventId}.
//
// Spec: client-server-api#get_matrixclientv3eventseventid
func (a *API) oneEvent(r *http.Request) (httpkit.Raw, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return nil, err
	}
	eventID, err := eventOfPath(r)
	if err != nil {
		return nil, err
	}
	roomID, view, err := a.history.EventOfAnyRoom(r.Context(), caller.UserID, eventID)
	if err != nil {
		return nil, err
	}
	return httpkit.Raw(show(a.reader(caller), roomID, &view)), nil
}

type initialSyncAnswer struct {
	End         string            `json:"end"`
	Presence    []json.RawMessage `json:"presence"`
	AccountData []json.RawMessage `json:"account_data"`
	Rooms       []roomInfo        `json:"rooms"`
}

// roomInfo is a room in an answer of the old calls.
type roomInfo struct {
	RoomID      string            `json:"room_id"`
	Membership  string            `json:"membership,omitempty"`
	Invite      json.RawMessage   `json:"invite,omitempty"`
	Messages    *eventsAnswer     `json:"messages,omitempty"`
	State       []json.RawMessage `json:"state,omitempty"`
	Visibility  string            `json:"visibility,omitempty"`
	AccountData []json.RawMessage `json:"account_data,omitempty"`
}

// initialSync serves GET /_matrix/client/v3/initialSync.
//
// Spec: client-server-api#get_matrixclientv3initialsync
func (a *API) initialSync(r *http.Request) (initialSyncAnswer, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return initialSyncAnswer{}, err
	}
	query, err := httpkit.ParseQuery(r)
	if err != nil {
		return initialSyncAnswer{}, err
	}
	limit, err := query.Int("limit", pageSize, 0, math.MaxInt32)
	if err != nil {
		return initialSyncAnswer{}, err
	}
	archived, err := query.Bool("archived", false)
	if err != nil {
		return initialSyncAnswer{}, err
	}
	filter, err := json.Marshal(map[string]any{"room": map[string]any{
		"include_leave": archived, "timeline": map[string]any{"limit": max(limit, 1)},
	}})
	if err != nil {
		return initialSyncAnswer{}, err
	}
	answer, err := a.syncOnce(r.Context(), caller, nil, string(filter), 0)
	if err != nil {
		return initialSyncAnswer{}, err
	}
	out := initialSyncAnswer{
		End: answer.Next, Presence: append([]json.RawMessage{}, answer.Presence.Events...),
		AccountData: append([]json.RawMessage{}, answer.AccountData.Events...), Rooms: []roomInfo{},
	}
	for _, x := range []struct {
		membership string
		rooms      map[string]syncRoom
	}{{"join", answer.Rooms.Join}, {"leave", answer.Rooms.Leave}} {
		for _, roomID := range slices.Sorted(maps.Keys(x.rooms)) {
			info, err := a.infoOf(r.Context(), caller, roomID, x.membership, x.rooms[roomID], answer.Next)
			if err != nil {
				return initialSyncAnswer{}, err
			}
			out.Rooms = append(out.Rooms, info)
		}
	}
	for _, roomID := range slices.Sorted(maps.Keys(answer.Rooms.Invite)) {
		info := roomInfo{RoomID: roomID, Membership: "invite"}
		for _, e := range answer.Rooms.Invite[roomID].State.Events {
			if key, _ := canonicaljson.String(canonicaljson.Get(e, "state_key")); key == caller.UserID.String() {
				info.Invite = e
			}
		}
		out.Rooms = append(out.Rooms, info)
	}
	return out, nil
}

// infoOf converts a room of a /sync answer.
func (a *API) infoOf(ctx context.Context, caller who.Caller, roomID, membership string, room syncRoom, end string) (info roomInfo, err error) {
	info = roomInfo{RoomID: roomID, Membership: membership, AccountData: room.AccountData.Events}
	info.Messages = &eventsAnswer{Start: room.Timeline.PrevBatch, End: end}
	if info.Messages.Chunk, err = withRoom([]json.RawMessage{}, roomID, room.Timeline.Events); err != nil {
		return info, err
	}
	if info.State, err = withRoom(nil, roomID, room.StateAfter.Events); err != nil {
		return info, err
	}
	parsed, err := id.ParseRoomID(roomID)
	if err != nil {
		return info, err
	}
	info.Visibility, err = a.visibilityOf(ctx, caller.UserID, parsed)
	return info, err
}

// roomInitialSync serves GET /_matrix/client/v3/rooms/{roomId}/initialSync.
//
// Spec: client-server-api#get_matrixclientv3roomsroomidinitialsync
func (a *API) roomInitialSync(r *http.Request) (roomInfo, error) {
	caller, roomID, err := a.callerInRoom(r)
	if err != nil {
		return roomInfo{}, err
	}
	ctx := r.Context()
	page, err := a.history.Messages(ctx, caller.UserID, roomID, history.HistoryQuery{Limit: pageSize * 2})
	if err != nil {
		return roomInfo{}, history.HideUnknown(err)
	}
	state, err := a.history.CurrentState(ctx, caller.UserID, roomID)
	if err != nil {
		return roomInfo{}, history.HideUnknown(err)
	}
	reader := a.reader(caller)
	info := roomInfo{RoomID: roomID.String(), Messages: &eventsAnswer{Start: page.End.String(), End: page.Start.String(), Chunk: []json.RawMessage{}}}
	for _, v := range slices.Backward(page.Events) {
		info.Messages.Chunk = append(info.Messages.Chunk, show(reader, roomID, &v))
	}
	for i := range state {
		if key, _ := state[i].PDU.StateKey(); state[i].PDU.Type() == "m.room.member" && key == caller.UserID.String() {
			info.Membership = state[i].PDU.Membership()
		}
		info.State = append(info.State, show(reader, roomID, &state[i]))
	}
	if info.Visibility, err = a.visibilityOf(ctx, caller.UserID, roomID); err != nil {
		return roomInfo{}, err
	}
	info.AccountData, err = a.data.OfRoom(ctx, caller.User, roomID)
	return info, err
}
