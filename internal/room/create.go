package room

import (
	"encoding/json"
	"fmt"
	"slices"

	"stoa/internal/store"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
	"stoa/matrix/roomversion"
)

// The presets of createRoom.
const (
	PresetPrivateChat        = "private_chat"
	PresetTrustedPrivateChat = "trusted_private_chat"
	PresetPublicChat         = "public_chat"
)

// CreateRequest asks for a new room.
//
// Spec: client-server-api#creation
type CreateRequest struct {
	Creator id.UserID
	// Version is the room version; empty = the server's default.
	Version string
	// Preset is one of the Preset constants; empty = by Published.
	Preset string
	// Published is visibility `public`: the room is listed in the directory.
	Published bool
	Name      string
	Topic     string
	// Alias becomes the canonical alias; zero for none. The row of the alias
	// itself is written by With.
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
	// With adds to the change that creates the room what must stand or fall
	// with it (the row of an alias); nil for nothing. An error of the store
	// that it provokes comes back from Create unchanged.
	With func(change *store.Change, room store.RoomNum, roomID id.RoomID)
}

// StateEvent is a state event that somebody wants in a room.
type StateEvent struct {
	Type     string
	StateKey string
	Content  json.RawMessage
}

// creation is a CreateRequest worked out: the create event's content, then the
// drafts of all other events of the new room, in the order of the spec, the
// creator's join first.
type creation struct {
	rules  *roomversion.Rules
	create json.RawMessage
	drafts []Draft
}

// planCreation turns the request into drafts. The drafts have no room ID yet.
// profile is what the creator's member event shows.
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
	plan := creation{rules: rules, create: create}
	add := func(evType, stateKey string, content any) error {
		raw, err := json.Marshal(content)
		if err != nil {
			return fmt.Errorf("write %s: %w", evType, err)
		}
		plan.drafts = append(plan.drafts, Draft{Sender: req.Creator, Type: evType, StateKey: &stateKey, Content: raw})
		return nil
	}
	levels, err := initialPowerLevels(req, rules, preset, creators, invite)
	if err != nil {
		return creation{}, err
	}
	type object = map[string]any
	wanted := []struct {
		evType, stateKey string
		content          any
		skip             bool
	}{
		{typeMember, req.Creator.String(), memberContent(membershipJoin, profile, "", nil), false},
		{typePowerLevels, "", levels, false},
		{typeCanonicalAlias, "", object{"alias": req.Alias.String()}, req.Alias.IsZero()},
		{typeJoinRules, "", object{"join_rule": presetJoinRule(preset)}, req.sets(typeJoinRules)},
		{typeHistoryVisibility, "", object{"history_visibility": visibilityShared}, req.sets(typeHistoryVisibility)},
		{typeGuestAccess, "", object{"guest_access": presetGuestAccess(preset)}, req.sets(typeGuestAccess)},
	}
	for _, w := range wanted {
		if !w.skip {
			if err := add(w.evType, w.stateKey, w.content); err != nil {
				return creation{}, err
			}
		}
	}
	for _, s := range req.InitialState {
		if err := add(s.Type, s.StateKey, s.Content); err != nil {
			return creation{}, mxerr.BadJSON("The content of %s in initial_state is not an object", s.Type).Because(err)
		}
	}
	if req.Name != "" {
		err = add(typeName, "", object{"name": req.Name})
	}
	if req.Topic != "" && err == nil {
		err = add(typeTopic, "", object{
			"topic":   req.Topic,
			"m.topic": object{"m.text": []object{{"body": req.Topic, "mimetype": "text/plain"}}},
		})
	}
	return plan, err
}

// sets says whether initial_state holds an event of the type with an empty
// state key, which then takes the place of the preset's.
func (req *CreateRequest) sets(evType string) bool {
	return slices.ContainsFunc(req.InitialState, func(s StateEvent) bool { return s.Type == evType && s.StateKey == "" })
}

// createContent makes the content of m.room.create, and the list of creators
// if the version gives them power.
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

// initialPowerLevels makes the first m.room.power_levels and lays the
// request's own over it, key by key of the top level.
func initialPowerLevels(req CreateRequest, rules *roomversion.Rules, preset string, creators []string, invite []id.UserID) (map[string]any, error) {
	users := map[string]any{}
	if !rules.CreatorsPrivileged {
		users[req.Creator.String()] = 100
		if preset == PresetTrustedPrivateChat {
			for _, user := range invite {
				users[user.String()] = 100
			}
		}
	}
	tombstone := 100
	if rules.CreatorsPrivileged {
		tombstone = 150
	}
	inviteLevel := 0
	if preset == PresetPublicChat {
		inviteLevel = 50
	}
	levels := map[string]any{
		"users":          users,
		"users_default":  0,
		"events_default": 0,
		"state_default":  50,
		"ban":            50,
		"kick":           50,
		"redact":         50,
		"invite":         inviteLevel,
		"events": map[string]any{
			typeName:              50,
			typeAvatar:            50,
			typeCanonicalAlias:    50,
			typePowerLevels:       100,
			typeHistoryVisibility: 100,
			typeEncryption:        100,
			typeServerACL:         100,
			typeTombstone:         tombstone,
		},
		"notifications": map[string]any{"room": 50},
	}
	if req.PowerLevels == nil {
		return levels, nil
	}
	var override map[string]json.RawMessage
	if err := json.Unmarshal(req.PowerLevels, &override); err != nil {
		return nil, mxerr.BadJSON("power_level_content_override is not an object").Because(err)
	}
	for key, value := range override {
		levels[key] = value
	}
	if err := refuseCreatorsInUsers(override["users"], creators); err != nil {
		return nil, err
	}
	return levels, nil
}

// refuseCreatorsInUsers says it in words when a client lists a creator among
// `users`, which rule 10.4 of version 12 rejects.
//
// Spec: rooms/v12#authorisation-rules
func refuseCreatorsInUsers(users json.RawMessage, creators []string) error {
	if users == nil || len(creators) == 0 {
		return nil
	}
	var listed map[string]json.RawMessage
	if err := json.Unmarshal(users, &listed); err != nil {
		return mxerr.BadJSON("users in power_level_content_override is not an object").Because(err)
	}
	for _, creator := range creators {
		if _, ok := listed[creator]; ok {
			return mxerr.InvalidParam("%s creates the room and can't be given a power level", creator)
		}
	}
	return nil
}

func presetJoinRule(preset string) string {
	if preset == PresetPublicChat {
		return joinRulePublic
	}
	return joinRuleInvite
}

func presetGuestAccess(preset string) string {
	if preset == PresetPublicChat {
		return "forbidden"
	}
	return "can_join"
}

// distinct returns the items without repetitions, in their order.
func distinct[T comparable](items []T) []T {
	out := make([]T, 0, len(items))
	for _, item := range items {
		if !slices.Contains(out, item) {
			out = append(out, item)
		}
	}
	return out
}
