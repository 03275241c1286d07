package clientapi_test

import (
	"regexp"
	"strings"
	"testing"

	"stoa/internal/clientapi"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
)

// Names in paths become keys of indexes, and PostgreSQL takes none of more than 2,704 bytes.
func TestEveryNameInAPathHasABound(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := newServer(t, open(), "registration: open")
		param := regexp.MustCompile(`\{[a-zA-Z]+\}`)
		for i, route := range clientapi.New(clientapi.Options{}).Routes() {
			if route.Method == "GET" {
				continue // nothing is written under its names
			}
			f := s.object(t, i)
			for _, name := range param.FindAllString(route.Pattern, -1) {
				long, body := noise(6000), f.body(route.Pattern)
				if name == "{keyName}" {
					body = object{long: "x"}
				}
				a := s.send(route.Method, f.path(strings.Replace(route.Pattern, name, long, 1)), f.Token, body)
				if a.Status >= 500 || a.Status == 200 && route.Method != "DELETE" {
					t.Errorf("%s %s with a %s of 6,000 bytes: %d %s", route.Method, route.Pattern, name, a.Status, a.raw)
				}
			}
		}
		// And those in bodies.
		f := s.object(t, 1000)
		for _, x := range []struct {
			method, path string
			body         any
		}{
			{"POST", v3 + "/login", object{"type": "m.login.password", "identifier": object{"type": "m.id.user", "user": f.name}, "password": passwordOf(f.name), "device_id": noise(6000)}},
			{"POST", v3 + "/register", object{"username": "u" + noise(6000), "password": "a good password", "auth": object{"type": "m.login.dummy"}}},
			{"POST", v3 + "/register", object{"username": "longdevice", "device_id": noise(6000), "password": "a good password", "auth": object{"type": "m.login.dummy"}}},
			{"POST", v3 + "/createRoom", object{"room_alias_name": noise(6000)}},
			{"POST", v3 + "/keys/claim", object{"one_time_keys": object{f.UserID: object{noise(6000): "signed_curve25519"}}}},
			{"POST", v3 + "/keys/upload", object{"one_time_keys": object{"signed_curve25519:" + noise(6000): object{"key": "x"}}}},
			{"PUT", v3 + "/room_keys/keys?version=" + f.version, object{"rooms": object{noise(6000): object{"sessions": object{noise(6000): object{
				"first_message_index": 0, "forwarded_count": 0, "is_verified": false, "session_data": object{}}}}}}},
			{"PUT", v3 + "/sendToDevice/m.x/1", object{"messages": object{f.UserID: object{noise(6000): object{}}}}},
			{"POST", v3 + "/rooms/" + esc(f.room) + "/receipt/m.read/" + esc(f.event), object{"thread_id": noise(6000)}},
		} {
			if a := s.send(x.method, x.path, f.Token, x.body); a.Status >= 500 {
				t.Errorf("%s %s with names of 6,000 bytes: %d %s", x.method, x.path, a.Status, a.raw)
			}
		}
	})
}

// noise is a text that no database compresses.
func noise(n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	b, x := make([]byte, n), uint64(88172645463325252)
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = letters[x%uint64(len(letters))]
	}
	return string(b)
}
