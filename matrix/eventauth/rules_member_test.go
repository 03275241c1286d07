package eventauth

import (
	"testing"

	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/roomversion"
	"stoa/matrix/signing"
)

func knocking(r *roomversion.Rules) bool        { return r.Knocking }
func knockRestricted(r *roomversion.Rules) bool { return r.KnockRestrictedJoins }

// invited puts an invitation by carol into the state.
func (f *fixture) invited(users ...string) {
	f.t.Helper()
	for _, user := range users {
		f.set(event.TypeMember, user, carol, object{"membership": "invite"})
	}
}

// authorised builds a join that an authoriser's server has signed too.
func (f *fixture) authorised(user, authoriser string) *event.PDU {
	f.t.Helper()
	pdu := f.build(event.TypeMember, &user, user, object{
		"membership": "join", "join_authorised_via_users_server": authoriser,
	})
	return must(pdu.Sign(signer(f.t, must(id.ParseUserID(authoriser))(f.t).ServerName())))(f.t)
}

func joinCases() []ruleCase {
	firstJoin := func(f *fixture, sender, target string) *event.PDU {
		delete(f.state, Key{event.TypeMember, carol})
		f.prev = []id.EventID{f.state[Key{Type: event.TypeCreate}].EventID()}
		return f.member(sender, target, "join")
	}
	var cases []ruleCase
	refuse := func(name, joinRule, membership string, when func(*roomversion.Rules) bool) {
		cases = append(cases, ruleCase{rule: ruleJoinReject, says: "Otherwise, reject", name: name, when: when,
			make: func(f *fixture) *event.PDU {
				f.joinRule(joinRule)
				if membership != "" {
					f.set(event.TypeMember, alice, alice, object{"membership": membership})
				}
				return f.member(alice, alice, "join")
			}})
	}
	refuse("a stranger where people are invited", "invite", "", nil)
	refuse("somebody who left where people are invited", "invite", "leave", nil)
	refuse("somebody who knocked where people are invited", "invite", "knock", knocking)
	refuse("a stranger where people knock", "knock", "", knocking)
	refuse("somebody who knocked and was not answered", "knock", "knock", knocking)
	refuse("a stranger in a private room", "private", "", nil)
	refuse("a stranger under an unknown join rule", "example.rule", "", nil)
	refuse("somebody invited under an unknown join rule", "example.rule", "invite", nil)
	refuse("somebody invited by a knock rule that the version lacks", "knock", "invite", not(knocking))
	refuse("somebody invited by a restricted rule that the version lacks", "restricted", "invite", not(restrictedJoins))
	refuse("somebody invited by a knock_restricted rule that the version lacks", "knock_restricted", "invite", not(knockRestricted))

	restricted := func(rule rule, allow bool, says, name string, make func(f *fixture) *event.PDU) {
		for joinRule, when := range map[string]func(*roomversion.Rules) bool{
			"restricted": restrictedJoins, "knock_restricted": knockRestricted,
		} {
			cases = append(cases, ruleCase{rule: rule, says: says, allow: allow, name: name + " where joining is " + joinRule,
				when: when, make: func(f *fixture) *event.PDU {
					f.joinRule(joinRule)
					return make(f)
				}})
		}
	}
	restricted(ruleJoinRestrictedInvited, true, "membership state is `join` or `invite`, allow", "somebody invited",
		func(f *fixture) *event.PDU {
			f.invited(alice)
			return f.member(alice, alice, "join")
		})
	restricted(ruleJoinRestrictedInvited, true, "membership state is `join` or `invite`, allow", "a member's new name",
		func(f *fixture) *event.PDU {
			f.join(alice)
			return f.build(event.TypeMember, ptr(alice), alice, object{"membership": "join", "displayname": "A"})
		})
	restricted(ruleJoinRestrictedAuthoriser, false, "sufficient permission to invite", "nobody's authority",
		func(f *fixture) *event.PDU { return f.member(alice, alice, "join") })
	restricted(ruleJoinRestrictedAuthoriser, false, "sufficient permission to invite", "the authority of a user who is not in the room",
		func(f *fixture) *event.PDU { return f.authorised(alice, bob) })
	restricted(ruleJoinRestrictedAuthoriser, false, "sufficient permission to invite", "the authority of a user who may not invite",
		func(f *fixture) *event.PDU {
			f.join(bob)
			f.levels(object{"invite": 10}, bob, 9)
			return f.authorised(alice, bob)
		})
	restricted(ruleJoinRestrictedAllow, true, "Otherwise, allow", "the authority of a user who may invite",
		func(f *fixture) *event.PDU {
			f.join(bob)
			f.levels(object{"invite": 10}, bob, 10)
			return f.authorised(alice, bob)
		})

	return append(cases,
		ruleCase{rule: ruleMemberMalformed, says: "no `membership` property", name: "a membership without state key",
			make: func(f *fixture) *event.PDU {
				return f.build(event.TypeMember, nil, carol, object{"membership": "join"})
			}},
		ruleCase{rule: ruleMemberMalformed, says: "no `membership` property", name: "content without membership",
			make: func(f *fixture) *event.PDU { return f.build(event.TypeMember, ptr(carol), carol, object{}) }},
		ruleCase{rule: ruleMembershipUnknown, says: "the membership is unknown", name: "an unknown membership",
			make: func(f *fixture) *event.PDU { return f.member(carol, carol, "example") }},
		ruleCase{rule: ruleMembershipUnknown, says: "the membership is unknown", name: "a membership that is no string",
			make: func(f *fixture) *event.PDU {
				return f.build(event.TypeMember, ptr(carol), carol, object{"membership": 1})
			}},
		ruleCase{rule: ruleMembershipUnknown, says: "the membership is unknown", name: "a knock", when: not(knocking),
			make: func(f *fixture) *event.PDU {
				f.joinRule("knock")
				return f.member(alice, alice, "knock")
			}},

		ruleCase{rule: ruleMemberAuthorisedUnsigned, says: "not validly signed", name: "a join without the authoriser's signature",
			make: func(f *fixture) *event.PDU {
				f.joinRule("restricted")
				f.join(bob)
				return f.build(event.TypeMember, ptr(alice), alice,
					object{"membership": "join", "join_authorised_via_users_server": bob})
			}},
		ruleCase{rule: ruleMemberAuthorisedUnsigned, says: "not validly signed", name: "a leave without the authoriser's signature",
			make: func(f *fixture) *event.PDU {
				return f.build(event.TypeMember, ptr(carol), carol,
					object{"membership": "leave", "join_authorised_via_users_server": bob})
			}},
		ruleCase{rule: ruleMemberAuthorisedUnsigned, says: "not validly signed", name: "an authoriser that is no user",
			make: func(f *fixture) *event.PDU {
				return f.build(event.TypeMember, ptr(carol), carol,
					object{"membership": "join", "join_authorised_via_users_server": 1})
			}},

		ruleCase{rule: ruleJoinCreator, says: "only previous event is an `m.room.create`", allow: true, name: "the creator's first join",
			make: func(f *fixture) *event.PDU { return firstJoin(f, carol, carol) }},
		ruleCase{rule: ruleJoinCreator, says: "only previous event is an `m.room.create`", allow: true,
			name: "the creator that the content names",
			when: func(r *roomversion.Rules) bool { return !r.CreatorIsSender }, create: object{},
			make: func(f *fixture) *event.PDU {
				f.prev = nil
				f.set(event.TypeCreate, "", carol, object{"creator": dora, "room_version": f.rules.Version})
				return firstJoin(f, dora, dora)
			}},
		ruleCase{rule: ruleJoinReject, says: "Otherwise, reject", name: "somebody else as the first to join",
			make: func(f *fixture) *event.PDU { return firstJoin(f, alice, alice) }},
		ruleCase{rule: ruleJoinReject, says: "Otherwise, reject", name: "an additional creator as the first to join",
			create: object{"additional_creators": []any{dora}},
			make:   func(f *fixture) *event.PDU { return firstJoin(f, dora, dora) }},
		ruleCase{rule: ruleJoinReject, says: "Otherwise, reject", name: "the creator's join with two previous events",
			make: func(f *fixture) *event.PDU {
				delete(f.state, Key{event.TypeMember, carol})
				f.prev = append(f.prev, f.state[Key{Type: event.TypeCreate}].EventID())
				return f.member(carol, carol, "join")
			}},
		ruleCase{rule: ruleJoinNotSelf, says: "`sender` does not match `state_key`", name: "joining for another",
			make: func(f *fixture) *event.PDU {
				f.joinRule("public")
				return f.member(carol, alice, "join")
			}},
		ruleCase{rule: ruleJoinBanned, says: "is banned", name: "somebody banned",
			make: func(f *fixture) *event.PDU {
				f.joinRule("public")
				f.set(event.TypeMember, alice, carol, object{"membership": "ban"})
				return f.member(alice, alice, "join")
			}},
		ruleCase{rule: ruleJoinInvited, says: "allow if membership state is `invite` or `join`", allow: true, name: "somebody invited",
			make: func(f *fixture) *event.PDU {
				f.joinRule("invite")
				f.invited(alice)
				return f.member(alice, alice, "join")
			}},
		ruleCase{rule: ruleJoinInvited, says: "allow if membership state is `invite` or `join`", allow: true,
			name: "somebody invited in a room without join rules", make: func(f *fixture) *event.PDU {
				f.invited(alice)
				return f.member(alice, alice, "join")
			}},
		ruleCase{rule: ruleJoinInvited, says: "allow if membership state is `invite` or `join`", allow: true,
			name: "a member's new name", make: func(f *fixture) *event.PDU {
				f.joinRule("invite")
				f.join(alice)
				return f.build(event.TypeMember, ptr(alice), alice, object{"membership": "join", "displayname": "A"})
			}},
		ruleCase{rule: ruleJoinInvited, says: "allow if membership state is `invite` or `join`", allow: true,
			name: "somebody invited where people knock", when: knocking, make: func(f *fixture) *event.PDU {
				f.joinRule("knock")
				f.invited(alice)
				return f.member(alice, alice, "join")
			}},
		ruleCase{rule: ruleJoinPublic, says: "`join_rule` is `public`", allow: true, name: "anybody in a public room",
			make: func(f *fixture) *event.PDU {
				f.joinRule("public")
				return f.member(alice, alice, "join")
			}},
		ruleCase{rule: ruleJoinReject, says: "Otherwise, reject", name: "a stranger in a room without join rules",
			make: func(f *fixture) *event.PDU { return f.member(alice, alice, "join") }},
	)
}

func inviteCases() []ruleCase {
	const bySender, byTarget = "`sender`'s current membership state is not `join`", "current membership state is `join` or `ban`"
	return []ruleCase{
		{rule: ruleInviteSenderNotJoined, says: bySender, name: "an invitation by a stranger",
			make: func(f *fixture) *event.PDU { return f.member(alice, bob, "invite") }},
		{rule: ruleInviteTargetMember, says: byTarget, name: "inviting a member",
			make: func(f *fixture) *event.PDU {
				f.join(alice)
				return f.member(carol, alice, "invite")
			}},
		{rule: ruleInviteTargetMember, says: byTarget, name: "inviting somebody banned",
			make: func(f *fixture) *event.PDU {
				f.set(event.TypeMember, alice, carol, object{"membership": "ban"})
				return f.member(carol, alice, "invite")
			}},
		{rule: ruleInviteAllow, says: "greater than or equal to the *invite level*, allow", allow: true,
			name: "an invitation with the invite level", make: func(f *fixture) *event.PDU {
				f.join(alice)
				f.levels(object{"invite": 10}, alice, 10)
				return f.member(alice, bob, "invite")
			}},
		{rule: ruleInviteAllow, says: "greater than or equal to the *invite level*, allow", allow: true,
			name: "an invitation at the default level of 0", make: func(f *fixture) *event.PDU {
				f.join(alice)
				f.levels(nil)
				return f.member(alice, bob, "invite")
			}},
		{rule: ruleInviteAllow, says: "greater than or equal to the *invite level*, allow", allow: true,
			name: "inviting somebody again", make: func(f *fixture) *event.PDU {
				f.invited(alice)
				return f.member(carol, alice, "invite")
			}},
		{rule: ruleInviteReject, says: "Otherwise, reject", name: "an invitation without power",
			make: func(f *fixture) *event.PDU {
				f.join(alice)
				f.levels(object{"invite": 10}, alice, 9)
				return f.member(alice, bob, "invite")
			}},
	}
}

func thirdPartyCases() []ruleCase {
	redeem := func(f *fixture, content object) *event.PDU {
		return f.build(event.TypeMember, ptr(bob), alice, content)
	}
	third := func(content object) object { return content["third_party_invite"].(object) }
	const malformed = "does not have `mxid` and `token`"
	withKey := func(keys func(key string) object) func(f *fixture) *event.PDU {
		return func(f *fixture) *event.PDU { return redeem(f, f.thirdParty("token", keys, nil)) }
	}
	return []ruleCase{
		{rule: ruleInvite3PIDBanned, says: "*target user* is banned", name: "redeeming for somebody banned",
			make: func(f *fixture) *event.PDU {
				f.set(event.TypeMember, bob, carol, object{"membership": "ban"})
				return redeem(f, f.thirdParty("token", oneKey, nil))
			}},
		{rule: ruleInvite3PIDNoSigned, says: "does not have a `signed` property", name: "a third-party invite without signed part",
			make: func(f *fixture) *event.PDU {
				content := f.thirdParty("token", oneKey, nil)
				delete(third(content), "signed")
				return redeem(f, content)
			}},
		{rule: ruleInvite3PIDNoSigned, says: "does not have a `signed` property", name: "a third-party invite that is no object",
			make: func(f *fixture) *event.PDU {
				return redeem(f, object{"membership": "invite", "third_party_invite": "token"})
			}},
		{rule: ruleInvite3PIDMalformed, says: malformed, name: "a signed part without mxid", make: func(f *fixture) *event.PDU {
			return redeem(f, f.thirdParty("token", oneKey, func(signed object) { delete(signed, "mxid") }))
		}},
		{rule: ruleInvite3PIDMalformed, says: malformed, name: "a signed part without token", make: func(f *fixture) *event.PDU {
			return redeem(f, f.thirdParty("token", oneKey, func(signed object) { delete(signed, "token") }))
		}},
		{rule: ruleInvite3PIDMalformed, says: malformed, name: "a signed part that is no object", make: func(f *fixture) *event.PDU {
			content := f.thirdParty("token", oneKey, nil)
			third(content)["signed"] = "token"
			return redeem(f, content)
		}},
		{rule: ruleInvite3PIDOtherTarget, says: "`mxid` does not match", name: "redeeming for another user",
			make: func(f *fixture) *event.PDU {
				return f.build(event.TypeMember, ptr(zoe), alice, f.thirdParty("token", oneKey, nil))
			}},
		{rule: ruleInvite3PIDNoToken, says: "no `m.room.third_party_invite` event", name: "redeeming a token that nobody issued",
			make: func(f *fixture) *event.PDU {
				content := f.thirdParty("token", oneKey, nil)
				delete(f.state, Key{event.TypeThirdPartyInvite, "token"})
				return redeem(f, content)
			}},
		{rule: ruleInvite3PIDOtherSender, says: "`sender` does not match `sender`", name: "redeeming what another issued",
			make: func(f *fixture) *event.PDU {
				return f.build(event.TypeMember, ptr(bob), carol, f.thirdParty("token", oneKey, nil))
			}},
		{rule: ruleInvite3PIDSigned, says: "any signature in `signed` matches", allow: true, name: "a signature by public_key",
			make: withKey(oneKey)},
		{rule: ruleInvite3PIDSigned, says: "any signature in `signed` matches", allow: true, name: "a signature by one of public_keys",
			make: withKey(func(key string) object {
				return object{"public_key": "nonsense", "public_keys": []any{"nonsense", object{}, object{"public_key": key}}}
			})},
		{rule: ruleInvite3PIDSigned, says: "any signature in `signed` matches", allow: true, name: "a key in URL-safe Base64",
			make: withKey(func(key string) object {
				raw, err := signing.ParseBase64(key)
				if err != nil {
					panic(err)
				}
				return oneKey(raw.URLSafe())
			})},
		{rule: ruleInvite3PIDSigned, says: "any signature in `signed` matches", allow: true, name: "a signature among nonsense",
			make: func(f *fixture) *event.PDU {
				return redeem(f, f.thirdParty("token", oneKey, func(signed object) {
					signatures := signed["signatures"].(object)
					signatures["a"] = "nonsense"
					signatures["b"] = object{"ed25519:1": 1, "nonsense": "x", "ed25519:2": "x"}
					signed["unsigned"] = object{"ignored": true}
				}))
			}},
		{rule: ruleInvite3PIDReject, says: "Otherwise, reject", name: "a signed part that was changed",
			make: func(f *fixture) *event.PDU {
				return redeem(f, f.thirdParty("token", oneKey, func(signed object) { signed["more"] = 1 }))
			}},
		{rule: ruleInvite3PIDReject, says: "Otherwise, reject", name: "a signed part without signatures",
			make: func(f *fixture) *event.PDU {
				return redeem(f, f.thirdParty("token", oneKey, func(signed object) { delete(signed, "signatures") }))
			}},
		{rule: ruleInvite3PIDReject, says: "Otherwise, reject", name: "a signature by a key that the room does not know",
			make: withKey(func(string) object {
				return oneKey("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
			})},
		{rule: ruleInvite3PIDReject, says: "Otherwise, reject", name: "a signature where the room has no keys",
			make: withKey(func(string) object { return object{"display_name": "b..."} })},
	}
}

func leaveCases() []ruleCase {
	const self = "`sender` matches `state_key`, allow if and only if"
	var cases []ruleCase
	for membership, when := range map[string]func(*roomversion.Rules) bool{"join": nil, "invite": nil, "knock": knocking} {
		cases = append(cases, ruleCase{rule: ruleLeaveSelf, says: self, allow: true, name: "leaving after " + membership, when: when,
			make: func(f *fixture) *event.PDU {
				f.membership(alice, membership)
				return f.member(alice, alice, "leave")
			}})
	}
	for membership, when := range map[string]func(*roomversion.Rules) bool{"leave": nil, "ban": nil, "knock": not(knocking)} {
		cases = append(cases, ruleCase{rule: ruleLeaveSelf, says: self, name: "leaving after " + membership, when: when,
			make: func(f *fixture) *event.PDU {
				f.set(event.TypeMember, alice, carol, object{"membership": membership})
				return f.member(alice, alice, "leave")
			}})
	}
	kick := func(levels object, users ...any) func(f *fixture) *event.PDU {
		return func(f *fixture) *event.PDU {
			f.join(alice, bob)
			f.levels(levels, users...)
			return f.member(alice, bob, "leave")
		}
	}
	unban := func(levels object, users ...any) func(f *fixture) *event.PDU {
		return func(f *fixture) *event.PDU {
			f.join(alice)
			f.set(event.TypeMember, bob, carol, object{"membership": "ban"})
			f.levels(levels, users...)
			return f.member(alice, bob, "leave")
		}
	}
	const allow = "greater than or equal to the *kick level*"
	return append(cases,
		ruleCase{rule: ruleLeaveSelf, says: self, name: "leaving a room that one never was in",
			make: func(f *fixture) *event.PDU { return f.member(alice, alice, "leave") }},
		ruleCase{rule: ruleLeaveSenderNotJoined, says: "`sender`'s current membership state is not `join`", name: "a kick by a stranger",
			make: func(f *fixture) *event.PDU { return f.member(alice, carol, "leave") }},
		ruleCase{rule: ruleLeaveUnban, says: "less than the *ban level*", name: "lifting a ban without the ban level",
			make: unban(object{"ban": 60, "kick": 50}, alice, 59)},
		ruleCase{rule: ruleLeaveKick, says: allow, allow: true, name: "lifting a ban with ban and kick level",
			make: unban(object{"ban": 60, "kick": 50}, alice, 60)},
		ruleCase{rule: ruleLeaveReject, says: "Otherwise, reject", name: "lifting a ban without the kick level",
			make: unban(object{"ban": 40, "kick": 50}, alice, 45)},
		ruleCase{rule: ruleLeaveReject, says: "Otherwise, reject", name: "lifting the ban of an equal",
			make: unban(object{"ban": 40, "kick": 40}, alice, 45, bob, 45)},
		ruleCase{rule: ruleLeaveKick, says: allow, allow: true, name: "a kick with the default level of 50", make: kick(nil, alice, 50)},
		ruleCase{rule: ruleLeaveReject, says: "Otherwise, reject", name: "a kick below the default level of 50", make: kick(nil, alice, 49)},
		ruleCase{rule: ruleLeaveReject, says: "Otherwise, reject", name: "kicking an equal", make: kick(nil, alice, 60, bob, 60)},
		ruleCase{rule: ruleLeaveReject, says: "Otherwise, reject", name: "a creator kicking a creator", when: creatorsPrivileged,
			create: object{"additional_creators": []any{dora}}, make: func(f *fixture) *event.PDU {
				f.join(dora)
				return f.member(dora, carol, "leave")
			}},
		ruleCase{rule: ruleLeaveReject, says: "Otherwise, reject", name: "kicking a creator, however high one is",
			when: creatorsPrivileged, make: func(f *fixture) *event.PDU {
				f.join(alice)
				f.levels(nil, alice, 9007199254740991)
				return f.member(alice, carol, "leave")
			}},
		ruleCase{rule: ruleLeaveKick, says: allow, allow: true, name: "withdrawing an invitation",
			make: func(f *fixture) *event.PDU {
				f.invited(bob)
				return f.member(carol, bob, "leave")
			}},
	)
}

func banCases() []ruleCase {
	ban := func(levels object, users ...any) func(f *fixture) *event.PDU {
		return func(f *fixture) *event.PDU {
			f.join(alice, bob)
			f.levels(levels, users...)
			return f.member(alice, bob, "ban")
		}
	}
	return []ruleCase{
		{rule: ruleBanSenderNotJoined, says: "`sender`'s current membership state is not `join`", name: "a ban by a stranger",
			make: func(f *fixture) *event.PDU { return f.member(alice, carol, "ban") }},
		{rule: ruleBanAllow, says: "greater than or equal to the *ban level*", allow: true, name: "a ban with the default level of 50",
			make: ban(nil, alice, 50)},
		{rule: ruleBanAllow, says: "greater than or equal to the *ban level*", allow: true, name: "a ban of a stranger",
			make: func(f *fixture) *event.PDU { return f.member(carol, zoe, "ban") }},
		{rule: ruleBanReject, says: "Otherwise, reject", name: "a ban below the default level of 50", make: ban(nil, alice, 49)},
		{rule: ruleBanReject, says: "Otherwise, reject", name: "banning an equal", make: ban(nil, alice, 50, bob, 50)},
		{rule: ruleBanReject, says: "Otherwise, reject", name: "banning somebody whom users_default makes an equal",
			make: ban(object{"users_default": 50}, alice, 50)},
		{rule: ruleBanReject, says: "Otherwise, reject", name: "banning oneself", make: func(f *fixture) *event.PDU {
			return f.member(carol, carol, "ban")
		}},
	}
}

func knockCases() []ruleCase {
	knock := func(joinRule, membership string) func(f *fixture) *event.PDU {
		return func(f *fixture) *event.PDU {
			if joinRule != "" {
				f.joinRule(joinRule)
			}
			if membership != "" {
				f.set(event.TypeMember, alice, carol, object{"membership": membership})
			}
			return f.member(alice, alice, "knock")
		}
	}
	var cases []ruleCase
	for _, joinRule := range []string{"public", "invite", "restricted", "private", ""} {
		cases = append(cases, ruleCase{rule: ruleKnockJoinRule, says: "`join_rule` is anything other than",
			name: "knocking under join rule " + joinRule, make: knock(joinRule, "")})
	}
	for _, membership := range []string{"ban", "invite", "join"} {
		cases = append(cases, ruleCase{rule: ruleKnockReject, says: "Otherwise, reject",
			name: "knocking after " + membership, make: knock("knock", membership)})
	}
	for _, membership := range []string{"", "leave", "knock"} {
		cases = append(cases, ruleCase{rule: ruleKnockAllow, says: "is not `ban`, `invite`, or `join`, allow", allow: true,
			name: "knocking after " + membership, make: knock("knock", membership)})
	}
	return append(cases,
		ruleCase{rule: ruleKnockJoinRule, says: "`join_rule` is anything other than", when: not(knockRestricted),
			name: "knocking under join rule knock_restricted", make: knock("knock_restricted", "")},
		ruleCase{rule: ruleKnockAllow, says: "is not `ban`, `invite`, or `join`, allow", allow: true, when: knockRestricted,
			name: "knocking under join rule knock_restricted", make: knock("knock_restricted", "")},
		ruleCase{rule: ruleKnockNotSelf, says: "`sender` does not match `state_key`", name: "knocking for another",
			make: func(f *fixture) *event.PDU {
				f.joinRule("knock")
				return f.member(alice, bob, "knock")
			}},
	)
}

// TestAuthTypes checks the selection of auth events.
//
// Spec: server-server-api#auth-events-selection
func TestAuthTypes(t *testing.T) {
	t.Parallel()
	create, levels, joinRules := Key{Type: event.TypeCreate}, Key{Type: event.TypePowerLevels}, Key{Type: event.TypeJoinRules}
	member := func(user string) Key { return Key{event.TypeMember, user} }
	token := Key{event.TypeThirdPartyInvite, "token"}
	for _, c := range []struct {
		name      string
		eventType string
		stateKey  *string
		content   string
		want      []Key // without create event
		when      func(*roomversion.Rules) bool
	}{
		{"a message", "m.room.message", nil, `{}`, []Key{levels, member(alice)}, nil},
		{"the topic", "m.room.topic", ptr(""), `{}`, []Key{levels, member(alice)}, nil},
		{"membership that is no state", event.TypeMember, nil, `{"membership":"join"}`, []Key{levels, member(alice)}, nil},
		{"a join", event.TypeMember, ptr(alice), `{"membership":"join"}`, []Key{levels, member(alice), joinRules}, nil},
		{"a knock", event.TypeMember, ptr(alice), `{"membership":"knock"}`, []Key{levels, member(alice), joinRules}, nil},
		{"a leave", event.TypeMember, ptr(alice), `{"membership":"leave"}`, []Key{levels, member(alice)}, nil},
		{"a kick", event.TypeMember, ptr(bob), `{"membership":"leave"}`, []Key{levels, member(alice), member(bob)}, nil},
		{"a ban", event.TypeMember, ptr(bob), `{"membership":"ban"}`, []Key{levels, member(alice), member(bob)}, nil},
		{"an invitation", event.TypeMember, ptr(bob), `{"membership":"invite"}`,
			[]Key{levels, member(alice), member(bob), joinRules}, nil},
		{"a third-party invite", event.TypeMember, ptr(bob),
			`{"membership":"invite","third_party_invite":{"signed":{"token":"token"}}}`,
			[]Key{levels, member(alice), member(bob), joinRules, token}, nil},
		{"a join that names a third-party invite", event.TypeMember, ptr(alice),
			`{"membership":"join","third_party_invite":{"signed":{"token":"token"}}}`,
			[]Key{levels, member(alice), joinRules}, nil},
		{"a malformed third-party invite", event.TypeMember, ptr(bob), `{"membership":"invite","third_party_invite":[]}`,
			[]Key{levels, member(alice), member(bob), joinRules}, nil},
		{"an authorised join", event.TypeMember, ptr(alice),
			`{"membership":"join","join_authorised_via_users_server":"` + bob + `"}`,
			[]Key{levels, member(alice), joinRules, member(bob)}, restrictedJoins},
		{"an authorised join where there is no such thing", event.TypeMember, ptr(alice),
			`{"membership":"join","join_authorised_via_users_server":"` + bob + `"}`,
			[]Key{levels, member(alice), joinRules}, not(restrictedJoins)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, rules *roomversion.Rules) {
				if c.when != nil && !c.when(rules) {
					return
				}
				subject := Subject{
					Type: c.eventType, StateKey: c.stateKey, Sender: must(id.ParseUserID(alice))(t), Content: []byte(c.content),
				}
				want := map[Key]bool{}
				for _, key := range c.want {
					want[key] = true
				}
				if !rules.RoomIDFromCreate {
					want[create] = true
				}
				got := AuthTypes(rules, subject)
				for _, key := range got {
					if !want[key] {
						t.Errorf("%v is selected", key)
					}
				}
				if len(got) != len(want) {
					t.Errorf("want %d keys, got %v", len(want), got)
				}
			})
		})
	}
	if keys := AuthTypes(roomversion.All()[0], Subject{Type: event.TypeCreate, StateKey: ptr("")}); len(keys) != 0 {
		t.Errorf("a create event has auth events: %v", keys)
	}
}
