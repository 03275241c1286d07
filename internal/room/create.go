package room

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"stoa/internal/room/powerlevels"
	"stoa/internal/store"
	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
	"stoa/matrix/pushrule"
	"stoa/matrix/roomversion"
)

// The presets of createRoom.
const (
	PresetPrivateChat        = "private_chat"
	PresetTrustedPrivateChat = "trusted_private_chat"
	PresetPublicChat         = "public_chat"
)

// CreateRequest describes a new room.
//
// Spec: client-server-api#creation
type CreateRequest struct {
	Creator id.UserID
	// Version is the room version; empty = the server's default.
	Version string
	// Preset is one of the Preset constants; if empty, Published determines it.
	Preset string
	// Published is visibility `public`: the directory lists the room.
	Published bool
	Name      string
	Topic     string
	// Alias becomes the canonical alias; zero for none. With writes the row of the alias
	// itself.
	Alias  id.RoomAlias
	Invite []id.UserID
	// IsDirect is set on the invitations.
	IsDirect bool
	// CreationContent and PowerLevels (`power_level_content_override`) are JSON
	// objects, nil for none. InitialState events need only type, state key and
	// content.
	CreationContent json.RawMessage
	PowerLevels     json.RawMessage
	InitialState    []StateEvent
	// With adds rows to the change that creates the room and that must be committed with
	// it, such as the row of an alias; nil for nothing. Create returns an error of the
	// store that it causes unchanged.
	With func(change *store.Change, room store.RoomNum, roomID id.RoomID)
}

// StateEvent is a state event that a request wants in a room.
type StateEvent struct {
	Type     string
	StateKey string
	Content  json.RawMessage
}

// creation is the plan for a CreateRequest: the content of the create event, then drafts
// of all other events in the order of the spec, beginning with the creator's join.
type creation struct {
	create json.RawMessage
	drafts []Draft
}

// Create creates a room with all events that the request implies, in one commit, and
// returns its ID.
//
// Errors: M_UNSUPPORTED_ROOM_VERSION, M_INVALID_ROOM_STATE (the rules reject an event),
// M_INVALID_PARAM, M_BAD_JSON, and those that With causes.
//
// Spec: client-server-api#creation
func (rs *Rooms) Create(ctx context.Context, req CreateRequest) (id.RoomID, error) {
	if req.Version == "" {
		req.Version = rs.opt.DefaultVersion
	}
	rules, ok := roomversion.Of(req.Version)
	if !ok {
		return id.RoomID{}, mxerr.UnsupportedRoomVersion("This server does not know room version %q", req.Version)
	}
	if err := req.checkSize(); err != nil {
		return id.RoomID{}, err
	}
	profile, err := memberships{rs}.profile(ctx, req.Creator)
	if err != nil {
		return id.RoomID{}, err
	}
	plan, err := planCreation(req, rules, profile)
	if err != nil {
		return id.RoomID{}, err
	}
	if err := (creating{rs}).planInvites(ctx, &plan, req); err != nil {
		return id.RoomID{}, err
	}
	for range maxTries {
		var roomID id.RoomID
		roomID, err = creating{rs}.create(ctx, req, rules, plan)
		// Another instance may have created a room with the same ID at the same time.
		if err == nil || !rules.RoomIDFromCreate || !errors.Is(err, store.ErrDuplicate) {
			return roomID, clientError(err)
		}
	}
	return id.RoomID{}, clientError(err)
}

// create creates the room of a plan.
func (rs creating) create(ctx context.Context, req CreateRequest, rules *roomversion.Rules, plan creation) (id.RoomID, error) {
	t, err := rs.newRoom(ctx, rules, req.Published, store.NewChange())
	if err != nil {
		return id.RoomID{}, err
	}
	defer t.r.turn.Unlock()
	if err := t.create(plan, req.Creator); err != nil {
		return id.RoomID{}, err
	}
	if req.With != nil {
		req.With(t.change, t.row.Num, t.r.id)
	}
	departed, err := submit(t)
	if err != nil {
		return id.RoomID{}, err
	}
	return t.r.id, departed.wait()
}

// planInvites adds the invitations, the last events of a new room.
func (rs creating) planInvites(ctx context.Context, plan *creation, req CreateRequest) error {
	extra := map[string]any{}
	if req.IsDirect {
		extra["is_direct"] = true
	}
	for _, user := range distinct(req.Invite) {
		if err := memberships(rs).reachable(user); err != nil {
			return err
		}
		profile, err := memberships(rs).profile(ctx, user)
		if err != nil {
			return err
		}
		content, err := json.Marshal(memberContent(event.MembershipInvite, profile, "", extra))
		if err != nil {
			return err
		}
		target := user.String()
		plan.drafts = append(plan.drafts, Draft{Sender: req.Creator, Type: event.TypeMember, StateKey: &target, Content: content})
	}
	return nil
}

// newRoom begins the turn of a room that does not exist yet, as part of change. On
// success the caller holds the room's turn. The room has its ID already, unless its
// version derives the ID from the create event.
func (rs creating) newRoom(ctx context.Context, rules *roomversion.Rules, published bool, change *store.Change) (*turn, error) {
	num, err := rs.store.NextRoom(ctx)
	if err != nil {
		return nil, err
	}
	r := &room{rooms: rs.Rooms, rules: rules, loaded: true}
	r.state, r.threads, r.stale = map[eventauth.Key]*entry{}, map[id.EventID]pushrule.Totals{}, map[id.UserID]struct{}{}
	if !rules.RoomIDFromCreate {
		if r.id, err = rs.newRoomID(); err != nil {
			return nil, err
		}
	}
	r.turn.Lock()
	t := r.begin(ctx, change)
	t.isNew, t.now = true, rs.creationTime()
	t.row = store.Room{Num: num, Version: rules.Version, Resident: true, Published: published, CreatedTS: t.now}
	return t, nil
}

// internPlan interns all keys and local users of a new room at once.
func (rs creating) internPlan(ctx context.Context, plan creation, creator id.UserID) error {
	pairs := []store.Pair{{Type: event.TypeCreate}}
	users := []string{creator.String()}
	for _, d := range plan.drafts {
		pairs = append(pairs, store.Pair{Type: d.Type, StateKey: *d.StateKey})
		if d.Type == event.TypeMember && rs.isLocalID(*d.StateKey) {
			users = append(users, *d.StateKey)
		}
	}
	if _, err := rs.store.Intern(ctx, distinct(pairs)); err != nil {
		return fmt.Errorf("intern keys: %w", err)
	}
	if _, err := rs.store.InternUsers(ctx, rs.isLocalID, distinct(users)...); err != nil {
		return fmt.Errorf("intern users: %w", err)
	}
	return nil
}

// create adds the create event and all drafts of the plan to the turn of a new room.
func (t *turn) create(plan creation, creator id.UserID) error {
	if err := (creating{t.rs}).internPlan(t.ctx, plan, creator); err != nil {
		return err
	}
	empty := ""
	first, edges, err := t.build(Draft{Sender: creator, Type: event.TypeCreate, StateKey: &empty, Content: plan.create})
	if err != nil {
		return asInvalidState(err, event.TypeCreate)
	}
	t.r.id = first.RoomID().Clone()
	t.row.RoomID = t.r.id.String()
	t.out.Room, t.out.RoomID, t.out.First = t.row.Num, t.r.id, 1
	if err := t.extend(first, edges, Txn{}); err != nil {
		return err
	}
	for _, d := range plan.drafts {
		d.RoomID = t.r.id
		if err := checkDraft(&d); err != nil {
			return asInvalidState(err, d.Type)
		}
		if _, err := t.send(d); err != nil && !errors.Is(err, errNothing) {
			return asInvalidState(err, d.Type)
		}
	}
	return nil
}

// asInvalidState turns a refusal into M_INVALID_ROOM_STATE: the request describes an
// impossible room.
func asInvalidState(err error, evType string) error {
	refusal, ok := mxerr.As(err)
	if !ok {
		return fmt.Errorf("create room: %w", err)
	}
	if rejected := (*eventauth.Rejected)(nil); refusal.Code != mxerr.CodeForbidden && !errors.As(err, &rejected) {
		return err
	}
	return mxerr.InvalidRoomState("The room can't have this %s: %s", evType, refusal.Message).Because(err)
}

// roomIDAlphabet is for the opaque part of room IDs before room version 12.
const roomIDAlphabet = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"

// newRoomID makes the ID of a room of a version before 12.
func (rs creating) newRoomID() (id.RoomID, error) {
	var opaque [18]byte
	if _, err := io.ReadFull(rs.opt.Rand, opaque[:]); err != nil {
		return id.RoomID{}, fmt.Errorf("make a room ID: %w", err)
	}
	for i, b := range opaque {
		opaque[i] = roomIDAlphabet[int(b)%len(roomIDAlphabet)]
	}
	return id.NewRoomID(string(opaque[:]), rs.server)
}

// planCreation turns the request into drafts, which have no room ID yet. profile goes
// into the creator's member event.
//
// Spec: client-server-api#creation (the numbered order of createRoom)
func planCreation(req CreateRequest, rules *roomversion.Rules, profile Profile) (creation, error) {
	preset := req.Preset
	if preset == "" {
		preset = PresetPrivateChat
		if req.Published {
			preset = PresetPublicChat
		}
	}
	if preset != PresetPrivateChat && preset != PresetTrustedPrivateChat && preset != PresetPublicChat {
		return creation{}, mxerr.InvalidParam("Unknown preset %q", preset)
	}
	invite := distinct(req.Invite)
	trusted := preset == PresetTrustedPrivateChat
	create, creators, err := createContent(req, rules, trusted, invite)
	if err != nil {
		return creation{}, err
	}
	plan := creation{create: create}
	add := func(evType, stateKey string, content any) error {
		raw, err := json.Marshal(content)
		if err != nil {
			return fmt.Errorf("write %s: %w", evType, err)
		}
		plan.drafts = append(plan.drafts, Draft{Sender: req.Creator, Type: evType, StateKey: &stateKey, Content: raw})
		return nil
	}
	first := powerlevels.First{
		Creator: req.Creator, Creators: creators, InviteLevel: powerlevels.AnyoneInvites, Override: req.PowerLevels,
	}
	if preset == PresetPublicChat {
		first.InviteLevel = powerlevels.ModeratorsInvite
	}
	if trusted {
		first.Trusted = invite
	}
	levels, err := first.Content(rules)
	if err != nil {
		return creation{}, err
	}
	type object = map[string]any
	wanted := []struct {
		evType, stateKey string
		content          any
		skip             bool
	}{
		{event.TypeMember, req.Creator.String(), memberContent(event.MembershipJoin, profile, "", nil), false},
		{event.TypePowerLevels, "", levels, req.sets(event.TypePowerLevels)},
		{event.TypeCanonicalAlias, "", object{"alias": req.Alias.String()}, req.Alias.IsZero()},
		{event.TypeJoinRules, "", object{"join_rule": presetJoinRule(preset)}, req.sets(event.TypeJoinRules)},
		{event.TypeHistoryVisibility, "", object{"history_visibility": "shared"}, req.sets(event.TypeHistoryVisibility)},
		{event.TypeGuestAccess, "", object{"guest_access": presetGuestAccess(preset)}, req.sets(event.TypeGuestAccess)},
	}
	for _, w := range wanted {
		if !w.skip {
			if err := add(w.evType, w.stateKey, w.content); err != nil {
				return creation{}, err
			}
		}
	}
	for _, s := range req.InitialState {
		if s.Type == event.TypeCreate || s.Type == event.TypeMember {
			return creation{}, mxerr.InvalidRoomState("initial_state can't hold %s: use creation_content, and invite", s.Type)
		}
		if err := add(s.Type, s.StateKey, s.Content); err != nil {
			return creation{}, mxerr.BadJSON("The content of %s in initial_state is not an object", s.Type).Because(err)
		}
	}
	if req.Name != "" {
		err = add(event.TypeName, "", object{"name": req.Name})
	}
	if req.Topic != "" && err == nil {
		err = add(event.TypeTopic, "", object{
			"topic":   req.Topic,
			"m.topic": object{"m.text": []object{{"body": req.Topic, "mimetype": "text/plain"}}},
		})
	}
	return plan, err
}

// sets reports whether initial_state has an event of the type with an empty state key,
// which then replaces the preset's.
func (req *CreateRequest) sets(evType string) bool {
	return slices.ContainsFunc(req.InitialState, func(s StateEvent) bool { return s.Type == evType && s.StateKey == "" })
}

// createContent returns the content of m.room.create, and the list of creators if the
// version gives them power.
func createContent(req CreateRequest, rules *roomversion.Rules, trusted bool, invite []id.UserID) (json.RawMessage, []string, error) {
	content := map[string]any{}
	if req.CreationContent != nil {
		if err := json.Unmarshal(req.CreationContent, &content); err != nil || content == nil {
			return nil, nil, mxerr.BadJSON("creation_content is not an object").Because(err)
		}
	}
	content["room_version"] = rules.Version
	if rules.CreatorIsSender {
		delete(content, "creator")
	} else {
		content["creator"] = req.Creator.String()
	}
	var creators []string
	if rules.CreatorsPrivileged {
		additional, err := additionalCreators(content["additional_creators"])
		if err != nil {
			return nil, nil, err
		}
		if trusted {
			for _, user := range invite {
				additional = append(additional, user.String())
			}
		}
		additional = slices.DeleteFunc(distinct(additional), func(user string) bool { return user == req.Creator.String() })
		if len(additional) > maxCreators {
			return nil, nil, mxerr.InvalidParam("A room can have %d additional creators at most", maxCreators)
		}
		delete(content, "additional_creators")
		if len(additional) > 0 {
			content["additional_creators"] = additional
		}
		creators = append([]string{req.Creator.String()}, additional...)
	}
	raw, err := json.Marshal(content)
	return raw, creators, err
}

// additionalCreators reads creation_content's additional_creators: a list of
// user IDs.
func additionalCreators(value any) ([]string, error) {
	if value == nil {
		return nil, nil
	}
	list, ok := value.([]any)
	if !ok {
		return nil, mxerr.InvalidParam("additional_creators is not a list")
	}
	users := make([]string, 0, len(list))
	for _, item := range list {
		text, _ := item.(string)
		if _, err := id.ParseUserID(text); err != nil {
			return nil, mxerr.InvalidParam("additional_creators contains something that is no user ID").Because(err)
		}
		users = append(users, text)
	}
	return users, nil
}

func presetJoinRule(preset string) string {
	if preset == PresetPublicChat {
		return event.JoinRulePublic
	}
	return event.JoinRuleInvite
}

func presetGuestAccess(preset string) string {
	if preset == PresetPublicChat {
		return "forbidden"
	}
	return "can_join"
}

// distinct returns the items without repetitions, in their order.
func distinct[T comparable](items []T) []T {
	out, seen := make([]T, 0, len(items)), make(map[T]struct{}, len(items))
	for _, item := range items {
		if _, ok := seen[item]; !ok {
			seen[item] = struct{}{}
			out = append(out, item)
		}
	}
	return out
}

// Bounds of one createRoom request. The room is built in one turn and committed at once,
// and other commits wait for it.
const (
	// maxInvites is the audience of a lecture. Others are invited one by one afterwards.
	maxInvites = 500
	// maxInitialState is many times what clients send: encryption, an avatar, a parent space,
	// a few of their own.
	maxInitialState = 100
	// maxCreators bounds the creators beside the sender. They keep their power for ever,
	// and every event is checked against the list.
	maxCreators = 50
)

// checkSize refuses a request that exceeds these bounds.
func (req *CreateRequest) checkSize() error {
	switch {
	case len(req.Invite) > maxInvites:
		return mxerr.InvalidParam("A new room can be made with %d invitations at most; invite the others afterwards", maxInvites)
	case len(req.InitialState) > maxInitialState:
		return mxerr.InvalidParam("initial_state can have %d events at most", maxInitialState)
	}
	return nil
}

// creating creates rooms.
type creating struct{ *Rooms }
