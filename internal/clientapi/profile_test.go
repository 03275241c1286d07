package clientapi_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
)

func TestProfile(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		roomID := s.create(alice, object{})
		path := "/_matrix/client/v3/profile/" + alice.UserID
		set := func(field string, value any) answer {
			return s.do("PUT", path+"/"+field, alice.Token, object{field: value})
		}
		if a := s.do("GET", path, "", nil).want(200, ""); a.raw != "{}" {
			t.Fatalf("got %s", a.raw)
		}
		set("displayname", "Alice").want(200, "")
		set("avatar_url", "mxc://stoa.test/a").want(200, "")
		set("m.tz", "Europe/Berlin").want(200, "")
		set("org.example.job_title", object{"de": "Ärztin", "n": []any{1.5, nil}}).want(200, "")
		set("org.example.nothing", nil).want(200, "")
		a := s.do("GET", path, "", nil).want(200, "")
		want := `{"avatar_url":"mxc://stoa.test/a","displayname":"Alice","m.tz":"Europe/Berlin",` +
			`"org.example.job_title":{"de":"Ärztin","n":[1.5,null]},"org.example.nothing":null}`
		if a.raw != want {
			t.Fatalf("got %s, want %s", a.raw, want)
		}
		if a := s.do("GET", path+"/displayname", "", nil).want(200, ""); a.raw != `{"displayname":"Alice"}` {
			t.Fatalf("got %s", a.raw)
		}
		changes := 0
		for _, e := range s.do("GET", roomPath(roomID, "messages")+"?dir=b&limit=100", alice.Token, nil).want(200, "").objects("chunk") {
			if e["type"] == "m.room.member" {
				changes++
			}
		}
		if changes != 3 { // the join, name and avatar, nothing else
			t.Fatalf("the room has %d events of alice's membership", changes)
		}
		s.do("DELETE", path+"/m.tz", alice.Token, nil).want(200, "")
		s.do("DELETE", path+"/m.tz", alice.Token, nil).want(200, "")
		s.do("GET", path+"/m.tz", "", nil).want(404, "M_NOT_FOUND")
		set("displayname", "").want(200, "") // deletes
		s.do("GET", path+"/displayname", "", nil).want(404, "M_NOT_FOUND")

		for _, c := range []struct {
			name, method, path, token string
			body                      any
			status                    int
			errcode                   string
		}{
			{"refuses_callers_without_token", "PUT", path + "/displayname", "", object{"displayname": "x"}, 401, "M_MISSING_TOKEN"},
			{"refuses_other_users", "PUT", path + "/displayname", bob.Token, object{"displayname": "x"}, 403, "M_FORBIDDEN"},
			{"refuses_deletion_by_other_users", "DELETE", path + "/displayname", bob.Token, nil, 403, "M_FORBIDDEN"},
			{"needs_the_key_in_the_body", "PUT", path + "/displayname", alice.Token, object{"avatar_url": "x"}, 400, "M_MISSING_PARAM"},
			{"needs_a_name_that_is_text", "PUT", path + "/displayname", alice.Token, object{"displayname": 1}, 400, "M_BAD_JSON"},
			{"needs_an_avatar_that_is_text", "PUT", path + "/avatar_url", alice.Token, object{"avatar_url": nil}, 400, "M_BAD_JSON"},
			{"refuses_a_body_that_is_no_object", "PUT", path + "/displayname", alice.Token, `"x"`, 400, "M_BAD_JSON"},
			{"refuses_a_body_that_is_not_json", "PUT", path + "/displayname", alice.Token, `{`, 400, "M_NOT_JSON"},
			{"refuses_keys_without_namespace", "PUT", path + "/job", alice.Token, object{"job": "x"}, 400, "M_INVALID_PARAM"},
			{"refuses_keys_in_capitals", "PUT", path + "/Org.example", alice.Token, object{"Org.example": "x"}, 400, "M_INVALID_PARAM"},
			{"refuses_overlong_keys", "PUT", path + "/a." + strings.Repeat("b", 255), alice.Token, object{"x": 1, "a." + strings.Repeat("b", 255): 1}, 400, "M_KEY_TOO_LARGE"},
			{"refuses_a_deletion_of_a_bad_key", "DELETE", path + "/job", alice.Token, nil, 400, "M_INVALID_PARAM"},
			{"refuses_what_makes_it_too_large", "PUT", path + "/org.example.big", alice.Token, object{"org.example.big": strings.Repeat("x", 64<<10)}, 400, "M_PROFILE_TOO_LARGE"},
			{"knows_no_user_without_account", "GET", "/_matrix/client/v3/profile/@nobody:stoa.test", "", nil, 404, "M_NOT_FOUND"},
			{"knows_no_user_of_another_server", "GET", "/_matrix/client/v3/profile/@alice:other.test", "", nil, 404, "M_NOT_FOUND"},
			{"refuses_what_is_no_user_id", "GET", "/_matrix/client/v3/profile/alice", "", nil, 400, "M_INVALID_PARAM"},
		} {
			t.Run(c.name, func(t *testing.T) {
				s.do(c.method, c.path, c.token, c.body).want(c.status, c.errcode)
			})
		}
	})
}

func TestFieldsSetAtOnceDoNotGrowAProfilePastItsLimit(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice := s.signUp("alice")
	path := "/_matrix/client/v3/profile/" + alice.UserID
	var all sync.WaitGroup
	for _, field := range []string{"a.a", "a.b", "a.c", "a.d"} {
		all.Go(func() {
			s.do("PUT", path+"/"+field, alice.Token, object{field: strings.Repeat("x", 20<<10)})
		})
	}
	all.Wait()
	a := s.do("GET", path, "", nil).want(200, "")
	var fields map[string]json.RawMessage
	if err := json.Unmarshal([]byte(a.raw), &fields); err != nil {
		t.Fatal(err)
	}
	if len(a.raw) >= 64<<10 || len(fields) == 0 {
		t.Fatalf("%d bytes in %d fields", len(a.raw), len(fields))
	}
}

// Nothing of what a user's clients change at once is refused or lost.
func TestManyChangesOfAnAccountAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice := s.signUp("alice")
		const writers = 24
		var done sync.WaitGroup
		for i := range writers {
			done.Go(func() {
				name := fmt.Sprintf("org.example.n%d", i)
				if a := s.do("PUT", v3+"/profile/"+esc(alice.UserID)+"/"+name, alice.Token, object{name: i}); a.Status != 200 {
					t.Errorf("field %d: %d %s", i, a.Status, a.raw)
				}
			})
		}
		done.Wait()
		if got := s.do("GET", v3+"/profile/"+esc(alice.UserID), "", nil).want(200, ""); len(got.Body) != writers {
			t.Fatalf("of %d fields there are %s", writers, got.raw)
		}
	})
}
