package clientapi_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"stoa/internal/clientapi"
	"stoa/internal/httpkit"
)

// rooms are the IDs of the rooms in a section of a /sync.
func (a answer) rooms(section string) (found []string) {
	a.t.Helper()
	in, _ := dig(a.Body, "rooms", section).(object)
	for roomID := range in {
		found = append(found, roomID)
	}
	slices.Sort(found)
	return found
}

func TestLeaveAndForget(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		roomID := s.create(alice, public)
		leave := func(room string, body any) answer {
			return s.do("POST", v3+"/rooms/"+esc(room)+"/leave", bob.Token, body)
		}
		forget := func(room string) answer {
			return s.do("POST", v3+"/rooms/"+esc(room)+"/forget", bob.Token, nil)
		}
		read := func() answer { return s.do("GET", roomPath(roomID, "messages")+"?dir=b", bob.Token, nil) }
		s.join(roomID, bob)
		since := s.sync(bob, "").str("next_batch")
		forget(roomID).want(400, "M_UNKNOWN") // who is there can't forget
		said := s.say(alice, roomID, "before")
		equal(t, "answer", leave(roomID, object{"reason": "bye"}).want(200, "").Body, object{})
		after := s.say(alice, roomID, "after")
		member := s.do("GET", roomPath(roomID, "state", "m.room.member", bob.UserID), alice.Token, nil).want(200, "")
		if member.str("membership") != "leave" || member.str("reason") != "bye" {
			t.Fatalf("bob is %s", member.raw)
		}
		news := s.sync(bob, since)
		same(t, news.rooms("join"))
		same(t, news.rooms("leave"), roomID)
		if !strings.Contains(news.raw, said) || strings.Contains(news.raw, after) {
			t.Fatalf("who has left sees %s", news.raw)
		}
		if got := read().want(200, ""); !strings.Contains(got.raw, said) || strings.Contains(got.raw, after) {
			t.Fatalf("who has left reads %s", got.raw)
		}
		equal(t, "answer", forget(roomID).want(200, "").Body, object{})
		read().want(403, "M_FORBIDDEN")
		forget(roomID).want(200, "")

		// An invitation is refused by leaving.
		private := s.create(alice, object{"invite": []string{bob.UserID}})
		since = s.sync(bob, since).str("next_batch")
		leave(private, nil).want(200, "")
		same(t, s.sync(bob, since).rooms("leave"), private)
		leave("!none:stoa.test", nil).want(404, "M_NOT_FOUND")
		leave("hall", nil).want(400, "M_INVALID_PARAM")
		leave(private, `{"reason":1}`).want(400, "M_BAD_JSON")
		leave(private, `{`).want(400, "M_NOT_JSON")
		forget("!none:stoa.test").want(404, "M_NOT_FOUND")
		forget("hall").want(400, "M_INVALID_PARAM")
	})
}

func TestKick(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob, eve := s.signUp("alice"), s.signUp("bob"), s.signUp("eve")
		roomID := s.create(alice, public)
		kick := func(l login, body any) answer {
			return s.do("POST", v3+"/rooms/"+esc(roomID)+"/kick", l.Token, body)
		}
		s.join(roomID, bob)
		since := s.sync(bob, "").str("next_batch")
		kick(alice, object{"user_id": eve.UserID}).want(403, "M_FORBIDDEN") // who is not there
		kick(eve, object{"user_id": bob.UserID}).want(403, "M_FORBIDDEN")
		kick(bob, object{"user_id": alice.UserID}).want(403, "M_FORBIDDEN")
		equal(t, "answer", kick(alice, object{"user_id": bob.UserID, "reason": "noise"}).want(200, "").Body, object{})
		event := s.sync(bob, since).eventOf("m.room.member", "rooms", "leave", roomID, "timeline", "events")
		if dig(event, "content", "membership") != "leave" || dig(event, "content", "reason") != "noise" || dig(event, "sender") != alice.UserID {
			t.Fatalf("bob sees %v", event)
		}
		s.do("PUT", roomPath(roomID, "send", "m.room.message", "1"), bob.Token, object{}).want(403, "M_FORBIDDEN")
		s.join(roomID, bob) // a kick is no ban

		// An invitation is taken back by a kick.
		s.do("POST", roomPath(roomID, "invite"), alice.Token, object{"user_id": eve.UserID}).want(200, "")
		since = s.sync(eve, "").str("next_batch")
		kick(alice, object{"user_id": eve.UserID}).want(200, "")
		same(t, s.sync(eve, since).rooms("leave"), roomID)
		same(t, s.sync(eve, "").rooms("invite"))
	})
}

func TestKnock(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob, eve := s.signUp("alice"), s.signUp("bob"), s.signUp("eve")
		roomID := s.create(alice, object{"name": "Hall", "room_alias_name": "hall"})
		knock := func(l login, room string, body any) answer {
			return s.do("POST", v3+"/knock/"+esc(room), l.Token, body)
		}
		knock(bob, roomID, nil).want(403, "M_FORBIDDEN") // nobody may knock yet
		s.set(alice, roomID, "m.room.join_rules", "", object{"join_rule": "knock"})
		since, before := s.sync(bob, "").str("next_batch"), s.sync(alice, "").str("next_batch")
		equal(t, "answer", knock(bob, "#hall:stoa.test", object{"reason": "let me in"}).want(200, "").Body, object{"room_id": roomID})
		news := s.sync(bob, since)
		equal(t, "the name of the room", dig(news.eventOf("m.room.name", "rooms", "knock", roomID, "knock_state", "events"), "content", "name"), "Hall")
		event := s.sync(alice, before).eventOf("m.room.member", "rooms", "join", roomID, "timeline", "events")
		if dig(event, "content", "membership") != "knock" || dig(event, "content", "reason") != "let me in" {
			t.Fatalf("alice sees %v", event)
		}
		s.do("POST", roomPath(roomID, "join"), bob.Token, nil).want(403, "M_FORBIDDEN")
		s.do("GET", roomPath(roomID, "messages")+"?dir=b", bob.Token, nil).want(403, "M_FORBIDDEN")
		s.do("POST", roomPath(roomID, "invite"), alice.Token, object{"user_id": bob.UserID}).want(200, "")
		same(t, s.sync(bob, since).rooms("invite"), roomID)
		s.join(roomID, bob)
		knock(bob, roomID, nil).want(403, "M_FORBIDDEN") // who is there
		s.do("POST", roomPath(roomID, "ban"), alice.Token, object{"user_id": eve.UserID}).want(200, "")
		knock(eve, roomID, nil).want(403, "M_FORBIDDEN")
		knock(eve, "#none:stoa.test", nil).want(404, "M_NOT_FOUND")
		knock(eve, "hall", nil).want(400, "M_INVALID_PARAM")
		knock(eve, roomID, `{"reason":1}`).want(400, "M_BAD_JSON")
	})
}

func TestSync(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		roomID := s.create(alice, object{"preset": "public_chat", "name": "Hall"})
		get := func(query string) answer { return s.do("GET", v3+"/sync"+query, bob.Token, nil).want(200, "") }
		timeline := func(a answer) []string {
			var found []object
			list, _ := dig(a.Body, "rooms", "join", roomID, "timeline", "events").([]any)
			for _, e := range list {
				found = append(found, e.(object))
			}
			return ids(found)
		}
		since := get("").str("next_batch")
		same(t, get("?since="+since).rooms("join"))
		s.join(roomID, bob)
		news := get("?since=" + since)
		same(t, news.rooms("join"), roomID)
		if dig(news.eventOf("m.room.name", "rooms", "join", roomID, "state", "events"), "content", "name") != "Hall" &&
			dig(news.eventOf("m.room.name", "rooms", "join", roomID, "timeline", "events"), "content", "name") != "Hall" {
			t.Fatalf("a new room without its name: %s", news.raw)
		}
		since = news.str("next_batch")
		var said []string
		for i := range 12 {
			said = append(said, s.say(alice, roomID, fmt.Sprint("m", i)))
		}
		// The newest, a sign that there are more, and the way to them.
		news = get("?since=" + since + "&filter=" + esc(`{"room":{"timeline":{"limit":4}}}`))
		same(t, timeline(news), said[8:]...)
		equal(t, "limited", dig(news.Body, "rooms", "join", roomID, "timeline", "limited"), true)
		prev, _ := dig(news.Body, "rooms", "join", roomID, "timeline", "prev_batch").(string)
		older := s.do("GET", roomPath(roomID, "messages")+"?dir=b&limit=8&from="+prev+"&to="+since, bob.Token, nil).want(200, "")
		back := ids(older.objects("chunk"))
		slices.Reverse(back)
		same(t, back, said[:8]...)
		// Asked again with the same token, the same comes again.
		same(t, timeline(get("?since="+since+"&filter="+esc(`{"room":{"timeline":{"limit":4}}}`))), said[8:]...)
		same(t, timeline(get("?since="+news.str("next_batch"))))
		full := get("?since=" + news.str("next_batch") + "&full_state=true")
		if full.eventOf("m.room.create", "rooms", "join", roomID, "state", "events") == nil {
			t.Fatalf("full_state gives %s", full.raw)
		}

		// A redaction is seen, and so is what became of the event.
		since = full.str("next_batch")
		by := s.do("PUT", roomPath(roomID, "redact", said[11], "1"), alice.Token, object{}).want(200, "").str("event_id")
		same(t, timeline(get("?since="+since)), by)

		// Rooms that were left come when they are asked for.
		s.do("POST", roomPath(roomID, "leave"), bob.Token, nil).want(200, "")
		same(t, get("").rooms("leave"))
		same(t, get("?filter="+esc(`{"room":{"include_leave":true}}`)).rooms("leave"), roomID)
	})
}

func TestSyncRefuses(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice := s.signUp("alice")
	for query, errcode := range map[string]string{
		"?since=x":                     "M_INVALID_PARAM",
		"?since=s1.99999999999999.x":   "M_INVALID_PARAM",
		"?timeout=soon":                "M_INVALID_PARAM",
		"?timeout=-1":                  "M_INVALID_PARAM",
		"?full_state=maybe":            "M_INVALID_PARAM",
		"?use_state_after=maybe":       "M_INVALID_PARAM",
		"?set_presence=asleep":         "M_INVALID_PARAM",
		"?filter=none":                 "M_INVALID_PARAM",
		"?filter=99":                   "M_INVALID_PARAM",
		"?filter=%7B":                  "M_NOT_JSON",
		"?filter=" + esc(`{"room":1}`): "M_BAD_JSON",
	} {
		s.do("GET", v3+"/sync"+query, alice.Token, nil).want(400, errcode)
	}
}

// Clients from before version 1.1 of the specification say r0 for v3.
func TestOldPathsLeadToTheSameEndpoints(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice := s.signUp("alice")
	api := clientapi.New(clientapi.Options{Auth: s.auth, Accounts: s.accounts})
	mux, err := httpkit.NewMux(httpkit.Options{}, clientapi.LegacyRoutes(api.Routes()))
	if err != nil {
		t.Fatal(err)
	}
	old := s.in(t)
	old.handler = mux
	equal(t, "whoami", old.do("GET", "/_matrix/client/r0/account/whoami", alice.Token, nil).want(200, "").Body, s.whoami(alice.Token).Body)
	old.do("GET", "/_matrix/client/v3/account/whoami", alice.Token, nil).want(404, "M_UNRECOGNIZED")
	old.do("GET", "/_matrix/client/r0/room_summary/x", alice.Token, nil).want(404, "M_UNRECOGNIZED") // came later
}
