package clientapi_test

import (
	"strings"
	"testing"

	"stoa/internal/store"
	"stoa/internal/store/pushdb"
)

// aPusher is the body of a request that sets a pusher.
func aPusher(pushkey string, more ...object) object {
	p := object{
		"kind": "http", "app_id": "org.example.app", "pushkey": pushkey, "app_display_name": "App", "device_display_name": "Phone", "lang": "en",
		"data": object{"url": "https://push.example.org/_matrix/push/v1/notify", "format": "event_id_only", "custom": object{"a": []any{1.0}}},
	}
	for _, m := range more {
		for k, v := range m {
			if p[k] = v; v == nil && k != "kind" {
				delete(p, k)
			}
		}
	}
	return p
}

func (s *server) setPusher(l login, body object) answer {
	s.t.Helper()
	return s.do("POST", v3+"/pushers/set", l.Token, body)
}

// pushkeys are the pushkeys of a user's pushers.
func (s *server) pushkeys(l login) (keys []string) {
	s.t.Helper()
	for _, p := range s.do("GET", v3+"/pushers", l.Token, nil).want(200, "").objects("pushers") {
		keys = append(keys, p["pushkey"].(string))
	}
	return keys
}

func TestPushers(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		same(t, s.pushkeys(alice))
		equal(t, "answer", s.setPusher(alice, aPusher("one")).want(200, "").Body, object{})
		s.setPusher(alice, aPusher("two", object{"profile_tag": "tag", "org.matrix.msc3881.enabled": false})).want(200, "")
		list := s.do("GET", v3+"/pushers", alice.Token, nil).want(200, "").objects("pushers")
		for i, want := range []object{
			aPusher("one", object{"org.matrix.msc3881.enabled": true, "org.matrix.msc3881.device_id": alice.Device}),
			aPusher("two", object{"profile_tag": "tag", "org.matrix.msc3881.enabled": false, "org.matrix.msc3881.device_id": alice.Device}),
		} {
			equal(t, "pusher", list[i], want)
		}

		// The same app ID and pushkey is the same pusher.
		s.setPusher(alice, aPusher("one", object{"lang": "de"})).want(200, "")
		same(t, s.pushkeys(alice), "one", "two")
		equal(t, "language", s.do("GET", v3+"/pushers", alice.Token, nil).objects("pushers")[0]["lang"], "de")

		// A pushkey is that of one user, unless they say otherwise.
		s.setPusher(bob, aPusher("one", object{"append": true})).want(200, "")
		same(t, s.pushkeys(alice), "one", "two")
		s.setPusher(bob, aPusher("one", object{"append": false})).want(200, "")
		same(t, s.pushkeys(alice), "two")
		same(t, s.pushkeys(bob), "one")

		s.setPusher(bob, object{"kind": nil, "app_id": "org.example.app", "pushkey": "two"}).want(200, "")
		same(t, s.pushkeys(alice), "two")
		s.setPusher(alice, object{"kind": nil, "app_id": "org.example.app", "pushkey": "two"}).want(200, "")
		same(t, s.pushkeys(alice))
		same(t, s.pushkeys(bob), "one")
	})
}

// TestPushersRefused: what can't be served or stored is refused, and what users store is bounded.
func TestPushersRefused(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice := s.signUp("alice")
		for _, key := range []string{"kind", "app_id", "pushkey", "app_display_name", "device_display_name", "lang", "data"} {
			body := aPusher("key")
			delete(body, key)
			s.setPusher(alice, body).want(400, "M_MISSING_PARAM")
		}
		url := func(text any) object { return object{"data": object{"url": text}} }
		for name, more := range map[string]object{
			"kind":              {"kind": "email"},
			"empty key":         {"pushkey": ""},
			"long key":          {"pushkey": strings.Repeat("x", 513)},
			"NUL in key":        {"pushkey": "a\x00"},
			"long app":          {"app_id": strings.Repeat("x", 65)},
			"long name":         {"device_display_name": strings.Repeat("x", 256)},
			"long tag":          {"profile_tag": strings.Repeat("x", 256)},
			"data is no object": {"data": []any{}},
			"URL is no text":    url(1),
			"no TLS":            url("http://push.example.org/_matrix/push/v1/notify"),
			"other path":        url("https://push.example.org/notify"),
			"a password":        url("https://a:b@push.example.org/_matrix/push/v1/notify"),
			"no host":           url("https:///_matrix/push/v1/notify"),
			"no URL":            url("::"),
			"a format":          {"data": object{"url": "https://push.example.org/_matrix/push/v1/notify", "format": "full"}},
			"long URL":          url("https://push.example.org/_matrix/push/v1/notify?" + strings.Repeat("x", 1024)),
		} {
			if a := s.setPusher(alice, aPusher("key", more)); a.Status != 400 || a.str("errcode") != "M_INVALID_PARAM" {
				t.Errorf("%s: %d %s", name, a.Status, a.raw)
			}
		}
		s.setPusher(alice, aPusher("key", object{"data": object{}})).want(400, "M_MISSING_PARAM")
		s.setPusher(alice, aPusher("key", object{"data": object{"x": strings.Repeat("x", 8<<10)}})).want(413, "M_TOO_LARGE")
		same(t, s.pushkeys(alice))
		for i := range 100 {
			s.setPusher(alice, aPusher(strings.Repeat("x", i+1))).want(200, "")
		}
		s.setPusher(alice, aPusher("one more")).want(400, "M_INVALID_PARAM")
		s.setPusher(alice, aPusher("x")).want(200, "")
	})
}

// TestPushersEndWithTheirDevices covers logout, deletion of devices, a new password, and deactivation.
func TestPushersEndWithTheirDevices(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice := s.signUp("alice")
		other := func(pushkey string) login {
			l := asLogin(s.logIn("alice", nil).want(200, ""))
			s.setPusher(l, aPusher(pushkey)).want(200, "")
			return l
		}
		s.setPusher(alice, aPusher("own")).want(200, "")
		phone := other("phone")
		same(t, s.pushkeys(alice), "own", "phone")
		s.do("POST", v3+"/logout", phone.Token, nil).want(200, "")
		same(t, s.pushkeys(alice), "own")

		tablet := other("tablet")
		s.do("DELETE", v3+"/devices/"+tablet.Device, alice.Token, object{"auth": passwordGiven("alice", passwordOf("alice"))}).want(200, "")
		same(t, s.pushkeys(alice), "own")

		// A pusher goes with the device that set it last.
		laptop := other("laptop")
		s.setPusher(alice, aPusher("laptop")).want(200, "")
		s.do("POST", v3+"/logout", laptop.Token, nil).want(200, "")
		same(t, s.pushkeys(alice), "own", "laptop")

		other("another")
		s.do("POST", v3+"/account/password", alice.Token, object{
			"new_password": "new", "auth": passwordGiven("alice", passwordOf("alice")), "logout_devices": false,
		}).want(200, "")
		same(t, s.pushkeys(alice), "own", "laptop", "another")
		s.do("POST", v3+"/account/password", alice.Token, object{"new_password": "newer", "auth": passwordGiven("alice", "new")}).want(200, "")
		same(t, s.pushkeys(alice), "own", "laptop")

		s.do("POST", v3+"/account/deactivate", alice.Token, object{"auth": passwordGiven("alice", "newer")}).want(200, "")
		err := s.store.Read(t.Context(), func(r *store.Read) error {
			if left, err := pushdb.Any(r); err != nil || left {
				t.Errorf("a deactivated account has pushers (%v)", err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// TestLocalNotificationSettings: they end with their device (MSC3890).
func TestLocalNotificationSettings(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice := s.signUp("alice")
		phone := asLogin(s.logIn("alice", nil).want(200, ""))
		data := func(device string) string {
			return v3 + "/user/" + esc(alice.UserID) + "/account_data/org.matrix.msc3890.local_notification_settings." + device
		}
		for _, device := range []string{alice.Device, phone.Device} {
			s.do("PUT", data(device), alice.Token, object{"is_silenced": true}).want(200, "")
		}
		s.do("POST", v3+"/logout", phone.Token, nil).want(200, "")
		s.do("GET", data(phone.Device), alice.Token, nil).want(404, "M_NOT_FOUND")
		s.do("GET", data(alice.Device), alice.Token, nil).want(200, "")
	})
}

func passwordGiven(name, password string) object {
	return object{"type": "m.login.password", "identifier": object{"type": "m.id.user", "user": name}, "password": password}
}
