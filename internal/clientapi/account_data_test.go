package clientapi_test

import (
	"strings"
	"testing"
)

func TestAccountDataOfAUser(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		roomID := s.create(alice, public)
		since := s.sync(alice, "").str("next_batch")
		global := func(l login, dataType string) string {
			return v3 + "/user/" + esc(l.UserID) + "/account_data/" + esc(dataType)
		}
		inRoom := func(l login, room, dataType string) string {
			return v3 + "/user/" + esc(l.UserID) + "/rooms/" + esc(room) + "/account_data/" + esc(dataType)
		}
		s.do("GET", global(alice, "org.example.x"), alice.Token, nil).want(404, "M_NOT_FOUND")
		s.do("GET", inRoom(alice, roomID, "org.example.x"), alice.Token, nil).want(404, "M_NOT_FOUND")

		// Global and room data of one type are apart, and floats are kept: account data is no event.
		equal(t, "answer", s.do("PUT", global(alice, "org.example.x"), alice.Token, `{"a":1.5,"b":[null]}`).want(200, "").Body, object{})
		equal(t, "answer", s.do("PUT", inRoom(alice, roomID, "org.example.x"), alice.Token, `{"here":true}`).want(200, "").Body, object{})
		equal(t, "global", s.do("GET", global(alice, "org.example.x"), alice.Token, nil).want(200, "").Body, object{"a": 1.5, "b": []any{nil}})
		equal(t, "in the room", s.do("GET", inRoom(alice, roomID, "org.example.x"), alice.Token, nil).want(200, "").Body, object{"here": true})

		// The user's other devices hear of both in /sync, nobody else does.
		news := s.sync(alice, since)
		equal(t, "global in /sync", news.eventOf("org.example.x", "account_data", "events"),
			object{"type": "org.example.x", "content": object{"a": 1.5, "b": []any{nil}}})
		equal(t, "room's in /sync", news.eventOf("org.example.x", "rooms", "join", roomID, "account_data", "events"),
			object{"type": "org.example.x", "content": object{"here": true}})
		if got := s.sync(bob, ""); got.eventOf("org.example.x", "account_data", "events") != nil {
			t.Fatalf("bob reads alice's account data: %s", got.raw)
		}

		s.do("PUT", global(alice, "org.example.x"), alice.Token, object{"c": 1}).want(200, "")
		equal(t, "replaced", s.do("GET", global(alice, "org.example.x"), alice.Token, nil).want(200, "").Body, object{"c": 1})
		s.do("PUT", global(alice, "m.direct"), alice.Token, object{}).want(200, "")
		equal(t, "empty", s.do("GET", global(alice, "m.direct"), alice.Token, nil).want(200, "").Body, object{})

		// Push rules read as account data, and are no account data to write.
		if got := s.do("GET", global(alice, "m.push_rules"), alice.Token, nil).want(200, ""); dig(got.Body, "global", "override") == nil {
			t.Fatalf("push rules are %s", got.raw)
		}
	})
}

func TestAccountDataRefuses(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice, bob := s.signUp("alice"), s.signUp("bob")
	roomID := s.create(alice, public)
	user := v3 + "/user/" + esc(alice.UserID)
	for name, c := range map[string]struct {
		path    string
		body    any
		status  int
		errcode string
	}{
		"what_is_not_JSON":                   {"/account_data/a", `{`, 400, "M_NOT_JSON"},
		"a_list":                             {"/account_data/a", `[]`, 400, "M_BAD_JSON"},
		"null":                               {"/account_data/a", `null`, 400, "M_BAD_JSON"},
		"no_body":                            {"/account_data/a", nil, 400, "M_NOT_JSON"},
		"push_rules":                         {"/account_data/m.push_rules", object{}, 405, "M_BAD_JSON"},
		"a_fully_read_marker":                {"/account_data/m.fully_read", object{}, 405, "M_BAD_JSON"},
		"push_rules_of_a_room":               {"/rooms/" + esc(roomID) + "/account_data/m.push_rules", object{}, 405, "M_BAD_JSON"},
		"a_fully_read_marker_of_a_room":      {"/rooms/" + esc(roomID) + "/account_data/m.fully_read", object{}, 405, "M_BAD_JSON"},
		"a_room_that_has_no_room_ID":         {"/rooms/hall/account_data/a", object{}, 400, "M_INVALID_PARAM"},
		"a_list_for_a_room":                  {"/rooms/" + esc(roomID) + "/account_data/a", `[]`, 400, "M_BAD_JSON"},
		"a_type_that_is_too_long":            {"/account_data/" + strings.Repeat("x", 256), object{}, 400, "M_INVALID_PARAM"},
		"content_that_is_too_large":          {"/account_data/a", object{"x": strings.Repeat("x", 300<<10)}, 413, "M_TOO_LARGE"},
		"room_content_that_is_not_even_JSON": {"/rooms/" + esc(roomID) + "/account_data/a", `x`, 400, "M_NOT_JSON"},
	} {
		t.Run(name, func(t *testing.T) { s.in(t).do("PUT", user+c.path, alice.Token, c.body).want(c.status, c.errcode) })
	}
	t.Run("another_user", func(t *testing.T) {
		for _, path := range []string{"/account_data/m.direct", "/rooms/" + esc(roomID) + "/account_data/m.direct"} {
			s.do("PUT", user+path, bob.Token, object{"x": "y"}).want(403, "M_FORBIDDEN")
			s.do("GET", user+path, bob.Token, nil).want(403, "M_FORBIDDEN")
			s.do("GET", user+path, alice.Token, nil).want(404, "M_NOT_FOUND")
		}
		s.do("GET", v3+"/user/alice/account_data/m.direct", alice.Token, nil).want(400, "M_INVALID_PARAM")
	})
}

func TestTags(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		roomID := s.create(alice, public)
		since := s.sync(alice, "").str("next_batch")
		tags := v3 + "/user/" + esc(alice.UserID) + "/rooms/" + esc(roomID) + "/tags"
		put := func(tag string, body any) answer {
			return s.do("PUT", v3+"/user/"+esc(alice.UserID)+"/rooms/"+esc(roomID)+"/tags/"+esc(tag), alice.Token, body)
		}
		drop := func(l login, tag string) answer {
			return s.do("DELETE", v3+"/user/"+esc(alice.UserID)+"/rooms/"+esc(roomID)+"/tags/"+esc(tag), l.Token, nil)
		}
		want := func(want object) {
			t.Helper()
			equal(t, "tags", s.do("GET", tags, alice.Token, nil).want(200, "").Body, object{"tags": want})
		}
		want(object{})
		equal(t, "answer", put("m.favourite", object{"order": 0.25}).want(200, "").Body, object{})
		put("u.Arbeit & Spaß/2", object{}).want(200, "")
		want(object{"m.favourite": object{"order": 0.25}, "u.Arbeit & Spaß/2": object{}})
		put("m.favourite", object{"order": 0.5, "org.example.more": []int{1}}).want(200, "")
		equal(t, "in /sync", s.sync(alice, since).eventOf("m.tag", "rooms", "join", roomID, "account_data", "events"), object{
			"type": "m.tag", "content": object{"tags": object{"m.favourite": object{"order": 0.5, "org.example.more": []int{1}}, "u.Arbeit & Spaß/2": object{}}}})

		put("m.x", object{"order": "first"}).want(400, "M_BAD_JSON")
		put("m.x", object{"order": 1.5}).want(400, "M_INVALID_PARAM")
		put("m.x", `[]`).want(400, "M_BAD_JSON")
		put("m.x", `{`).want(400, "M_NOT_JSON")
		put(strings.Repeat("x", 256), object{}).want(400, "M_INVALID_PARAM")
		drop(bob, "m.favourite").want(403, "M_FORBIDDEN")
		s.do("GET", tags, bob.Token, nil).want(403, "M_FORBIDDEN")
		s.do("DELETE", v3+"/user/"+esc(alice.UserID)+"/rooms/hall/tags/x", alice.Token, nil).want(400, "M_INVALID_PARAM")
		equal(t, "answer", drop(alice, "m.favourite").want(200, "").Body, object{})
		drop(alice, "m.favourite").want(200, "")
		want(object{"u.Arbeit & Spaß/2": object{}})
		since = s.sync(alice, since).str("next_batch")
		drop(alice, "u.Arbeit & Spaß/2").want(200, "")
		equal(t, "the last tag gone, in /sync", s.sync(alice, since).eventOf("m.tag", "rooms", "join", roomID, "account_data", "events"),
			object{"type": "m.tag", "content": object{"tags": object{}}})
	})
}

func TestFilters(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		post := func(l login, user string, body any) answer {
			return s.do("POST", v3+"/user/"+esc(user)+"/filter", l.Token, body)
		}
		get := func(l login, user, name string) answer {
			return s.do("GET", v3+"/user/"+esc(user)+"/filter/"+esc(name), l.Token, nil)
		}
		filter := object{"room": object{"timeline": object{"limit": 1, "types": []string{"m.room.message"}}}, "event_format": "client", "org.example.x": true}
		name := post(alice, alice.UserID, filter).want(200, "").str("filter_id")
		if name == "" || name[0] == '{' {
			t.Fatalf("the filter is called %q, which /sync could not tell from a filter itself", name)
		}
		equal(t, "filter", get(alice, alice.UserID, name).want(200, "").Body, filter)

		// The name works in /sync, for its owner only.
		roomID := s.create(alice, public)
		s.say(alice, roomID, "one")
		last := s.say(alice, roomID, "two")
		news := s.do("GET", v3+"/sync?filter="+name, alice.Token, nil).want(200, "")
		events, _ := dig(news.Body, "rooms", "join", roomID, "timeline", "events").([]any)
		if len(events) != 1 || dig(events[0], "event_id") != last {
			t.Fatalf("the filter lets %v through", events)
		}
		s.do("GET", v3+"/sync?filter="+name, bob.Token, nil).want(400, "M_INVALID_PARAM")

		get(bob, alice.UserID, name).want(403, "M_FORBIDDEN")
		get(bob, bob.UserID, name).want(404, "M_NOT_FOUND")
		get(alice, alice.UserID, "99").want(404, "M_NOT_FOUND")
		get(alice, alice.UserID, "none").want(404, "M_NOT_FOUND")
		get(alice, "alice", name).want(400, "M_INVALID_PARAM")
		post(bob, alice.UserID, object{}).want(403, "M_FORBIDDEN")
		post(alice, alice.UserID, `{`).want(400, "M_NOT_JSON")
		post(alice, alice.UserID, `[]`).want(400, "M_BAD_JSON")
		post(alice, alice.UserID, object{"room": []int{}}).want(400, "M_BAD_JSON")
		post(alice, alice.UserID, object{"room": object{"timeline": object{"limit": "x"}}}).want(400, "M_BAD_JSON")
		if a := post(alice, alice.UserID, object{"event_format": "rot13"}); a.Status != 400 {
			t.Fatalf("an unknown event format gives %s", a.raw)
		}
		if a := post(alice, alice.UserID, object{"presence": object{"senders": []string{"bob"}}}); a.Status != 400 && a.Status != 200 {
			t.Fatalf("a sender that is no user ID gives %s", a.raw)
		}
	})
}
