package clientapi_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

const v3, v1 = "/_matrix/client/v3", "/_matrix/client/v1"

// esc escapes a segment of a path.
func esc(s string) string { return url.PathEscape(s) }

// roomPath is a path below a room.
func roomPath(roomID string, segments ...string) string {
	path := v3 + "/rooms/" + esc(roomID)
	for _, s := range segments {
		path += "/" + esc(s)
	}
	return path
}

// create makes a room and gives its ID.
func (s *server) create(l login, body object) string {
	s.t.Helper()
	return s.do("POST", v3+"/createRoom", l.Token, body).want(200, "").str("room_id")
}

// join lets users join a room.
func (s *server) join(roomID string, users ...login) {
	s.t.Helper()
	for _, u := range users {
		s.do("POST", roomPath(roomID, "join"), u.Token, nil).want(200, "")
	}
}

// say sends a message, with more in its content, and gives its event ID.
func (s *server) say(l login, roomID, body string, more ...object) string {
	s.t.Helper()
	content := object{"msgtype": "m.text", "body": body}
	for _, m := range more {
		for k, v := range m {
			content[k] = v
		}
	}
	txn := fmt.Sprintf("%s-%d", body, s.clock.Advance(time.Millisecond).UnixMilli())
	return s.do("PUT", roomPath(roomID, "send", "m.room.message", txn), l.Token, content).want(200, "").str("event_id")
}

// set sends a state event and gives its event ID.
func (s *server) set(l login, roomID, evType, stateKey string, content object) string {
	s.t.Helper()
	return s.do("PUT", roomPath(roomID, "state", evType, stateKey), l.Token, content).want(200, "").str("event_id")
}

// list sends a GET whose answer is a JSON list of objects.
func (s *server) list(path, token string) (events []object) {
	s.t.Helper()
	r := httptest.NewRequest("GET", path, nil)
	r.RemoteAddr = s.address
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	if err := json.Unmarshal(w.Body.Bytes(), &events); err != nil || w.Code != 200 {
		s.t.Fatalf("GET %s answered %d %s", path, w.Code, w.Body)
	}
	return events
}

// objects gives the list of objects under a key.
func (a answer) objects(key string) []object {
	a.t.Helper()
	raw, ok := a.Body[key].([]any)
	if !ok {
		a.t.Fatalf("no list %s in %s", key, a.raw)
	}
	out := make([]object, len(raw))
	for i, v := range raw {
		out[i], _ = v.(object)
	}
	return out
}

// ids are the event IDs of events.
func ids(events []object) []string {
	out := make([]string, len(events))
	for i, e := range events {
		out[i], _ = e["event_id"].(string)
	}
	return out
}

// dig gives what lies below keys; nil for nothing.
func dig(v any, keys ...string) any {
	for _, key := range keys {
		o, ok := v.(object)
		if !ok {
			return nil
		}
		v = o[key]
	}
	return v
}

// same checks that two lists of text are equal.
func same(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Fatalf("got  %v\nwant %v", got, want)
	}
}

var public = object{"preset": "public_chat"}

// makeAdmin makes a user an administrator of the server.
func (s *server) makeAdmin(l login) {
	s.t.Helper()
	name, _, _ := strings.Cut(l.UserID[1:], ":")
	row, err := s.accounts.Named(s.t.Context(), name)
	if err == nil {
		err = s.accounts.SetAdmin(s.t.Context(), row.Num, true)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// sync asks what is new since a token; "" is the first time.
func (s *server) sync(l login, since string) answer {
	s.t.Helper()
	path := v3 + "/sync"
	if since != "" {
		path += "?since=" + since
	}
	return s.do("GET", path, l.Token, nil).want(200, "")
}

// eventOf finds the event of a type in a list of events below keys; nil for none.
func (a answer) eventOf(evType string, keys ...string) object {
	a.t.Helper()
	list, _ := dig(a.Body, keys...).([]any)
	for _, v := range list {
		if e, ok := v.(object); ok && e["type"] == evType {
			return e
		}
	}
	return nil
}

// equal compares a value of an answer with one that is written as Go text.
func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	text := func(v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var plain any
		if err := json.Unmarshal(raw, &plain); err != nil {
			t.Fatal(err)
		}
		raw, err = json.Marshal(plain)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	if g, w := text(got), text(want); g != w {
		t.Fatalf("%s\n got %s\nwant %s", what, g, w)
	}
}
