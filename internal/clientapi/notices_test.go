package clientapi_test

import (
	"testing"

	"stoa/internal/notice"
	"stoa/internal/reader"
)

// noticeRoom returns the room to which the user is invited.
func (s *server) noticeRoom(l login) string {
	s.t.Helper()
	rooms, _ := dig(s.sync(l, "").Body, "rooms", "invite").(object)
	for roomID, r := range rooms {
		if events, _ := dig(r, "invite_state", "events").([]any); len(events) > 0 {
			return roomID
		}
	}
	s.t.Fatal("there is no invitation")
	return ""
}

// TestNotices: an administrator's message arrives in a room that the server keeps for each user.
func TestNotices(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		admin, alice := s.signUp("admin"), s.signUp("alice")
		s.makeAdmin(admin)
		const path = "/_synapse/admin/v1/send_server_notice"
		send := func(method, path string, l login) answer {
			return s.do(method, path, l.Token, object{"user_id": alice.UserID, "content": object{"msgtype": "m.text", "body": "maintenance"}})
		}
		send("POST", path, alice).want(403, "M_FORBIDDEN")
		s.do("POST", path, admin.Token, object{"user_id": "@nobody:stoa.test", "content": object{}}).want(404, "M_NOT_FOUND")
		s.do("POST", path, admin.Token, object{"user_id": alice.UserID, "content": 1}).want(400, "M_BAD_JSON")
		s.do("POST", path, admin.Token, object{"user_id": "alice", "content": object{}}).want(400, "M_INVALID_PARAM")
		first := send("POST", path, admin).want(200, "").str("event_id")
		roomID := s.noticeRoom(alice)
		s.do("POST", roomPath(roomID, "leave"), alice.Token, object{}).want(403, "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM")
		s.join(roomID, alice)
		s.do("PUT", roomPath(roomID, "send", "m.room.message", "1"), alice.Token, object{"body": "why?", "msgtype": "m.text"}).want(403, "M_FORBIDDEN")
		seen := s.do("GET", roomPath(roomID, "event", first), alice.Token, nil).want(200, "")
		if dig(seen.Body, "content", "body") != "maintenance" || seen.str("sender") != "@_server:stoa.test" {
			t.Errorf("the notice is %s", seen.raw)
		}
		tags := s.do("GET", v3+"/user/"+esc(alice.UserID)+"/rooms/"+esc(roomID)+"/tags", alice.Token, nil).want(200, "")
		if dig(tags.Body, "tags", "m.server_notice") == nil {
			t.Errorf("tags are %s", tags.raw)
		}
		s.do("POST", roomPath(roomID, "leave"), alice.Token, object{}).want(200, "")

		second := send("PUT", path+"/1", admin).want(200, "").str("event_id")
		if again := send("PUT", path+"/1", admin).want(200, "").str("event_id"); again != second || second == first {
			t.Errorf("sent again with one transaction ID: %s and %s", second, again)
		}
		if other := s.noticeRoom(alice); other != roomID {
			t.Errorf("alice is invited to %s, her room is %s", other, roomID)
		}

		// Nobody can be the server.
		s.do("GET", v3+"/register/available?username=_server", "", nil).want(400, "M_USER_IN_USE")
		s.do("POST", v3+"/register", "", object{"username": "_server", "password": "long enough", "auth": object{"type": "m.login.dummy"}}).want(400, "M_USER_IN_USE")
	})
}

func TestNotices_to_all(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		people := []login{s.signUp("alice"), s.signUp("bob"), s.signUp("carol")}
		for range 2 {
			if err := notice.SendAll(t.Context(), s.store, "closed on Monday"); err != nil {
				t.Fatal(err)
			}
		}
		for waits := true; waits; {
			status, err := reader.ReadStatus(t.Context(), s.store)
			if err != nil {
				t.Fatal(err)
			}
			waits = false
			for _, k := range status.Jobs {
				waits = waits || k.Kind == "notice.all"
				if k.Kind == "notice.all" && k.Aside > 0 {
					t.Fatal("the job was set aside")
				}
			}
		}
		for _, l := range people {
			roomID := s.noticeRoom(l)
			s.join(roomID, l)
			n := 0
			for _, e := range s.do("GET", roomPath(roomID, "messages")+"?dir=b&limit=50", l.Token, nil).want(200, "").objects("chunk") {
				if dig(e, "content", "body") == "closed on Monday" {
					n++
				}
			}
			if n != 2 {
				t.Errorf("%s has %d notices, want 2", l.UserID, n)
			}
		}
	})
}

// TestNotices_that_must_stay: with notice_may_leave off, nobody leaves the room.
func TestNotices_that_must_stay(t *testing.T) {
	s := onSQLite(t, "STOA_NOTICE_MAY_LEAVE=false")
	admin, alice := s.signUp("admin"), s.signUp("alice")
	s.makeAdmin(admin)
	s.do("POST", "/_synapse/admin/v1/send_server_notice", admin.Token, object{"user_id": alice.UserID, "content": object{"body": "x"}}).want(200, "")
	roomID := s.noticeRoom(alice)
	s.join(roomID, alice)
	s.do("POST", roomPath(roomID, "leave"), alice.Token, object{}).want(403, "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM")
}
