package differential

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/matrix-org/gomatrixserverlib"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/roomversion"
	"stoa/matrix/stateres"
	"stoa/matrix/stateres/staterestest"
)

// pdus is how many random events of each room version are built.
const pdus = 300

// writer makes up JSON and events.
type writer struct{ *rand.Rand }

// text is a string with what encoders get wrong.
func (w writer) text() string {
	parts := []string{"a", "Z", "é", "ß", "日", "🙂", "\"", "\\", "/", "\b", "\f", "\n", "\r", "\t", "\x00", "\x1f", "\x7f", "<", "&", "\u2028", "$", "~"}
	var s strings.Builder
	for range w.IntN(6) {
		s.WriteString(parts[w.IntN(len(parts))])
	}
	return s.String()
}

// key is a text for which gomatrixserverlib writes canonical JSON as a key: see TestEscapedKeys.
func (w writer) key() string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == '"' || r == '\\' {
			return '_'
		}
		return r
	}, w.text())
}

func (w writer) value(depth int) any {
	switch n := w.IntN(9); {
	case n == 0:
		return nil
	case n == 1:
		return w.IntN(2) == 0
	case n == 2:
		return w.Int64N(1<<53) - w.Int64N(1<<53)
	case n == 3:
		return w.IntN(100)
	case n <= 5 || depth == 0:
		return w.text()
	case n == 6:
		list := make([]any, w.IntN(4))
		for i := range list {
			list[i] = w.value(depth - 1)
		}
		return list
	}
	return w.object(depth - 1)
}

func (w writer) object(depth int) object {
	o := object{}
	for range w.IntN(5) {
		o[w.key()] = w.value(depth)
	}
	return o
}

// draft makes an event of a type that redaction knows, with all that it keeps or drops.
func (w writer) draft(room *staterestest.Room) staterestest.Draft {
	content := w.object(3)
	kinds := []string{
		event.TypeMember, event.TypeJoinRules, event.TypePowerLevels, event.TypeHistoryVisibility, event.TypeAliases,
		event.TypeRedaction, "m.room.message", "example.type",
	}
	d := staterestest.Draft{
		Type: kinds[w.IntN(len(kinds))], StateKey: w.text(), Message: w.IntN(2) == 0, Content: content,
		Sender: staterestest.Users[w.IntN(len(staterestest.Users))], TS: w.Int64N(1 << 40), Depth: w.Int64N(1 << 30),
		Prev: []stateres.Ref{room.Named("create")}, Auth: []stateres.Ref{room.Named("create")},
	}
	for _, key := range []string{
		"membership", "join_rule", "allow", "ban", "events", "events_default", "invite", "kick", "redact", "state_default", "users",
		"users_default", "notifications", "history_visibility", "aliases", "redacts", "creator", "reason",
	} {
		if w.IntN(2) == 0 {
			content[key] = w.value(2)
		}
	}
	if d.Type == event.TypeRedaction && w.IntN(2) == 0 {
		d.Redacts = room.PDU(room.Named("create")).EventID()
	}
	if d.Type == event.TypeMember {
		d.Message, d.StateKey = false, staterestest.Users[w.IntN(len(staterestest.Users))]
		content["membership"] = []string{"join", "invite", "leave"}[w.IntN(3)]
		if w.IntN(3) == 0 {
			content["third_party_invite"] = w.invite()
		}
		if w.IntN(4) == 0 {
			content["join_authorised_via_users_server"] = staterestest.Users[w.IntN(len(staterestest.Users))]
		}
	}
	return d
}

func (w writer) invite() object {
	invite := object{"display_name": w.text()}
	if w.IntN(4) > 0 {
		invite["signed"] = object{"mxid": "@a:b", "token": w.text(), "signatures": object{"c": object{"ed25519:1": "x"}}, "more": w.value(1)}
	}
	return invite
}

func eachEvent(t *testing.T, run func(t *testing.T, room *staterestest.Room, ours *event.PDU)) {
	t.Helper()
	each(t, func(t *testing.T, rules *roomversion.Rules) {
		room := staterestest.NewRoom(t, rules, staterestest.Users[0], nil)
		w := writer{rand.New(rand.NewPCG(11, 12))}
		for range pdus {
			ours, err := room.Build(w.draft(room))
			if err != nil {
				t.Fatal(err)
			}
			run(t, room, ours)
		}
	})
}

// invitesBy3PID says whether an event has a third_party_invite that redaction keeps, reduced to its key signed (from version
// 11), and whether that has the key. Event IDs and signatures depend on it.
func invitesBy3PID(t *testing.T, ours *event.PDU) (kept, signed bool) {
	t.Helper()
	if ours.Rules().Redaction < roomversion.RedactionV11 || ours.Type() != event.TypeMember {
		return false, false
	}
	invite := canonicaljson.Get(ours.Content(), "third_party_invite")
	kept = canonicaljson.IsObject(invite)
	return kept, kept && canonicaljson.Get(invite, "signed") != nil
}

// invitesElsewhere says whether an event invites a user of another server, and that server has not signed.
func invitesElsewhere(ours *event.PDU) bool {
	stateKey, _ := ours.StateKey()
	user, err := id.ParseUserID(stateKey)
	return err == nil && ours.Membership() == event.MembershipInvite && len(ours.SignedBy(user.ServerName())) == 0
}

// TestEvents_gomatrixserverlib compares event IDs, hashes, signatures and redactions.
func TestEvents_gomatrixserverlib(t *testing.T) {
	t.Parallel()
	eachEvent(t, func(t *testing.T, room *staterestest.Room, ours *event.PDU) {
		version := gmslVersion(t, ours.Rules().Version)
		theirs, err := version.NewEventFromUntrustedJSON(ours.Bytes())
		if err != nil {
			t.Fatalf("gomatrixserverlib refuses %s: %v", ours.Bytes(), err)
		}
		if theirs.Redacted() {
			t.Errorf("gomatrixserverlib finds another content hash: %s", ours.Bytes())
		}
		redacted, err := version.RedactEventJSON(ours.Bytes())
		if err == nil {
			redacted, err = gomatrixserverlib.CanonicalJSON(redacted)
		}
		if err != nil {
			t.Fatal(err)
		}
		if kept, _ := invitesBy3PID(t, ours); kept {
			if theirs.EventID() == ours.EventID().String() || bytes.Equal(redacted, ours.Redacted().Bytes()) {
				t.Errorf("gomatrixserverlib no longer drops third_party_invite: %s", ours.Bytes())
			}
			return
		}
		if theirs.EventID() != ours.EventID().String() {
			t.Errorf("gomatrixserverlib has event ID %s, we have %s: %s", theirs.EventID(), ours.EventID(), ours.Bytes())
		}
		if !bytes.Equal(redacted, ours.Redacted().Bytes()) {
			t.Errorf("redacted by gomatrixserverlib %s\nby us %s", redacted, ours.Redacted().Bytes())
		}
		keys := gmslKeys{room.Signer}
		err = gomatrixserverlib.VerifyEventSignatures(context.Background(), theirs, keys, gmslUser)
		if invitesElsewhere(ours) {
			if err == nil {
				t.Errorf("gomatrixserverlib no longer wants the signature of the invited user's server: %s", ours.Bytes())
			}
		} else if err != nil {
			t.Errorf("gomatrixserverlib refuses our signature: %v: %s", err, ours.Bytes())
		}
		signer := room.Signer(ours.Sender().ServerName())
		signed := theirs.Sign("other.example", gomatrixserverlib.KeyID(signer.KeyID().String()), ed25519.PrivateKey(privateKey(signer.Key().Seed())))
		sameSignature(t, "gomatrixserverlib", ours, signed.JSON())
	})
}

func privateKey(seed []byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(seed) }

// sameSignature compares the signature of the sender's server with that of "other.example" by the same key: it is the
// same if the signed bytes are.
func sameSignature(t *testing.T, library string, ours *event.PDU, signed []byte) {
	t.Helper()
	signature := func(text []byte, server string) string {
		var parsed struct {
			Signatures map[string]map[string]string `json:"signatures"`
		}
		if err := json.Unmarshal(text, &parsed); err != nil {
			t.Fatal(err)
		}
		return parsed.Signatures[server]["ed25519:1"]
	}
	mine, theirs := signature(ours.Bytes(), ours.Sender().ServerName().String()), signature(signed, "other.example")
	if mine == "" || mine != theirs {
		t.Errorf("%s signs %q, we %q: %s", library, theirs, mine, ours.Bytes())
	}
}

// TestTampered promises that both libraries take an event with a changed content as its redacted form, under the same ID.
func TestTampered(t *testing.T) {
	t.Parallel()
	eachEvent(t, func(t *testing.T, _ *staterestest.Room, ours *event.PDU) {
		if kept, _ := invitesBy3PID(t, ours); kept {
			return // see TestEvents_gomatrixserverlib
		}
		raw := bytes.Replace(ours.Bytes(), []byte(`"content":{`), []byte(`"content":{"example.added":1,`), 1)
		raw = bytes.Replace(raw, []byte(`1,}`), []byte(`1}`), 1)
		mine, err := event.Parse(ours.Rules(), raw)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := gmslVersion(t, ours.Rules().Version).NewEventFromUntrustedJSON(raw)
		if err != nil {
			t.Fatal(err)
		}
		if !mine.HashMismatch() {
			t.Errorf("changed content is not found out: %s", raw)
		}
		// gomatrixserverlib says "redacted" only if redaction changed something.
		if !theirs.Redacted() && !bytes.Equal(mine.Bytes(), raw) {
			t.Errorf("gomatrixserverlib does not find changed content out: %s", raw)
		}
		if mine.EventID().String() != theirs.EventID() {
			t.Errorf("event IDs %s and %s: %s", mine.EventID(), theirs.EventID(), raw)
		}
	})
}

// TestCanonicalJSON compares the canonical form of random JSON, written in a form that is far from canonical.
func TestCanonicalJSON(t *testing.T) {
	t.Parallel()
	w := writer{rand.New(rand.NewPCG(21, 22))}
	for range 3000 {
		raw := w.sprawl(w.object(4))
		ours, err := canonicaljson.Append(nil, raw)
		if err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		theirs, err := gomatrixserverlib.EnforcedCanonicalJSON(raw, gomatrixserverlib.RoomVersionV11)
		if err != nil || !bytes.Equal(ours, theirs) {
			t.Fatalf("%s\n  ours   %s\n  theirs %s (%v)", raw, ours, theirs, err)
		}
		mautrixCanonical(t, raw, ours)
	}
}

// sprawl writes JSON with spaces and escapes that nobody needs.
func (w writer) sprawl(value any) []byte {
	space := func() string { return []string{"", "", " ", "\n\t"}[w.IntN(4)] }
	var out bytes.Buffer
	var write func(value any)
	str := func(s string) {
		out.WriteByte('"')
		for _, r := range s {
			switch {
			case r < 0x20 || r == '"' || r == '\\' || w.IntN(4) == 0 && r < 0x10000:
				fmt.Fprintf(&out, `\u%04`+[]string{"x", "X"}[w.IntN(2)], r)
			case r == '/' && w.IntN(2) == 0:
				out.WriteString(`\/`)
			default:
				out.WriteRune(r)
			}
		}
		out.WriteByte('"')
	}
	write = func(value any) {
		out.WriteString(space())
		switch v := value.(type) {
		case string:
			str(v)
		case []any:
			out.WriteByte('[')
			for i, entry := range v {
				if i > 0 {
					out.WriteByte(',')
				}
				write(entry)
			}
			out.WriteByte(']')
		case object:
			out.WriteByte('{')
			first := true
			for key, entry := range v {
				if !first {
					out.WriteByte(',')
				}
				first = false
				out.WriteString(space())
				str(key)
				out.WriteString(space() + ":")
				write(entry)
			}
			out.WriteByte('}')
		default:
			text, err := json.Marshal(v)
			if err != nil {
				panic(err)
			}
			out.Write(text)
		}
		out.WriteString(space())
	}
	write(value)
	return out.Bytes()
}

// TestEscapedKeys shows that gomatrixserverlib writes keys without the escapes that they need: what it hashes and signs is
// no JSON.
//
// Spec: appendices#canonical-json
func TestEscapedKeys(t *testing.T) {
	t.Parallel()
	for raw, gmsl := range map[string]string{
		`{"a\"b":1}`:   `{"a"b":1}`,
		`{"a\\b":1}`:   `{"a\b":1}`,
		`{"\u001f":1}`: "{\"\x1f\":1}",
		`{"\n":1}`:     "{\"\n\":1}",
	} {
		ours, err := canonicaljson.Append(nil, []byte(raw))
		if err != nil || string(ours) != raw {
			t.Errorf("%s is %s for us (%v)", raw, ours, err)
		}
		theirs, err := gomatrixserverlib.EnforcedCanonicalJSON([]byte(raw), gomatrixserverlib.RoomVersionV11)
		if err != nil || string(theirs) != gmsl {
			t.Errorf("gomatrixserverlib takes %s as %q (%v), not %q any more", raw, theirs, err, gmsl)
		}
		mautrixCanonical(t, []byte(raw), ours)
	}
}

// TestLenientJSON shows what the others take as canonical JSON, or make of it, where the specification has no such JSON.
//
// Spec: appendices#canonical-json
func TestLenientJSON(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		raw string
		// gmsl and mautrix are what the libraries make of it, "" if they refuse.
		gmsl, mautrix string
	}{
		{`{"a":1E3}`, `{"a":1E3}`, `{"a":1000}`},
		{`{"a":1e3}`, ``, `{"a":1000}`},
		{`{"a":0.0}`, `{"a":0.0}`, `{"a":0}`},
		{`{"a":1.0}`, ``, `{"a":1}`},
		{`{"a":-0}`, ``, `{"a":0}`},
		{`{"a":1.5}`, ``, ``},
		{`{"a":9007199254740992}`, ``, ``},
		{`{"a":1,"a":2}`, `{"a":1,"a":2}`, ``},
		{`{"a":"\ud800"}`, `{"a":""}`, ``},
	} {
		if ours, err := canonicaljson.Append(nil, []byte(c.raw)); err == nil {
			t.Errorf("we take %s as %s", c.raw, ours)
		}
		theirs, err := gomatrixserverlib.EnforcedCanonicalJSON([]byte(c.raw), gomatrixserverlib.RoomVersionV11)
		if err != nil {
			theirs = nil
		}
		if string(theirs) != c.gmsl {
			t.Errorf("gomatrixserverlib takes %s as %q (%v), not %q any more", c.raw, theirs, err, c.gmsl)
		}
		mautrixLenient(t, c.raw, c.mautrix)
	}
}
