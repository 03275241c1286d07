package clientapi_test

import (
	"fmt"
	"strings"
	"testing"

	"stoa/internal/report"
)

func TestReports(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob, eve := s.signUp("alice"), s.signUp("bob"), s.signUp("eve")
		roomID := s.create(alice, public)
		s.join(roomID, bob)
		event := s.say(alice, roomID, "an insult")
		path := roomPath(roomID, "report", event)
		s.do("POST", path, bob.Token, object{"reason": "rude"}).want(200, "")
		s.do("POST", path, eve.Token, object{"reason": "rude"}).want(404, "M_NOT_FOUND") // not in the room
		s.do("POST", roomPath(roomID, "report", "$none"), bob.Token, object{}).want(404, "M_NOT_FOUND")
		s.do("POST", roomPath("!none:stoa.test", "report", event), bob.Token, object{}).want(404, "M_NOT_FOUND")
		s.do("POST", path, bob.Token, object{"reason": 1}).want(400, "M_BAD_JSON")
		s.do("POST", path, bob.Token, object{"reason": strings.Repeat("x", report.MaxReason+1)}).want(413, "M_TOO_LARGE")
		// Whether there is such a room or user is not told.
		for _, room := range []string{roomID, "!none:stoa.test"} {
			s.do("POST", roomPath(room, "report"), eve.Token, object{"reason": ""}).want(200, "")
		}
		s.do("POST", roomPath(roomID, "report"), eve.Token, object{}).want(400, "M_BAD_JSON")
		for _, user := range []string{alice.UserID, "@nobody:stoa.test", "@x:elsewhere.test"} {
			s.do("POST", v3+"/users/"+esc(user)+"/report", eve.Token, object{"reason": "spam"}).want(200, "")
		}
		s.do("POST", v3+"/users/nobody/report", eve.Token, object{"reason": "spam"}).want(400, "M_INVALID_PARAM")

		// Redacted later, the event stays as bob saw it.
		s.do("PUT", roomPath(roomID, "redact", event, "1"), alice.Token, object{}).want(200, "")
		list, err := report.List(t.Context(), s.store, false)
		if err != nil || len(list) != 6 {
			t.Fatalf("%d open reports, %v", len(list), err)
		}
		first := list[0]
		if first.ReporterID != bob.UserID || first.EventID != event || first.Reported != alice.UserID || first.Reason != "rude" ||
			!strings.Contains(string(first.Event), "an insult") {
			t.Errorf("the first report is %+v", first)
		}
		handle := func(h report.Handling) error { return report.Handle(t.Context(), s.store, h) }
		if err := handle(report.Handling{ID: first.ID, Assignee: "anna"}); err != nil {
			t.Fatal(err)
		}
		if err := handle(report.Handling{ID: first.ID, Note: "warned", Close: true}); err != nil {
			t.Fatal(err)
		}
		if handle(report.Handling{ID: first.ID, Note: "again"}) == nil || handle(report.Handling{ID: "none", Close: true}) == nil {
			t.Error("a closed report, or one that is not there, was changed")
		}
		if r, err := report.Show(t.Context(), s.store, first.ID); err != nil || r.Assignee != "anna" || r.Note != "warned" || r.ClosedTS == 0 {
			t.Errorf("the closed report is %+v, %v", r, err)
		}
		if closed, err := report.List(t.Context(), s.store, true); err != nil || len(closed) != 1 {
			t.Errorf("%d closed reports, %v", len(closed), err)
		}
	})
}

func TestReports_are_bounded(t *testing.T) {
	s := onSQLite(t)
	alice := s.signUp("alice")
	for range 100 {
		s.do("POST", v3+"/users/@x:stoa.test/report", alice.Token, object{"reason": "spam"}).want(200, "")
	}
	s.do("POST", v3+"/users/@x:stoa.test/report", alice.Token, object{"reason": "spam"}).want(403, "M_RESOURCE_LIMIT_EXCEEDED")
	bob := s.signUp("bob")
	s.do("POST", v3+"/users/@x:stoa.test/report", bob.Token, object{"reason": "spam"}).want(200, "")
}

func TestMutualRooms(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob, eve := s.signUp("alice"), s.signUp("bob"), s.signUp("eve")
		var both []string
		for i := range 103 {
			room := s.create(alice, public)
			if i%100 != 50 {
				s.join(room, bob)
				both = append(both, room)
			}
		}
		path := func(user, from string) string {
			return "/_matrix/client/v1/mutual_rooms?user_id=" + esc(user) + "&from=" + esc(from)
		}
		first := s.do("GET", path(bob.UserID, ""), alice.Token, nil).want(200, "")
		next := s.do("GET", path(bob.UserID, first.str("next_batch")), alice.Token, nil).want(200, "")
		same(t, append(stringsOf(first, "joined"), stringsOf(next, "joined")...), both...)
		if first.Body["count"] != 102.0 || next.Body["count"] != 102.0 || next.str("next_batch") != "" {
			t.Errorf("counts are %v and %v, and the last page has next_batch %q", first.Body["count"], next.Body["count"], next.str("next_batch"))
		}
		for _, user := range []string{eve.UserID, "@nobody:stoa.test", "@x:elsewhere.test"} {
			none := s.do("GET", path(user, ""), alice.Token, nil).want(200, "")
			if len(stringsOf(none, "joined")) > 0 || none.Body["count"] != 0.0 {
				t.Errorf("alice shares with %s: %s", user, none.raw)
			}
		}
		s.do("GET", path(alice.UserID, ""), alice.Token, nil).want(400, "M_INVALID_PARAM")
		s.do("GET", path("bob", ""), alice.Token, nil).want(400, "M_INVALID_PARAM")
		s.do("GET", path(bob.UserID, "x"), alice.Token, nil).want(400, "M_INVALID_PARAM")
		s.do("GET", "/_matrix/client/v1/mutual_rooms", alice.Token, nil).want(400, "M_MISSING_PARAM")
	})
}

// TestOldSync: the calls that /sync has replaced.
//
// Covers: getEvents, getOneEvent, initialSync, roomInitialSync, peekEvents
func TestOldSync(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob, eve := s.signUp("alice"), s.signUp("bob"), s.signUp("eve")
		roomID := s.create(alice, object{"preset": "public_chat", "name": "hall"})
		hello := s.say(alice, roomID, "hello")
		private := s.create(alice, object{"invite": []string{bob.UserID}})
		s.join(roomID, bob)

		all := s.do("GET", v3+"/initialSync?limit=2", bob.Token, nil).want(200, "")
		rooms := all.objects("rooms")
		if len(rooms) != 2 || rooms[0]["room_id"] != roomID || rooms[0]["membership"] != "join" || rooms[0]["visibility"] != "private" {
			t.Fatalf("rooms are %v", rooms)
		}
		chunk, _ := dig(rooms[0], "messages", "chunk").([]any)
		if len(chunk) != 2 || dig(chunk[0], "event_id") != hello || dig(chunk[0], "room_id") != roomID {
			t.Errorf("messages are %v", chunk)
		}
		if rooms[1]["room_id"] != private || rooms[1]["membership"] != "invite" || dig(rooms[1], "invite", "type") != "m.room.member" {
			t.Errorf("the invitation is %v", rooms[1])
		}
		older := s.do("GET", roomPath(roomID, "messages")+"?dir=b&limit=1&from="+esc(dig(rooms[0], "messages", "start").(string)), bob.Token, nil).want(200, "")
		if len(older.objects("chunk")) != 1 || older.objects("chunk")[0]["event_id"] == hello {
			t.Errorf("messages before them are %s", older.raw)
		}

		// News, from the token on, each once. To-device messages stay for /sync.
		s.do("PUT", v3+"/sendToDevice/m.test/1", alice.Token, object{"messages": object{bob.UserID: object{"*": object{"a": 1}}}}).want(200, "")
		second := s.say(alice, roomID, "second")
		news := s.do("GET", v3+"/events?timeout=1000&from="+esc(all.str("end")), bob.Token, nil).want(200, "")
		same(t, ids(news.objects("chunk")), second)
		if news.objects("chunk")[0]["room_id"] != roomID || news.str("start") == news.str("end") {
			t.Errorf("news are %s", news.raw)
		}
		quiet := s.do("GET", v3+"/events?timeout=0&from="+esc(news.str("end")), bob.Token, nil).want(200, "")
		same(t, ids(quiet.objects("chunk")))
		if events, _ := dig(s.sync(bob, "").Body, "to_device", "events").([]any); len(events) != 1 {
			t.Errorf("/sync has %d messages to the device", len(events))
		}
		now := s.do("GET", v3+"/events?timeout=0", bob.Token, nil).want(200, "")
		same(t, ids(now.objects("chunk")))
		s.do("GET", v3+"/events?from=x", bob.Token, nil).want(400, "M_INVALID_PARAM")
		s.do("GET", v3+"/events?timeout=x", bob.Token, nil).want(400, "M_INVALID_PARAM")

		one := s.do("GET", v3+"/events/"+esc(hello), bob.Token, nil).want(200, "")
		if one.str("room_id") != roomID || dig(one.Body, "content", "body") != "hello" {
			t.Errorf("the event is %s", one.raw)
		}
		s.do("GET", v3+"/events/"+esc(hello), eve.Token, nil).want(404, "M_NOT_FOUND")

		// Peeking.
		s.do("GET", roomPath(roomID, "initialSync"), eve.Token, nil).want(403, "M_FORBIDDEN")
		s.do("GET", v3+"/events?room_id="+esc(roomID), eve.Token, nil).want(403, "M_FORBIDDEN")
		s.do("GET", v3+"/events?room_id="+esc("!none:stoa.test"), eve.Token, nil).want(403, "M_FORBIDDEN")
		s.set(alice, roomID, "m.room.history_visibility", "", object{"history_visibility": "world_readable"})
		third := s.say(alice, roomID, "third")
		seen := s.do("GET", roomPath(roomID, "initialSync"), eve.Token, nil).want(200, "")
		chunk, _ = dig(seen.Body, "messages", "chunk").([]any)
		if len(chunk) == 0 || dig(chunk[len(chunk)-1], "event_id") != third || seen.Body["membership"] != nil || len(seen.objects("state")) < 5 {
			t.Errorf("the room, peeked at, is %s", seen.raw)
		}
		end := dig(seen.Body, "messages", "end").(string)
		fourth := s.say(alice, roomID, "fourth")
		peek := func(from string) answer {
			return s.do("GET", v3+"/events?room_id="+esc(roomID)+"&from="+esc(from), eve.Token, nil).want(200, "")
		}
		got := peek(end)
		same(t, ids(got.objects("chunk")), fourth)
		same(t, ids(peek(got.str("end")).objects("chunk")))
		same(t, ids(peek("").objects("chunk")))
		own := s.do("GET", roomPath(roomID, "initialSync"), bob.Token, nil).want(200, "")
		if own.str("membership") != "join" || fmt.Sprint(own.Body["visibility"]) != "private" {
			t.Errorf("bob's room is %s", own.raw)
		}
	})
}
