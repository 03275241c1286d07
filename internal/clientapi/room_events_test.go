package clientapi_test

import (
	"fmt"
	"net/url"
	"slices"
	"testing"
)

func TestSendEvent(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice := s.signUp("alice")
		roomID, other := s.create(alice, public), s.create(alice, public)
		send := func(l login, room, evType, txn string, body any) answer {
			return s.do("PUT", roomPath(room, "send", evType, txn), l.Token, body)
		}
		first := send(alice, roomID, "m.room.message", "1", object{"body": "a"}).want(200, "").str("event_id")
		if again := send(alice, roomID, "m.room.message", "1", object{"body": "b"}).want(200, "").str("event_id"); again != first {
			t.Fatal("a repeated transaction made another event")
		}
		for name, a := range map[string]answer{
			"another_type": send(alice, roomID, "m.other", "1", object{}),
			"another_room": send(alice, other, "m.room.message", "1", object{}),
			"another_txn":  send(alice, roomID, "m.room.message", "2", object{"body": "a"}),
		} {
			if a.want(200, "").str("event_id") == first {
				t.Fatalf("%s gave the same event", name)
			}
		}
		second := asLogin(s.logIn("alice", nil).want(200, ""))
		if send(second, roomID, "m.room.message", "1", object{}).want(200, "").str("event_id") == first {
			t.Fatal("another device gave the same event")
		}

		eve := s.signUp("eve")
		send(eve, roomID, "m.room.message", "1", object{}).want(403, "M_FORBIDDEN")
		send(eve, "!none:stoa.test", "m.room.message", "1", object{}).want(403, "M_FORBIDDEN")
		send(alice, "none", "m.room.message", "1", object{}).want(400, "M_INVALID_PARAM")
		send(alice, roomID, "m.room.message", "3", `{`).want(400, "M_NOT_JSON")
		send(alice, roomID, "m.room.message", "3", `[]`).want(400, "M_BAD_JSON")
		send(alice, roomID, "m.room.message", "3", `{"a":1.5}`).want(400, "M_BAD_JSON")
		send(alice, roomID, "m.room.message", "3", `{"a":1,"a":2}`).want(400, "M_BAD_JSON")
		send(alice, roomID, "m.room.message", "3", object{"body": string(make([]byte, 66000))}).want(413, "M_TOO_LARGE")
	})
}

func TestState(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice, eve := s.signUp("alice"), s.signUp("eve")
	roomID := s.create(alice, object{"name": "Hall"})
	eventID := s.set(alice, roomID, "org.example", "a/b c", object{"x": 1})
	if again := s.set(alice, roomID, "org.example", "a/b c", object{"x": 1}); again != eventID {
		t.Fatal("the same state made another event")
	}
	get := func(l login, path string) answer { return s.do("GET", path, l.Token, nil) }
	for _, path := range []string{roomPath(roomID, "state", "m.room.name"), roomPath(roomID, "state", "m.room.name", "")} {
		if got := get(alice, path).want(200, ""); got.str("name") != "Hall" {
			t.Fatalf("%s gave %s", path, got.raw)
		}
	}
	whole := get(alice, roomPath(roomID, "state", "org.example", "a/b c")+"?format=event").want(200, "")
	if whole.str("event_id") != eventID || whole.str("state_key") != "a/b c" || whole.str("room_id") != roomID {
		t.Fatalf("the event is %s", whole.raw)
	}
	get(alice, roomPath(roomID, "state", "m.room.name")+"?format=pdf").want(400, "M_INVALID_PARAM")
	get(alice, roomPath(roomID, "state", "m.room.topic")).want(404, "M_NOT_FOUND")
	for _, outside := range []string{roomID, "!none:stoa.test"} { // the two can't be told apart
		for _, what := range []string{"state", "members", "joined_members", "aliases"} {
			get(eve, roomPath(outside, what)).want(403, "M_FORBIDDEN")
		}
		get(eve, roomPath(outside, "state", "m.room.name")).want(403, "M_FORBIDDEN")
		get(eve, roomPath(outside, "messages")+"?dir=b").want(403, "M_FORBIDDEN")
		get(eve, roomPath(outside, "event", eventID)).want(404, "M_NOT_FOUND")
		get(eve, roomPath(outside, "context", eventID)).want(404, "M_NOT_FOUND")
	}
	types := map[string]bool{}
	for _, e := range s.list(roomPath(roomID, "state"), alice.Token) {
		types[e["type"].(string)] = true
	}
	for _, want := range []string{"m.room.create", "m.room.member", "m.room.power_levels", "m.room.name", "org.example"} {
		if !types[want] {
			t.Errorf("the state has no %s", want)
		}
	}
}

func TestMessages(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		roomID := s.create(alice, public)
		s.join(roomID, bob)
		for i := range 9 {
			s.say(alice, roomID, fmt.Sprint("m", i))
		}
		page := func(query string) answer {
			return s.do("GET", roomPath(roomID, "messages")+"?"+query, alice.Token, nil).want(200, "")
		}
		all := ids(page("dir=f&limit=100").objects("chunk"))
		for _, dir := range []string{"f", "b"} {
			for _, size := range []int{1, 2, 3, 7, 50} {
				var got []string
				for from := ""; ; {
					a := page(fmt.Sprintf("dir=%s&limit=%d%s", dir, size, from))
					got = append(got, ids(a.objects("chunk"))...)
					if a.str("end") == "" {
						break
					}
					from = "&from=" + a.str("end")
				}
				if dir == "b" {
					slices.Reverse(got)
				}
				same(t, got, all...)
			}
		}
		filtered := page("dir=b&limit=100&filter=" + url.QueryEscape(`{"types":["m.room.message"],"lazy_load_members":true}`))
		if len(filtered.objects("chunk")) != 9 {
			t.Fatalf("filtered to %s", filtered.raw)
		}
		if state := filtered.objects("state"); len(state) != 1 || state[0]["state_key"] != alice.UserID {
			t.Fatalf("lazy members are %v", state)
		}
		for query, errcode := range map[string]string{
			"":                      "M_MISSING_PARAM",
			"dir=x":                 "M_INVALID_PARAM",
			"dir=b&limit=x":         "M_INVALID_PARAM",
			"dir=b&limit=0":         "M_INVALID_PARAM",
			"dir=b&from=zzz":        "M_INVALID_PARAM",
			"dir=b&to=t1.x.y":       "M_INVALID_PARAM",
			"dir=b&filter={":        "M_NOT_JSON",
			"dir=b&filter=[]":       "M_BAD_JSON",
			"dir=b&from=t1.99999.0": "",
		} {
			status := 400
			if errcode == "" {
				status = 200
			}
			s.do("GET", roomPath(roomID, "messages")+"?"+query, alice.Token, nil).want(status, errcode)
		}
	})
}

func TestIgnoredSenders(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice, bob := s.signUp("alice"), s.signUp("bob")
	roomID := s.create(alice, public)
	s.join(roomID, bob)
	root := s.say(alice, roomID, "root")
	s.say(bob, roomID, "noise")
	s.say(bob, roomID, "reply", object{"m.relates_to": object{"rel_type": "m.thread", "event_id": root}})
	s.do("PUT", v3+"/user/"+esc(alice.UserID)+"/account_data/m.ignored_user_list", alice.Token,
		object{"ignored_users": object{bob.UserID: object{}}}).want(200, "")
	events := s.do("GET", roomPath(roomID, "messages")+"?dir=b&limit=100", alice.Token, nil).want(200, "").objects("chunk")
	for _, e := range events {
		if e["sender"] == bob.UserID && e["type"] == "m.room.message" {
			t.Fatalf("shows %v of an ignored user", e)
		}
		if e["event_id"] == root && dig(e, "unsigned", "m.relations") != nil {
			t.Fatalf("counts the reply of an ignored user: %v", e)
		}
	}
}

func TestEventContext(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice := s.signUp("alice")
	roomID := s.create(alice, public)
	var sent []string
	for i := range 7 {
		sent = append(sent, s.say(alice, roomID, fmt.Sprint("m", i)))
	}
	a := s.do("GET", roomPath(roomID, "context", sent[3])+"?limit=4", alice.Token, nil).want(200, "")
	same(t, ids(a.objects("events_before")), sent[2], sent[1])
	same(t, ids(a.objects("events_after")), sent[4], sent[5])
	if dig(a.Body, "event", "event_id") != sent[3] || len(a.objects("state")) == 0 {
		t.Fatalf("context is %s", a.raw)
	}
	older := s.do("GET", roomPath(roomID, "messages")+"?dir=b&limit=1&from="+a.str("start"), alice.Token, nil).want(200, "")
	same(t, ids(older.objects("chunk")), sent[0])
	newer := s.do("GET", roomPath(roomID, "messages")+"?dir=f&limit=1&from="+a.str("end"), alice.Token, nil).want(200, "")
	same(t, ids(newer.objects("chunk")), sent[6])
	none := s.do("GET", roomPath(roomID, "context", sent[3])+"?limit=0", alice.Token, nil).want(200, "")
	if len(none.objects("events_before"))+len(none.objects("events_after")) != 0 {
		t.Fatalf("limit 0 gave %s", none.raw)
	}
	s.do("GET", roomPath(roomID, "context", "nope"), alice.Token, nil).want(400, "M_INVALID_PARAM")
	s.do("GET", roomPath(roomID, "context", sent[3])+"?limit=-1", alice.Token, nil).want(400, "M_INVALID_PARAM")
}

func TestTimestampToEvent(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice := s.signUp("alice")
	roomID := s.create(alice, public)
	eventID := s.say(alice, roomID, "here")
	ts := s.do("GET", roomPath(roomID, "event", eventID), alice.Token, nil).want(200, "").Body["origin_server_ts"].(float64)
	path := v1 + "/rooms/" + esc(roomID) + "/timestamp_to_event"
	for query, want := range map[string]string{fmt.Sprintf("?dir=f&ts=%.0f", ts): eventID, fmt.Sprintf("?dir=b&ts=%.0f", ts+1000): eventID} {
		if got := s.do("GET", path+query, alice.Token, nil).want(200, ""); got.str("event_id") != want || got.Body["origin_server_ts"] != ts {
			t.Fatalf("%s gave %s", query, got.raw)
		}
	}
	s.do("GET", path+fmt.Sprintf("?dir=f&ts=%.0f", ts+1000), alice.Token, nil).want(404, "M_NOT_FOUND")
	s.do("GET", path+"?dir=f", alice.Token, nil).want(400, "M_MISSING_PARAM")
	s.do("GET", path+"?ts=1", alice.Token, nil).want(400, "M_MISSING_PARAM")
	s.do("GET", path+"?ts=soon&dir=f", alice.Token, nil).want(400, "M_INVALID_PARAM")
}

func TestMembers(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice, bob, carol := s.signUp("alice"), s.signUp("bob"), s.signUp("carol")
	roomID := s.create(alice, public)
	s.join(roomID, bob)
	before := s.do("GET", roomPath(roomID, "messages")+"?dir=b&limit=1", alice.Token, nil).want(200, "").str("start")
	s.join(roomID, carol)
	s.do("POST", roomPath(roomID, "leave"), bob.Token, nil).want(200, "")
	members := func(query string) (who []string) {
		t.Helper()
		for _, e := range s.do("GET", roomPath(roomID, "members")+query, alice.Token, nil).want(200, "").objects("chunk") {
			who = append(who, e["state_key"].(string)+"="+dig(e, "content", "membership").(string))
		}
		slices.Sort(who)
		return who
	}
	a, b, c := alice.UserID+"=", bob.UserID+"=", carol.UserID+"="
	same(t, members(""), a+"join", b+"leave", c+"join")
	same(t, members("?membership=join"), a+"join", c+"join")
	same(t, members("?not_membership=join"), b+"leave")
	same(t, members("?at="+before), a+"join", b+"join")
	same(t, members("?at=t1.1.-1"), a+"join")
	s.do("GET", roomPath(roomID, "members")+"?membership=guest", alice.Token, nil).want(400, "M_INVALID_PARAM")
	s.do("GET", roomPath(roomID, "members")+"?at=never", alice.Token, nil).want(400, "M_INVALID_PARAM")
	joined := s.do("GET", roomPath(roomID, "joined_members"), alice.Token, nil).want(200, "")
	if dig(joined.Body, "joined", carol.UserID) == nil || dig(joined.Body, "joined", bob.UserID) != nil {
		t.Fatalf("joined are %s", joined.raw)
	}
	s.do("GET", roomPath(roomID, "joined_members"), bob.Token, nil).want(403, "M_FORBIDDEN")
}

func TestRedact(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice, bob := s.signUp("alice"), s.signUp("bob")
	roomID := s.create(alice, public)
	s.join(roomID, bob)
	said := s.say(alice, roomID, "oops")
	redact := func(l login, target, txn string, body any) answer {
		return s.do("PUT", roomPath(roomID, "redact", target, txn), l.Token, body)
	}
	redact(bob, said, "1", object{}).want(403, "M_FORBIDDEN")
	redact(alice, "$none", "1", object{}).want(404, "M_NOT_FOUND")
	redact(alice, "none", "1", object{}).want(400, "M_INVALID_PARAM")
	redact(alice, said, "1", `{"reason":1}`).want(400, "M_BAD_JSON")
	by := redact(alice, said, "1", object{"reason": "typo"}).want(200, "").str("event_id")
	if again := redact(alice, said, "1", object{}).want(200, "").str("event_id"); again != by {
		t.Fatal("a repeated transaction made another redaction")
	}
	e := s.do("GET", roomPath(roomID, "event", said), bob.Token, nil).want(200, "")
	if dig(e.Body, "content", "body") != nil || dig(e.Body, "unsigned", "redacted_because", "event_id") != by {
		t.Fatalf("the redacted event is %s", e.raw)
	}
}
