package eventfilter_test

import (
	"encoding/json"
	"strings"
	"testing"

	"stoa/matrix/eventfilter"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

func mustRoom(t testing.TB, s string) id.RoomID {
	t.Helper()
	roomID, err := id.ParseRoomID(s)
	if err != nil {
		t.Fatal(err)
	}
	return roomID
}

func TestParse(t *testing.T) {
	t.Parallel()

	t.Run("reads_the_example_of_the_specification", func(t *testing.T) {
		t.Parallel()
		f, err := eventfilter.Parse([]byte(`{
			"room": {
				"state": {"types": ["m.room.*"], "not_rooms": ["!726s6s6q:example.com"]},
				"timeline": {"limit": 10, "types": ["m.room.message"], "not_rooms": ["!726s6s6q:example.com"],
					"not_senders": ["@spam:example.com"]},
				"ephemeral": {"types": ["m.receipt", "m.typing"], "not_rooms": ["!726s6s6q:example.com"],
					"not_senders": ["@spam:example.com"]}
			},
			"presence": {"types": ["m.presence"], "not_senders": ["@alice:example.com"]},
			"event_format": "client",
			"event_fields": ["type", "content", "sender"]
		}`))
		if err != nil {
			t.Fatal(err)
		}
		event := eventfilter.Event{Type: "m.room.message", Sender: "@a:example.com", RoomID: "!a:example.com"}
		spam, elsewhere := event, event
		spam.Sender = "@spam:example.com"
		elsewhere.RoomID = "!726s6s6q:example.com"
		if !f.Room.Timeline.Allows(event) || f.Room.Timeline.Allows(spam) || f.Room.Timeline.Allows(elsewhere) {
			t.Error("the timeline should have messages of all but one sender and room")
		}
		if f.Room.Timeline.Limit() != 10 || f.EventFormat != eventfilter.FormatClient || f.EventFields == nil {
			t.Errorf("read %+v", f)
		}
		if f.Presence.AllowsSender("@alice:example.com") || !f.Presence.AllowsType("m.presence") {
			t.Error("presence should be that of all but one user")
		}
	})

	t.Run("allows_all_and_has_defaults_without_any_key", func(t *testing.T) {
		t.Parallel()
		f, err := eventfilter.Parse([]byte(` {} `))
		if err != nil {
			t.Fatal(err)
		}
		for name, section := range map[string]*eventfilter.RoomEventFilter{
			"timeline": &f.Room.Timeline, "state": &f.Room.State, "ephemeral": &f.Room.Ephemeral, "account_data": &f.Room.AccountData,
		} {
			if !section.AllowsAll() || section.AllowsNone() || section.AsksForRelations() || section.LazyLoadMembers ||
				section.IncludeRedundantMembers || section.UnreadThreadNotifications {
				t.Errorf("%s: %+v", name, section)
			}
		}
		if f.Room.IncludeLeave || f.EventFields != nil || f.Room.Timeline.Limit() != eventfilter.DefaultLimit ||
			f.Room.Timeline.LimitOr(7) != 7 || !f.Room.AllowsAllRooms() {
			t.Errorf("%+v", f)
		}
	})

	t.Run("reads_flags", func(t *testing.T) {
		t.Parallel()
		f, err := eventfilter.Parse([]byte(`{"event_format":"federation","room":{"include_leave":true,
			"timeline":{"unread_thread_notifications":true},
			"state":{"include_redundant_members":true,"lazy_load_members":true}}}`))
		if err != nil {
			t.Fatal(err)
		}
		if f.EventFormat != eventfilter.FormatFederation || !f.Room.IncludeLeave || !f.Room.Timeline.UnreadThreadNotifications ||
			!f.Room.State.LazyLoadMembers || !f.Room.State.IncludeRedundantMembers {
			t.Errorf("%+v", f)
		}
	})

	t.Run("takes_include_redundant_members_only_with_lazy_load_members", func(t *testing.T) {
		t.Parallel()
		f, err := eventfilter.ParseRoomEvents([]byte(`{"include_redundant_members":true,"lazy_load_members":false}`))
		if err != nil || f.IncludeRedundantMembers {
			t.Errorf("%+v, %v", f, err)
		}
	})

	t.Run("ignores_unknown_keys", func(t *testing.T) {
		t.Parallel()
		f, err := eventfilter.Parse([]byte(`{"org.example":1,"Room":1,"room":{"x":[],"timeline":{"y":{},"TYPES":3}},"presence":{"rooms":3}}`))
		if err != nil || !f.Room.Timeline.AllowsAll() {
			t.Errorf("%+v, %v", f, err)
		}
	})
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	wildcards := `{"presence":{"types":["` + strings.Repeat(`*a","`, eventfilter.MaxWildcards) + `*"]}}`
	for name, c := range map[string]struct{ text, code string }{
		"no_JSON":                        {`{"room":`, mxerr.CodeNotJSON},
		"nothing":                        {``, mxerr.CodeNotJSON},
		"two_texts":                      {`{}{}`, mxerr.CodeNotJSON},
		"an_array":                       {`[]`, mxerr.CodeBadJSON},
		"null":                           {`null`, mxerr.CodeBadJSON},
		"a_key_twice":                    {`{"room":{},"room":{}}`, mxerr.CodeBadJSON},
		"depth":                          {`{"x":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`, mxerr.CodeBadJSON},
		"size":                           {`{"x":"` + strings.Repeat("a", eventfilter.MaxSize) + `"}`, mxerr.CodeTooLarge},
		"too_many_wildcards":             {wildcards, mxerr.CodeTooLarge},
		"a_room_that_is_no_object":       {`{"room":[]}`, mxerr.CodeBadJSON},
		"a_timeline_that_is_null":        {`{"room":{"timeline":null}}`, mxerr.CodeBadJSON},
		"fields_that_are_no_array":       {`{"event_fields":"type"}`, mxerr.CodeBadJSON},
		"fields_that_are_no_strings":     {`{"event_fields":[1]}`, mxerr.CodeBadJSON},
		"an_unknown_format":              {`{"event_format":"xml"}`, mxerr.CodeBadJSON},
		"a_format_that_is_no_string":     {`{"event_format":1}`, mxerr.CodeBadJSON},
		"a_negative_limit":               {`{"presence":{"limit":-1}}`, mxerr.CodeBadJSON},
		"a_limit_with_a_fraction":        {`{"presence":{"limit":1.5}}`, mxerr.CodeBadJSON},
		"a_limit_in_a_string":            {`{"presence":{"limit":"1"}}`, mxerr.CodeBadJSON},
		"types_that_are_no_array":        {`{"account_data":{"types":{}}}`, mxerr.CodeBadJSON},
		"not_types_that_are_null":        {`{"account_data":{"not_types":null}}`, mxerr.CodeBadJSON},
		"senders_that_are_no_users":      {`{"room":{"state":{"senders":["alice"]}}}`, mxerr.CodeBadJSON},
		"not_senders_that_are_no_users":  {`{"room":{"state":{"not_senders":["!a:b"]}}}`, mxerr.CodeBadJSON},
		"rooms_that_are_no_rooms":        {`{"room":{"rooms":["#a:b"]}}`, mxerr.CodeBadJSON},
		"not_rooms_that_are_no_rooms":    {`{"room":{"timeline":{"not_rooms":["@a:b"]}}}`, mxerr.CodeBadJSON},
		"include_leave_that_is_a_number": {`{"room":{"include_leave":1}}`, mxerr.CodeBadJSON},
		"contains_url_that_is_null":      {`{"room":{"timeline":{"contains_url":null}}}`, mxerr.CodeBadJSON},
		"lazy_load_members_in_a_string":  {`{"room":{"state":{"lazy_load_members":"true"}}}`, mxerr.CodeBadJSON},
		"related_by_senders_no_users":    {`{"room":{"timeline":{"related_by_senders":["x"]}}}`, mxerr.CodeBadJSON},
		"related_by_rel_types_no_array":  {`{"room":{"timeline":{"related_by_rel_types":"m.thread"}}}`, mxerr.CodeBadJSON},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := eventfilter.Parse([]byte(c.text)); !mxerr.Is(err, c.code) {
				t.Errorf("got %v, want %s", err, c.code)
			}
		})
	}
}

func TestLimit(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		`1`: 1, `1000`: 1000, `1001`: eventfilter.MaxLimit, `99999999999999999999999999`: eventfilter.MaxLimit,
		`0`: 0, // clients ask for no events like this, though the specification wants more than 0
	} {
		f, err := eventfilter.ParseRoomEvents([]byte(`{"limit":` + text + `}`))
		if err != nil || f.Limit() != want || f.LimitOr(3) != want {
			t.Errorf("limit %s: %v, want %d", text, err, want)
		}
	}
}

func TestPathInErrors(t *testing.T) {
	t.Parallel()
	_, err := eventfilter.Parse([]byte(`{"room":{"state":{},"timeline":{"types":[3]}}}`))
	if e, ok := mxerr.As(err); !ok || e.Message != "room.timeline.types of a filter must be an array of strings." {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`{"room":{"timeline":{"limit":10,"types":["m.*"],"rooms":["!a:b"],"related_by_senders":["@a:b"]}},"event_fields":["a\\.b.c"]}`)
	f.Add(`{"presence":{"not_types":["*"],"senders":[]},"event_format":"client"}`)
	f.Add(`{"room":{"include_leave":true,"state":{"contains_url":false,"lazy_load_members":true}}}`)
	event := eventfilter.Event{Type: "m.room.message", Sender: "@a:b", RoomID: "!a:b", Content: []byte(`{"url":1}`)}
	raw := []byte(`{"content":{"body":"a","c":{"d":1}},"type":"m.room.message","a.b":{"c":2}}`)
	f.Fuzz(func(t *testing.T, text string) {
		filter, err := eventfilter.Parse([]byte(text))
		if err != nil {
			if _, ok := mxerr.As(err); !ok {
				t.Fatalf("an error without errcode: %v", err)
			}
			return
		}
		for _, section := range []*eventfilter.RoomEventFilter{&filter.Room.Timeline, &filter.Room.State} {
			allowed := section.Allows(event)
			if section.AllowsAll() && !allowed || section.AllowsNone() && allowed {
				t.Fatalf("AllowsAll %v, AllowsNone %v, Allows %v", section.AllowsAll(), section.AllowsNone(), allowed)
			}
			if limit := section.Limit(); limit < 0 || limit > eventfilter.MaxLimit {
				t.Fatalf("limit %d", limit)
			}
		}
		if filter.EventFields != nil {
			if selected, err := filter.EventFields.Select(nil, raw); err != nil || !json.Valid(selected) {
				t.Fatalf("selected %s, %v", selected, err)
			}
		}
	})
}
