package clientapi_test

import (
	"fmt"
	"testing"
)

func TestCreateRoom(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice := s.signUp("alice")
	t.Run("refuses", func(t *testing.T) {
		for name, c := range map[string]struct {
			body    any
			errcode string
		}{
			"what_is_not_JSON":              {`{`, "M_NOT_JSON"},
			"a_list":                        {`[]`, "M_BAD_JSON"},
			"a_key_twice":                   {`{"name":"a","name":"b"}`, "M_BAD_JSON"},
			"a_name_that_is_no_string":      {object{"name": 1}, "M_BAD_JSON"},
			"a_version_that_is_no_string":   {object{"room_version": 1}, "M_BAD_JSON"},
			"an_unknown_version":            {object{"room_version": "ahfgwjyerhgiuveisbruvybseyrugvi"}, "M_UNSUPPORTED_ROOM_VERSION"},
			"an_unknown_preset":             {object{"preset": "party"}, "M_INVALID_PARAM"},
			"an_unknown_visibility":         {object{"visibility": "dim"}, "M_INVALID_PARAM"},
			"an_invited_nobody":             {object{"invite": []string{"bob"}}, "M_BAD_JSON"},
			"an_alias_with_a_colon":         {object{"room_alias_name": "a:b"}, "M_INVALID_PARAM"},
			"state_without_type":            {object{"initial_state": []any{object{"content": object{}}}}, "M_BAD_JSON"},
			"state_without_content":         {object{"initial_state": []any{object{"type": "m.room.name"}}}, "M_BAD_JSON"},
			"creation_content_of_no_object": {object{"creation_content": []any{}}, "M_BAD_JSON"},
			"floats_in_state":               {object{"initial_state": []any{object{"type": "a", "content": object{"x": 1.5}}}}, "M_BAD_JSON"},
			"power_levels_without_its_creator": {object{"room_version": "11", "power_level_content_override": object{"users": object{"@bob:stoa.test": 100}}},
				"M_INVALID_ROOM_STATE"},
			"people_by_mail": {object{"invite_3pid": []any{object{"medium": "email", "address": "a@b.c", "id_server": "x", "id_access_token": "y"}}},
				"M_THREEPID_DENIED"},
		} {
			t.Run(name, func(t *testing.T) {
				a := s.do("POST", v3+"/createRoom", alice.Token, c.body)
				want := 400
				if c.errcode == "M_THREEPID_DENIED" {
					want = 403
				}
				a.want(want, c.errcode)
			})
		}
		s.do("POST", v3+"/createRoom", "", object{}).want(401, "M_MISSING_TOKEN")
	})
	t.Run("gives_the_room_its_alias_or_nothing", func(t *testing.T) {
		roomID := s.create(alice, object{"room_alias_name": "hall", "name": "Hall", "topic": "walls"})
		got := s.do("GET", v3+"/directory/room/"+esc("#hall:stoa.test"), "", nil).want(200, "")
		if got.str("room_id") != roomID {
			t.Fatalf("the alias points to %s", got.raw)
		}
		if alias := s.do("GET", roomPath(roomID, "state", "m.room.canonical_alias"), alice.Token, nil).want(200, "").str("alias"); alias != "#hall:stoa.test" {
			t.Fatalf("canonical alias %q", alias)
		}
		s.do("POST", v3+"/createRoom", alice.Token, object{"room_alias_name": "hall"}).want(400, "M_ROOM_IN_USE")
		same(t, stringsOf(s.do("GET", v3+"/joined_rooms", alice.Token, nil).want(200, ""), "joined_rooms"), roomID)
	})
}

// stringsOf gives the list of text under a key.
func stringsOf(a answer, key string) []string {
	a.t.Helper()
	raw, ok := a.Body[key].([]any)
	if !ok {
		a.t.Fatalf("no list %s in %s", key, a.raw)
	}
	out := make([]string, len(raw))
	for i, v := range raw {
		out[i], _ = v.(string)
	}
	return out
}

func TestJoin(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		open := s.create(alice, object{"preset": "public_chat", "room_alias_name": "open"})
		closed := s.create(alice, object{})

		s.do("POST", v3+"/join/"+esc("#open:stoa.test"), bob.Token, object{"reason": "curious", "foo": "bar"}).want(200, "")
		member := s.do("GET", roomPath(open, "state", "m.room.member", bob.UserID), alice.Token, nil).want(200, "")
		if member.str("membership") != "join" || member.str("reason") != "curious" || member.str("foo") != "bar" {
			t.Fatalf("member is %s", member.raw)
		}
		s.do("POST", v3+"/join/"+esc(closed), bob.Token, nil).want(403, "M_FORBIDDEN")
		s.do("POST", v3+"/join/"+esc("#none:stoa.test"), bob.Token, nil).want(404, "M_NOT_FOUND")
		s.do("POST", v3+"/join/"+esc("#none:elsewhere.test"), bob.Token, nil).want(404, "M_NOT_FOUND")
		s.do("POST", v3+"/join/"+esc("!none:stoa.test"), bob.Token, nil).want(404, "M_NOT_FOUND")
		s.do("POST", v3+"/join/none", bob.Token, nil).want(400, "M_INVALID_PARAM")
		s.do("POST", v3+"/rooms/none/join", bob.Token, nil).want(400, "M_INVALID_PARAM")
		s.do("POST", v3+"/join/"+esc(open), bob.Token, `{"reason":1}`).want(400, "M_BAD_JSON")
		s.do("POST", v3+"/join/"+esc(open), bob.Token, `{"third_party_signed":{}}`).want(400, "M_BAD_JSON")
	})
}

func TestMembership(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice, bob := s.signUp("alice"), s.signUp("bob")
	roomID := s.create(alice, object{})
	change := func(l login, what string, body object) answer {
		return s.do("POST", roomPath(roomID, what), l.Token, body)
	}
	who := object{"user_id": bob.UserID, "reason": "because"}
	membership := func(want string) {
		t.Helper()
		if got := s.do("GET", roomPath(roomID, "state", "m.room.member", bob.UserID), alice.Token, nil).want(200, ""); got.str("membership") != want {
			t.Fatalf("bob is %s, want %s", got.raw, want)
		}
	}
	for _, what := range []string{"invite", "kick", "ban", "unban"} {
		change(alice, what, object{}).want(400, "M_BAD_JSON")
		change(alice, what, object{"user_id": "bob"}).want(400, "M_BAD_JSON")
		s.do("POST", roomPath("!none:stoa.test", what), alice.Token, who).want(403, "M_FORBIDDEN")
	}
	change(alice, "invite", object{"medium": "email", "address": "a@b.c", "id_server": "x", "id_access_token": "y"}).want(403, "M_THREEPID_DENIED")
	change(bob, "invite", object{"user_id": alice.UserID}).want(403, "M_FORBIDDEN")
	change(alice, "kick", who).want(403, "M_FORBIDDEN")
	change(alice, "invite", who).want(200, "")
	membership("invite")
	change(bob, "join", object{}).want(200, "")
	change(bob, "forget", object{}).want(400, "M_UNKNOWN")
	change(bob, "kick", object{"user_id": alice.UserID}).want(403, "M_FORBIDDEN")
	change(alice, "kick", who).want(200, "")
	membership("leave")
	change(alice, "ban", who).want(200, "")
	membership("ban")
	change(bob, "join", object{}).want(403, "M_FORBIDDEN")
	change(alice, "unban", who).want(200, "")
	change(alice, "unban", who).want(403, "M_BAD_STATE")
	change(bob, "forget", object{}).want(200, "")
	change(bob, "leave", object{}).want(200, "")
	s.set(alice, roomID, "m.room.join_rules", "", object{"join_rule": "knock"})
	s.do("POST", v3+"/knock/"+esc(roomID), bob.Token, object{"reason": "let me in"}).want(200, "")
	membership("knock")
	s.do("POST", v3+"/knock/"+esc("!none:stoa.test"), bob.Token, nil).want(404, "M_NOT_FOUND")
}

func TestSuspendedAccount(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	admin, bob := s.signUp("admin"), s.signUp("bob")
	roomID := s.create(admin, public)
	s.join(roomID, bob)
	own, rest := s.say(bob, roomID, "mine"), s.say(admin, roomID, "yours")
	s.makeAdmin(admin)
	s.do("PUT", v1+"/admin/suspend/"+esc(bob.UserID), admin.Token, object{"suspended": true}).want(200, "")
	for name, a := range map[string]answer{
		"send":   s.do("PUT", roomPath(roomID, "send", "m.room.message", "1"), bob.Token, object{}),
		"state":  s.do("PUT", roomPath(roomID, "state", "m.room.name"), bob.Token, object{}),
		"create": s.do("POST", v3+"/createRoom", bob.Token, object{}),
		"join":   s.do("POST", roomPath(roomID, "join"), bob.Token, object{}),
		"invite": s.do("POST", roomPath(roomID, "invite"), bob.Token, object{"user_id": "@eve:stoa.test"}),
		"redact": s.do("PUT", roomPath(roomID, "redact", rest, "1"), bob.Token, object{}),

		"join by name":    s.do("POST", v3+"/join/"+esc(roomID), bob.Token, object{}),
		"knock":           s.do("POST", v3+"/knock/"+esc(roomID), bob.Token, object{}),
		"kick":            s.do("POST", roomPath(roomID, "kick"), bob.Token, object{"user_id": "@eve:stoa.test"}),
		"ban":             s.do("POST", roomPath(roomID, "ban"), bob.Token, object{"user_id": "@eve:stoa.test"}),
		"unban":           s.do("POST", roomPath(roomID, "unban"), bob.Token, object{"user_id": "@eve:stoa.test"}),
		"upgrade":         s.do("POST", roomPath(roomID, "upgrade"), bob.Token, object{"new_version": "12"}),
		"set an alias":    s.do("PUT", v3+"/directory/room/"+esc("#bobs:stoa.test"), bob.Token, object{"room_id": roomID}),
		"delete an alias": s.do("DELETE", v3+"/directory/room/"+esc("#bobs:stoa.test"), bob.Token, nil),
		"publish":         s.do("PUT", v3+"/directory/list/room/"+esc(roomID), bob.Token, object{}),
		"display name":    s.do("PUT", v3+"/profile/"+esc(bob.UserID)+"/displayname", bob.Token, object{"displayname": "B"}),
		"no profile":      s.do("DELETE", v3+"/profile/"+esc(bob.UserID)+"/displayname", bob.Token, nil),
	} {
		t.Log(name)
		a.want(403, "M_USER_SUSPENDED")
	}
	s.do("PUT", roomPath(roomID, "redact", own, "2"), bob.Token, object{}).want(200, "")
	s.do("GET", roomPath(roomID, "messages")+"?dir=b", bob.Token, nil).want(200, "")
	s.do("POST", roomPath(roomID, "leave"), bob.Token, nil).want(200, "")
}

func TestUpgradeRoom(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice, bob := s.signUp("alice"), s.signUp("bob")
	old := s.create(alice, object{"preset": "public_chat", "room_version": "10", "room_alias_name": "hall"})
	s.join(old, bob)
	s.do("POST", roomPath(old, "upgrade"), alice.Token, object{}).want(400, "M_BAD_JSON")
	s.do("POST", roomPath(old, "upgrade"), alice.Token, object{"new_version": "nope"}).want(400, "M_UNSUPPORTED_ROOM_VERSION")
	s.do("POST", roomPath(old, "upgrade"), bob.Token, object{"new_version": "12"}).want(403, "M_FORBIDDEN")
	s.do("POST", roomPath("!none:stoa.test", "upgrade"), bob.Token, object{"new_version": "12"}).want(403, "M_FORBIDDEN")
	const mute = `{"actions":[],"conditions":[{"kind":"event_match","key":"room_id","pattern":"%s"}]}`
	for _, l := range []login{alice, bob} {
		s.do("PUT", v3+"/pushrules/global/override/"+esc(old), l.Token, fmt.Sprintf(mute, old)).want(200, "")
		s.do("PUT", v3+"/user/"+esc(l.UserID)+"/rooms/"+esc(old)+"/tags/m.favourite", l.Token, object{"order": 0.5}).want(200, "")
	}
	next := s.do("POST", roomPath(old, "upgrade"), alice.Token, object{"new_version": "12"}).want(200, "").str("replacement_room")
	if got := s.do("GET", v3+"/directory/room/"+esc("#hall:stoa.test"), "", nil).want(200, "").str("room_id"); got != next {
		t.Fatalf("the alias points to %s, not to the new room %s", got, next)
	}
	tombstone := s.do("GET", roomPath(old, "state", "m.room.tombstone"), bob.Token, nil).want(200, "")
	if tombstone.str("replacement_room") != next {
		t.Fatalf("tombstone %s", tombstone.raw)
	}
	s.do("POST", v3+"/join/"+esc("#hall:stoa.test"), bob.Token, nil).want(200, "")
	for _, l := range []login{alice, bob} {
		s.do("GET", v3+"/pushrules/global/override/"+esc(next), l.Token, nil).want(200, "")
		tags := s.do("GET", v3+"/user/"+esc(l.UserID)+"/rooms/"+esc(next)+"/tags", l.Token, nil).want(200, "")
		if dig(tags.Body, "tags", "m.favourite") == nil {
			t.Errorf("%s lost their tag: %s", l.UserID, tags.raw)
		}
	}
}
