package eventauth

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/roomversion"
	"stoa/matrix/signing"
)

// Users of the tests. The room is carol's, on server c.
const (
	carol = "@carol:c.example"
	dora  = "@dora:c.example" // additional creator where there are such
	alice = "@alice:a.example"
	bob   = "@bob:b.example"
	zoe   = "@zoe:z.example"
)

// fixture is a room state that a test puts together. It begins with the create event, and carol joined.
type fixture struct {
	t      testing.TB
	rules  *roomversion.Rules
	state  events
	roomID id.RoomID
	ts     int64
	prev   []id.EventID
}

type object = map[string]any

func newFixture(t testing.TB, rules *roomversion.Rules) *fixture {
	return newFixtureWith(t, rules, object{})
}

func newFixtureWith(t testing.TB, rules *roomversion.Rules, create object) *fixture {
	t.Helper()
	f := &fixture{t: t, rules: rules, state: events{}, ts: 1_700_000_000_000}
	create["room_version"] = rules.Version
	if !rules.CreatorIsSender {
		create["creator"] = carol
	}
	if !rules.RoomIDFromCreate {
		f.roomID = must(id.ParseRoomID("!room:c.example"))(t)
	}
	pdu := f.build(event.TypeCreate, ptr(""), carol, create)
	f.roomID = pdu.RoomID()
	f.put(pdu)
	f.prev = []id.EventID{must(id.ParseEventID("$" + strings.Repeat("p", 43)))(t)}
	f.join(carol)
	return f
}

func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func ptr(s string) *string { return &s }

// signer returns the key of a server, always the same.
func signer(t testing.TB, server id.ServerName) *signing.Signer {
	t.Helper()
	seed := sha256.Sum256([]byte(server.String()))
	key := must(signing.NewKey(must(id.ParseKeyID("ed25519:1"))(t), seed[:]))(t)
	return signing.NewSigner(server, key)
}

// build makes an event without putting it into the state. Content that is no string is marshaled.
func (f *fixture) build(eventType string, stateKey *string, sender string, content any) *event.PDU {
	f.t.Helper()
	text, ok := content.(string)
	if !ok {
		text = string(must(json.Marshal(content))(f.t))
	}
	user := must(id.ParseUserID(sender))(f.t)
	f.ts++
	draft := event.Draft{
		Type: eventType, StateKey: stateKey, Sender: user, RoomID: f.roomID, Content: []byte(text),
		PrevEvents: f.prev, Depth: 10, OriginServerTS: f.ts,
	}
	return must(event.Build(f.rules, draft, signer(f.t, user.ServerName())))(f.t)
}

func (f *fixture) put(pdu *event.PDU) *event.PDU {
	stateKey, _ := pdu.StateKey()
	f.state[Key{pdu.Type(), stateKey}] = pdu
	return pdu
}

func (f *fixture) set(eventType, stateKey, sender string, content any) *event.PDU {
	f.t.Helper()
	return f.put(f.build(eventType, &stateKey, sender, content))
}

func (f *fixture) membership(user, membership string) {
	f.t.Helper()
	f.set(event.TypeMember, user, user, object{"membership": membership})
}

func (f *fixture) join(users ...string) {
	f.t.Helper()
	for _, user := range users {
		f.membership(user, "join")
	}
}

func (f *fixture) joinRule(rule string) {
	f.t.Helper()
	f.set(event.TypeJoinRules, "", carol, object{"join_rule": rule})
}

// levels sets the power levels: users alternate with their levels. Carol has 100 where creators are not privileged.
func (f *fixture) levels(content object, users ...any) {
	f.t.Helper()
	f.set(event.TypePowerLevels, "", carol, f.levelContent(content, users...))
}

func (f *fixture) levelContent(content object, users ...any) object {
	all := object{}
	if !f.rules.CreatorsPrivileged {
		all[carol] = 100
	}
	for i := 0; i < len(users); i += 2 {
		all[users[i].(string)] = users[i+1]
	}
	merged := object{"users": all}
	for key, value := range content {
		merged[key] = value
	}
	return merged
}

// member builds a membership event.
func (f *fixture) member(sender, target, membership string) *event.PDU {
	f.t.Helper()
	return f.build(event.TypeMember, &target, sender, object{"membership": membership})
}

func (f *fixture) message(sender string) *event.PDU {
	f.t.Helper()
	return f.build("m.room.message", nil, sender, object{"body": "hello", "msgtype": "m.text"})
}

func (f *fixture) topic(sender string) *event.PDU {
	f.t.Helper()
	return f.build("m.room.topic", ptr(""), sender, object{"topic": "tests"})
}

// thirdParty puts an m.room.third_party_invite of alice with a token into the state and returns the content of the
// invitation that redeems it for bob. edit changes the signed object after signing.
func (f *fixture) thirdParty(token string, publicKeys func(key string) object, edit func(signed object)) object {
	f.t.Helper()
	server := must(id.ParseServerName("identity.example"))(f.t)
	s := signer(f.t, server)
	f.set(event.TypeThirdPartyInvite, token, alice, publicKeys(signing.Base64(s.Key().Public()).String()))
	bare := must(json.Marshal(object{"mxid": bob, "token": token}))(f.t)
	var signed object
	if err := json.Unmarshal(must(signing.SignJSON(bare, server.String(), s.Key()))(f.t), &signed); err != nil {
		f.t.Fatal(err)
	}
	if edit != nil {
		edit(signed)
	}
	return object{"membership": "invite", "third_party_invite": object{"display_name": "b...", "signed": signed}}
}

func oneKey(key string) object {
	return object{"display_name": "b...", "key_validity_url": "https://identity.example/valid", "public_key": key}
}

func (f *fixture) check(ev *event.PDU) Verdict {
	f.t.Helper()
	return must(Check(ev, f.state))(f.t)
}

func each(t *testing.T, run func(t *testing.T, rules *roomversion.Rules)) {
	t.Helper()
	for _, rules := range roomversion.All() {
		t.Run(fmt.Sprintf("v%s", rules.Version), func(t *testing.T) {
			t.Parallel()
			run(t, rules)
		})
	}
}
