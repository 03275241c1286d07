package eventfilter_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"stoa/matrix/eventfilter"
)

func parse(t testing.TB, text string) *eventfilter.RoomEventFilter {
	t.Helper()
	f, err := eventfilter.ParseRoomEvents([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestAllows(t *testing.T) {
	t.Parallel()
	event := eventfilter.Event{
		Type: "m.room.message", Sender: "@alice:example.org", RoomID: "!a:example.org", Content: []byte(`{"body":"x"}`),
	}
	image := event
	image.Content = []byte(`{"body":"x","url":"mxc://example.org/a"}`)
	nested := event
	nested.Content = []byte(`{"file":{"url":"mxc://example.org/a"}}`)
	for name, c := range map[string]struct {
		filter string
		event  eventfilter.Event
		want   bool
	}{
		"all_types_if_absent":                  {`{}`, event, true},
		"no_type_of_an_empty_list":             {`{"types":[]}`, event, false},
		"a_listed_type":                        {`{"types":["a","m.room.message"]}`, event, true},
		"no_type_that_is_not_listed":           {`{"types":["m.room"]}`, event, false},
		"a_type_by_wildcard":                   {`{"types":["m.room.*"]}`, event, true},
		"a_type_by_wildcard_in_front":          {`{"types":["*.message"]}`, event, true},
		"a_type_by_wildcards_for_nothing":      {`{"types":["m.*room.message*"]}`, event, true},
		"no_type_in_another_case":              {`{"types":["M.ROOM.*"]}`, event, false},
		"question_marks_as_themselves":         {`{"types":["m.room.messag?"]}`, event, false},
		"no_overlapping_pieces":                {`{"types":["m.room.message*e"]}`, event, false},
		"no_excluded_type":                     {`{"not_types":["m.room.message"]}`, event, false},
		"no_type_excluded_by_wildcard":         {`{"not_types":["m.*"]}`, event, false},
		"no_type_both_listed_and_excluded":     {`{"types":["m.room.message"],"not_types":["*"]}`, event, false},
		"all_if_none_are_excluded":             {`{"not_types":[],"not_senders":[],"not_rooms":[]}`, event, true},
		"a_listed_sender":                      {`{"senders":["@alice:example.org"]}`, event, true},
		"no_sender_that_is_not_listed":         {`{"senders":["@bob:example.org"]}`, event, false},
		"no_sender_of_an_empty_list":           {`{"senders":[]}`, event, false},
		"no_excluded_sender":                   {`{"not_senders":["@alice:example.org"]}`, event, false},
		"no_sender_both_listed_and_excluded":   {`{"senders":["@alice:example.org"],"not_senders":["@alice:example.org"]}`, event, false},
		"a_listed_room":                        {`{"rooms":["!a:example.org"]}`, event, true},
		"no_room_that_is_not_listed":           {`{"rooms":["!b:example.org"]}`, event, false},
		"no_room_of_an_empty_list":             {`{"rooms":[]}`, event, false},
		"no_excluded_room":                     {`{"not_rooms":["!a:example.org"]}`, event, false},
		"no_room_both_listed_and_excluded":     {`{"rooms":["!a:example.org"],"not_rooms":["!a:example.org"]}`, event, false},
		"events_with_url_if_asked_for":         {`{"contains_url":true}`, image, true},
		"no_events_without_url_if_asked_for":   {`{"contains_url":true}`, event, false},
		"no_events_with_url_if_not_wanted":     {`{"contains_url":false}`, image, false},
		"events_without_url_if_url_not_wanted": {`{"contains_url":false}`, event, true},
		"a_url_only_in_content_itself":         {`{"contains_url":true}`, nested, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := parse(t, c.filter)
			if got := f.Allows(c.event); got != c.want {
				t.Errorf("%s allows %v, want %v", c.filter, got, c.want)
			}
			if f.AllowsAll() && !c.want || f.AllowsNone() && c.want {
				t.Errorf("%s: AllowsAll %v, AllowsNone %v", c.filter, f.AllowsAll(), f.AllowsNone())
			}
		})
	}
}

func TestAllowsNone(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		`{}`: false, `{"types":[]}`: true, `{"senders":[]}`: true, `{"rooms":[]}`: true, `{"types":["*"]}`: false,
		`{"not_types":["*"]}`: false,
	} {
		if got := parse(t, text).AllowsNone(); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestRoomFilter(t *testing.T) {
	t.Parallel()
	f, err := eventfilter.Parse([]byte(`{"room":{"rooms":["!a:b","!b:b"],"not_rooms":["!b:b"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if !f.Room.AllowsRoom(mustRoom(t, "!a:b")) || f.Room.AllowsRoom(mustRoom(t, "!b:b")) || f.Room.AllowsRoom(mustRoom(t, "!c:b")) {
		t.Error("only the room that is listed and not excluded is allowed")
	}
	only, listed := f.Room.OnlyRooms()
	slices.Sort(only)
	if !listed || !slices.Equal(only, []string{"!a:b", "!b:b"}) || f.Room.AllowsAllRooms() {
		t.Errorf("listed %v, %v", only, listed)
	}
	if _, listed := eventfilter.Everything().Room.OnlyRooms(); listed {
		t.Error("no filter lists no rooms")
	}
	if !eventfilter.AllRoomEvents().AllowsAll() || !eventfilter.AllRoomEvents().AllowsRoom(mustRoom(t, "!a:b")) {
		t.Error("no filter allows all")
	}
}

func TestRelations(t *testing.T) {
	t.Parallel()
	related := []eventfilter.Relation{{RelType: "m.thread", Sender: "@a:b"}, {RelType: "m.annotation", Sender: "@b:b"}}
	for text, want := range map[string]bool{
		`{}`:                                    true,
		`{"related_by_senders":["@a:b"]}`:       true,
		`{"related_by_senders":["@c:b"]}`:       false,
		`{"related_by_rel_types":["m.thread"]}`: true,
		`{"related_by_rel_types":[]}`:           false,
		`{"related_by_senders":["@a:b"],"related_by_rel_types":["m.thread"]}`: true,
		`{"related_by_senders":["@b:b"],"related_by_rel_types":["m.thread"]}`: false,
	} {
		f := parse(t, text)
		if got := f.AllowsRelations(related); got != want {
			t.Errorf("%s: %v", text, got)
		}
		if f.AsksForRelations() == (text == `{}`) {
			t.Errorf("%s: AsksForRelations", text)
		}
	}
}

// TestWildcards compares with regular expressions.
func TestWildcards(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 1))
	text := func(alphabet string, length int) string {
		var b strings.Builder
		for range r.IntN(length) {
			b.WriteByte(alphabet[r.IntN(len(alphabet))])
		}
		return b.String()
	}
	for range 20000 {
		pattern, value := text("ab**", 8), text("ab", 10)
		want := regexp.MustCompile("^" + strings.ReplaceAll(pattern, "*", ".*") + "$").MatchString(value)
		if got := parse(t, fmt.Sprintf(`{"types":[%q]}`, pattern)).AllowsType(value); got != want {
			t.Fatalf("%q and %q: %v", pattern, value, got)
		}
	}
}

func TestSelect(t *testing.T) {
	t.Parallel()
	const event = `{"content":{"body":"a \u00e9","m.mentions":{"user_ids":["@a:b"]},"m\\foo":1,"n":{"x":1,"y":[{"x":2}]}},"event_id":"$a","type":"t","unsigned":{"age":1}}`
	for name, c := range map[string]struct {
		fields []string
		want   string
	}{
		"nothing_if_nothing_is_wanted":      {nil, `{}`},
		"keys_of_the_top":                   {[]string{"type", "event_id"}, `{"event_id":"$a","type":"t"}`},
		"whole_objects":                     {[]string{"unsigned"}, `{"unsigned":{"age":1}}`},
		"a_property_with_its_text_as_it_is": {[]string{"content.body"}, `{"content":{"body":"a \u00e9"}}`},
		"several_properties_of_one_object":  {[]string{"content.body", "content.n.x"}, `{"content":{"body":"a \u00e9","n":{"x":1}}}`},
		"a_property_with_an_escaped_dot":    {[]string{`content.m\.mentions`}, `{"content":{"m.mentions":{"user_ids":["@a:b"]}}}`},
		"no_property_with_a_dot_unescaped":  {[]string{`content.m.mentions`}, `{}`},
		"an_escaped_backslash":              {[]string{`content.m\\foo`}, `{"content":{"m\\foo":1}}`},
		"other_escapes_as_they_are":         {[]string{`content.m\foo`}, `{"content":{"m\\foo":1}}`},
		"the_object_over_its_property":      {[]string{"content.n.x", "content.n"}, `{"content":{"n":{"x":1,"y":[{"x":2}]}}}`},
		"the_object_before_its_property":    {[]string{"content.n", "content.n.x"}, `{"content":{"n":{"x":1,"y":[{"x":2}]}}}`},
		"nothing_inside_arrays":             {[]string{"content.n.y.x"}, `{}`},
		"nothing_inside_strings":            {[]string{"type.x"}, `{}`},
		"nothing_that_is_not_there":         {[]string{"state_key", "content.z", ""}, `{}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := eventfilter.NewFields(c.fields).Select([]byte("before "), []byte(event))
			if err != nil || string(got) != "before "+c.want {
				t.Errorf("got %s, %v\nwant %s", got, err, c.want)
			}
		})
	}

	t.Run("refuses_what_is_no_object", func(t *testing.T) {
		t.Parallel()
		if got, err := eventfilter.NewFields([]string{"a"}).Select([]byte("before"), []byte(`[]`)); err == nil || string(got) != "before" {
			t.Errorf("got %s, %v", got, err)
		}
	})

	t.Run("writes_keys_that_need_escapes", func(t *testing.T) {
		t.Parallel()
		const odd = `{"a\"b":{"\u0001":1}}`
		got, err := eventfilter.NewFields([]string{"a\"b.\x01"}).Select(nil, []byte(odd))
		if err != nil || !json.Valid(got) || string(got) != odd {
			t.Errorf("got %s, %v", got, err)
		}
	})
}

func BenchmarkAllows(b *testing.B) {
	f := parse(b, `{"types":["m.room.message","m.room.*","m.call.*"],"not_senders":["@spam:example.org"],"contains_url":false}`)
	event := eventfilter.Event{
		Type: "m.room.member", Sender: "@alice:example.org", RoomID: "!a:example.org",
		Content: []byte(`{"avatar_url":"mxc://example.org/abc","displayname":"Alice","membership":"join"}`),
	}
	b.ReportAllocs()
	for b.Loop() {
		if !f.Allows(event) {
			b.Fatal("refused")
		}
	}
}

func BenchmarkSelect(b *testing.B) {
	f := eventfilter.NewFields([]string{"type", "content.body", "sender"})
	event := []byte(`{"content":{"body":"Hello, world","msgtype":"m.text"},"event_id":"$abc","origin_server_ts":1,"sender":"@a:b","type":"m.room.message"}`)
	dst := make([]byte, 0, len(event))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Select(dst, event); err != nil {
			b.Fatal(err)
		}
	}
}
