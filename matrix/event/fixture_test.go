package event_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"testing"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/roomversion"
	"stoa/matrix/signing"
)

// fixture is a server with a key, and a room version in which it makes events.
type fixture struct {
	testing.TB
	rules  *roomversion.Rules
	signer *signing.Signer
}

func newFixture(t testing.TB, version string) *fixture {
	t.Helper()
	rules, known := roomversion.Of(version)
	if !known {
		t.Fatalf("room version %s is not known", version)
	}
	return &fixture{TB: t, rules: rules, signer: signer(t, "example.org", 1)}
}

// signer makes the signer of a server whose key is of a seed of equal bytes.
func signer(t testing.TB, server string, seed byte) *signing.Signer {
	t.Helper()
	name := must(id.ParseServerName(server))
	key, err := signing.NewKey(must(id.ParseKeyID("ed25519:auto")), bytes.Repeat([]byte{seed}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return signing.NewSigner(name, key)
}

// VerifyKey makes the fixture the source of its own key.
func (f *fixture) VerifyKey(server id.ServerName, keyID id.KeyID) (signing.VerifyKey, bool) {
	if server != f.signer.ServerName() || keyID != f.signer.KeyID() {
		return signing.VerifyKey{}, false
	}
	return signing.VerifyKey{Key: f.signer.Key().Public(), ValidUntilTS: canonicaljson.MaxInteger}, true
}

// roomID returns the ID of a room of the fixture's version.
func (f *fixture) roomID() id.RoomID {
	if f.rules.RoomIDFromCreate {
		return must(id.ParseRoomID("!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM"))
	}
	return must(id.ParseRoomID("!room:example.org"))
}

// eventID returns an event ID of the form of the fixture's version.
func (f *fixture) eventID(first byte) id.EventID {
	switch f.rules.EventIDFormat {
	case roomversion.EventIDAssigned:
		return must(id.ParseEventID("$" + string(first) + "bc:example.org"))
	case roomversion.EventIDHash:
		return must(id.ParseEventID("$" + string(first) + "cR1l0raoZnm60CBwAVgqbZqoO/mYU81xysh1u7XcJk"))
	default:
		return must(id.ParseEventID("$" + string(first) + "qnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg"))
	}
}

// draft makes a draft that only lacks what the test is about.
func (f *fixture) draft(evType string, stateKey *string, content string) event.Draft {
	return event.Draft{
		Type: evType, StateKey: stateKey, Content: []byte(content),
		Sender:         must(id.ParseUserID("@alice:example.org")),
		RoomID:         f.roomID(),
		PrevEvents:     []id.EventID{f.eventID('p')},
		AuthEvents:     []id.EventID{f.eventID('a'), f.eventID('b'), f.eventID('c')},
		Depth:          12,
		OriginServerTS: 1_700_000_000_000,
	}
}

func (f *fixture) message(body string) event.Draft {
	text, err := json.Marshal(body)
	if err != nil {
		f.Fatal(err)
	}
	return f.draft("m.room.message", nil, `{"msgtype":"m.text","body":`+string(text)+`}`)
}

func (f *fixture) build(draft event.Draft) *event.PDU {
	f.Helper()
	pdu, err := event.Build(f.rules, draft, f.signer)
	if err != nil {
		f.Fatal(err)
	}
	return pdu
}

// hashedLengths returns how many bytes the content hash and the reference hash of an event cover.
func (f *fixture) hashedLengths(p *event.PDU) (content, reference int) {
	f.Helper()
	hashed, err := canonicaljson.AppendWithout(nil, p.Bytes(), "hashes", "signatures")
	if err != nil {
		f.Fatal(err)
	}
	redacted, err := event.Redact(f.rules, p.Bytes())
	if err != nil {
		f.Fatal(err)
	}
	signed, err := canonicaljson.AppendWithout(nil, redacted, "signatures")
	if err != nil {
		f.Fatal(err)
	}
	return len(hashed), len(signed)
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func ptr(s string) *string { return &s }

// keysOf is the source of a signer's key.
func (f *fixture) keysOf(s *signing.Signer) func(id.KeyID) (ed25519.PublicKey, bool) {
	return func(keyID id.KeyID) (ed25519.PublicKey, bool) { return s.Key().Public(), keyID == s.KeyID() }
}
