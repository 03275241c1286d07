// Package powerlevels builds the m.room.power_levels contents that the server itself
// writes: those of a new room, of an upgraded room, and of the room that an upgrade
// closes.
//
// It owns nothing and reads only its arguments. It never decides whether a user may send
// them: package eventauth does.
//
// The invariant: every room that it builds has a user who may upgrade it.
//
// Spec: client-server-api#mroompower_levels
package powerlevels

import (
	"encoding/json"

	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
	"stoa/matrix/roomversion"
)

const (
	admin     = 100
	moderator = 50
	// tombstone is the level for closing a room in versions whose creators have power of
	// their own: above state_default, and above an administrator.
	tombstone = 150

	// AnyoneInvites and ModeratorsInvite are invite levels.
	AnyoneInvites    = 0
	ModeratorsInvite = moderator
)

// First describes the power levels of a new room.
type First struct {
	Creator id.UserID
	// Creators are all creators, if the version gives them power of their own.
	Creators []string
	// Trusted are users with the same power as the creator.
	Trusted     []id.UserID
	InviteLevel int
	// Override is an object whose top-level keys replace those of the content; nil for
	// none.
	Override json.RawMessage
}

// Content returns the content. Errors: M_BAD_JSON and M_INVALID_PARAM about Override.
func (f First) Content(rules *roomversion.Rules) (map[string]any, error) {
	users := map[string]any{}
	toClose := admin
	if rules.CreatorsPrivileged {
		toClose = tombstone
	} else {
		for _, user := range append([]id.UserID{f.Creator}, f.Trusted...) {
			users[user.String()] = admin
		}
	}
	levels := map[string]any{
		"users":          users,
		"users_default":  0,
		"events_default": 0,
		"state_default":  moderator,
		"ban":            moderator,
		"kick":           moderator,
		"redact":         moderator,
		"invite":         f.InviteLevel,
		"events": map[string]any{
			event.TypeName:              moderator,
			event.TypeAvatar:            moderator,
			event.TypeCanonicalAlias:    moderator,
			event.TypePowerLevels:       admin,
			event.TypeHistoryVisibility: admin,
			event.TypeEncryption:        admin,
			event.TypeServerACL:         admin,
			event.TypeTombstone:         toClose,
		},
		"notifications": map[string]any{"room": moderator},
	}
	if f.Override == nil {
		return levels, nil
	}
	var override map[string]json.RawMessage
	if err := json.Unmarshal(f.Override, &override); err != nil {
		return nil, mxerr.BadJSON("power_level_content_override is not an object").Because(err)
	}
	for key, value := range override {
		levels[key] = value
	}
	return levels, f.refuseCreators(override["users"])
}

// refuseCreators explains the error if a client lists a creator among `users`, which rule
// 10.4 of version 12 rejects.
//
// Spec: rooms/v12#authorisation-rules
func (f First) refuseCreators(users json.RawMessage) error {
	if users == nil || len(f.Creators) == 0 {
		return nil
	}
	var listed map[string]json.RawMessage
	if err := json.Unmarshal(users, &listed); err != nil {
		return mxerr.BadJSON("users in power_level_content_override is not an object").Because(err)
	}
	for _, creator := range f.Creators {
		if _, ok := listed[creator]; ok {
			return mxerr.InvalidParam("%s creates the room and can't be given a power level", creator)
		}
	}
	return nil
}

// Upgraded returns the power levels of a new room, from the create event and the power
// levels (nil for none) of the old one. All levels become integers. Creators of the new
// room are left out if they have power of their own. Users who had such power only in the
// old room get the highest level.
//
// Spec: client-server-api#room-upgrades
func Upgraded(create, old *event.PDU, rules *roomversion.Rules, sender id.UserID, creators []string) (json.RawMessage, error) {
	content, levels := map[string]any{}, &event.PowerLevels{}
	users, events := map[string]int64{}, map[string]int64{}
	if old != nil {
		var err error
		if levels, err = old.PowerLevels(); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(old.Content(), &content); err != nil {
			return nil, err
		}
	}
	highest := int64(admin)
	for user, level := range levels.Users {
		users[user.String()] = level
		highest = max(highest, level)
	}
	for evType, level := range levels.Events {
		events[evType] = level
		highest = max(highest, level)
	}
	for _, level := range levels.Notifications {
		highest = max(highest, level)
	}
	if len(levels.Notifications) > 0 {
		content["notifications"] = levels.Notifications
	}
	for key, level := range map[string]event.Level{
		"ban": levels.Ban, "kick": levels.Kick, "redact": levels.Redact, "invite": levels.Invite,
		"events_default": levels.EventsDefault, "state_default": levels.StateDefault, "users_default": levels.UsersDefault,
	} {
		if level.Present {
			content[key] = level.Value
			highest = max(highest, level.Value)
		}
	}
	if powers := eventauth.NewPowers(create, old); rules.CreatorsPrivileged {
		for _, creator := range creators {
			delete(users, creator)
		}
		if powers.Event(event.TypeTombstone, true) < tombstone {
			events[event.TypeTombstone] = tombstone
		}
	} else {
		for _, creator := range powers.Creators() {
			users[creator.String()] = highest
		}
		if old == nil {
			users[sender.String()] = highest
		}
	}
	content["users"], content["events"] = users, events
	return json.Marshal(content)
}

// Closed returns power levels that stop members from sending and inviting.
//
// Spec: client-server-api#room-upgrades (6)
func Closed(old *event.PDU) (json.RawMessage, error) {
	levels, err := old.PowerLevels()
	if err != nil {
		return nil, err
	}
	var content map[string]any
	if err := json.Unmarshal(old.Content(), &content); err != nil {
		return nil, err
	}
	closed := max(moderator, levels.UsersDefault.Or(event.DefaultUsersLevel)+1)
	content["events_default"] = max(closed, levels.EventsDefault.Or(event.DefaultEventsLevel))
	content["invite"] = max(closed, levels.Invite.Or(event.DefaultInviteLevel))
	return json.Marshal(content)
}
