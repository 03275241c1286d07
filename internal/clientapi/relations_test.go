package clientapi_test

import (
	"fmt"
	"slices"
	"testing"
)

func relates(relType, target string) object {
	return object{"m.relates_to": object{"rel_type": relType, "event_id": target}}
}

func TestAggregations(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		roomID := s.create(alice, public)
		s.join(roomID, bob)
		root := s.say(alice, roomID, "root")
		s.say(bob, roomID, "forged", relates("m.replace", root), object{"m.new_content": object{"body": "forged"}})
		s.say(alice, roomID, "edit 1", relates("m.replace", root), object{"m.new_content": object{"body": "1"}})
		edit := s.say(alice, roomID, "edit 2", relates("m.replace", root), object{"m.new_content": object{"body": "2"}})
		ref := s.say(bob, roomID, "see there", relates("m.reference", root))
		s.say(bob, roomID, "reply 1", relates("m.thread", root))
		latest := s.say(bob, roomID, "reply 2", relates("m.thread", root))
		s.say(bob, roomID, "edit of reply", relates("m.replace", latest), object{"m.new_content": object{"body": "new"}})

		shown := func(l login) map[string]any {
			t.Helper()
			event := s.do("GET", roomPath(roomID, "event", root), l.Token, nil).want(200, "")
			var inPage object
			for _, e := range s.do("GET", roomPath(roomID, "messages")+"?dir=f&limit=50", l.Token, nil).want(200, "").objects("chunk") {
				if e["event_id"] == root {
					inPage = e
				}
			}
			one, _ := dig(event.Body, "unsigned", "m.relations").(object)
			two, _ := dig(inPage, "unsigned", "m.relations").(object)
			if fmt.Sprint(one["m.thread"] != nil, one["m.replace"] != nil) != fmt.Sprint(two["m.thread"] != nil, two["m.replace"] != nil) {
				t.Fatalf("/event shows %v, /messages %v", one, two)
			}
			return one
		}
		got := shown(bob)
		if dig(got, "m.replace", "event_id") != edit {
			t.Errorf("replaced by %v, want %s", dig(got, "m.replace", "event_id"), edit)
		}
		if dig(got, "m.thread", "latest_event", "event_id") != latest || dig(got, "m.thread", "count") != 2.0 ||
			dig(got, "m.thread", "current_user_participated") != true {
			t.Errorf("thread is %v", got["m.thread"])
		}
		if dig(got, "m.thread", "latest_event", "unsigned", "m.relations", "m.replace") == nil {
			t.Errorf("the latest event comes without its edit: %v", got["m.thread"])
		}
		if chunk, _ := dig(got, "m.reference", "chunk").([]any); len(chunk) != 1 || dig(chunk[0], "event_id") != ref {
			t.Errorf("references are %v", got["m.reference"])
		}
		s.do("PUT", roomPath(roomID, "redact", latest, "1"), bob.Token, object{}).want(200, "")
		s.do("PUT", roomPath(roomID, "redact", edit, "2"), alice.Token, object{}).want(200, "")
		if got = shown(alice); dig(got, "m.thread", "count") != 1.0 || dig(got, "m.replace", "content", "body") != "edit 1" {
			t.Errorf("after redactions: %v", got)
		}
	})
}

func TestRelations(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice := s.signUp("alice")
		roomID := s.create(alice, public)
		root := s.say(alice, roomID, "root")
		var want []string
		for i := range 7 {
			want = append(want, s.say(alice, roomID, fmt.Sprint("reply ", i), relates("m.thread", root)))
		}
		below := s.say(alice, roomID, "edit", relates("m.replace", want[0]))
		path := v1 + "/rooms/" + esc(roomID) + "/relations/" + esc(root)
		get := func(path string) answer { return s.do("GET", path, alice.Token, nil) }
		for _, dir := range []string{"f", "b"} {
			for _, recurse := range []string{"", "&recurse=true"} {
				expect := slices.Clone(want)
				if recurse != "" {
					expect = append(expect, below)
				}
				for _, size := range []int{1, 3, 8, 20} {
					var got []string
					for from := ""; ; {
						a := get(path+fmt.Sprintf("?dir=%s&limit=%d%s%s", dir, size, recurse, from)).want(200, "")
						got = append(got, ids(a.objects("chunk"))...)
						if _, tells := a.Body["recursion_depth"]; tells != (recurse != "") {
							t.Fatalf("recursion_depth: %s", a.raw)
						}
						if a.str("next_batch") == "" {
							break
						}
						from = "&from=" + a.str("next_batch")
					}
					if dir == "b" {
						slices.Reverse(got)
					}
					same(t, got, expect...)
				}
			}
		}
		same(t, ids(get(path+"/m.thread/m.room.message?limit=1").want(200, "").objects("chunk")), want[6])
		same(t, ids(get(path+"/m.thread/m.other").want(200, "").objects("chunk")))
		same(t, ids(get(path+"/m.replace?recurse=true").want(200, "").objects("chunk")), below)
		get(v1+"/rooms/"+esc(roomID)+"/relations/"+esc("$none")).want(404, "M_NOT_FOUND")
		get(v1+"/rooms/"+esc("!none:stoa.test")+"/relations/"+esc(root)).want(404, "M_NOT_FOUND")
		get(path+"?dir=up").want(400, "M_INVALID_PARAM")
		get(path+"?from=x").want(400, "M_INVALID_PARAM")
	})
}

func TestThreads(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		roomID := s.create(alice, public)
		s.join(roomID, bob)
		var roots []string
		for i := range 5 {
			root := s.say(alice, roomID, fmt.Sprint("root ", i))
			s.say(alice, roomID, fmt.Sprint("reply ", i), relates("m.thread", root))
			roots = append(roots, root)
		}
		s.say(bob, roomID, "late", relates("m.thread", roots[1]))
		want := []string{roots[1], roots[4], roots[3], roots[2], roots[0]}
		path := v1 + "/rooms/" + esc(roomID) + "/threads"
		for _, size := range []int{1, 2, 4, 10} {
			var got []string
			for from := ""; ; {
				a := s.do("GET", path+fmt.Sprintf("?limit=%d%s", size, from), bob.Token, nil).want(200, "")
				for _, root := range a.objects("chunk") {
					if dig(root, "unsigned", "m.relations", "m.thread", "latest_event") == nil {
						t.Fatalf("a root without its thread: %v", root)
					}
				}
				got = append(got, ids(a.objects("chunk"))...)
				if a.str("next_batch") == "" {
					break
				}
				from = "&from=" + a.str("next_batch")
			}
			same(t, got, want...)
		}
		same(t, ids(s.do("GET", path+"?include=participated", bob.Token, nil).want(200, "").objects("chunk")), roots[1])
		s.do("GET", path+"?include=some", bob.Token, nil).want(400, "M_INVALID_PARAM")
		s.do("GET", path, s.signUp("eve").Token, nil).want(403, "M_FORBIDDEN")
	})
}

func TestOneReactionOfAKind(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice, bob := s.signUp("alice"), s.signUp("bob")
	roomID := s.create(alice, public)
	s.join(roomID, bob)
	said := s.say(alice, roomID, "hello")
	txn := 0
	react := func(l login, key string) answer {
		txn++
		return s.do("PUT", v3+"/rooms/"+esc(roomID)+"/send/m.reaction/"+fmt.Sprint(txn), l.Token,
			object{"m.relates_to": object{"rel_type": "m.annotation", "event_id": said, "key": key}})
	}
	first := react(bob, "👍").want(200, "").str("event_id")
	react(bob, "👍").want(400, "M_DUPLICATE_ANNOTATION")
	react(bob, "👎").want(200, "")
	react(alice, "👍").want(200, "")
	s.do("PUT", v3+"/rooms/"+esc(roomID)+"/redact/"+esc(first)+"/r", bob.Token, object{}).want(200, "")
	react(bob, "👍").want(200, "") // it was taken back
	found := s.do("GET", v1+"/rooms/"+esc(roomID)+"/relations/"+esc(said)+"/m.annotation/m.reaction", alice.Token, nil).want(200, "").objects("chunk")
	if len(found) != 3 {
		t.Fatalf("of three reactions there are %v", ids(found))
	}
}
