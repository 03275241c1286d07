package event

import (
	"fmt"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/id"
)

// ContentError says what in the content of an event can't be read.
type ContentError struct {
	// Type is the event type.
	Type string
	// Field is the key of the content concerned, "users" or "additional_creators" say.
	Field string
	// Reason says what is wrong with it.
	Reason string
}

func (e *ContentError) Error() string {
	return fmt.Sprintf("content of %s: %s: %s", e.Type, e.Field, e.Reason)
}

// parsed is what a content says, read once. Both fields are nil until then; a PDU has one type, so one value is enough.
type parsed struct {
	value any
	err   error
}

// memo reads the content once. Two readers at the same time may both read it: the result is the same.
func memo[T any](p *PDU, read func(*PDU) (*T, error)) (*T, error) {
	if known := p.parsed.Load(); known != nil {
		if value, ok := known.value.(*T); ok {
			return value, known.err
		}
	}
	value, err := read(p)
	p.parsed.Store(&parsed{value, err})
	return value, err
}

// Create is the content of m.room.create.
//
// Spec: client-server-api#mroomcreate
type Create struct {
	// Creator is the one creator: the sender, or before room version 11 `creator` of the content (zero if that is missing
	// or no user ID).
	Creator id.UserID
	// HasCreator says whether the content has the key `creator`.
	HasCreator bool
	// AdditionalCreators are further creators; empty in room versions that have none.
	AdditionalCreators []id.UserID
	// RoomVersion is room_version; "1" if it is missing.
	RoomVersion string
	// Federate is m.federate; true if it is missing.
	Federate bool
	// Type is the room's type, "m.space" say; "" for ordinary rooms.
	Type string
	// PredecessorRoomID is the room that this one replaces; zero if there is none.
	PredecessorRoomID id.RoomID
	// PredecessorEventID is the last known event of that room; zero if it is not given.
	PredecessorEventID id.EventID
}

// IsCreator says whether a user is one of the room's creators.
func (c *Create) IsCreator(user id.UserID) bool {
	if user == c.Creator {
		return true
	}
	for _, u := range c.AdditionalCreators {
		if u == user {
			return true
		}
	}
	return false
}

// Create reads the content of an m.room.create. It errs if the content breaks what the auth rules demand of it: a
// room_version that is no string, additional_creators that are not all user IDs.
func (p *PDU) Create() (*Create, error) { return memo(p, readCreate) }

func readCreate(p *PDU) (*Create, error) {
	c := &Create{RoomVersion: "1", Federate: true}
	if p.rules.CreatorIsSender {
		c.Creator = p.sender
	}
	err := canonicaljson.Object(p.content, func(key string, value []byte) error {
		s, isString := canonicaljson.String(value)
		switch key {
		case "creator":
			c.HasCreator = true
			if user, err := id.ParseUserID(s); err == nil && !p.rules.CreatorIsSender {
				c.Creator = user
			}
		case "room_version":
			if !isString {
				return p.contentError(key, "it is no string")
			}
			c.RoomVersion = s
		case "m.federate":
			if federate, ok := canonicaljson.Bool(value); ok {
				c.Federate = federate
			}
		case "type":
			c.Type = s
		case "predecessor":
			if room, ok := canonicaljson.String(canonicaljson.Get(value, "room_id")); ok {
				c.PredecessorRoomID, _ = id.ParseRoomID(room)
			}
			if event, ok := canonicaljson.String(canonicaljson.Get(value, "event_id")); ok {
				c.PredecessorEventID, _ = id.ParseEventID(event)
			}
		case "additional_creators":
			if p.rules.CreatorsPrivileged {
				return p.readCreators(c, value)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// readCreators reads additional_creators: rule 1.4 rejects what it errs for.
//
// Spec: rooms/v12#authorisation-rules
func (p *PDU) readCreators(c *Create, value []byte) error {
	bad := p.contentError("additional_creators", "it is no array of user IDs")
	err := canonicaljson.Array(value, func(entry []byte) error {
		s, ok := canonicaljson.String(entry)
		if !ok {
			return bad
		}
		user, err := id.ParseUserID(s)
		if err != nil {
			return bad
		}
		c.AdditionalCreators = append(c.AdditionalCreators, user)
		return nil
	})
	if err != nil {
		return bad
	}
	return nil
}

func (p *PDU) contentError(field, reason string) error {
	return &ContentError{Type: p.evType, Field: field, Reason: reason}
}

// Join rules.
//
// Spec: client-server-api#mroomjoin_rules
const (
	JoinRulePublic          = "public"
	JoinRuleInvite          = "invite"
	JoinRuleKnock           = "knock"
	JoinRulePrivate         = "private"
	JoinRuleRestricted      = "restricted"
	JoinRuleKnockRestricted = "knock_restricted"
)

// AllowRoomMembership is the one type of condition that restricted rooms have.
const AllowRoomMembership = "m.room_membership"

// JoinRules is the content of m.room.join_rules.
//
// Spec: client-server-api#mroomjoin_rules
type JoinRules struct {
	// JoinRule is join_rule; "" if it is missing or no string.
	JoinRule string
	// Allow are the conditions of a restricted room, those that can't be read left out.
	Allow []AllowCondition
}

// AllowCondition is one way into a restricted room.
type AllowCondition struct {
	Type   string
	RoomID id.RoomID
}

// JoinRules reads the content of an m.room.join_rules. What has a wrong form in it counts as missing; the error is always nil
// for events that Parse, Load or Build made.
func (p *PDU) JoinRules() (*JoinRules, error) { return memo(p, readJoinRules) }

func readJoinRules(p *PDU) (*JoinRules, error) {
	j := &JoinRules{}
	err := canonicaljson.Object(p.content, func(key string, value []byte) error {
		switch key {
		case "join_rule":
			j.JoinRule, _ = canonicaljson.String(value)
		case "allow":
			if canonicaljson.IsArray(value) {
				return canonicaljson.Array(value, func(entry []byte) error {
					if condition, ok := readCondition(entry); ok {
						j.Allow = append(j.Allow, condition)
					}
					return nil
				})
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return j, nil
}

func readCondition(value []byte) (c AllowCondition, ok bool) {
	if !canonicaljson.IsObject(value) {
		return c, false
	}
	if c.Type, ok = canonicaljson.String(canonicaljson.Get(value, "type")); !ok {
		return c, false
	}
	if room, isString := canonicaljson.String(canonicaljson.Get(value, "room_id")); isString {
		c.RoomID, _ = id.ParseRoomID(room)
	}
	return c, c.Type != AllowRoomMembership || !c.RoomID.IsZero()
}

// Member is the content of m.room.member.
//
// Spec: client-server-api#mroommember
type Member struct {
	// Membership is membership; "" if it is missing or no string.
	Membership string
	// DisplayName and AvatarURL are "" if they are missing, null or no strings.
	DisplayName, AvatarURL string
	// Reason is what the sender gave as the reason; "" for none.
	Reason string
	// IsDirect says that the inviter means a direct chat.
	IsDirect bool
	// HasAuthoriser says whether the content has join_authorised_via_users_server.
	HasAuthoriser bool
	// Authoriser is join_authorised_via_users_server; zero if it is no user ID.
	Authoriser id.UserID
	// HasThirdPartyInvite says whether the content has third_party_invite.
	HasThirdPartyInvite bool
	// ThirdPartyInvite is third_party_invite; nil if it is no object.
	ThirdPartyInvite *ThirdPartyInvite
}

// ThirdPartyInvite is `third_party_invite` of an m.room.member.
type ThirdPartyInvite struct {
	DisplayName string
	// Signed is the object `signed`, canonical; nil if it is missing or no object.
	Signed []byte
	// MXID and Token are those of `signed`; "" if they are missing or no strings.
	MXID, Token string
}

// Member reads the content of an m.room.member. What has a wrong form in it counts as missing; the error is always nil for
// events that Parse, Load or Build made.
func (p *PDU) Member() (*Member, error) { return memo(p, readMember) }

func readMember(p *PDU) (*Member, error) {
	m := &Member{}
	err := canonicaljson.Object(p.content, func(key string, value []byte) error {
		s, _ := canonicaljson.String(value)
		switch key {
		case "membership":
			m.Membership = s
		case "displayname":
			m.DisplayName = s
		case "avatar_url":
			m.AvatarURL = s
		case "reason":
			m.Reason = s
		case "is_direct":
			m.IsDirect, _ = canonicaljson.Bool(value)
		case "join_authorised_via_users_server":
			m.HasAuthoriser = true
			m.Authoriser, _ = id.ParseUserID(s)
		case "third_party_invite":
			m.HasThirdPartyInvite = true
			m.ThirdPartyInvite = readThirdPartyInvite(value)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

func readThirdPartyInvite(value []byte) *ThirdPartyInvite {
	if !canonicaljson.IsObject(value) {
		return nil
	}
	t := &ThirdPartyInvite{}
	t.DisplayName, _ = canonicaljson.String(canonicaljson.Get(value, "display_name"))
	if signed := canonicaljson.Get(value, "signed"); canonicaljson.IsObject(signed) {
		t.Signed = signed
		t.MXID, _ = canonicaljson.String(canonicaljson.Get(signed, "mxid"))
		t.Token, _ = canonicaljson.String(canonicaljson.Get(signed, "token"))
	}
	return t
}
