package eventauth

import (
	"slices"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/id"
)

// checkMember is the rule on m.room.member.
//
// Spec: rooms/v1#authorisation-rules, rooms/v7#authorisation-rules, rooms/v8#authorisation-rules,
// rooms/v12#authorisation-rules
func (c *check) checkMember() Verdict {
	rules, content := c.ev.Rules(), c.ev.Content()
	target, ok := c.ev.StateKey()
	if !ok {
		return c.reject(ruleMemberMalformed, "a membership event needs a state key")
	}
	if canonicaljson.Get(content, "membership") == nil {
		return c.reject(ruleMemberMalformed, "the content has no membership")
	}
	if rules.RestrictedJoins {
		if authoriser := canonicaljson.Get(content, "join_authorised_via_users_server"); authoriser != nil {
			if verdict, ok := c.checkAuthorisedSignature(authoriser); !ok {
				return verdict
			}
		}
	}
	switch membership := c.ev.Membership(); {
	case membership == event.MembershipJoin:
		return c.checkJoin(target)
	case membership == event.MembershipInvite:
		return c.checkInvite(target)
	case membership == event.MembershipLeave:
		return c.checkLeave(target)
	case membership == event.MembershipBan:
		return c.checkBan(target)
	case membership == event.MembershipKnock && rules.Knocking:
		return c.checkKnock(target)
	default:
		return c.rejectf(ruleMembershipUnknown, "the membership %q is not known", membership)
	}
}

// checkAuthorisedSignature looks whether the authorising user's server has signed. That the signature is valid was found
// out with the event's other signatures.
//
// Spec: server-server-api#validating-hashes-and-signatures-on-received-events
func (c *check) checkAuthorisedSignature(authoriser []byte) (Verdict, bool) {
	name, _ := canonicaljson.String(authoriser)
	user, err := id.ParseUserID(name)
	if err != nil {
		return c.rejectf(ruleMemberAuthorisedUnsigned, "join_authorised_via_users_server: %v", err), false
	}
	if len(c.ev.SignedBy(user.ServerName())) == 0 {
		return c.rejectf(ruleMemberAuthorisedUnsigned, "%s, whose user %s authorises the join, has not signed",
			user.ServerName(), user), false
	}
	return Verdict{}, true
}

// joinRule returns the room's join rule. A room without one is joined by invitation.
//
// Spec: client-server-api#mroomjoin_rules
func (c *check) joinRule() string {
	pdu := c.entry(event.TypeJoinRules, "")
	if pdu == nil {
		return event.JoinRuleInvite
	}
	rules, err := pdu.JoinRules()
	if err != nil {
		return ""
	}
	return rules.JoinRule
}

func (c *check) checkJoin(target string) Verdict {
	sender := c.ev.Sender().String()
	if prev := c.ev.PrevEvents(); len(prev) == 1 && prev[0] == c.create.EventID() && target != "" && target == roomCreator(c.create) {
		return c.allow(ruleJoinCreator)
	}
	if sender != target {
		return c.rejectf(ruleJoinNotSelf, "%s cannot join for %s", sender, target)
	}
	membership := c.membership(sender)
	if membership == event.MembershipBan {
		return c.reject(ruleJoinBanned, "the user is banned")
	}
	rules, joinRule := c.ev.Rules(), c.joinRule()
	invited := membership == event.MembershipInvite || membership == event.MembershipJoin
	switch {
	case joinRule == event.JoinRuleInvite, joinRule == event.JoinRuleKnock && rules.Knocking:
		if invited {
			return c.allow(ruleJoinInvited)
		}
	case joinRule == event.JoinRuleRestricted && rules.RestrictedJoins,
		joinRule == event.JoinRuleKnockRestricted && rules.KnockRestrictedJoins:
		if invited {
			return c.allow(ruleJoinRestrictedInvited)
		}
		return c.checkAuthoriser()
	case joinRule == event.JoinRulePublic:
		return c.allow(ruleJoinPublic)
	}
	return c.rejectf(ruleJoinReject, "the join rule is %q and the user's membership %q", joinRule, membership)
}

// checkAuthoriser looks whether the user who lets another join a restricted room may do so.
func (c *check) checkAuthoriser() Verdict {
	name, _ := canonicaljson.String(canonicaljson.Get(c.ev.Content(), "join_authorised_via_users_server"))
	user, err := id.ParseUserID(name)
	if err != nil {
		return c.reject(ruleJoinRestrictedAuthoriser, "the room is restricted, and no user of it authorises the join")
	}
	if m := c.membership(name); m != event.MembershipJoin {
		return c.rejectf(ruleJoinRestrictedAuthoriser, "%s, who authorises the join, is not in the room (membership %q)", user, m)
	}
	if have, need := c.level(user), c.powers().Invite(); have < need {
		return c.rejectf(ruleJoinRestrictedAuthoriser,
			"%s, who authorises the join, has power level %v, inviting needs %v", user, have, need)
	}
	return c.allow(ruleJoinRestrictedAllow)
}

func (c *check) checkInvite(target string) Verdict {
	if invite := canonicaljson.Get(c.ev.Content(), "third_party_invite"); invite != nil {
		return c.checkThirdPartyInvite(target, invite)
	}
	if m := c.membership(c.ev.Sender().String()); m != event.MembershipJoin {
		return c.rejectf(ruleInviteSenderNotJoined, "the sender is not in the room (membership %q)", m)
	}
	if m := c.membership(target); m == event.MembershipJoin || m == event.MembershipBan {
		return c.rejectf(ruleInviteTargetMember, "the membership of %s is %q", target, m)
	}
	if have, need := c.level(c.ev.Sender()), c.powers().Invite(); have < need {
		return c.rejectf(ruleInviteReject, "the sender has power level %v, inviting needs %v", have, need)
	}
	return c.allow(ruleInviteAllow)
}

// checkThirdPartyInvite is the rule on invitations by third-party identifier.
//
// Spec: rooms/v1#authorisation-rules, client-server-api#third-party-invites
func (c *check) checkThirdPartyInvite(target string, invite []byte) Verdict {
	if c.membership(target) == event.MembershipBan {
		return c.rejectf(ruleInvite3PIDBanned, "%s is banned", target)
	}
	signed := member(invite, "signed")
	if signed == nil {
		return c.reject(ruleInvite3PIDNoSigned, "the third-party invite has no signed part")
	}
	userID, okUser := canonicaljson.String(member(signed, "mxid"))
	token, okToken := canonicaljson.String(member(signed, "token"))
	if !okUser || !okToken {
		return c.reject(ruleInvite3PIDMalformed, "the signed part of the third-party invite needs mxid and token")
	}
	if userID != target {
		return c.rejectf(ruleInvite3PIDOtherTarget, "the third-party invite is for %q, not for %q", userID, target)
	}
	issued := c.entry(event.TypeThirdPartyInvite, token)
	if issued == nil {
		return c.rejectf(ruleInvite3PIDNoToken, "the room has no third-party invite with token %q", token)
	}
	if issued.Sender() != c.ev.Sender() {
		return c.rejectf(ruleInvite3PIDOtherSender, "the third-party invite was issued by %s", issued.Sender())
	}
	keys := publicKeys(issued)
	if slices.ContainsFunc(keys, func(key []byte) bool { return signedBy(signed, key) }) {
		return c.allow(ruleInvite3PIDSigned)
	}
	return c.rejectf(ruleInvite3PIDReject,
		"none of the %d public keys of the third-party invite has signed it", len(keys))
}

func (c *check) checkLeave(target string) Verdict {
	sender := c.ev.Sender()
	own := c.membership(sender.String())
	if sender.String() == target {
		if own == event.MembershipInvite || own == event.MembershipJoin || own == event.MembershipKnock && c.ev.Rules().Knocking {
			return c.allow(ruleLeaveSelf)
		}
		return c.rejectf(ruleLeaveSelf, "the user is not in the room (membership %q)", own)
	}
	if own != event.MembershipJoin {
		return c.rejectf(ruleLeaveSenderNotJoined, "the sender is not in the room (membership %q)", own)
	}
	have := c.level(sender)
	if need := c.powers().Ban(); c.membership(target) == event.MembershipBan && have < need {
		return c.rejectf(ruleLeaveUnban, "the sender has power level %v, lifting a ban needs %v", have, need)
	}
	if need := c.powers().Kick(); have < need {
		return c.rejectf(ruleLeaveReject, "the sender has power level %v, kicking needs %v", have, need)
	}
	if theirs := c.powers().user(target); theirs >= have {
		return c.rejectf(ruleLeaveReject, "the sender has power level %v, %s has %v", have, target, theirs)
	}
	return c.allow(ruleLeaveKick)
}

func (c *check) checkBan(target string) Verdict {
	sender := c.ev.Sender()
	if m := c.membership(sender.String()); m != event.MembershipJoin {
		return c.rejectf(ruleBanSenderNotJoined, "the sender is not in the room (membership %q)", m)
	}
	have := c.level(sender)
	if need := c.powers().Ban(); have < need {
		return c.rejectf(ruleBanReject, "the sender has power level %v, banning needs %v", have, need)
	}
	if theirs := c.powers().user(target); theirs >= have {
		return c.rejectf(ruleBanReject, "the sender has power level %v, %s has %v", have, target, theirs)
	}
	return c.allow(ruleBanAllow)
}

func (c *check) checkKnock(target string) Verdict {
	rules, joinRule := c.ev.Rules(), c.joinRule()
	if joinRule != event.JoinRuleKnock && !(joinRule == event.JoinRuleKnockRestricted && rules.KnockRestrictedJoins) {
		return c.rejectf(ruleKnockJoinRule, "the join rule is %q", joinRule)
	}
	sender := c.ev.Sender().String()
	if sender != target {
		return c.rejectf(ruleKnockNotSelf, "%s cannot knock for %s", sender, target)
	}
	switch m := c.membership(sender); m {
	case event.MembershipBan, event.MembershipInvite, event.MembershipJoin:
		return c.rejectf(ruleKnockReject, "the user's membership is %q", m)
	}
	return c.allow(ruleKnockAllow)
}

// roomCreator returns the user who may join first.
//
// Spec: rooms/v11#remove-the-creator-property-of-mroomcreate-events
func roomCreator(create *event.PDU) string {
	content, err := create.Create()
	if err != nil {
		return ""
	}
	return content.Creator.String()
}

// member returns the value of a key of what may be no object; nil if there is none.
func member(object []byte, key string) []byte {
	if !canonicaljson.IsObject(object) {
		return nil
	}
	return canonicaljson.Get(object, key)
}
