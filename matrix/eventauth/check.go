package eventauth

import (
	"strings"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/roomversion"
)

// Check checks an event against a state, by all rules but those on the event's auth events as such, for which there is
// CheckAuthEvents. The error is a fault of the state, never a verdict.
//
// The state must be able to return the create event, also where the room ID is made of it and auth events do not hold it.
// Signatures are the caller's to verify before; Check only looks whether the server of join_authorised_via_users_server has
// put one on the event.
//
// Spec: server-server-api#authorisation-rules
func Check(ev *event.PDU, state State) (Verdict, error) {
	c := newCheck(ev, state)
	verdict := c.run()
	if c.fault != nil {
		return Verdict{}, c.fault
	}
	return verdict, nil
}

// run goes through the rules in their order.
func (c *check) run() Verdict {
	rules := c.ev.Rules()
	if c.ev.Type() == event.TypeCreate {
		return c.checkCreate()
	}
	if verdict, ok := c.findCreate(); !ok {
		return verdict
	}
	if create, err := c.create.Create(); err == nil && !create.Federate &&
		c.ev.Sender().ServerName() != c.create.Sender().ServerName() {
		return c.reject(ruleFederate, "the room is not federated, and the sender is on another server than the room's creator")
	}
	if c.ev.Type() == event.TypeAliases && rules.AliasesAuthRule {
		return c.checkAliases()
	}
	if c.ev.Type() == event.TypeMember {
		return c.checkMember()
	}
	if m := c.membership(c.ev.Sender().String()); m != event.MembershipJoin {
		return c.rejectf(ruleSenderNotJoined, "the sender is not in the room (membership %q)", m)
	}
	if c.ev.Type() == event.TypeThirdPartyInvite {
		if have, need := c.level(c.ev.Sender()), c.powers().Invite(); have < need {
			return c.rejectf(rule3PIDInviteLevel, "the sender has power level %v, inviting needs %v", have, need)
		}
		return c.allow(rule3PIDInviteLevel)
	}
	stateKey, isState := c.ev.StateKey()
	if have, need := c.level(c.ev.Sender()), c.powers().Event(c.ev.Type(), isState); have < need {
		return c.rejectf(ruleRequiredLevel, "the sender has power level %v, sending %s needs %v", have, c.ev.Type(), need)
	}
	if strings.HasPrefix(stateKey, "@") && stateKey != c.ev.Sender().String() {
		return c.rejectf(ruleStateKeyOfOther, "the state key %q is another user's", stateKey)
	}
	if c.ev.Type() == event.TypePowerLevels {
		return c.checkPowerLevels()
	}
	if c.ev.Type() == event.TypeRedaction && rules.RedactionAuthRule {
		return c.checkRedaction()
	}
	return c.allow(ruleAllow)
}

// checkCreate is the rule on m.room.create.
//
// Spec: rooms/v1#authorisation-rules, rooms/v11#authorisation-rules, rooms/v12#authorisation-rules
func (c *check) checkCreate() Verdict {
	rules := c.ev.Rules()
	if len(c.ev.PrevEvents()) > 0 {
		return c.reject(ruleCreateHasPrevEvents, "a create event has no previous events")
	}
	if rules.RoomIDFromCreate {
		if c.ev.HasRoomID() {
			return c.reject(ruleCreateRoomID, "a create event of this room version has no room_id")
		}
	} else if room, sender := c.ev.RoomID().ServerName(), c.ev.Sender().ServerName(); room != sender {
		return c.rejectf(ruleCreateRoomID, "the room ID is of server %s, the sender of %s", room, sender)
	}
	content := c.ev.Content()
	if version := canonicaljson.Get(content, "room_version"); version != nil {
		name, _ := canonicaljson.String(version)
		if _, known := roomversion.Of(name); !known {
			return c.rejectf(ruleCreateUnknownVersion, "room version %s is not known", version)
		}
	}
	if !rules.CreatorIsSender && canonicaljson.Get(content, "creator") == nil {
		return c.reject(ruleCreateNoCreator, "the content has no creator")
	}
	if rules.CreatorsPrivileged {
		if _, err := c.ev.Create(); err != nil {
			return c.rejectf(ruleCreateAdditionalCreators, "%v", err)
		}
	}
	return c.allow(ruleCreateAllow)
}

// findCreate finds the room's create event. Without one, nothing is allowed.
func (c *check) findCreate() (Verdict, bool) {
	c.create = c.entry(event.TypeCreate, "")
	if c.ev.Rules().RoomIDFromCreate {
		if c.create == nil {
			return c.reject(ruleRoomID, "the room ID is not that of an accepted create event"), false
		}
		if c.create.RoomID() != c.ev.RoomID() {
			return c.rejectf(ruleRoomID, "the room ID is not that of the create event %s", c.create.EventID()), false
		}
		return Verdict{}, true
	}
	if c.create == nil {
		return c.reject(ruleAuthEventsNoCreate, "the room has no create event"), false
	}
	return Verdict{}, true
}

// checkAliases is the rule on m.room.aliases of early room versions.
//
// Spec: rooms/v1#authorisation-rules
func (c *check) checkAliases() Verdict {
	stateKey, ok := c.ev.StateKey()
	if !ok {
		return c.reject(ruleAliasesNoStateKey, "an aliases event needs a state key")
	}
	if stateKey != c.ev.Sender().ServerName().String() {
		return c.rejectf(ruleAliasesOtherDomain, "the state key %q is not the sender's server", stateKey)
	}
	return c.allow(ruleAliasesAllow)
}

// checkRedaction is the rule on m.room.redaction of early room versions.
//
// Spec: rooms/v1#authorisation-rules
func (c *check) checkRedaction() Verdict {
	have, need := c.level(c.ev.Sender()), c.powers().Redact()
	if have >= need {
		return c.allow(ruleRedactionLevel)
	}
	if domain := c.ev.Redacts().ServerName(); !domain.IsZero() && domain == c.ev.EventID().ServerName() {
		return c.allow(ruleRedactionDomain)
	}
	return c.rejectf(ruleRedactionReject,
		"the sender has power level %v, redacting events of other servers needs %v", have, need)
}
