package clientapi_test

import (
	"fmt"
	"slices"
	"testing"
)

func TestAliases(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob, eve := s.signUp("alice"), s.signUp("bob"), s.signUp("eve")
		roomID, other := s.create(alice, public), s.create(alice, public)
		s.join(roomID, bob)
		path := func(alias string) string { return v3 + "/directory/room/" + esc(alias) }
		put := func(l login, alias, room string) answer {
			return s.do("PUT", path(alias), l.Token, object{"room_id": room})
		}
		const hall, yard = "#hall:stoa.test", "#yard ✨:stoa.test"
		put(eve, hall, roomID).want(403, "M_FORBIDDEN")
		put(alice, hall, "!none:stoa.test").want(404, "M_NOT_FOUND")
		put(alice, hall, "none").want(400, "M_INVALID_PARAM")
		put(alice, "hall", roomID).want(400, "M_INVALID_PARAM")
		put(alice, "#hall:elsewhere.test", roomID).want(400, "M_INVALID_PARAM")
		s.do("PUT", path(hall), alice.Token, object{}).want(400, "M_BAD_JSON")
		put(bob, hall, roomID).want(200, "")
		put(alice, hall, other).want(409, "M_UNKNOWN")
		put(alice, yard, roomID).want(200, "")
		same(t, stringsOf(s.do("GET", roomPath(roomID, "aliases"), bob.Token, nil).want(200, ""), "aliases"), hall, yard)
		found := s.do("GET", path(yard), "", nil).want(200, "")
		if found.str("room_id") != roomID || len(stringsOf(found, "servers")) != 1 {
			t.Fatalf("%s is %s", yard, found.raw)
		}

		canonical := func(room string, content object) answer {
			return s.do("PUT", roomPath(room, "state", "m.room.canonical_alias"), alice.Token, content)
		}
		canonical(roomID, object{"alias": "#none:stoa.test"}).want(400, "M_BAD_ALIAS")
		canonical(other, object{"alias": hall}).want(400, "M_BAD_ALIAS")
		canonical(roomID, object{"alias": hall, "alt_aliases": []string{"#none:stoa.test"}}).want(400, "M_BAD_ALIAS")
		canonical(roomID, object{"alias": "%hall:stoa.test"}).want(400, "M_INVALID_PARAM")
		canonical(roomID, object{"alias": 1}).want(400, "M_BAD_JSON")
		canonical(roomID, object{"alias": hall, "alt_aliases": []string{yard}}).want(200, "")

		s.do("DELETE", path(yard), bob.Token, nil).want(403, "M_FORBIDDEN")
		s.do("DELETE", path("#none:stoa.test"), bob.Token, nil).want(404, "M_NOT_FOUND")
		s.do("DELETE", path(yard), alice.Token, nil).want(200, "")
		s.do("DELETE", path(hall), alice.Token, nil).want(200, "")
		s.do("GET", path(hall), "", nil).want(404, "M_NOT_FOUND")
		left := s.do("GET", roomPath(roomID, "state", "m.room.canonical_alias"), alice.Token, nil).want(200, "")
		if len(left.Body) != 0 {
			t.Fatalf("the deleted aliases are still in %s", left.raw)
		}
	})
}

func TestPublicRooms(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		var rooms []string
		for i := range 5 {
			rooms = append(rooms, s.create(alice, object{"preset": "public_chat", "visibility": "public", "name": fmt.Sprint("Room ", i)}))
		}
		space := s.create(alice, object{"preset": "public_chat", "visibility": "public", "topic": "Wombles", "creation_content": object{"type": "m.space"}})
		s.join(space, bob)
		s.create(alice, object{"preset": "public_chat", "name": "hidden"})
		listed := func(a answer) (found []string) {
			for _, r := range a.want(200, "").objects("chunk") {
				found = append(found, r["room_id"].(string))
			}
			return found
		}
		get := func(query string) answer { return s.do("GET", v3+"/publicRooms"+query, "", nil) }
		search := func(filter object) []string {
			return listed(s.do("POST", v3+"/publicRooms", bob.Token, object{"filter": filter}))
		}
		all := listed(get(""))
		want := append(slices.Clone(rooms), space)
		slices.Reverse(want) // the fullest, then the newest
		same(t, all, want...)
		for _, size := range []int{1, 2, 5, 6} {
			var got []string
			var last answer
			for since := ""; ; {
				last = get(fmt.Sprintf("?limit=%d%s", size, since))
				got = append(got, listed(last)...)
				if last.str("next_batch") == "" {
					break
				}
				since = "&since=" + last.str("next_batch")
			}
			same(t, got, all...)
			back := listed(last)
			for last.str("prev_batch") != "" {
				last = get(fmt.Sprintf("?limit=%d&since=%s", size, last.str("prev_batch")))
				back = append(listed(last), back...)
			}
			same(t, back, all...)
		}
		same(t, search(object{"generic_search_term": "wombles"}), space)
		same(t, search(object{"generic_search_term": "room 3"}), rooms[3])
		same(t, search(object{"room_types": []any{"m.space"}}), space)
		if got := search(object{"room_types": []any{nil}}); len(got) != 5 {
			t.Fatalf("rooms without a type are %v", got)
		}
		s.do("POST", v3+"/publicRooms", "", object{}).want(401, "M_MISSING_TOKEN")
		s.do("POST", v3+"/publicRooms", bob.Token, object{"limit": 0}).want(400, "M_INVALID_PARAM")
		s.do("POST", v3+"/publicRooms", bob.Token, object{"filter": 1}).want(400, "M_BAD_JSON")
		get("?since=x").want(400, "M_INVALID_PARAM")
		get("?server=elsewhere.test").want(404, "M_NOT_FOUND")

		visibility := v3 + "/directory/list/room/" + esc(space)
		s.do("PUT", visibility, bob.Token, object{"visibility": "private"}).want(403, "M_FORBIDDEN")
		s.do("PUT", visibility, alice.Token, object{"visibility": "dim"}).want(400, "M_INVALID_PARAM")
		s.do("PUT", visibility, alice.Token, object{"visibility": "private"}).want(200, "")
		if got := s.do("GET", visibility, "", nil).want(200, "").str("visibility"); got != "private" {
			t.Fatalf("visibility is %q", got)
		}
		s.do("GET", v3+"/directory/list/room/"+esc("!none:stoa.test"), "", nil).want(404, "M_NOT_FOUND")
		same(t, listed(get("")), want[1:]...)
	})
}

func TestRoomSummary(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice, eve := s.signUp("alice"), s.signUp("eve")
	open := s.create(alice, object{"preset": "public_chat", "room_alias_name": "open", "name": "Open",
		"initial_state": []any{object{"type": "m.room.encryption", "content": object{"algorithm": "m.megolm.v1.aes-sha2"}}}})
	closed := s.create(alice, object{"name": "Closed"})
	got := s.do("GET", v1+"/room_summary/"+esc("#open:stoa.test"), eve.Token, nil).want(200, "")
	for key, want := range map[string]any{
		"room_id": open, "name": "Open", "join_rule": "public", "num_joined_members": 1.0, "world_readable": false,
		"guest_can_join": false, "membership": "leave", "encryption": "m.megolm.v1.aes-sha2", "room_version": "12",
		"canonical_alias": "#open:stoa.test",
	} {
		if got.Body[key] != want {
			t.Errorf("%s is %v, want %v", key, got.Body[key], want)
		}
	}
	if a := s.do("GET", v1+"/room_summary/"+esc(open), "", nil).want(200, ""); a.str("membership") != "" {
		t.Errorf("a membership for nobody: %s", a.raw)
	}
	s.do("GET", v1+"/room_summary/"+esc(closed), eve.Token, nil).want(404, "M_NOT_FOUND")
	s.do("GET", v1+"/room_summary/"+esc(closed), "", nil).want(404, "M_NOT_FOUND")
	s.do("GET", v1+"/room_summary/"+esc(closed), alice.Token, nil).want(200, "")
	s.do("GET", v1+"/room_summary/none", "", nil).want(400, "M_INVALID_PARAM")
	s.do("POST", roomPath(closed, "invite"), alice.Token, object{"user_id": eve.UserID}).want(200, "")
	s.do("GET", v1+"/room_summary/"+esc(closed), eve.Token, nil).want(200, "")
}

func TestHierarchy(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice, eve := s.signUp("alice"), s.signUp("eve")
	space := func(name string) string {
		return s.create(alice, object{"preset": "public_chat", "name": name, "creation_content": object{"type": "m.space"}})
	}
	top, below := space("top"), space("below")
	first, second, deep := s.create(alice, public), s.create(alice, public), s.create(alice, public)
	secret := s.create(alice, object{})
	child := func(parent, room string, content object) {
		content["via"] = []string{"stoa.test"}
		s.set(alice, parent, "m.space.child", room, content)
	}
	child(top, second, object{"order": "b"})
	child(top, secret, object{"order": "aa"})
	child(top, first, object{"order": "a", "suggested": true})
	child(top, below, object{})
	child(below, deep, object{})
	child(below, top, object{}) // a circle
	s.set(alice, top, "m.space.child", "!gone:stoa.test", object{})
	path := v1 + "/rooms/" + esc(top) + "/hierarchy"
	tree := func(l login, query string) (rooms []string) {
		t.Helper()
		for from := ""; ; {
			a := s.do("GET", path+query+from, l.Token, nil).want(200, "")
			for _, r := range a.objects("rooms") {
				rooms = append(rooms, r["room_id"].(string))
			}
			if a.str("next_batch") == "" {
				return rooms
			}
			from = "&from=" + a.str("next_batch")
		}
	}
	for _, size := range []int{1, 2, 3, 50} {
		same(t, tree(eve, fmt.Sprintf("?limit=%d", size)), top, first, second, below, deep)
	}
	same(t, tree(alice, "?max_depth=1"), top, first, secret, second, below)
	same(t, tree(eve, "?max_depth=0"), top)
	same(t, tree(eve, "?suggested_only=true"), top, first)
	root := s.do("GET", path+"?limit=1", eve.Token, nil).want(200, "")
	if children, _ := root.objects("rooms")[0]["children_state"].([]any); len(children) != 4 || dig(children[0], "state_key") != first {
		t.Fatalf("children are %v", children)
	}
	s.do("GET", path+"?limit=1&max_depth=3&from="+root.str("next_batch"), eve.Token, nil).want(400, "M_INVALID_PARAM")
	s.do("GET", path+"?from=x", eve.Token, nil).want(400, "M_INVALID_PARAM")
	s.do("GET", path+"?max_depth=-1", eve.Token, nil).want(400, "M_INVALID_PARAM")
	s.do("GET", v1+"/rooms/"+esc(secret)+"/hierarchy", eve.Token, nil).want(403, "M_FORBIDDEN")
	s.do("GET", v1+"/rooms/"+esc("!none:stoa.test")+"/hierarchy", eve.Token, nil).want(403, "M_FORBIDDEN")
}

func TestSearchUsers(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob, hidden, open := s.signUp("alice"), s.signUp("bob"), s.signUp("bobhidden"), s.signUp("zoe")
		s.do("PUT", v3+"/profile/"+esc(open.UserID)+"/displayname", open.Token, object{"displayname": "Zoë Bobson"}).want(200, "")
		private := s.create(alice, object{"invite": []string{bob.UserID}})
		s.join(private, bob)
		s.create(open, public)
		s.create(hidden, object{})
		search := func(term string, limit int) (found []string, limited bool) {
			t.Helper()
			a := s.do("POST", v3+"/user_directory/search", alice.Token, object{"search_term": term, "limit": limit}).want(200, "")
			for _, u := range a.objects("results") {
				found = append(found, u["user_id"].(string))
			}
			return found, a.Body["limited"] == true
		}
		found, limited := search("BOB", 10)
		same(t, found, bob.UserID, open.UserID)
		if limited {
			t.Error("a whole answer is called limited")
		}
		if found, limited = search("bob", 1); len(found) != 1 || !limited {
			t.Errorf("limit 1 gave %v, limited: %v", found, limited)
		}
		found, _ = search("zoë", 10)
		same(t, found, open.UserID)
		found, _ = search("alice", 10)
		same(t, found, alice.UserID)
		for _, body := range []any{`{`, object{}, object{"search_term": 1}, object{"search_term": "a", "limit": 0}} {
			if a := s.do("POST", v3+"/user_directory/search", alice.Token, body); a.Status != 400 {
				t.Errorf("%v gave %s", body, a.raw)
			}
		}
	})
}
