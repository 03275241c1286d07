package event_test

import (
	"errors"
	"strings"
	"testing"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/roomversion"
	"stoa/matrix/signing"
)

// ring is a source of keys that tests fill.
type ring map[string]signing.VerifyKey

func (r ring) VerifyKey(server id.ServerName, keyID id.KeyID) (signing.VerifyKey, bool) {
	key, known := r[server.String()+" "+keyID.String()]
	return key, known
}

func (r ring) with(s *signing.Signer, key signing.VerifyKey) ring {
	key.Key = s.Key().Public()
	r[s.ServerName().String()+" "+s.KeyID().String()] = key
	return r
}

// forever is the validity of a key that is always valid.
var forever = signing.VerifyKey{ValidUntilTS: canonicaljson.MaxInteger}

// verdict checks what Verify says: nil, or the cause and the server.
func verdict(t *testing.T, p *event.PDU, keys signing.KeySource, cause error, server string) {
	t.Helper()
	err := event.Verify(p, keys)
	if cause == nil {
		if err != nil {
			t.Errorf("version %s: %v", p.Rules().Version, err)
		}
		return
	}
	var e *event.SignatureError
	if !errors.As(err, &e) || !errors.Is(err, cause) || e.Server.String() != server || e.EventID != p.EventID() {
		t.Errorf("version %s: %v, want: %v, of %s", p.Rules().Version, err, cause, server)
	}
}

// Spec: server-server-api#validating-hashes-and-signatures-on-received-events
func TestVerify(t *testing.T) {
	t.Parallel()
	for _, rules := range roomversion.All() {
		t.Run("v"+rules.Version, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, rules.Version)
			other := signer(t, "other.example", 2)
			p := f.build(f.message("x"))
			good := ring{}.with(f.signer, forever)

			verdict(t, p, good, nil, "")
			verdict(t, p, ring{}, signing.ErrUnknownKey, "example.org")
			verdict(t, p, ring{"example.org ed25519:auto": {Key: other.Key().Public(), ValidUntilTS: forever.ValidUntilTS}}, signing.ErrBadSignature, "example.org")

			unsigned := must(canonicaljson.AppendWith(nil, p.Bytes(), "signatures", []byte(`{}`)))
			verdict(t, must(event.Parse(rules, unsigned)), good, signing.ErrNotSigned, "example.org")

			byOther := must(event.Parse(rules, must(canonicaljson.AppendWith(nil, unsigned, "signatures", []byte(`{"other.example":{"ed25519:auto":"x"}}`)))))
			verdict(t, byOther, good.with(other, forever), signing.ErrNotSigned, "example.org")

			forged := must(canonicaljson.AppendWith(nil, p.Bytes(), "depth", []byte(`13`)))
			forged = must(canonicaljson.AppendWith(nil, forged, "sender", []byte(`"@eve:example.org"`)))
			verdict(t, must(event.Parse(rules, forged)), good, signing.ErrBadSignature, "example.org")

			// A policy server's signature, or any other of an unknown key, changes nothing.
			signatures := strings.Replace(string(canonicaljson.Get(p.Bytes(), "signatures")), `{"ed25519:auto"`, `{"ed25519:policy_server":"x","ed25519:auto"`, 1)
			more := must(canonicaljson.Append(nil, must(canonicaljson.AppendWith(nil, p.Bytes(), "signatures", []byte(signatures)))))
			verdict(t, must(event.Parse(rules, more)), good, nil, "")
		})
	}
}

// Spec: rooms/v5#signing-key-validity-period, server-server-api#validating-hashes-and-signatures-on-received-events
func TestVerifyLooksAtTheValidityOfKeys(t *testing.T) {
	t.Parallel()
	for _, rules := range roomversion.All() {
		f := newFixture(t, rules.Version)
		p := f.build(f.message("x"))
		ts := p.OriginServerTS()
		key := func(k signing.VerifyKey) ring { return ring{}.with(f.signer, k) }
		verdict(t, p, key(signing.VerifyKey{ValidUntilTS: ts}), nil, "")
		verdict(t, p, key(signing.VerifyKey{ExpiredTS: ts}), nil, "")
		verdict(t, p, key(signing.VerifyKey{ExpiredTS: ts - 1}), signing.ErrUnknownKey, "example.org")
		var late error
		if rules.StrictSignatureValidity {
			late = signing.ErrUnknownKey
		}
		verdict(t, p, key(signing.VerifyKey{ValidUntilTS: ts - 1}), late, "example.org")
	}
}

// Spec: server-server-api#validating-hashes-and-signatures-on-received-events
func TestVerifyWantsTheServerOfTheEventIDBeforeVersion3(t *testing.T) {
	t.Parallel()
	for _, rules := range roomversion.All()[:2] {
		f := newFixture(t, rules.Version)
		other := signer(t, "other.example", 2)
		draft := f.message("x")
		draft.EventID = must(id.ParseEventID("$x:other.example"))
		p := f.build(draft)
		keys := ring{}.with(f.signer, forever).with(other, forever)
		verdict(t, p, keys, signing.ErrNotSigned, "other.example")
		verdict(t, must(p.Sign(other)), keys, nil, "")

		alone := f.build(event.Draft{Type: "x", Sender: must(id.ParseUserID("@a:other.example")), RoomID: draft.RoomID, Content: []byte(`{}`), EventID: draft.EventID})
		verdict(t, alone, keys, signing.ErrNotSigned, "other.example")
		if signers := p.RequiredSigners(); len(signers) != 2 || len(signers[0].KeyIDs) != 1 || len(signers[1].KeyIDs) != 0 {
			t.Errorf("version %s: %v", rules.Version, signers)
		}
	}
}

// Spec: server-server-api#validating-hashes-and-signatures-on-received-events
func TestVerifyLetsThirdPartyInvitesComeFromOthers(t *testing.T) {
	t.Parallel()
	for _, rules := range roomversion.All() {
		f := newFixture(t, rules.Version)
		draft := f.draft(event.TypeMember, ptr("@bob:example.org"), `{"membership":"invite","third_party_invite":{"signed":{"mxid":"@bob:example.org","token":"x"}}}`)
		draft.Sender = must(id.ParseUserID("@alice:other.example"))
		keys := ring{}.with(f.signer, forever)
		verdict(t, f.build(draft), keys, nil, "") // versions 1 and 2: signed by the server of the event ID
		if signers := f.build(draft).RequiredSigners(); len(signers) > 1 || len(signers) == 1 && rules.EventIDFormat != roomversion.EventIDAssigned {
			t.Errorf("version %s: %v", rules.Version, signers)
		}

		draft.Content = []byte(`{"membership":"invite"}`)
		verdict(t, f.build(draft), keys, signing.ErrNotSigned, "other.example")
		draft.Content = []byte(`{"membership":"join","third_party_invite":{}}`)
		verdict(t, f.build(draft), keys, signing.ErrNotSigned, "other.example")
		draft.Content, draft.StateKey = []byte(`{"membership":"invite","third_party_invite":{}}`), nil
		verdict(t, f.build(draft), keys, signing.ErrNotSigned, "other.example")
	}
}

// TestVerifyWantsTheAuthoriserOfRestrictedJoins is rule 4.2 or 5.2 of the authorisation rules.
//
// Spec: rooms/v8#authorisation-rules
func TestVerifyWantsTheAuthoriserOfRestrictedJoins(t *testing.T) {
	t.Parallel()
	for _, rules := range roomversion.All() {
		f := newFixture(t, rules.Version)
		other := signer(t, "other.example", 2)
		keys := ring{}.with(f.signer, forever).with(other, forever)
		join := func(authoriser string) *event.PDU {
			return f.build(f.draft(event.TypeMember, ptr("@alice:example.org"), `{"membership":"join","join_authorised_via_users_server":`+authoriser+`}`))
		}
		p := join(`"@mod:other.example"`)
		if !rules.RestrictedJoins {
			verdict(t, p, keys, nil, "")
			continue
		}
		verdict(t, p, keys, signing.ErrNotSigned, "other.example")
		var e *event.SignatureError
		if err := event.Verify(p, keys); !errors.As(err, &e) || !e.Authoriser {
			t.Errorf("version %s: %v does not say that the authoriser is meant", rules.Version, err)
		}
		both := must(p.Sign(other))
		verdict(t, both, keys, nil, "")
		verdict(t, both, ring{}.with(f.signer, forever), signing.ErrUnknownKey, "other.example")
		verdict(t, join(`"@mod:example.org"`), keys, nil, "") // the sender's own server
		verdict(t, join(`"mod"`), keys, nil, "")              // the auth rules see to it
		verdict(t, join(`5`), keys, nil, "")
		if signers := both.RequiredSigners(); len(signers) != 2 || !signers[1].Authoriser || signers[1].KeyIDs[0] != other.KeyID() {
			t.Errorf("version %s: %v", rules.Version, signers)
		}
	}
}

func TestVerifyTakesEachOfSeveralKeys(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "12")
	second := signing.NewSigner(f.signer.ServerName(), must(signing.NewKey(must(id.ParseKeyID("ed25519:second")), make([]byte, 32))))
	p := must(f.build(f.message("x")).Sign(second))
	if keys := p.SignedBy(f.signer.ServerName()); len(keys) != 2 {
		t.Fatalf("signed by %v", keys)
	}
	verdict(t, p, ring{}.with(f.signer, forever).with(second, forever), nil, "")
	verdict(t, p, ring{}.with(second, forever), nil, "")
	verdict(t, p, ring{}.with(f.signer, forever).with(second, signing.VerifyKey{ExpiredTS: 1}), nil, "")
	verdict(t, p, ring{}.with(f.signer, signing.VerifyKey{ExpiredTS: 1}).with(second, signing.VerifyKey{ExpiredTS: 1}), signing.ErrUnknownKey, "example.org")
	wrong := ring{}.with(f.signer, forever)
	wrong["example.org ed25519:second"] = signing.VerifyKey{Key: f.signer.Key().Public(), ValidUntilTS: forever.ValidUntilTS}
	verdict(t, p, wrong, signing.ErrBadSignature, "example.org")
}

// Spec: server-server-api#validating-policy-server-signatures
func TestVerifyWithAPolicyServersKey(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "12")
	keyID := must(id.ParseKeyID("ed25519:policy_server"))
	key := must(signing.NewKey(keyID, make([]byte, 32)))
	policy := signing.NewSigner(must(id.ParseServerName("policy.example")), key)
	p := f.build(f.message("x"))
	signed := must(p.Sign(policy))
	if err := event.VerifyWith(signed, policy.ServerName(), keyID, key.Public()); err != nil {
		t.Error(err)
	}
	if err := event.VerifyWith(p, policy.ServerName(), keyID, key.Public()); !errors.Is(err, signing.ErrNotSigned) {
		t.Errorf("not signed: %v", err)
	}
	if err := event.VerifyWith(signed, policy.ServerName(), keyID, f.signer.Key().Public()); !errors.Is(err, signing.ErrBadSignature) {
		t.Errorf("another key: %v", err)
	}
	if err := event.VerifyWith(signed, policy.ServerName(), f.signer.KeyID(), key.Public()); !errors.Is(err, signing.ErrUnknownKey) {
		t.Errorf("another key ID: %v", err)
	}
	verdict(t, signed, ring{}.with(f.signer, forever), nil, "")
}
