package event_test

import (
	"encoding/json"
	"testing"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/roomversion"
)

func canonicalize(raw []byte) ([]byte, error) { return canonicaljson.AppendLoose(nil, raw) }

// Spec: client-server-api#room-event-format
func TestAppendClient(t *testing.T) {
	t.Parallel()
	for _, rules := range roomversion.All() {
		f := newFixture(t, rules.Version)
		p := f.build(f.draft("m.room.topic", ptr("k\"\n"), `{"topic":"日本"}`))
		want := `{"content":{"topic":"日本"},"event_id":"` + p.EventID().String() + `","origin_server_ts":1700000000000,"sender":"@alice:example.org","state_key":"k\"\n","type":"m.room.topic"`
		if got := string(event.AppendClient([]byte("["), p)); got != "["+want {
			t.Errorf("version %s: %s, want %s", rules.Version, got, want)
		}
		message := f.build(f.message("x"))
		want = `{"content":{"body":"x","msgtype":"m.text"},"event_id":"` + message.EventID().String() + `","origin_server_ts":1700000000000,"sender":"@alice:example.org","type":"m.room.message"`
		if got := string(event.AppendClient(nil, message)); got != want {
			t.Errorf("version %s: %s, want %s", rules.Version, got, want)
		}
	}
}

// Spec: rooms/v11#moving-the-redacts-property-of-mroomredaction-events-to-a-content-property
func TestAppendClientShowsRedactsInBothPlaces(t *testing.T) {
	t.Parallel()
	for _, rules := range roomversion.All() {
		for _, content := range []string{`{"reason":"x"}`, `{}`, `{"redacts":"$other","zzz":1}`} {
			f := newFixture(t, rules.Version)
			draft := f.draft(event.TypeRedaction, nil, content)
			draft.Redacts = f.eventID('r')
			p := f.build(draft)
			var got struct {
				Redacts string
				Content map[string]any
			}
			text := append(event.AppendClient(nil, p), '}')
			if err := canonicaljson.Check(text); err != nil {
				t.Fatalf("version %s: %s: %v", rules.Version, text, err)
			}
			if err := json.Unmarshal(text, &got); err != nil {
				t.Fatal(err)
			}
			if want := draft.Redacts.String(); got.Redacts != want || got.Content["redacts"] != want {
				t.Errorf("version %s: %s", rules.Version, text)
			}
		}
		f := newFixture(t, rules.Version)
		plain := f.build(f.draft(event.TypeRedaction, nil, `{}`))
		if text := event.AppendClient(nil, plain); canonicaljson.Get(append(text, '}'), "redacts") != nil {
			t.Errorf("version %s: a redaction of nothing is shown as %s", rules.Version, text)
		}
	}
}

// Spec: client-server-api#stripped-state
func TestStrippedState(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "12")
	got := string(event.StrippedState(f.build(f.draft("m.room.name", ptr(""), `{"name":"x"}`))))
	if want := `{"content":{"name":"x"},"sender":"@alice:example.org","state_key":"","type":"m.room.name"}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestAppendFederation(t *testing.T) {
	t.Parallel()
	for _, rules := range roomversion.All() {
		f := newFixture(t, rules.Version)
		p := f.build(f.message("x"))
		if got := string(event.AppendFederation(nil, p, false)) + "}"; got != string(p.Bytes()) {
			t.Errorf("version %s: %s", rules.Version, got)
		}
		text := append(event.AppendFederation(nil, p, true), '}')
		if err := canonicaljson.Check(text); err != nil {
			t.Errorf("version %s: %s: %v", rules.Version, text, err)
		}
		if got, _ := canonicaljson.String(canonicaljson.Get(text, "event_id")); got != p.EventID().String() {
			t.Errorf("version %s: %s", rules.Version, text)
		}
	}
}
