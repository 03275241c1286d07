package event_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"testing"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/roomversion"
	"stoa/matrix/signing"
)

// TestHashAndSign has the test vectors of the specification. They are of room version 1, and lack keys that events have today.
//
// Spec: appendices#event-signing
func TestHashAndSign(t *testing.T) {
	t.Parallel()
	rules, _ := roomversion.Of("1")
	key, err := signing.NewKey(must(id.ParseKeyID("ed25519:1")), must(signing.ParseBase64("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1")))
	if err != nil {
		t.Fatal(err)
	}
	signer := signing.NewSigner(must(id.ParseServerName("domain")), key)
	for name, c := range map[string]struct{ in, want string }{
		"signs a minimal event": {
			`{"room_id":"!x:domain","sender":"@a:domain","origin":"domain","origin_server_ts":1000000,"signatures":{},"hashes":{},"type":"X","content":{},"prev_events":[],"auth_events":[],"depth":3,"unsigned":{"age_ts":1000000}}`,
			`{"auth_events":[],"content":{},"depth":3,"hashes":{"sha256":"5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos"},"origin":"domain","origin_server_ts":1000000,"prev_events":[],"room_id":"!x:domain","sender":"@a:domain","signatures":{"domain":{"ed25519:1":"KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPTRl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg"}},"type":"X"}`,
		},
		"signs an event with redactable content": {
			`{"content":{"body":"Here is the message content"},"event_id":"$0:domain","origin":"domain","origin_server_ts":1000000,"type":"m.room.message","room_id":"!r:domain","sender":"@u:domain","signatures":{},"unsigned":{"age_ts":1000000}}`,
			`{"content":{"body":"Here is the message content"},"event_id":"$0:domain","hashes":{"sha256":"onLKD1bGljeBWQhWZ1kaP9SorVmRQNdN5aM2JYU2n/g"},"origin":"domain","origin_server_ts":1000000,"room_id":"!r:domain","sender":"@u:domain","signatures":{"domain":{"ed25519:1":"Wm+VzmOUOz08Ds+0NTWb1d4CZrVsJSikkeRxh6aCcUwu6pNC78FunoD7KNWzqFn241eYHYMGCA5McEiVPdhzBA"}},"type":"m.room.message"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := event.HashAndSign(rules, []byte(c.in), signer)
			if err != nil || string(got) != c.want {
				t.Fatalf("%s, %v; want %s", got, err, c.want)
			}
		})
	}
}

func TestBuildWritesTheFormatOfTheVersion(t *testing.T) {
	t.Parallel()
	const edgeV1 = `[["$pbc:example.org",{}]]`
	for _, rules := range roomversion.All() {
		t.Run("v"+rules.Version, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, rules.Version)
			p := f.build(f.draft("m.room.topic", ptr("k"), `{ "topic": "x", "a": 1 }`))
			edges := string(canonicaljson.Get(p.Bytes(), "prev_events"))
			want := `["` + f.eventID('p').String() + `"]`
			if rules.EventFormat == roomversion.EventFormatV1 {
				want = edgeV1
			}
			if edges != want {
				t.Errorf("prev_events are %s", edges)
			}
			if assigned := canonicaljson.Get(p.Bytes(), "event_id") != nil; assigned != (rules.EventFormat == roomversion.EventFormatV1) {
				t.Errorf("event_id is there: %v", assigned)
			}
			if string(p.Content()) != `{"a":1,"topic":"x"}` {
				t.Errorf("content is %s", p.Content())
			}
			if canonical := must(canonicaljson.Append(nil, p.Bytes())); !bytes.Equal(canonical, p.Bytes()) {
				t.Errorf("it is not canonical: %s", p.Bytes())
			}
			same(t, p, must(event.Parse(rules, p.Bytes())))
			same(t, p, must(event.Load(rules, p.EventID(), p.Bytes())))
			if err := event.Verify(p, f); err != nil {
				t.Error(err)
			}
		})
	}
}

// same checks that two PDUs say the same.
func same(t *testing.T, a, b *event.PDU) {
	t.Helper()
	stateKey, isState := a.StateKey()
	otherKey, otherIs := b.StateKey()
	switch {
	case a.EventID() != b.EventID(), a.RoomID() != b.RoomID(), a.Type() != b.Type(), a.Sender() != b.Sender(),
		stateKey != otherKey, isState != otherIs, a.Depth() != b.Depth(), a.OriginServerTS() != b.OriginServerTS(),
		!slices.Equal(a.PrevEvents(), b.PrevEvents()), !slices.Equal(a.AuthEvents(), b.AuthEvents()),
		a.Redacts() != b.Redacts(), a.Membership() != b.Membership(), a.HasRoomID() != b.HasRoomID(),
		!bytes.Equal(a.Content(), b.Content()), !bytes.Equal(a.Bytes(), b.Bytes()), a.Rules() != b.Rules():
		t.Errorf("%s (%s) and %s (%s) differ", a.EventID(), a.Bytes(), b.EventID(), b.Bytes())
	}
}

// Spec: rooms/v1#event-ids, rooms/v3#event-ids, rooms/v4#event-ids
func TestEventIDs(t *testing.T) {
	t.Parallel()
	for _, rules := range roomversion.All() {
		t.Run("v"+rules.Version, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, rules.Version)
			for i := range 20 { // enough for characters in which the two alphabets differ
				p := f.build(f.message(strings.Repeat("x", i)))
				hash := must(event.ReferenceHash(rules, p.Bytes()))
				if own := must(p.ReferenceHash()); own != hash {
					t.Fatal("the event has another reference hash than its bytes")
				}
				eventID := p.EventID().String()
				switch rules.EventIDFormat {
				case roomversion.EventIDAssigned:
					if p.EventID().ServerName().String() != "example.org" || len(eventID) < 20 {
						t.Errorf("%s", eventID)
					}
				case roomversion.EventIDHash:
					if eventID != "$"+signing.Base64(hash[:]).String() {
						t.Errorf("%s of %x", eventID, hash)
					}
				case roomversion.EventIDURLSafeHash:
					if eventID != "$"+signing.Base64(hash[:]).URLSafe() {
						t.Errorf("%s of %x", eventID, hash)
					}
				}
			}
		})
	}
}

// Spec: server-server-api#calculating-the-reference-hash-for-an-event, server-server-api#calculating-the-content-hash-for-an-event
func TestHashes(t *testing.T) {
	t.Parallel()
	for _, rules := range roomversion.All() {
		f := newFixture(t, rules.Version)
		p := f.build(f.message("x"))
		bare := must(canonicaljson.AppendWithout(nil, p.Bytes(), "hashes", "signatures"))
		content := must(event.ContentHash(p.Bytes()))
		if content != sha256.Sum256(bare) {
			t.Errorf("version %s: content hash", rules.Version)
		}
		if text, _ := canonicaljson.String(canonicaljson.Get(canonicaljson.Get(p.Bytes(), "hashes"), "sha256")); text != signing.Base64(content[:]).String() {
			t.Errorf("version %s: the event says %s", rules.Version, text)
		}
		withUnsigned := must(canonicaljson.AppendWith(nil, p.Bytes(), "unsigned", []byte(`{"age":1}`)))
		if must(event.ContentHash(withUnsigned)) != content || must(event.ReferenceHash(rules, withUnsigned)) != must(p.ReferenceHash()) {
			t.Errorf("version %s: the hashes cover unsigned", rules.Version)
		}
	}
}

// Spec: rooms/v1#event-format
func TestBuildWritesReferenceHashesOfEdges(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "2")
	draft := f.message("x")
	draft.ReferenceHash = func(eventID id.EventID) ([32]byte, bool) { return [32]byte{}, eventID == f.eventID('p') }
	p := f.build(draft)
	if got := string(canonicaljson.Get(p.Bytes(), "prev_events")); got != `[["$pbc:example.org",{"sha256":"`+strings.Repeat("A", 43)+`"}]]` {
		t.Error(got)
	}
	if got := string(canonicaljson.Get(p.Bytes(), "auth_events")); !strings.HasPrefix(got, `[["$abc:example.org",{}],`) {
		t.Error(got)
	}
}

func TestBuildTakesTheEventIDOfItsDraft(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "1")
	draft := f.message("x")
	draft.EventID = must(id.ParseEventID("$chosen:example.org"))
	if p := f.build(draft); p.EventID() != draft.EventID {
		t.Errorf("%s", p.EventID())
	}
}

// Spec: rooms/v12#event-format
func TestCreateEventMakesItsRoomID(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "12")
	draft := f.draft(event.TypeCreate, ptr(""), `{"room_version":"12"}`)
	draft.RoomID, draft.PrevEvents, draft.AuthEvents, draft.Depth = id.RoomID{}, nil, nil, 1
	p := f.build(draft)
	if want := "!" + p.EventID().String()[1:]; p.RoomID().String() != want || p.HasRoomID() {
		t.Errorf("room ID %s, want %s; in the event: %v", p.RoomID(), want, p.HasRoomID())
	}
	same(t, p, must(event.Parse(f.rules, p.Bytes())))
	same(t, p, must(event.Load(f.rules, p.EventID(), p.Bytes())))

	draft.RoomID = f.roomID() // the auth rules reject this one
	if p := f.build(draft); !p.HasRoomID() || p.RoomID().String() != "!"+p.EventID().String()[1:] {
		t.Errorf("with a room_id: %s, %v", p.RoomID(), p.HasRoomID())
	}
}

// Spec: rooms/v11#moving-the-redacts-property-of-mroomredaction-events-to-a-content-property
func TestBuildWritesRedactsWhereTheVersionHasIt(t *testing.T) {
	t.Parallel()
	for _, rules := range roomversion.All() {
		f := newFixture(t, rules.Version)
		draft := f.draft(event.TypeRedaction, nil, `{"reason":"x","zzz":1}`)
		draft.Redacts = f.eventID('r')
		p := f.build(draft)
		if p.Redacts() != draft.Redacts {
			t.Errorf("version %s: redacts %s", rules.Version, p.Redacts())
		}
		top, inside := canonicaljson.Get(p.Bytes(), "redacts") != nil, canonicaljson.Get(p.Content(), "redacts") != nil
		if inside != rules.RedactsInContent || top == rules.RedactsInContent {
			t.Errorf("version %s: top %v, content %v", rules.Version, top, inside)
		}
		same(t, p, must(event.Parse(rules, p.Bytes())))
	}
}

func TestBuildRefuses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 256)
	umlauts := strings.Repeat("ä", 128) // 128 characters, 256 bytes
	for name, c := range map[string]struct {
		change func(*event.Draft)
		kind   event.Kind
		field  string
	}{
		"a type of 256 bytes":           {func(d *event.Draft) { d.Type = long }, event.TooLarge, "type"},
		"a type of 128 characters":      {func(d *event.Draft) { d.Type = umlauts }, event.TooLarge, "type"},
		"a state key of 256 bytes":      {func(d *event.Draft) { d.StateKey = &long }, event.TooLarge, "state_key"},
		"a state key of 128 characters": {func(d *event.Draft) { d.StateKey = &umlauts }, event.TooLarge, "state_key"},
		"an event of over 64 KiB":       {func(d *event.Draft) { d.Content = []byte(`{"x":"` + strings.Repeat("x", 65536) + `"}`) }, event.TooLarge, ""},
		"content that is no object":     {func(d *event.Draft) { d.Content = []byte(`[]`) }, event.BadFormat, "content"},
		"content that is no JSON":       {func(d *event.Draft) { d.Content = []byte(`{`) }, event.BadJSON, ""},
		"content with duplicate keys":   {func(d *event.Draft) { d.Content = []byte(`{"a":1,"a":2}`) }, event.BadJSON, ""},
		"no content":                    {func(d *event.Draft) { d.Content = nil }, event.BadJSON, ""},
		"21 prev events":                {func(d *event.Draft) { d.PrevEvents = slices.Repeat(d.PrevEvents, 21) }, event.BadFormat, "prev_events"},
		"11 auth events":                {func(d *event.Draft) { d.AuthEvents = slices.Repeat(d.AuthEvents[:1], 11) }, event.BadFormat, "auth_events"},
		"no sender":                     {func(d *event.Draft) { d.Sender = id.UserID{} }, event.BadFormat, "sender"},
		"no room":                       {func(d *event.Draft) { d.RoomID = id.RoomID{} }, event.BadFormat, "room_id"},
		"a negative depth":              {func(d *event.Draft) { d.Depth = -1 }, event.BadFormat, "depth"},
	} {
		for _, rules := range roomversion.All() {
			t.Run(name+"/v"+rules.Version, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, rules.Version)
				draft := f.message("x")
				c.change(&draft)
				_, err := event.Build(rules, draft, f.signer)
				var e *event.Error
				if !errors.As(err, &e) || e.Kind != c.kind || e.Field != c.field {
					t.Fatalf("%v", err)
				}
			})
		}
	}
}

// Spec: client-server-api#size-limits
func TestBuildTakesWhatIsJustWithinTheLimits(t *testing.T) {
	t.Parallel()
	for _, rules := range roomversion.All() {
		f := newFixture(t, rules.Version)
		longest := strings.Repeat("ä", 127) + "x"
		draft := f.draft(longest, &longest, `{}`)
		draft.PrevEvents, draft.AuthEvents = slices.Repeat(draft.PrevEvents, 20), slices.Repeat(draft.AuthEvents[:1], 10)
		size := len(f.build(draft).Bytes())
		fill := event.MaxSize - size - len(`"x":""`)
		draft.Content = []byte(`{"x":"` + strings.Repeat("x", fill) + `"}`)
		p := f.build(draft)
		if len(p.Bytes()) != event.MaxSize {
			t.Fatalf("version %s: %d bytes", rules.Version, len(p.Bytes()))
		}
		same(t, p, must(event.Parse(rules, p.Bytes())))
		draft.Content = []byte(`{"x":"` + strings.Repeat("x", fill+1) + `"}`)
		var e *event.Error
		if _, err := event.Build(rules, draft, f.signer); !errors.As(err, &e) || e.Kind != event.TooLarge {
			t.Errorf("version %s: one byte more: %v", rules.Version, err)
		}
	}
}

// Spec: rooms/v6#canonical-json, rooms/v1#canonical-json
func TestBuildTakesFloatsOnlyBeforeVersion6(t *testing.T) {
	t.Parallel()
	for _, rules := range roomversion.All() {
		f := newFixture(t, rules.Version)
		p, err := event.Build(rules, f.draft("x", nil, `{"f":1.50,"big":9007199254740993}`), f.signer)
		if (err == nil) == rules.StrictCanonicalJSON {
			t.Errorf("version %s: %v", rules.Version, err)
		}
		if err == nil && string(p.Content()) != `{"big":9007199254740993,"f":1.5}` {
			t.Errorf("version %s: %s", rules.Version, p.Content())
		}
	}
}

// Spec: rooms/v6#event-format
func TestDepthEndsWhereTheVersionSays(t *testing.T) {
	t.Parallel()
	for _, rules := range roomversion.All() {
		f := newFixture(t, rules.Version)
		for depth, ok := range map[int64]bool{0: true, 1<<53 - 1: true, 1 << 53: !rules.StrictCanonicalJSON, 1<<63 - 1: !rules.StrictCanonicalJSON} {
			draft := f.message("x")
			draft.Depth = depth
			p, err := event.Build(rules, draft, f.signer)
			if (err == nil) != ok || ok && p.Depth() != depth {
				t.Errorf("version %s: depth %d: %v", rules.Version, depth, err)
			}
		}
	}
}

func TestSignAddsASignature(t *testing.T) {
	t.Parallel()
	for _, rules := range roomversion.All() {
		f := newFixture(t, rules.Version)
		other := signer(t, "other.example", 2)
		p := f.build(f.draft(event.TypeMember, ptr("@bob:other.example"), `{"membership":"invite"}`))
		both, err := p.Sign(other)
		if err != nil {
			t.Fatal(err)
		}
		if both.EventID() != p.EventID() || len(both.SignedBy(other.ServerName())) != 1 || len(p.SignedBy(other.ServerName())) != 0 {
			t.Errorf("version %s: %s", rules.Version, both.Bytes())
		}
		if err := event.Verify(both, f); err != nil {
			t.Errorf("version %s: the first signature: %v", rules.Version, err)
		}
		redacted := must(event.Redact(rules, both.Bytes()))
		err = signing.VerifyJSON(redacted, "other.example", f.keysOf(other))
		if err != nil {
			t.Errorf("version %s: the second signature: %v", rules.Version, err)
		}
		same(t, both, must(event.Parse(rules, both.Bytes())))
	}
}
