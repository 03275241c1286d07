package clientapi_test

import (
	"strings"
	"testing"
	"time"
)

func TestTyping(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob, eve := s.signUp("alice"), s.signUp("bob"), s.signUp("eve")
		roomID := s.create(alice, public)
		s.join(roomID, bob)
		since := s.sync(bob, "").str("next_batch")
		put := func(l login, room, user string, body any) answer {
			return s.do("PUT", v3+"/rooms/"+esc(room)+"/typing/"+esc(user), l.Token, body)
		}
		shown := func(want ...string) {
			t.Helper()
			news := s.sync(bob, since)
			since = news.str("next_batch")
			event := news.eventOf("m.typing", "rooms", "join", roomID, "ephemeral", "events")
			equal(t, "m.typing", event, object{"type": "m.typing", "content": object{"user_ids": append([]string{}, want...)}})
		}
		equal(t, "answer", put(alice, roomID, alice.UserID, object{"typing": true, "timeout": 30000}).want(200, "").Body, object{})
		shown(alice.UserID)
		put(bob, roomID, bob.UserID, object{"typing": true}).want(200, "")
		shown(alice.UserID, bob.UserID)
		put(alice, roomID, alice.UserID, object{"typing": false}).want(200, "")
		shown(bob.UserID)
		put(alice, roomID, alice.UserID, object{"typing": false, "timeout": 1}).want(200, "")
		if news := s.sync(bob, since); news.eventOf("m.typing", "rooms", "join", roomID, "ephemeral", "events") != nil {
			t.Fatalf("who is silent falls silent again: %s", news.raw)
		}

		put(bob, roomID, alice.UserID, object{"typing": true}).want(403, "M_FORBIDDEN")
		put(eve, roomID, eve.UserID, object{"typing": true}).want(403, "M_FORBIDDEN")
		put(alice, "!none:stoa.test", alice.UserID, object{"typing": true}).want(403, "M_FORBIDDEN")
		put(alice, "hall", alice.UserID, object{"typing": true}).want(400, "M_INVALID_PARAM")
		put(alice, roomID, "alice", object{"typing": true}).want(400, "M_INVALID_PARAM")
		put(alice, roomID, alice.UserID, object{}).want(400, "M_BAD_JSON")
		put(alice, roomID, alice.UserID, object{"typing": "yes"}).want(400, "M_BAD_JSON")
		put(alice, roomID, alice.UserID, object{"typing": true, "timeout": "long"}).want(400, "M_BAD_JSON")
		put(alice, roomID, alice.UserID, `{`).want(400, "M_NOT_JSON")
	})
}

// receiptsOf are the receipts of a type on an event, by user, as /sync shows them.
func receiptsOf(a answer, roomID, eventID, kind string) any {
	return dig(a.eventOf("m.receipt", "rooms", "join", roomID, "ephemeral", "events"), "content", eventID, kind)
}

func TestReceipts(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob, eve := s.signUp("alice"), s.signUp("bob"), s.signUp("eve")
		roomID := s.create(alice, public)
		s.join(roomID, bob)
		root := s.say(alice, roomID, "root")
		reply := s.say(alice, roomID, "reply", object{"m.relates_to": object{"rel_type": "m.thread", "event_id": root}})
		last := s.say(alice, roomID, "last")
		since := s.sync(alice, "").str("next_batch")
		post := func(l login, kind, eventID string, body any) answer {
			return s.do("POST", v3+"/rooms/"+esc(roomID)+"/receipt/"+esc(kind)+"/"+esc(eventID), l.Token, body)
		}
		now := s.clock.Now().UnixMilli()
		equal(t, "answer", post(bob, "m.read", root, object{}).want(200, "").Body, object{})
		news := s.sync(alice, since)
		since = news.str("next_batch")
		equal(t, "m.read", receiptsOf(news, roomID, root, "m.read"), object{bob.UserID: object{"ts": now}})

		// A receipt in a thread names it; private ones only their owner sees.
		post(bob, "m.read", reply, object{"thread_id": root}).want(200, "")
		post(bob, "m.read.private", last, nil).want(200, "")
		news = s.sync(alice, since)
		equal(t, "threaded m.read", receiptsOf(news, roomID, reply, "m.read"), object{bob.UserID: object{"ts": now, "thread_id": root}})
		if strings.Contains(news.raw, "m.read.private") {
			t.Fatalf("alice sees a private receipt of bob: %s", news.raw)
		}
		since = news.str("next_batch")
		equal(t, "m.read.private", receiptsOf(s.sync(bob, ""), roomID, last, "m.read.private"), object{bob.UserID: object{"ts": now}})

		// A receipt never goes back.
		post(bob, "m.read", last, object{"thread_id": "main"}).want(200, "")
		since = s.sync(alice, since).str("next_batch")
		post(bob, "m.read", root, object{"thread_id": "main"}).want(200, "")
		if news = s.sync(alice, since); news.eventOf("m.receipt", "rooms", "join", roomID, "ephemeral", "events") != nil {
			t.Fatalf("a receipt went back: %s", news.raw)
		}

		// m.fully_read is no receipt, but account data.
		post(bob, "m.fully_read", root, nil).want(200, "")
		event := s.sync(bob, "").eventOf("m.fully_read", "rooms", "join", roomID, "account_data", "events")
		equal(t, "m.fully_read", event, object{"type": "m.fully_read", "content": object{"event_id": root}})

		post(bob, "m.seen", root, nil).want(400, "M_INVALID_PARAM")
		post(bob, "m.read", "root", nil).want(400, "M_INVALID_PARAM")
		post(bob, "m.read", "$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", nil).want(404, "M_NOT_FOUND")
		post(eve, "m.read", root, nil).want(403, "M_FORBIDDEN")
		post(bob, "m.read", root, `{`).want(400, "M_NOT_JSON")
		for name, body := range map[string]object{
			"no string":      {"thread_id": 1},
			"null":           {"thread_id": nil},
			"an empty one":   {"thread_id": ""},
			"another thread": {"thread_id": last},
		} {
			t.Log(name)
			post(bob, "m.read", reply, body).want(400, "M_INVALID_PARAM")
		}
		post(bob, "m.fully_read", root, object{"thread_id": "main"}).want(400, "M_INVALID_PARAM")
		s.do("POST", v3+"/rooms/hall/receipt/m.read/"+esc(root), bob.Token, nil).want(400, "M_INVALID_PARAM")
	})
}

func TestReadMarkers(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob, eve := s.signUp("alice"), s.signUp("bob"), s.signUp("eve")
		roomID := s.create(alice, public)
		s.join(roomID, bob)
		first, second, third := s.say(alice, roomID, "1"), s.say(alice, roomID, "2"), s.say(alice, roomID, "3")
		post := func(l login, body any) answer {
			return s.do("POST", v3+"/rooms/"+esc(roomID)+"/read_markers", l.Token, body)
		}
		mark := func() any {
			return dig(s.sync(bob, "").eventOf("m.fully_read", "rooms", "join", roomID, "account_data", "events"), "content", "event_id")
		}
		equal(t, "answer", post(bob, object{"m.fully_read": first, "m.read": second, "m.read.private": third}).want(200, "").Body, object{})
		equal(t, "m.fully_read", mark(), first)
		now := s.clock.Now().UnixMilli()
		for eventID, kind := range map[string]string{second: "m.read", third: "m.read.private"} {
			equal(t, kind, receiptsOf(s.sync(bob, ""), roomID, eventID, kind), object{bob.UserID: object{"ts": now}})
		}
		equal(t, "what alice sees of m.read", receiptsOf(s.sync(alice, ""), roomID, second, "m.read"), object{bob.UserID: object{"ts": now}})

		// Each may stand alone, and none changes nothing.
		post(bob, object{"m.fully_read": third}).want(200, "")
		equal(t, "m.fully_read", mark(), third)
		post(bob, object{"m.read": third}).want(200, "")
		equal(t, "m.read", receiptsOf(s.sync(alice, ""), roomID, third, "m.read"), object{bob.UserID: object{"ts": now}})
		post(bob, object{}).want(200, "")
		equal(t, "m.fully_read", mark(), third)

		other := s.create(alice, public)
		s.join(other, bob)
		foreign := s.say(alice, other, "elsewhere")
		if a := post(bob, object{"m.fully_read": foreign}); a.Status != 404 && a.Status != 400 {
			t.Fatalf("an event of another room gives %s", a.raw)
		}
		// What can't be done is not done in part.
		if a := post(bob, object{"m.fully_read": first, "m.read": foreign}); a.Status/100 != 4 {
			t.Fatalf("an event of another room gives %s", a.raw)
		}
		equal(t, "m.fully_read", mark(), third)
		post(eve, object{"m.fully_read": first}).want(403, "M_FORBIDDEN")
		post(bob, object{"m.fully_read": "first"}).want(400, "M_BAD_JSON")
		post(bob, object{"m.read": 1}).want(400, "M_BAD_JSON")
		post(bob, `[]`).want(400, "M_BAD_JSON")
		post(bob, `{`).want(400, "M_NOT_JSON")
		s.do("POST", v3+"/rooms/hall/read_markers", bob.Token, object{}).want(400, "M_INVALID_PARAM")
	})
}

func TestPresence(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob, eve := s.signUp("alice"), s.signUp("bob"), s.signUp("eve")
		roomID := s.create(alice, public)
		s.join(roomID, bob)
		since := s.sync(bob, "").str("next_batch")
		put := func(l login, user string, body any) answer {
			return s.do("PUT", v3+"/presence/"+esc(user)+"/status", l.Token, body)
		}
		get := func(l login, user string) answer {
			return s.do("GET", v3+"/presence/"+esc(user)+"/status", l.Token, nil)
		}
		equal(t, "presence of who never was there", get(bob, alice.UserID).want(200, "").Body["presence"], "offline")
		equal(t, "answer", put(alice, alice.UserID, object{"presence": "online", "status_msg": "at work"}).want(200, "").Body, object{})
		s.clock.Advance(3 * time.Second)
		equal(t, "presence", get(bob, alice.UserID).want(200, "").Body,
			object{"presence": "online", "status_msg": "at work", "currently_active": true, "last_active_ago": 3000})
		equal(t, "of oneself", get(alice, alice.UserID).want(200, "").Body["presence"], "online")
		event := s.sync(bob, since).eventOf("m.presence", "presence", "events")
		equal(t, "in /sync", event, object{"type": "m.presence", "sender": alice.UserID,
			"content": object{"presence": "online", "status_msg": "at work", "currently_active": true, "last_active_ago": 3000}})

		put(alice, alice.UserID, object{"presence": "unavailable"}).want(200, "")
		got := get(bob, alice.UserID).want(200, "")
		if got.str("presence") != "unavailable" || got.Body["status_msg"] != nil {
			t.Fatalf("presence is %s", got.raw)
		}
		put(alice, alice.UserID, object{"presence": "offline"}).want(200, "")
		equal(t, "presence", get(bob, alice.UserID).want(200, "").Body["presence"], "offline")

		get(eve, alice.UserID).want(403, "M_FORBIDDEN")
		get(eve, "@none:stoa.test").want(403, "M_FORBIDDEN")
		get(eve, "alice").want(400, "M_INVALID_PARAM")
		put(bob, alice.UserID, object{"presence": "online"}).want(403, "M_FORBIDDEN")
		put(alice, "alice", object{"presence": "online"}).want(400, "M_INVALID_PARAM")
		put(alice, alice.UserID, object{}).want(400, "M_BAD_JSON")
		put(alice, alice.UserID, object{"presence": 1}).want(400, "M_BAD_JSON")
		put(alice, alice.UserID, object{"presence": "asleep"}).want(400, "M_INVALID_PARAM")
		put(alice, alice.UserID, object{"presence": "online", "status_msg": 1}).want(400, "M_BAD_JSON")
		put(alice, alice.UserID, object{"presence": "online", "status_msg": strings.Repeat("x", 2000)}).want(400, "M_INVALID_PARAM")
		put(alice, alice.UserID, `{`).want(400, "M_NOT_JSON")
		equal(t, "presence after refusals", get(bob, alice.UserID).want(200, "").Body["presence"], "offline")
	})
}
