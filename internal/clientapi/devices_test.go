package clientapi_test

import (
	"strings"
	"testing"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/userdb"
)

const devicesPath = "/_matrix/client/v3/devices"

func TestDevices(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		second := asLogin(s.logIn("alice", object{"device_id": "weird/id ü", "initial_device_display_name": "phone"}).want(200, ""))
		escaped := devicesPath + "/weird%2Fid%20%C3%BC"

		list := s.do("GET", devicesPath, alice.Token, nil).want(200, "")
		if n := len(list.Body["devices"].([]any)); n != 2 {
			t.Fatalf("%d devices: %s", n, list.raw)
		}
		if a := s.do("GET", escaped, alice.Token, nil).want(200, ""); a.str("device_id") != second.Device || a.str("display_name") != "phone" {
			t.Fatalf("got %s", a.raw)
		}
		s.do("GET", escaped, bob.Token, nil).want(404, "M_NOT_FOUND")
		s.do("GET", devicesPath+"/unknown", alice.Token, nil).want(404, "M_NOT_FOUND")

		s.do("PUT", escaped, alice.Token, object{"display_name": "new name"}).want(200, "")
		s.do("PUT", escaped, alice.Token, object{}).want(200, "")
		if a := s.do("GET", escaped, alice.Token, nil).want(200, ""); a.str("display_name") != "new name" {
			t.Fatalf("got %s", a.raw)
		}
		s.do("PUT", escaped, alice.Token, object{"display_name": strings.Repeat("x", 256)}).want(400, "M_INVALID_PARAM")
		s.do("PUT", escaped, alice.Token, object{"display_name": 1}).want(400, "M_BAD_JSON")
		s.do("PUT", escaped, bob.Token, object{"display_name": "mine"}).want(404, "M_NOT_FOUND")
		s.do("PUT", devicesPath+"/unknown", alice.Token, object{}).want(404, "M_NOT_FOUND")
	})
}

func TestDeleteDevice(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice := s.signUp("alice")
		s.signUp("bob")
		phone := asLogin(s.logIn("alice", nil).want(200, ""))
		s.whoami(phone.Token).want(200, "")
		path := devicesPath + "/" + phone.Device

		a := s.do("DELETE", path, alice.Token, nil).want(401, "")
		for _, key := range []string{"session", "flows", "params"} {
			if a.Body[key] == nil {
				t.Errorf("no %s in %s", key, a.raw)
			}
		}
		s.do("DELETE", path, alice.Token, object{"auth": passwordAuth("bob", "")}).want(403, "M_FORBIDDEN")
		s.whoami(phone.Token).want(200, "")
		s.do("DELETE", path, alice.Token, object{"auth": passwordAuth("alice", a.str("session"))}).want(200, "")
		s.whoami(phone.Token).want(401, "M_UNKNOWN_TOKEN")
		s.do("GET", path, alice.Token, nil).want(404, "M_NOT_FOUND")
		s.do("DELETE", path, alice.Token, object{"auth": passwordAuth("alice", "")}).want(200, "") // is gone already
		s.whoami(alice.Token).want(200, "")
	})
}

func TestDeleteDevices(t *testing.T) {
	const path = "/_matrix/client/v3/delete_devices"
	onEach(t, func(t *testing.T, s *server) {
		alice := s.signUp("alice")
		one, two := asLogin(s.logIn("alice", nil).want(200, "")), asLogin(s.logIn("alice", nil).want(200, ""))
		s.do("POST", path, alice.Token, object{"auth": passwordAuth("alice", "")}).want(400, "M_MISSING_PARAM")
		s.do("POST", path, alice.Token, object{"devices": "one"}).want(400, "M_BAD_JSON")
		s.do("POST", path, alice.Token, object{"devices": []any{1}}).want(400, "M_BAD_JSON")
		s.do("POST", path, alice.Token, object{
			"devices": []string{one.Device, "unknown", two.Device}, "auth": passwordAuth("alice", ""),
		}).want(200, "")
		s.whoami(one.Token).want(401, "M_UNKNOWN_TOKEN")
		s.whoami(two.Token).want(401, "M_UNKNOWN_TOKEN")
		s.whoami(alice.Token).want(200, "")
	})
}

func TestADevicesTimeOfUseIsWrittenHourly(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice := s.signUp("alice")
	begun := s.clock.Now().UnixMilli()
	seen := func() int64 {
		// A commit behind the one that nobody waited for.
		if _, err := s.store.Commit(t.Context(), emptyChange()); err != nil {
			t.Fatal(err)
		}
		a := s.do("GET", devicesPath+"/"+alice.Device, alice.Token, nil).want(200, "")
		return int64(a.Body["last_seen_ts"].(float64))
	}
	s.clock.Advance(59 * time.Minute)
	s.whoami(alice.Token)
	if got := seen(); got != begun {
		t.Fatalf("written after %d ms", got-begun)
	}
	s.clock.Advance(time.Minute)
	s.address = "198.51.100.7:1"
	s.whoami(alice.Token)
	if got := seen(); got != begun+time.Hour.Milliseconds() {
		t.Fatalf("got %d ms after the begin", got-begun)
	}
}

// emptyChange is a change that can be waited for.
func emptyChange() *store.Change {
	c := store.NewChange()
	userdb.ResetLimit(c, "none")
	return c
}
