package clientapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"stoa/internal/account"
	"stoa/internal/directory"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
	"stoa/internal/userdata"
	"stoa/matrix/id"
	"stoa/matrix/signing"
)

const v3, v1 = "/_matrix/client/v3", "/_matrix/client/v1"

// withRooms gives a server rooms, over the same store.
func withRooms(t *testing.T, st *store.Store) *server {
	t.Helper()
	keyID, err := id.ParseKeyID("ed25519:1")
	if err != nil {
		t.Fatal(err)
	}
	key, err := signing.NewKey(keyID, bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	name, err := id.ParseServerName(storetest.ServerName)
	if err != nil {
		t.Fatal(err)
	}
	data := userdata.New(userdata.Options{Store: st})
	clock := newTestClock()
	tick := func() time.Time { // no two events at the same time
		clock.advance(time.Millisecond)
		return clock.now()
	}
	rooms, err := room.New(room.Options{
		Store: st, Signer: signing.NewSigner(name, key), Clock: tick,
		Profiles: account.Directory{Store: st}, PushRules: userdata.ForRooms{Data: data},
	})
	if err != nil {
		t.Fatal(err)
	}
	return newServer(t, st, func(set *settings) {
		set.Rooms, set.Data = rooms, data
		set.Directory = directory.New(directory.Options{Store: st, Rooms: rooms, Clock: clock.now})
	})
}

// houseOn is a server with rooms, for what does not depend on the engine.
func houseOn(t *testing.T) *server {
	t.Helper()
	t.Parallel()
	return withRooms(t, storetest.SQLite(t))
}

// houseOnEach runs a test on both engines with a server with rooms.
func houseOnEach(t *testing.T, f func(*testing.T, *server)) {
	t.Helper()
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) { f(t, withRooms(t, open())) })
}

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
	txn := fmt.Sprintf("%s-%d", body, s.clock.ms.Add(1))
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
