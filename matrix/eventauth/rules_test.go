package eventauth

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/roomversion"
)

// ruleCase is one promise about one line of the rules, in all room versions that have the line.
type ruleCase struct {
	rule rule
	// says is a part of the line's text on the pages of the specification, by which the number is checked.
	says  string
	allow bool
	// name completes "accepts …" or "refuses …".
	name string
	// when narrows the room versions further; nil for all that have the line.
	when func(*roomversion.Rules) bool
	// create is content of the create event besides what it must have.
	create object
	make   func(f *fixture) *event.PDU
	// auth makes a case of CheckAuthEvents: the auth events of what make returns.
	auth func(f *fixture) []AuthEvent
}

func (r ruleCase) title(number string) string {
	verb := "refuses"
	if r.allow {
		verb = "accepts"
	}
	return number + "_" + verb + "_" + strings.ReplaceAll(r.name, " ", "_")
}

// TestRules checks every numbered line of every room version, and that there is no line without a case.
func TestRules(t *testing.T) {
	t.Parallel()
	cases := allCases()
	each(t, func(t *testing.T, rules *roomversion.Rules) {
		numbers := numbersFor(rules)
		pages := readPages(t)[rules.Version]
		covered := map[rule]bool{}
		for _, c := range cases {
			number := numbers[c.rule]
			if number == "" || c.when != nil && !c.when(rules) {
				continue
			}
			covered[c.rule] = true
			if text := pages[number]; !strings.Contains(text, c.says) {
				t.Errorf("rule %s is %q on the page, not %q", number, text, c.says)
			}
			t.Run(c.title(number), func(t *testing.T) {
				t.Parallel()
				create := object{}
				for key, value := range c.create {
					create[key] = value
				}
				f := newFixtureWith(t, rules, create)
				ev := c.make(f)
				var verdict Verdict
				if c.auth != nil {
					verdict = CheckAuthEvents(ev, c.auth(f))
				} else {
					verdict = f.check(ev)
				}
				if verdict.Allowed != c.allow || verdict.Rule != number || verdict.Version != rules.Version {
					t.Fatalf("want rule %s, allowed %v; got %+v", number, c.allow, verdict)
				}
				if (verdict.Err() == nil) != c.allow || (verdict.Reason == "") != c.allow {
					t.Fatalf("verdict contradicts itself: %+v, error %v", verdict, verdict.Err())
				}
			})
		}
		for i, l := range book {
			parent := i+1 < len(book) && book[i+1].depth > l.depth
			if numbers[l.rule] != "" && !parent && !covered[l.rule] {
				t.Errorf("rule %s has no case: %s", numbers[l.rule], pages[numbers[l.rule]])
			}
		}
	})
}

// TestNumbers compares the numbers of each room version with those of its page.
func TestNumbers(t *testing.T) {
	t.Parallel()
	pages := readPages(t)
	each(t, func(t *testing.T, rules *roomversion.Rules) {
		page := pages[rules.Version]
		if len(page) == 0 {
			t.Fatal("no rules of this version in testdata")
		}
		ours := map[string]bool{}
		for _, number := range numbersFor(rules) {
			if number == "" {
				continue
			}
			ours[number] = true
			if page[number] == "" {
				t.Errorf("rule %s is not on the page", number)
			}
		}
		for number, text := range page {
			// The two places of public keys are numbered too, but are no rules.
			if !ours[number] && !strings.Contains(text, "public key") {
				t.Errorf("rule %s of the page is missing: %s", number, text)
			}
		}
	})
}

// readPages reads the numbered rules of all pages: version, number, text.
func readPages(t *testing.T) map[string]map[string]string {
	t.Helper()
	file, err := os.Open("testdata/rules.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	pages := map[string]map[string]string{}
	version := ""
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "# room version "); ok {
			version = name
			pages[version] = map[string]string{}
		} else if number, text, ok := strings.Cut(lines.Text(), " "); ok && number != "#" {
			pages[version][number] = text
		}
	}
	return pages
}

func not(f func(*roomversion.Rules) bool) func(*roomversion.Rules) bool {
	return func(r *roomversion.Rules) bool { return !f(r) }
}

func allCases() []ruleCase {
	var all []ruleCase
	for _, group := range [][]ruleCase{
		createCases(), authEventCases(), generalCases(), joinCases(), inviteCases(), thirdPartyCases(),
		leaveCases(), banCases(), knockCases(), powerLevelCases(), redactionCases(),
	} {
		all = append(all, group...)
	}
	return all
}

func createCases() []ruleCase {
	create := func(f *fixture, edit func(content object)) *event.PDU {
		content := object{"room_version": f.rules.Version, "creator": carol}
		if edit != nil {
			edit(content)
		}
		if f.rules.RoomIDFromCreate {
			f.roomID = id.RoomID{}
		}
		f.prev = nil
		return f.build(event.TypeCreate, ptr(""), carol, content)
	}
	return []ruleCase{
		{rule: ruleCreateHasPrevEvents, says: "has any `prev_events`", name: "a create event in the middle",
			make: func(f *fixture) *event.PDU {
				if f.rules.RoomIDFromCreate {
					f.roomID = id.RoomID{}
				}
				return f.build(event.TypeCreate, ptr(""), carol, object{"room_version": f.rules.Version, "creator": carol})
			}},
		{rule: ruleCreateRoomID, says: "domain of the `room_id`", name: "a room ID of another server", when: not(roomIDFromCreate),
			make: func(f *fixture) *event.PDU {
				f.roomID = must(id.ParseRoomID("!room:a.example"))(f.t)
				f.prev = nil
				return f.build(event.TypeCreate, ptr(""), carol, object{"room_version": f.rules.Version, "creator": carol})
			}},
		{rule: ruleCreateRoomID, says: "the event has a `room_id`", name: "a create event with a room ID", when: roomIDFromCreate,
			make: func(f *fixture) *event.PDU {
				f.prev = nil
				pdu := create(f, nil)
				raw := strings.Replace(string(pdu.Bytes()), `"sender"`, `"room_id":"`+pdu.RoomID().String()+`","sender"`, 1)
				return must(event.Load(f.rules, pdu.EventID(), []byte(raw)))(f.t)
			}},
		{rule: ruleCreateUnknownVersion, says: "not a recognised version", name: "an unknown room version",
			make: func(f *fixture) *event.PDU {
				return create(f, func(content object) { content["room_version"] = "example.unheard" })
			}},
		{rule: ruleCreateUnknownVersion, says: "not a recognised version", name: "a room version that is a number",
			make: func(f *fixture) *event.PDU {
				return create(f, func(content object) { content["room_version"] = 1 })
			}},
		{rule: ruleCreateNoCreator, says: "no `creator` property", name: "a create event without creator",
			make: func(f *fixture) *event.PDU {
				return create(f, func(content object) { delete(content, "creator") })
			}},
		{rule: ruleCreateAdditionalCreators, says: "`additional_creators`", name: "additional creators that are no array",
			make: func(f *fixture) *event.PDU {
				return create(f, func(content object) { content["additional_creators"] = alice })
			}},
		{rule: ruleCreateAdditionalCreators, says: "`additional_creators`", name: "an additional creator that is no user",
			make: func(f *fixture) *event.PDU {
				return create(f, func(content object) { content["additional_creators"] = []any{alice, "bob"} })
			}},
		{rule: ruleCreateAdditionalCreators, says: "`additional_creators`", name: "an additional creator that is no string",
			make: func(f *fixture) *event.PDU {
				return create(f, func(content object) { content["additional_creators"] = []any{alice, 1} })
			}},
		{rule: ruleCreateAllow, says: "Otherwise, allow", allow: true, name: "a create event",
			make: func(f *fixture) *event.PDU { return create(f, nil) }},
		{rule: ruleCreateAllow, says: "Otherwise, allow", allow: true, name: "a create event without room version",
			make: func(f *fixture) *event.PDU {
				return create(f, func(content object) { delete(content, "room_version") })
			}},
		{rule: ruleCreateAllow, says: "Otherwise, allow", allow: true, name: "a create event without creator",
			when: func(r *roomversion.Rules) bool { return r.CreatorIsSender },
			make: func(f *fixture) *event.PDU {
				return create(f, func(content object) { delete(content, "creator") })
			}},
		{rule: ruleCreateAllow, says: "Otherwise, allow", allow: true, name: "additional creators", when: creatorsPrivileged,
			make: func(f *fixture) *event.PDU {
				return create(f, func(content object) { content["additional_creators"] = []any{dora, alice} })
			}},
		{rule: ruleCreateAllow, says: "Otherwise, allow", allow: true, name: "additional creators that mean nothing",
			when: not(creatorsPrivileged),
			make: func(f *fixture) *event.PDU {
				return create(f, func(content object) { content["additional_creators"] = "nonsense" })
			}},

		{rule: ruleRoomID, says: "is not an event ID for an accepted", name: "an event of an unknown room",
			make: func(f *fixture) *event.PDU {
				delete(f.state, Key{Type: event.TypeCreate})
				return f.message(carol)
			}},
		{rule: ruleRoomID, says: "is not an event ID for an accepted", name: "an event of another room",
			make: func(f *fixture) *event.PDU {
				f.roomID = newFixtureWith(f.t, f.rules, object{"topic": "another"}).roomID
				return f.message(carol)
			}},
		{rule: ruleAuthEventsNoCreate, says: "no `m.room.create` event", name: "an event in a state without create event",
			make: func(f *fixture) *event.PDU {
				delete(f.state, Key{Type: event.TypeCreate})
				return f.message(carol)
			}},
	}
}

func authEventCases() []ruleCase {
	message := func(f *fixture) *event.PDU { f.levels(nil); return f.message(carol) }
	accepted := func(f *fixture, keys ...Key) []AuthEvent {
		if !f.rules.RoomIDFromCreate {
			keys = append(keys, Key{Type: event.TypeCreate})
		}
		var auth []AuthEvent
		for _, key := range keys {
			auth = append(auth, AuthEvent{PDU: f.state[key]})
		}
		return auth
	}
	member, levels := Key{event.TypeMember, carol}, Key{Type: event.TypePowerLevels}
	return []ruleCase{
		{rule: ruleAuthEvents, says: "Considering the event's `auth_events`", allow: true, name: "the selected auth events",
			make: message, auth: func(f *fixture) []AuthEvent { return accepted(f, member, levels) }},
		{rule: ruleAuthEvents, says: "Considering the event's `auth_events`", allow: true, name: "fewer auth events than selected",
			make: message, auth: func(f *fixture) []AuthEvent { return accepted(f) }},
		{rule: ruleAuthEventsDuplicate, says: "duplicate entries", name: "two auth events for one key", make: message,
			auth: func(f *fixture) []AuthEvent {
				return append(accepted(f, member, levels), AuthEvent{PDU: f.build(event.TypePowerLevels, ptr(""), carol, object{})})
			}},
		{rule: ruleAuthEventsDuplicate, says: "duplicate entries", name: "one auth event named twice", make: message,
			auth: func(f *fixture) []AuthEvent { return accepted(f, member, member) }},
		{rule: ruleAuthEventsNotSelected, says: "don't match those specified", name: "the topic as an auth event", make: message,
			auth: func(f *fixture) []AuthEvent {
				return append(accepted(f, member), AuthEvent{PDU: f.topic(carol)})
			}},
		{rule: ruleAuthEventsNotSelected, says: "don't match those specified", name: "a message as an auth event", make: message,
			auth: func(f *fixture) []AuthEvent {
				return append(accepted(f, member), AuthEvent{PDU: f.message(carol)})
			}},
		{rule: ruleAuthEventsNotSelected, says: "don't match those specified", name: "a stranger's membership as an auth event",
			make: message, auth: func(f *fixture) []AuthEvent {
				f.join(alice)
				return accepted(f, member, Key{event.TypeMember, alice})
			}},
		{rule: ruleAuthEventsNotSelected, says: "don't match those specified", name: "join rules for a message",
			make: message, auth: func(f *fixture) []AuthEvent {
				f.joinRule("public")
				return accepted(f, member, Key{Type: event.TypeJoinRules})
			}},
		{rule: ruleAuthEventsNotSelected, says: "don't match those specified", name: "the create event as an auth event",
			when: roomIDFromCreate, make: message,
			auth: func(f *fixture) []AuthEvent { return accepted(f, member, Key{Type: event.TypeCreate}) }},
		{rule: ruleAuthEventsRejected, says: "themselves rejected", name: "a rejected auth event", make: message,
			auth: func(f *fixture) []AuthEvent {
				auth := accepted(f, member, levels)
				auth[1].Rejected = true
				return auth
			}},
		{rule: ruleAuthEventsNoCreate, says: "no `m.room.create` event", name: "auth events without the create event",
			make: message, auth: func(f *fixture) []AuthEvent { return []AuthEvent{{PDU: f.state[member]}} }},
		{rule: ruleAuthEventsOtherRoom, says: "`room_id` which does not match", name: "an auth event of another room",
			make: message, auth: func(f *fixture) []AuthEvent {
				other := newFixtureWith(f.t, f.rules, object{"topic": "another"})
				if !f.rules.RoomIDFromCreate {
					other.roomID = must(id.ParseRoomID("!other:c.example"))(f.t)
				}
				other.levels(nil)
				return append(accepted(f, member), AuthEvent{PDU: other.state[levels]})
			}},
	}
}

func generalCases() []ruleCase {
	unfederated := object{"m.federate": false}
	return []ruleCase{
		{rule: ruleFederate, says: "`m.federate` set to `false`", name: "another server in a room that is not federated",
			create: unfederated, make: func(f *fixture) *event.PDU {
				f.joinRule("public")
				return f.member(alice, alice, "join")
			}},
		{rule: ruleAllow, says: "Otherwise, allow", allow: true, name: "the creator's server in a room that is not federated",
			create: unfederated, make: func(f *fixture) *event.PDU {
				f.join(dora)
				return f.message(dora)
			}},
		{rule: ruleAllow, says: "Otherwise, allow", allow: true, name: "another server in a federated room",
			create: object{"m.federate": true}, make: func(f *fixture) *event.PDU {
				f.join(alice)
				return f.message(alice)
			}},

		{rule: ruleAliasesNoStateKey, says: "no `state_key`", name: "aliases without state key",
			make: func(f *fixture) *event.PDU {
				return f.build(event.TypeAliases, nil, carol, object{"aliases": []any{}})
			}},
		{rule: ruleAliasesOtherDomain, says: "sender's domain doesn't match", name: "aliases of another server",
			make: func(f *fixture) *event.PDU {
				return f.build(event.TypeAliases, ptr("a.example"), carol, object{"aliases": []any{}})
			}},
		{rule: ruleAliasesAllow, says: "Otherwise, allow", allow: true, name: "aliases of a server that is not in the room",
			make: func(f *fixture) *event.PDU {
				return f.build(event.TypeAliases, ptr("a.example"), alice, object{"aliases": []any{}})
			}},
		{rule: ruleSenderNotJoined, says: "current membership state is not `join`",
			name: "aliases of a server that is not in the room",
			when: func(r *roomversion.Rules) bool { return !r.AliasesAuthRule },
			make: func(f *fixture) *event.PDU {
				return f.build(event.TypeAliases, ptr("a.example"), alice, object{"aliases": []any{}})
			}},

		{rule: ruleSenderNotJoined, says: "current membership state is not `join`", name: "a message of a stranger",
			make: func(f *fixture) *event.PDU { return f.message(alice) }},
		{rule: ruleSenderNotJoined, says: "current membership state is not `join`", name: "a message of somebody invited",
			make: func(f *fixture) *event.PDU {
				f.set(event.TypeMember, alice, carol, object{"membership": "invite"})
				return f.message(alice)
			}},
		{rule: ruleSenderNotJoined, says: "current membership state is not `join`", name: "a message of somebody who left",
			make: func(f *fixture) *event.PDU {
				f.membership(alice, "leave")
				return f.message(alice)
			}},

		{rule: rule3PIDInviteLevel, says: "greater than or equal to the *invite level*", name: "inviting an address without power",
			make: func(f *fixture) *event.PDU {
				f.join(alice)
				f.levels(object{"invite": 10}, alice, 9)
				return f.build(event.TypeThirdPartyInvite, ptr("token"), alice, oneKey("key"))
			}},
		{rule: rule3PIDInviteLevel, says: "greater than or equal to the *invite level*", allow: true,
			name: "inviting an address with the invite level alone", make: func(f *fixture) *event.PDU {
				f.join(alice)
				f.levels(object{"invite": 10, "events": object{event.TypeThirdPartyInvite: 90}}, alice, 10)
				return f.build(event.TypeThirdPartyInvite, ptr("token"), alice, oneKey("key"))
			}},

		{rule: ruleRequiredLevel, says: "*required power level* is greater", name: "a message below events_default",
			make: func(f *fixture) *event.PDU {
				f.join(alice)
				f.levels(object{"events_default": 1})
				return f.message(alice)
			}},
		{rule: ruleRequiredLevel, says: "*required power level* is greater", name: "state below the default of 50",
			make: func(f *fixture) *event.PDU {
				f.join(alice)
				f.levels(nil, alice, 49)
				return f.topic(alice)
			}},
		{rule: ruleRequiredLevel, says: "*required power level* is greater", name: "state of others in a room without levels",
			make: func(f *fixture) *event.PDU {
				f.join(alice)
				return f.topic(alice)
			}},
		{rule: ruleRequiredLevel, says: "*required power level* is greater", name: "a message that events sets higher",
			make: func(f *fixture) *event.PDU {
				f.join(alice)
				f.levels(object{"events": object{"m.room.message": 20}, "users_default": 19})
				return f.message(alice)
			}},
		{rule: ruleAllow, says: "Otherwise, allow", allow: true, name: "state with the default of 50",
			make: func(f *fixture) *event.PDU {
				f.join(alice)
				f.levels(nil, alice, 50)
				return f.topic(alice)
			}},
		{rule: ruleAllow, says: "Otherwise, allow", allow: true, name: "the creator's state in a room without levels",
			make: func(f *fixture) *event.PDU { return f.topic(carol) }},
		{rule: ruleAllow, says: "Otherwise, allow", allow: true, name: "an additional creator's state, whatever it needs",
			when: creatorsPrivileged, create: object{"additional_creators": []any{dora}},
			make: func(f *fixture) *event.PDU {
				f.join(dora)
				f.levels(object{"state_default": 9007199254740991})
				return f.topic(dora)
			}},
		{rule: ruleRequiredLevel, says: "*required power level* is greater", name: "an additional creator's state",
			when: not(creatorsPrivileged), create: object{"additional_creators": []any{dora}},
			make: func(f *fixture) *event.PDU {
				f.join(dora)
				f.levels(nil)
				return f.topic(dora)
			}},

		{rule: ruleStateKeyOfOther, says: "starts with an `@`", name: "a state key that is another user",
			make: func(f *fixture) *event.PDU {
				return f.build("example.state", ptr(alice), carol, object{})
			}},
		{rule: ruleAllow, says: "Otherwise, allow", allow: true, name: "a state key that is the sender",
			make: func(f *fixture) *event.PDU {
				return f.build("example.state", ptr(carol), carol, object{})
			}},
		{rule: ruleAllow, says: "Otherwise, allow", allow: true, name: "a redaction without the redact level",
			when: func(r *roomversion.Rules) bool { return !r.RedactionAuthRule },
			make: func(f *fixture) *event.PDU {
				f.join(alice)
				return f.build(event.TypeRedaction, nil, alice, object{"redacts": "$x"})
			}},
	}
}

func redactionCases() []ruleCase {
	redaction := func(f *fixture, sender, target string) *event.PDU {
		user := must(id.ParseUserID(sender))(f.t)
		draft := event.Draft{
			Type: event.TypeRedaction, Sender: user, RoomID: f.roomID, Content: []byte(`{}`), PrevEvents: f.prev,
			Depth: 10, OriginServerTS: 1, Redacts: must(id.ParseEventID(target))(f.t),
		}
		return must(event.Build(f.rules, draft, signer(f.t, user.ServerName())))(f.t)
	}
	return []ruleCase{
		{rule: ruleRedactionLevel, says: "*redact level*, allow", allow: true, name: "a redaction with the redact level",
			make: func(f *fixture) *event.PDU {
				f.join(alice)
				f.levels(object{"redact": 30}, alice, 30)
				return redaction(f, alice, "$event:b.example")
			}},
		{rule: ruleRedactionDomain, says: "the same as the domain of the `event_id`", allow: true,
			name: "a redaction of an event of the same server", make: func(f *fixture) *event.PDU {
				f.join(alice)
				return redaction(f, alice, "$event:a.example")
			}},
		{rule: ruleRedactionReject, says: "Otherwise, reject", name: "a redaction of an event of another server",
			make: func(f *fixture) *event.PDU {
				f.join(alice)
				f.levels(object{"redact": 30}, alice, 29)
				return redaction(f, alice, "$event:b.example")
			}},
	}
}

func jsonObject(t testing.TB, text string) object {
	t.Helper()
	var o object
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(fmt.Errorf("%s: %w", text, err))
	}
	return o
}
