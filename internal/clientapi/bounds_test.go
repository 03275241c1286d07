package clientapi_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
)

// A page of large events ends early, with a token by which all of them are found.
func TestMessages_end_a_page_by_its_bytes(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice := s.signUp("alice")
	room := s.do("POST", "/_matrix/client/v3/createRoom", alice.Token, object{}).want(200, "").str("room_id")
	path := "/_matrix/client/v3/rooms/" + url.PathEscape(room)
	root := ""
	for i := range 50 {
		content := object{"msgtype": "m.text", "body": strings.Repeat("x", 60_000)}
		if i > 0 {
			content["m.relates_to"] = object{"rel_type": "m.reference", "event_id": root}
		}
		id := s.do("PUT", fmt.Sprintf("%s/send/m.room.message/%d", path, i), alice.Token, content).want(200, "").str("event_id")
		if i == 0 {
			root = id
		}
	}
	for what, c := range map[string]struct {
		path, next string
		want       int
	}{
		"messages":  {path + "/messages?dir=b&limit=1000", "end", 50},
		"relations": {strings.Replace(path, "v3", "v1", 1) + "/relations/" + url.PathEscape(root) + "?limit=1000", "next_batch", 49},
	} {
		pages, found, from := 0, 0, ""
		for {
			a := s.do("GET", c.path+from, alice.Token, nil).want(200, "")
			if len(a.raw) > 3<<19 {
				t.Errorf("a page of %s has %d bytes", what, len(a.raw))
			}
			for _, e := range a.Body["chunk"].([]any) {
				if e.(object)["type"] == "m.room.message" {
					found++
				}
			}
			pages++
			if a.str(c.next) == "" {
				break
			}
			from = "&from=" + url.QueryEscape(a.str(c.next))
		}
		if found != c.want || pages < 3 {
			t.Errorf("%d pages of %s have %d events, want %d", pages, what, found, c.want)
		}
	}
}

func TestBounds_of_what_a_user_keeps(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice := s.signUp("alice")
	user := "/_matrix/client/v3/user/" + url.PathEscape(alice.UserID)
	large := strings.Repeat("x", 250_000)
	for i := range 16 {
		s.do("PUT", fmt.Sprintf("%s/account_data/org.example.%d", user, i), alice.Token, object{"x": large}).want(200, "")
	}
	s.do("PUT", user+"/account_data/org.example.more", alice.Token, object{"x": large}).want(413, "M_TOO_LARGE")
	s.do("PUT", user+"/account_data/org.example.1", alice.Token, object{"x": "small"}).want(200, "")
	s.do("PUT", user+"/account_data/org.example.more", alice.Token, object{"x": large}).want(200, "")
	s.do("POST", user+"/filter", alice.Token, object{"event_fields": []string{large[:20_000]}}).want(413, "M_TOO_LARGE")
	keys := object{
		"user_id": alice.UserID, "device_id": alice.Device, "algorithms": []string{}, "keys": object{"ed25519:" + alice.Device: large},
		"signatures": object{},
	}
	s.do("POST", "/_matrix/client/v3/keys/upload", alice.Token, object{"device_keys": keys}).want(413, "M_TOO_LARGE")
	s.do("POST", "/_matrix/client/v3/keys/upload", alice.Token, object{"one_time_keys": object{"a:1": object{"key": large[:5_000]}}}).want(413, "M_TOO_LARGE")
}

// A queue that nobody empties stops growing, and goes on once its device has taken what is in it.
func TestToDevice_bounds_the_queue_of_a_device(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice, bob := s.signUp("alice"), s.signUp("bob")
	send := func(i int) {
		body := object{"messages": object{bob.UserID: object{bob.Device: object{"x": strings.Repeat("x", 60_000)}}}}
		s.do("PUT", fmt.Sprintf("/_matrix/client/v3/sendToDevice/m.test/%d", i), alice.Token, body).want(200, "")
	}
	for i := range 400 { // 24 MB
		send(i)
	}
	since, got := "", 0
	for {
		a := s.do("GET", "/_matrix/client/v3/sync?timeout=0"+since, bob.Token, nil).want(200, "")
		events := toDevice(a)
		if len(a.raw) > 3<<19 {
			t.Errorf("an answer has %d bytes", len(a.raw))
		}
		if got += len(events); len(events) == 0 {
			break
		}
		since = "&since=" + url.QueryEscape(a.str("next_batch"))
	}
	if got < 270 || got > 320 {
		t.Errorf("%d messages of 60 KB were kept", got)
	}
	send(1000)
	a := s.do("GET", "/_matrix/client/v3/sync?timeout=0"+since, bob.Token, nil).want(200, "")
	if events := toDevice(a); len(events) != 1 {
		t.Errorf("after the queue was emptied %d messages came", len(events))
	}
}

func toDevice(a answer) []any {
	section, _ := a.Body["to_device"].(object)
	events, _ := section["events"].([]any)
	return events
}

func TestUserLimits_end_floods(t *testing.T) {
	t.Parallel()
	s := onSQLite(t, "STOA_RATE_LIMITS=on")
	victim := s.signUp("victim")
	flood := func(s *server, who login, n int) (passed int) {
		for range n {
			a := s.do("POST", "/_matrix/client/v3/createRoom", who.Token, object{"invite": []string{victim.UserID}})
			switch a.Status {
			case 200:
				passed++
			case 429:
			default:
				t.Fatal(a.raw)
			}
		}
		return passed
	}
	if passed := flood(s, s.signUp("eve"), 50); passed != 30 {
		t.Errorf("one user made %d rooms in a moment", passed)
	}
	total := 30
	for i := range 4 {
		total += flood(s, s.signUp(fmt.Sprintf("eve%d", i)), 30)
	}
	if total != 115 { // 100, and 3 of each inviter
		t.Errorf("one user got %d invitations in a moment", total)
	}
	if passed := flood(s, s.signUp("friend"), 1); passed != 1 {
		t.Error("the floods of others keep a friend from inviting")
	}
	other := onSQLite(t, "STOA_RATE_LIMITS=on", "STOA_USER_LIMITS=report")
	victim = other.signUp("victim")
	if passed := flood(other, other.signUp("eve"), 50); passed != 50 {
		t.Errorf("in report mode %d of 50 passed", passed)
	}
}

// Push rules are bounded in bytes, and a user with too many can delete them.
func TestBounds_of_push_rules(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice := s.signUp("alice")
	rule := func(i int) string {
		return fmt.Sprintf("/_matrix/client/v3/pushrules/global/override/r%d", i)
	}
	conditions := []object{}
	for i := range 30 {
		conditions = append(conditions, object{"kind": "event_match", "key": fmt.Sprintf("content.k%d.%s", i, strings.Repeat("k", 3_000)), "pattern": "x"})
	}
	put := func(i int) answer {
		return s.do("PUT", rule(i), alice.Token, object{"conditions": conditions, "actions": []string{"notify"}})
	}
	n := 0
	for ; put(n).Status == 200; n++ {
		if n == 20 {
			t.Fatal("20 rules of 90 KB were taken")
		}
	}
	put(n).want(413, "M_TOO_LARGE")
	s.do("DELETE", rule(0), alice.Token, nil).want(200, "")
	put(n).want(200, "")
}

// Of the sessions of interactive authentication that a user begins, the newest stay.
func TestBounds_of_interactive_authentication(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice := s.signUp("alice")
	var sessions []string
	remove := func(auth object) answer {
		body := object{"devices": []string{"OTHER"}}
		if auth != nil {
			body["auth"] = auth
		}
		return s.do("POST", "/_matrix/client/v3/delete_devices", alice.Token, body)
	}
	for range 70 {
		s.clock.Advance(time.Millisecond)
		sessions = append(sessions, remove(nil).want(401, "").str("session"))
	}
	resumed := func(session string) bool { // a session that has ended is replaced
		return remove(object{"session": session}).str("session") == session
	}
	if !resumed(sessions[69]) || !resumed(sessions[30]) {
		t.Error("a new session has ended")
	}
	if resumed(sessions[0]) {
		t.Error("the oldest of 70 sessions goes on")
	}
}

// An invitation that is sent as a state event counts as one.
func TestUserLimits_count_invitations_by_state(t *testing.T) {
	t.Parallel()
	s := onSQLite(t, "STOA_RATE_LIMITS=on")
	victim := s.signUp("victim")
	passed := 0
	for i := range 5 {
		eve := s.signUp(fmt.Sprintf("eve%d", i))
		for range 28 {
			room := s.do("POST", "/_matrix/client/v3/createRoom", eve.Token, object{}).want(200, "").str("room_id")
			path := "/_matrix/client/v3/rooms/" + url.PathEscape(room) + "/state/m.room.member/" + url.PathEscape(victim.UserID)
			switch a := s.do("PUT", path, eve.Token, object{"membership": "invite"}); a.Status {
			case 200:
				passed++
			case 429:
			default:
				t.Fatal(a.raw)
			}
		}
	}
	if passed != 115 {
		t.Errorf("one user got %d invitations by state events", passed)
	}
}

// Joins of one room are limited, and refused attempts don't count.
func TestUserLimits_of_joins_of_a_room(t *testing.T) {
	t.Parallel()
	s := onSQLite(t, "STOA_RATE_LIMITS=on")
	alice := s.signUp("alice")
	open := s.do("POST", "/_matrix/client/v3/createRoom", alice.Token, object{"preset": "public_chat"}).want(200, "").str("room_id")
	closed := s.do("POST", "/_matrix/client/v3/createRoom", alice.Token, object{}).want(200, "").str("room_id")
	join := func(room, token string) int {
		return s.do("POST", "/_matrix/client/v3/rooms/"+url.PathEscape(room)+"/join", token, object{}).Status
	}
	joined, refused := 0, 0
	for i := range 5 {
		one := s.signUp(fmt.Sprintf("one%d", i))
		for range 40 {
			if join(closed, one.Token) != 403 {
				t.Fatal("a private room lets people in")
			}
		}
		for range 220 {
			switch join(open, one.Token) {
			case 200:
				joined++
			case 429:
				refused++
			}
		}
	}
	if joined != 1000 || refused != 100 {
		t.Errorf("%d joined and %d were refused", joined, refused)
	}
}
