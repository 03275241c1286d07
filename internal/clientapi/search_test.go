package clientapi_test

import (
	"fmt"
	"slices"
	"testing"

	"stoa/internal/reader"
	"stoa/internal/search"
)

const searchPath = v3 + "/search"

// found searches and returns the answer of the category.
func (s *server) found(l login, term string, criteria object) object {
	s.t.Helper()
	return s.foundFrom(l, term, criteria, "")
}

func (s *server) foundFrom(l login, term string, criteria object, from string) object {
	s.t.Helper()
	body := object{"search_term": term}
	for k, v := range criteria {
		body[k] = v
	}
	path := searchPath
	if from != "" {
		path += "?next_batch=" + esc(from)
	}
	answer := s.do("POST", path, l.Token, object{"search_categories": object{"room_events": body}}).want(200, "")
	got, _ := dig(answer.Body, "search_categories", "room_events").(object)
	if got == nil {
		s.t.Fatalf("no results in %s", answer.raw)
	}
	return got
}

// hits returns the event IDs of results, in their order.
func hits(found object) (list []string) {
	results, _ := found["results"].([]any)
	for _, r := range results {
		list = append(list, dig(r, "result", "event_id").(string))
	}
	return list
}

var recent = object{"order_by": "recent"}

func TestSearch(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob, eve := s.signUp("alice"), s.signUp("bob"), s.signUp("eve")
		roomID, other := s.create(alice, object{"preset": "public_chat", "name": "Astronomy club"}), s.create(alice, public)
		s.join(roomID, bob)
		hello := s.say(alice, roomID, "Hello, Universe")
		again := s.say(bob, roomID, "the universe says hello, Étoile")
		far := s.say(alice, other, "hello from another room")
		cjk := s.say(bob, roomID, "東京都に行く")
		file := s.say(bob, roomID, "see this", object{"msgtype": "m.file", "filename": "Semester-plan.pdf"})
		topic := s.set(alice, roomID, "m.room.topic", "", object{"topic": "planets", "m.topic": object{"m.text": []object{{"body": "planets and galaxies"}}}})

		for _, c := range []struct {
			promise, term string
			who           login
			criteria      object
			want          []string
		}{
			{"the newest first", "hello", alice, recent, []string{far, again, hello}},
			{"all words, in any order", "HELLO universe", alice, recent, []string{again, hello}},
			{"a word that nobody wrote", "hello moon", alice, recent, nil},
			{"only rooms that one is in", "hello", bob, recent, []string{again, hello}},
			{"nothing for strangers", "hello", eve, recent, nil},
			{"not even in a room that they name", "hello", eve, object{"filter": object{"rooms": []string{roomID}}}, nil},
			{"one room", "hello", alice, object{"order_by": "recent", "filter": object{"rooms": []string{other}}}, []string{far}},
			{"not one room", "hello", alice, object{"order_by": "recent", "filter": object{"not_rooms": []string{other}}}, []string{again, hello}},
			{"one sender", "hello", alice, object{"order_by": "recent", "filter": object{"senders": []string{bob.UserID}}}, []string{again}},
			{"without diacritics", "etoile", alice, recent, []string{again}},
			{"a part of a run of Han", "京都", alice, recent, []string{cjk}},
			{"one character of it", "京", alice, recent, []string{cjk}},
			{"characters that are no neighbours", "京く", alice, recent, nil},
			{"another form of the word", "universes", alice, recent, []string{again, hello}},
			{"a beginning", "univ*", alice, recent, []string{again, hello}},
			{"a beginning, if nothing else matches", "galax", alice, recent, []string{topic}},
			{"a phrase", `"universe says"`, alice, recent, []string{again}},
			{"a file name", "semester plan", alice, recent, []string{file}},
			{"a topic", "galaxies", alice, object{"keys": []string{"content.topic"}}, []string{topic}},
			{"a topic, but only bodies are wanted", "galaxies", alice, object{"keys": []string{"content.body"}}, nil},
			{"nothing to look up", "!?", alice, recent, nil},
			{"the best first", "hello universe", alice, object{"keys": []string{"content.body"}}, []string{hello, again}},
		} {
			got := hits(s.found(c.who, c.term, c.criteria))
			if !slices.Equal(got, c.want) {
				t.Errorf("%s: %q finds %v, want %v", c.promise, c.term, got, c.want)
			}
		}
		if name := s.found(bob, "astronomy", object{"keys": []string{"content.name"}}); len(hits(name)) != 1 {
			t.Errorf("the room's name is found %d times", len(hits(name)))
		}
		words := stringsOf(answer{t: t, Body: s.found(alice, "etoile HELLO", recent)}, "highlights")
		same(t, words, "Étoile", "hello")
	})
}

// TestSearch_pages: each result comes once, while people go on talking.
func TestSearch_pages(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		rooms := []string{s.create(alice, public), s.create(alice, public)}
		s.join(rooms[0], bob)
		s.join(rooms[1], bob)
		walk := func(term, order, from string) (all []string, groups []object) {
			criteria := object{"order_by": order, "filter": object{"limit": 10}, "groupings": object{"group_by": []object{{"key": "room_id"}, {"key": "sender"}}}}
			for range 5 {
				page := s.foundFrom(alice, term, criteria, from)
				if page["count"] != 25.0 {
					t.Errorf("%s: count is %v", order, page["count"])
				}
				all = append(all, hits(page)...)
				if g, ok := page["groups"].(object); ok {
					groups = append(groups, g)
				}
				if from, _ = page["next_batch"].(string); from == "" {
					return all, groups
				}
				s.say(alice, rooms[0], "one more "+term)
			}
			t.Errorf("%s: the pages don't end", order)
			return nil, nil
		}
		for order, term := range map[string]string{"recent": "lecture", "rank": "seminar"} {
			var sent, inOne []string
			for i := range 25 {
				from := []login{alice, bob}[i%2]
				sent = append(sent, s.say(from, rooms[i%5/4], fmt.Sprintf("%s %d", term, i)))
				if i%5 == 4 {
					inOne = append(inOne, sent[i])
				}
			}
			slices.Reverse(sent)
			slices.Reverse(inOne)
			all, groups := walk(term, order, "")
			if !slices.Equal(all, sent) {
				t.Errorf("%s: pages have %v, want %v", order, all, sent)
			}
			room, _ := dig(groups[0], "room_id", rooms[1]).(object)
			first := stringsOf(answer{t: t, Body: room}, "results")
			if next, _ := room["next_batch"].(string); order == "recent" {
				more, _ := walk(term, order, next)
				first = append(first, more...)
			} else {
				inOne = inOne[:2]
			}
			if !slices.Equal(first, inOne) {
				t.Errorf("%s: the group of a room has %v, want %v", order, first, inOne)
			}
			if people, _ := dig(groups[0], "sender").(object); len(people) != 2 {
				t.Errorf("%s: groups of senders are %v", order, people)
			}
		}
	})
}

// TestSearch_shows_what_one_may_see: redacted, hidden, forgotten, ignored and encrypted messages
// are not found, whatever the index has.
func TestSearch_shows_what_one_may_see(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		roomID := s.create(alice, object{"preset": "public_chat", "initial_state": []object{
			{"type": "m.room.history_visibility", "content": object{"history_visibility": "joined"}},
		}})
		early := s.say(alice, roomID, "secret before bob")
		s.join(roomID, bob)
		gone := s.say(alice, roomID, "secret that is taken back")
		edited := s.say(alice, roomID, "typo")
		edit := s.say(alice, roomID, "* corrected secret", relates("m.replace", edited), object{"m.new_content": object{"body": "corrected secret"}})
		s.do("PUT", roomPath(roomID, "redact", gone, "1"), alice.Token, object{}).want(200, "")

		same(t, hits(s.found(bob, "secret", recent)), edit)
		same(t, hits(s.found(alice, "secret", recent)), edit, early)
		if page := s.found(bob, "secret", recent); page["count"] != 1.0 {
			t.Errorf("the count tells bob of %v messages", page["count"])
		}
		s.do("PUT", v3+"/user/"+esc(bob.UserID)+"/account_data/m.ignored_user_list", bob.Token, object{"ignored_users": object{alice.UserID: object{}}}).want(200, "")
		same(t, hits(s.found(bob, "secret", recent)))
		s.do("PUT", v3+"/user/"+esc(bob.UserID)+"/account_data/m.ignored_user_list", bob.Token, object{"ignored_users": object{}}).want(200, "")

		s.do("POST", roomPath(roomID, "leave"), bob.Token, object{}).want(200, "")
		s.say(alice, roomID, "secret after bob")
		same(t, hits(s.found(bob, "secret", recent)), edit)
		s.do("POST", roomPath(roomID, "forget"), bob.Token, object{}).want(200, "")
		same(t, hits(s.found(bob, "secret", recent)))
		same(t, hits(s.found(bob, "secret", object{"filter": object{"rooms": []string{roomID}}})))

		s.set(alice, roomID, "m.room.encryption", "", object{"algorithm": "m.megolm.v1.aes-sha2"})
		s.say(alice, roomID, "secret in an encrypted room")
		if n := len(hits(s.found(alice, "secret", recent))); n != 3 {
			t.Errorf("%d messages are found, want those from before the encryption", n)
		}
	})
}

func TestSearch_context_and_state(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		s.do("PUT", v3+"/profile/"+esc(bob.UserID)+"/displayname", bob.Token, object{"displayname": "bob"}).want(200, "")
		roomID := s.create(alice, public)
		s.join(roomID, bob)
		var sent []string
		for i := range 7 {
			sent = append(sent, s.say([]login{alice, bob}[i%2], roomID, fmt.Sprintf("number %d", i)))
		}
		page := s.found(alice, "number 3", object{"order_by": "recent", "include_state": true,
			"event_context": object{"before_limit": 2, "after_limit": 1, "include_profile": true}})
		results, _ := page["results"].([]any)
		if len(results) != 1 {
			t.Fatalf("%d results", len(results))
		}
		around, _ := dig(results[0], "context").(object)
		context := answer{t: t, Body: around}
		same(t, ids(context.objects("events_before")), sent[2], sent[1])
		same(t, ids(context.objects("events_after")), sent[4])
		if dig(around, "profile_info", bob.UserID, "displayname") != "bob" || dig(around, "profile_info", alice.UserID) == nil {
			t.Errorf("profiles are %v", around["profile_info"])
		}
		start, _ := around["start"].(string)
		older := s.do("GET", roomPath(roomID, "messages")+"?dir=b&limit=1&from="+esc(start), alice.Token, nil).want(200, "").objects("chunk")
		same(t, ids(older), sent[0])
		state, _ := dig(page, "state", roomID).([]any)
		if len(state) < 5 {
			t.Errorf("the state of the room has %d events", len(state))
		}
	})
}

func TestSearch_refuses(t *testing.T) {
	s := onSQLite(t)
	alice := s.signUp("alice")
	search := func(criteria any) answer {
		return s.do("POST", searchPath, alice.Token, object{"search_categories": object{"room_events": criteria}})
	}
	s.do("POST", searchPath, alice.Token, object{}).want(400, "M_BAD_JSON")
	s.do("POST", searchPath, alice.Token, object{"search_categories": object{}}).want(200, "")
	search(object{}).want(400, "M_BAD_JSON")
	search(object{"search_term": 1}).want(400, "M_BAD_JSON")
	search(object{"search_term": "a", "keys": []string{"content.url"}}).want(400, "M_INVALID_PARAM")
	search(object{"search_term": "a", "order_by": "size"}).want(400, "M_INVALID_PARAM")
	search(object{"search_term": "a", "filter": object{"limit": "many"}}).want(400, "M_BAD_JSON")
	search(object{"search_term": "a", "groupings": object{"group_by": []object{{"key": "day"}}}}).want(400, "M_INVALID_PARAM")
	search(object{"search_term": "a", "event_context": object{"before_limit": -1}}).want(400, "M_INVALID_PARAM")
	for _, token := range []string{"x", "f", "fe30", "f!!", "s12_3"} {
		s.do("POST", searchPath+"?next_batch="+token, alice.Token,
			object{"search_categories": object{"room_events": object{"search_term": "a"}}}).want(400, "M_INVALID_PARAM")
	}
	s.do("POST", searchPath, "", object{}).want(401, "M_MISSING_TOKEN")
}

// TestSearch_while_the_index_is_rebuilt: people get right answers all the time, and full ones
// at the end.
func TestSearch_while_the_index_is_rebuilt(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice := s.signUp("alice")
		roomID := s.create(alice, public)
		var sent []string
		for i := range 30 {
			sent = append(sent, s.say(alice, roomID, fmt.Sprintf("lecture %d", i)))
		}
		gone := s.say(alice, roomID, "lecture that is taken back")
		for range 3 {
			if err := search.Rebuild(t.Context(), s.store); err != nil {
				t.Fatal(err)
			}
			sent = append(sent, s.say(alice, roomID, "lecture, meanwhile"))
			for _, found := range hits(s.found(alice, "lecture", recent)) {
				if found != gone && !slices.Contains(sent, found) {
					t.Errorf("%s is found, which was never sent", found)
				}
			}
			s.do("PUT", roomPath(roomID, "redact", gone, "1"), alice.Token, object{}).want(200, "")
			if err := reader.Wait(t.Context(), s.store, "search.rebuild", ""); err != nil {
				t.Fatal(err)
			}
			at, err := search.ReadProgress(t.Context(), s.store)
			if err != nil || !at.Ended {
				t.Errorf("at the end, the progress is %+v, %v", at, err)
			}
			got := hits(s.found(alice, "lecture", object{"order_by": "recent", "filter": object{"limit": 100}}))
			slices.Reverse(got)
			if !slices.Equal(got, sent) {
				t.Errorf("after the rebuild %d messages are found, want %d", len(got), len(sent))
			}
		}
	})
}
