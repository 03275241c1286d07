package eventauth

import (
	"slices"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/roomversion"
)

// Subject is what auth-event selection looks at: an event that is, or that is yet to be built.
type Subject struct {
	Type string
	// StateKey is nil for an event that is no state event.
	StateKey *string
	Sender   id.UserID
	// Content is a JSON object.
	Content []byte
}

// SubjectOf returns the subject of an event.
func SubjectOf(ev *event.PDU) Subject {
	s := Subject{Type: ev.Type(), Sender: ev.Sender(), Content: ev.Content()}
	if stateKey, ok := ev.StateKey(); ok {
		s.StateKey = &stateKey
	}
	return s
}

// AuthTypes selects the entries of the room state that an event has as auth events, as far as the state has them. No key
// comes twice; the create event, if selected, comes first.
//
// Spec: server-server-api#auth-events-selection
func AuthTypes(rules *roomversion.Rules, s Subject) []Key {
	if s.Type == event.TypeCreate {
		return nil
	}
	keys := make([]Key, 0, 6)
	add := func(eventType, stateKey string) {
		if key := (Key{eventType, stateKey}); !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	if !rules.RoomIDFromCreate {
		add(event.TypeCreate, "")
	}
	add(event.TypePowerLevels, "")
	add(event.TypeMember, s.Sender.String())
	if s.Type != event.TypeMember || s.StateKey == nil {
		return keys
	}
	add(event.TypeMember, *s.StateKey)
	membership, _ := canonicaljson.String(member(s.Content, "membership"))
	if membership == event.MembershipJoin || membership == event.MembershipInvite || membership == event.MembershipKnock {
		add(event.TypeJoinRules, "")
	}
	if membership == event.MembershipInvite {
		signed := member(member(s.Content, "third_party_invite"), "signed")
		if token, ok := canonicaljson.String(member(signed, "token")); ok {
			add(event.TypeThirdPartyInvite, token)
		}
	}
	if membership == event.MembershipJoin && rules.RestrictedJoins {
		if user, ok := canonicaljson.String(member(s.Content, "join_authorised_via_users_server")); ok {
			add(event.TypeMember, user)
		}
	}
	return keys
}

// CheckAuthEvents checks the auth events that an event names, as such: the rule "considering the event's auth_events". All
// of them are given, in any order.
//
// Allowed means only that this rule has nothing against the event; Rule is then the number of the whole rule.
//
// Spec: rooms/v1#authorisation-rules, rooms/v12#authorisation-rules
func CheckAuthEvents(ev *event.PDU, auth []AuthEvent) Verdict {
	c := newCheck(ev, nil)
	if ev.Type() == event.TypeCreate { // the rule on create events decides before this one is reached
		return c.allow(ruleCreate)
	}
	selected := AuthTypes(ev.Rules(), SubjectOf(ev))
	seen := make([]Key, 0, len(auth))
	for _, a := range auth {
		stateKey, isState := a.PDU.StateKey()
		key := Key{a.PDU.Type(), stateKey}
		if isState && slices.Contains(seen, key) {
			return c.rejectf(ruleAuthEventsDuplicate, "it names two auth events for %v", key)
		}
		seen = append(seen, key)
	}
	for _, a := range auth {
		stateKey, isState := a.PDU.StateKey()
		if key := (Key{a.PDU.Type(), stateKey}); !isState || !slices.Contains(selected, key) {
			return c.rejectf(ruleAuthEventsNotSelected, "the auth event %s %v has no part in authorising it", a.PDU.EventID(), key)
		}
	}
	for _, a := range auth {
		if a.Rejected {
			return c.rejectf(ruleAuthEventsRejected, "the auth event %s was rejected", a.PDU.EventID())
		}
	}
	if !ev.Rules().RoomIDFromCreate && !slices.Contains(seen, Key{Type: event.TypeCreate}) {
		return c.reject(ruleAuthEventsNoCreate, "no auth event is a create event")
	}
	for _, a := range auth {
		if a.PDU.RoomID() != ev.RoomID() {
			return c.rejectf(ruleAuthEventsOtherRoom, "the auth event %s is of room %s", a.PDU.EventID(), a.PDU.RoomID())
		}
	}
	return c.allow(ruleAuthEvents)
}
