package clientapi

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"time"

	"stoa/internal/httpkit"
	"stoa/internal/slidingsync"
	"stoa/internal/token"
	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// slidingBody is the body of a sliding sync. The deployed form has pos, timeout and set_presence in the query instead.
type slidingBody struct {
	ConnID        string                     `json:"conn_id"`
	TxnID         string                     `json:"txn_id"`
	Pos           string                     `json:"pos"`
	Timeout       int64                      `json:"timeout"`
	SetPresence   string                     `json:"set_presence"`
	Lists         json.RawMessage            `json:"lists"`
	Subscriptions json.RawMessage            `json:"room_subscriptions"`
	Extensions    map[string]json.RawMessage `json:"extensions"`
}

// slidingSyncDeployed serves POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync, in the form in which clients send it
// since before the proposal was accepted.
func (a *API) slidingSyncDeployed(r *http.Request) (syncing, error) {
	caller, body, err := a.readSliding(r)
	if err != nil {
		return syncing{}, err
	}
	query, err := httpkit.ParseQuery(r)
	if err != nil {
		return syncing{}, err
	}
	body.Pos = query.Get("pos")
	if body.Timeout, err = query.Int("timeout", 0, 0, math.MaxInt64/int64(time.Millisecond)); err != nil {
		return syncing{}, err
	}
	if body.SetPresence, err = query.Enum("set_presence", "online", "unavailable", "offline"); err != nil {
		return syncing{}, err
	}
	return a.beginSliding(r, caller, body, false)
}

// slidingSync serves POST /_matrix/client/v4/sync, the accepted form of sliding sync (MSC4186).
func (a *API) slidingSync(r *http.Request) (syncing, error) {
	caller, body, err := a.readSliding(r)
	if err != nil {
		return syncing{}, err
	}
	switch body.SetPresence {
	case "":
		body.SetPresence = "online"
	case "online", "unavailable", "offline":
	default:
		return syncing{}, mxerr.InvalidParam("set_presence is online, unavailable or offline")
	}
	if body.Timeout < 0 || body.Timeout > math.MaxInt64/int64(time.Millisecond) {
		return syncing{}, mxerr.InvalidParam("timeout is a number of milliseconds")
	}
	return a.beginSliding(r, caller, body, true)
}

const (
	// maxConnID bounds the conn_id of a request in bytes, maxTxnID its txn_id.
	maxConnID, maxTxnID = 255, 255
	// maxSlidingConfig bounds the lists, subscriptions and extensions of a request in bytes.
	maxSlidingConfig = 256 << 10
)

func (a *API) readSliding(r *http.Request) (req slidingsync.Request, body slidingBody, err error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return req, body, err
	}
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return req, body, err
	}
	req.Device = caller.Device
	return req, body, nil
}

// beginSliding begins a sliding sync.
func (a *API) beginSliding(r *http.Request, req slidingsync.Request, body slidingBody, stable bool) (syncing, error) {
	req.ConnID, req.TxnID, req.Presence = body.ConnID, body.TxnID, body.SetPresence
	req.Timeout = time.Duration(body.Timeout) * time.Millisecond
	if len(req.ConnID) > maxConnID || len(req.TxnID) > maxTxnID {
		return syncing{}, mxerr.InvalidParam("conn_id and txn_id have at most %d characters", maxConnID)
	}
	if body.Pos != "" {
		pos, err := token.ParseSliding(body.Pos)
		if err != nil {
			return syncing{}, mxerr.UnknownPos("pos is not of this server").Because(err)
		}
		req.Pos = &pos
	}
	since, err := takeToDeviceSince(body.Extensions)
	if err != nil {
		return syncing{}, err
	}
	if since != "" {
		slot, ok := slidingsync.ParseToDeviceToken(since)
		if !ok {
			return syncing{}, mxerr.InvalidParam("since of to_device is not of this server")
		}
		req.ToDeviceSince = slot
	}
	text := configText(body, stable)
	if len(text) > maxSlidingConfig {
		return syncing{}, mxerr.InvalidParam("the lists, subscriptions and extensions together have more than %d bytes", maxSlidingConfig)
	}
	req.Config, err = a.sliding.Config(text, func() (*slidingsync.Config, error) { return parseSliding(body, stable) })
	if err != nil {
		return syncing{}, err
	}
	req.Lasts = func(ctx context.Context) error { return a.auth.Lasts(ctx, req.UserNum, string(req.DeviceID)) }
	waiting, err := a.sliding.Begin(r.Context(), &req)
	return syncing{waiting}, err
}

// takeToDeviceSince takes the since of the to_device extension out of it: it changes from request to request.
func takeToDeviceSince(extensions map[string]json.RawMessage) (string, error) {
	raw, ok := extensions["to_device"]
	if !ok {
		return "", nil
	}
	var config map[string]json.RawMessage
	if err := json.Unmarshal(raw, &config); err != nil {
		return "", mxerr.BadJSON("to_device is an object").Because(err)
	}
	since := ""
	if text := config["since"]; text != nil {
		if err := json.Unmarshal(text, &since); err != nil {
			return "", mxerr.BadJSON("since of to_device is a text").Because(err)
		}
		delete(config, "since")
		rest, err := json.Marshal(config)
		if err != nil {
			return "", err
		}
		extensions["to_device"] = rest
	}
	return since, nil
}

// configText is the text that a configuration is kept by.
func configText(body slidingBody, stable bool) []byte {
	names := make([]string, 0, len(body.Extensions))
	for name := range body.Extensions {
		names = append(names, name)
	}
	slices.Sort(names)
	form := "0"
	if stable {
		form = "1"
	}
	parts := [][]byte{[]byte(form), body.Lists, body.Subscriptions}
	for _, name := range names {
		parts = append(parts, []byte(name), body.Extensions[name])
	}
	return bytes.Join(parts, []byte{0})
}

// slidingList is a list of a request, slidingRoom a subscription. Ranges and the pairs of required_state are the deployed form, Range
// and the object the accepted one.
type slidingList struct {
	slidingRoom
	Range   *[2]int        `json:"range"`
	Ranges  [][2]int       `json:"ranges"`
	Filters slidingFilters `json:"filters"`
}

type slidingRoom struct {
	TimelineLimit *int            `json:"timeline_limit"`
	RequiredState json.RawMessage `json:"required_state"`
}

type slidingFilters struct {
	IsDM         *bool     `json:"is_dm"`
	Spaces       []string  `json:"spaces"`
	IsEncrypted  *bool     `json:"is_encrypted"`
	IsInvite     *bool     `json:"is_invite"`
	IsInvited    *bool     `json:"is_invited"`
	RoomTypes    []*string `json:"room_types"`
	NotRoomTypes []*string `json:"not_room_types"`
	Tags         []string  `json:"tags"`
	NotTags      []string  `json:"not_tags"`
}

type slidingExtension struct {
	Enabled bool     `json:"enabled"`
	Limit   *int     `json:"limit"`
	Lists   []string `json:"lists"`
	Rooms   []string `json:"rooms"`
}

func (e slidingExtension) scope() slidingsync.Scope {
	return slidingsync.Scope{Limited: e.Lists != nil || e.Rooms != nil, Lists: e.Lists, Rooms: e.Rooms}
}

// parseSliding reads what a sliding sync asks for.
func parseSliding(body slidingBody, stable bool) (*slidingsync.Config, error) {
	c := &slidingsync.Config{Stable: stable, Subscriptions: map[string]slidingsync.Room{}}
	lists := map[string]slidingList{}
	rooms := map[string]slidingRoom{}
	if err := unmarshalPart(body.Lists, &lists); err != nil {
		return nil, err
	}
	if err := unmarshalPart(body.Subscriptions, &rooms); err != nil {
		return nil, err
	}
	if len(lists) > slidingsync.MaxLists || len(rooms) > slidingsync.MaxSubscriptions {
		return nil, mxerr.InvalidParam("There may be %d lists and %d room subscriptions", slidingsync.MaxLists, slidingsync.MaxSubscriptions)
	}
	for name, list := range lists {
		parsed, err := parseSlidingList(name, list, stable)
		if err != nil {
			return nil, err
		}
		c.Lists = append(c.Lists, parsed)
	}
	for roomID, room := range rooms {
		if _, err := id.ParseRoomID(roomID); err != nil {
			return nil, mxerr.InvalidParam("room_subscriptions has a name that is no room ID").Because(err)
		}
		parsed, err := parseSlidingRoom(room, stable)
		if err != nil {
			return nil, err
		}
		c.Subscriptions[roomID] = parsed
	}
	return c, parseExtensions(body.Extensions, &c.Extensions)
}

func unmarshalPart(raw json.RawMessage, v any) error {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return mxerr.BadJSON("The request is not one of a sliding sync").Because(err)
	}
	return nil
}

func parseSlidingList(name string, list slidingList, stable bool) (out slidingsync.List, err error) {
	if len(name) > maxConnID {
		return out, mxerr.InvalidParam("The name of a list has at most %d characters", maxConnID)
	}
	out.Name = name
	if stable {
		if list.Range != nil {
			out.Ranges = [][2]int{*list.Range}
		}
	} else {
		out.Ranges = list.Ranges
	}
	if len(out.Ranges) > slidingsync.MaxRanges {
		return out, mxerr.InvalidParam("A list has at most %d ranges", slidingsync.MaxRanges)
	}
	for _, r := range out.Ranges {
		if r[0] < 0 || r[1] < r[0] {
			return out, mxerr.InvalidParam("A range is the indexes of its first and its last room")
		}
	}
	f := list.Filters
	out.Filter = slidingsync.Filter{IsDM: f.IsDM, IsEncrypted: f.IsEncrypted, IsInvite: f.IsInvite, Spaces: f.Spaces, Tags: f.Tags, NotTags: f.NotTags,
		RoomTypes: roomTypes(f.RoomTypes), NotRoomTypes: roomTypes(f.NotRoomTypes)}
	if f.IsInvited != nil {
		out.Filter.IsInvite = f.IsInvited
	}
	if len(f.Spaces) > slidingsync.MaxElements || len(f.RoomTypes)+len(f.NotRoomTypes) > slidingsync.MaxElements || len(f.Tags)+len(f.NotTags) > slidingsync.MaxElements {
		return out, mxerr.InvalidParam("A filter names at most %d spaces, types or tags", slidingsync.MaxElements)
	}
	out.Room, err = parseSlidingRoom(list.slidingRoom, stable)
	return out, err
}

// roomTypes turns null, which stands for rooms without a type, into "".
func roomTypes(list []*string) []string {
	if list == nil {
		return nil
	}
	out := make([]string, len(list))
	for i, t := range list {
		if t != nil {
			out[i] = *t
		}
	}
	return out
}

func parseSlidingRoom(room slidingRoom, stable bool) (out slidingsync.Room, err error) {
	switch {
	case room.TimelineLimit != nil:
		out.TimelineLimit = *room.TimelineLimit
	case stable:
		return out, mxerr.MissingParam("timeline_limit is missing")
	}
	if out.TimelineLimit < 0 {
		return out, mxerr.InvalidParam("timeline_limit is a number of events")
	}
	out.TimelineLimit = min(out.TimelineLimit, slidingsync.MaxTimeline)
	if stable {
		out.State, err = parseRequiredState(room.RequiredState)
	} else {
		out.State, err = parseStatePairs(room.RequiredState)
	}
	if err == nil && len(out.State.Include)+len(out.State.Exclude) > slidingsync.MaxElements {
		err = mxerr.InvalidParam("required_state has at most %d elements", slidingsync.MaxElements)
	}
	return out, err
}

// parseStatePairs reads required_state in its deployed form: pairs of type and state key, with "*", "$ME" and "$LAZY".
func parseStatePairs(raw json.RawMessage) (*slidingsync.StateFilter, error) {
	var pairs [][2]string
	if err := unmarshalPart(raw, &pairs); err != nil {
		return nil, err
	}
	f := &slidingsync.StateFilter{}
	for _, pair := range pairs {
		e := slidingsync.Element{Type: pair[0], StateKey: pair[1], AnyType: pair[0] == "*"}
		switch {
		case pair[0] == event.TypeMember && pair[1] == "$LAZY":
			f.LazyMembers = true
			continue
		case pair[1] == "*":
			e.AnyKey, e.StateKey = true, ""
		case pair[1] == "$ME":
			e.OwnID, e.StateKey = true, ""
		}
		f.Include = append(f.Include, e)
	}
	return f, nil
}

// parseRequiredState reads required_state in its accepted form.
func parseRequiredState(raw json.RawMessage) (*slidingsync.StateFilter, error) {
	type element struct {
		Type     *string `json:"type"`
		StateKey *string `json:"state_key"`
	}
	if len(raw) == 0 || string(raw) == "null" {
		return nil, mxerr.MissingParam("required_state is missing")
	}
	var body struct {
		Include     []element `json:"include"`
		Exclude     []element `json:"exclude"`
		LazyMembers bool      `json:"lazy_members"`
	}
	if err := unmarshalPart(raw, &body); err != nil {
		return nil, err
	}
	elements := func(list []element) []slidingsync.Element {
		out := make([]slidingsync.Element, len(list))
		for i, e := range list {
			if out[i].AnyType = e.Type == nil; !out[i].AnyType {
				out[i].Type = *e.Type
			}
			if out[i].AnyKey = e.StateKey == nil; !out[i].AnyKey {
				out[i].StateKey = *e.StateKey
			}
		}
		return out
	}
	return &slidingsync.StateFilter{Include: elements(body.Include), Exclude: elements(body.Exclude), LazyMembers: body.LazyMembers}, nil
}

// parseExtensions reads the extensions that are served; others are left alone.
func parseExtensions(raw map[string]json.RawMessage, out *slidingsync.Extensions) error {
	get := func(name string) (e slidingExtension, err error) {
		err = unmarshalPart(raw[name], &e)
		if len(e.Lists) > slidingsync.MaxLists || len(e.Rooms) > slidingsync.MaxElements {
			err = mxerr.InvalidParam("An extension names at most %d lists and %d rooms", slidingsync.MaxLists, slidingsync.MaxElements)
		}
		return e, err
	}
	for name, set := range map[string]func(slidingExtension){
		"to_device": func(e slidingExtension) {
			if out.ToDevice = e.Enabled; e.Limit != nil {
				out.ToDeviceLimit = max(*e.Limit, 1)
			}
		},
		"e2ee":         func(e slidingExtension) { out.E2EE = e.Enabled },
		"account_data": func(e slidingExtension) { out.AccountData, out.AccountDataScope = e.Enabled, e.scope() },
		"receipts":     func(e slidingExtension) { out.Receipts, out.ReceiptsScope = e.Enabled, e.scope() },
		"typing":       func(e slidingExtension) { out.Typing, out.TypingScope = e.Enabled, e.scope() },
		"presence":     func(e slidingExtension) { out.Presence = e.Enabled },
	} {
		e, err := get(name)
		if err != nil {
			return err
		}
		set(e)
	}
	return nil
}
