package event_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/roomversion"
)

// since says from which room version on a key is kept, and up to which.
type since struct{ first, last int }

var (
	always  = since{1, 99}
	until10 = since{1, 10}
	until5  = since{1, 5}
)

func from(version int) since { return since{version, 99} }

// kept lists what the redaction algorithm keeps, as the specification lists it for each version.
var kept = struct {
	top     map[string]since
	content map[string]map[string]since
}{
	top: map[string]since{
		"event_id": always, "type": always, "room_id": always, "sender": always, "state_key": always, "content": always,
		"hashes": always, "signatures": always, "depth": always, "prev_events": always, "auth_events": always,
		"origin_server_ts": always, "prev_state": until10, "origin": until10, "membership": until10,
	},
	content: map[string]map[string]since{
		"m.room.member":     {"membership": always, "join_authorised_via_users_server": from(9), "third_party_invite": from(11)},
		"m.room.create":     {"creator": always, "room_version": from(11), "m.federate": from(11), "anything": from(11)},
		"m.room.join_rules": {"join_rule": always, "allow": from(8)},
		"m.room.power_levels": {"ban": always, "events": always, "events_default": always, "kick": always, "redact": always,
			"state_default": always, "users": always, "users_default": always, "invite": from(11)},
		"m.room.aliases":            {"aliases": until5},
		"m.room.history_visibility": {"history_visibility": always},
		"m.room.redaction":          {"redacts": from(11)},
		"m.room.message":            {},
		"m.room.name":               {},
	},
}

// allContentKeys are put into the content of each type, so that a key kept for the wrong type shows.
var allContentKeys = []string{"membership", "join_authorised_via_users_server", "creator", "room_version", "m.federate", "anything",
	"join_rule", "allow", "ban", "events", "events_default", "kick", "redact", "state_default", "users", "users_default", "invite",
	"notifications", "aliases", "history_visibility", "redacts", "reason", "body", "displayname", "name"}

// Spec: rooms/v1#redactions, rooms/v6#redactions, rooms/v8#redactions, rooms/v9#redactions, rooms/v11#redactions
func TestRedactKeepsWhatTheVersionSays(t *testing.T) {
	t.Parallel()
	for number, rules := range roomversion.All() {
		version := number + 1
		keeps := func(s since) bool { return s.first <= version && version <= s.last }
		for evType, contentKeys := range kept.content {
			t.Run("v"+rules.Version+"/"+evType, func(t *testing.T) {
				t.Parallel()
				content := map[string]any{"third_party_invite": map[string]any{"signed": map[string]any{"token": "x"}, "display_name": "y"}}
				for _, key := range allContentKeys {
					content[key] = "x"
				}
				object := map[string]any{"type": evType, "content": content, "unsigned": map[string]any{"age": 1}, "redacts": "$x", "extra": 1, "age_ts": 5}
				for key := range kept.top {
					if object[key] == nil {
						object[key] = "x"
					}
				}
				redacted, err := event.Redact(rules, must(canonicaljson.Marshal(object)))
				if err != nil {
					t.Fatal(err)
				}
				var got map[string]json.RawMessage
				if err := json.Unmarshal(redacted, &got); err != nil {
					t.Fatal(err)
				}
				for key := range object {
					want, listed := kept.top[key]
					if _, there := got[key]; there != (listed && keeps(want)) {
						t.Errorf("key %s: kept %v", key, there)
					}
				}
				var left map[string]json.RawMessage
				if err := json.Unmarshal(got["content"], &left); err != nil {
					t.Fatal(err)
				}
				for key := range content {
					want, listed := contentKeys[key]
					wanted := listed && keeps(want) || evType == "m.room.create" && version >= 11
					if _, there := left[key]; there != wanted {
						t.Errorf("content key %s: kept %v", key, there)
					}
				}
				if invite, there := left["third_party_invite"]; there && evType == "m.room.member" && string(invite) != `{"signed":{"token":"x"}}` {
					t.Errorf("third_party_invite is %s", invite)
				}
				if again := must(event.Redact(rules, redacted)); string(again) != string(redacted) {
					t.Errorf("redacted again it is %s, not %s", again, redacted)
				}
			})
		}
	}
}

// Spec: rooms/v11#redactions
func TestRedactThirdPartyInvite(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ in, want string }{
		"keeps signed whatever it is":    {`{"third_party_invite":{"signed":5,"x":1}}`, `{"third_party_invite":{"signed":5}}`},
		"keeps an object without signed": {`{"third_party_invite":{"x":1}}`, `{"third_party_invite":{}}`},
		"drops what is no object":        {`{"membership":"invite","third_party_invite":"x"}`, `{"membership":"invite"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, rules := range roomversion.All()[10:] {
				got, err := event.Redact(rules, []byte(`{"content":`+c.in+`,"type":"m.room.member"}`))
				if err != nil || string(got) != `{"content":`+c.want+`,"type":"m.room.member"}` {
					t.Errorf("version %s: %s, %v", rules.Version, got, err)
				}
			}
		})
	}
}

func TestRedactRefusesWhatIsNoEvent(t *testing.T) {
	t.Parallel()
	rules, _ := roomversion.Of("11")
	for _, bad := range []string{``, `[]`, `{}`, `{"type":1}`, `{"content":1,"type":"x"}`, `{"type":"x"`} {
		if got, err := event.Redact(rules, []byte(bad)); err == nil {
			t.Errorf("%s became %s", bad, got)
		}
	}
}

func TestRedactedKeepsTheEventItself(t *testing.T) {
	t.Parallel()
	for _, rules := range roomversion.All() {
		f := newFixture(t, rules.Version)
		p := f.build(f.draft("m.room.name", ptr(""), `{"name":"x"}`))
		redacted := p.Redacted()
		if redacted.EventID() != p.EventID() || redacted.RoomID() != p.RoomID() || redacted.Sender() != p.Sender() ||
			!redacted.IsState() || string(redacted.Content()) != `{}` || redacted.HashMismatch() {
			t.Errorf("version %s: %s", rules.Version, redacted.Bytes())
		}
		if redacted.Redacted() != redacted {
			t.Errorf("version %s: a redacted event is redacted to another", rules.Version)
		}
		if err := event.Verify(redacted, f); err != nil {
			t.Errorf("version %s: the redacted event does not verify: %v", rules.Version, err)
		}
		if string(p.Content()) != `{"name":"x"}` {
			t.Errorf("version %s: the event itself changed", rules.Version)
		}
	}
}

func TestRedactedEventHasTheSameID(t *testing.T) {
	t.Parallel()
	for _, rules := range roomversion.All() {
		f := newFixture(t, rules.Version)
		p := f.build(f.message("x"))
		redacted, err := event.Parse(rules, must(event.Redact(rules, p.Bytes())))
		if err != nil || redacted.EventID() != p.EventID() {
			t.Errorf("version %s: %v", rules.Version, err)
			continue
		}
		if !redacted.HashMismatch() || strings.Contains(string(redacted.Bytes()), "msgtype") {
			t.Errorf("version %s: %s", rules.Version, redacted.Bytes())
		}
		if !slices.Equal(redacted.PrevEvents(), p.PrevEvents()) {
			t.Errorf("version %s: the edges changed", rules.Version)
		}
	}
}
