package clientapi_test

import (
	"strings"
	"testing"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/matrix/roomversion"
)

func TestVersionsAreListed(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	a := s.do("GET", "/_matrix/client/versions", "", nil).want(200, "")
	list, _ := a.Body["versions"].([]any)
	if len(list) == 0 || list[0] != "v1.1" {
		t.Fatalf("got %s", a.raw)
	}
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	a := s.do("GET", "/.well-known/matrix/client", "", nil).want(200, "")
	if a.raw != `{"m.homeserver":{"base_url":"https://stoa.test"}}` {
		t.Fatalf("got %s", a.raw)
	}
	s.do("GET", "/.well-known/matrix/support", "", nil).want(404, "M_NOT_FOUND")
	s.do("GET", "/_matrix/client/v3/nothing/here", "", nil).want(404, "M_UNRECOGNIZED")
	s.do("PATCH", "/_matrix/client/v3/login", "", nil).want(405, "M_UNRECOGNIZED")
}

func TestCapabilities(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	s.do("GET", "/_matrix/client/v3/capabilities", "", nil).want(401, "M_MISSING_TOKEN")
	a := s.do("GET", "/_matrix/client/v3/capabilities", s.signUp("alice").Token, nil).want(200, "")
	all := a.Body["capabilities"].(object)
	versions := all["m.room_versions"].(object)
	if versions["default"] != "12" || len(versions["available"].(object)) != len(roomversion.All()) {
		t.Fatalf("got %s", a.raw)
	}
	for _, name := range []string{"m.change_password", "m.get_login_token", "m.profile_fields", "m.set_displayname", "m.set_avatar_url"} {
		if all[name].(object)["enabled"] != true {
			t.Errorf("%s is not enabled", name)
		}
	}
	if all["m.3pid_changes"].(object)["enabled"] != false {
		t.Error("third-party identifiers can't be changed")
	}
}

func TestThirdPartyIdentifiersAreNone(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	if a := s.do("GET", "/_matrix/client/v3/account/3pid", s.signUp("alice").Token, nil).want(200, ""); a.raw != `{"threepids":[]}` {
		t.Fatalf("got %s", a.raw)
	}
}

func TestChangePassword(t *testing.T) {
	const path = "/_matrix/client/v3/account/password"
	onEach(t, func(t *testing.T, s *server) {
		t.Run("logs_other_devices_out", func(t *testing.T) {
			first := s.signUp("alice")
			other := asLogin(s.logIn("alice", nil).want(200, ""))
			s.whoami(other.Token).want(200, "")
			s.do("POST", path, first.Token, object{"auth": passwordAuth("alice", ""), "new_password": "new"}).want(200, "")
			s.whoami(first.Token).want(200, "")
			s.whoami(other.Token).want(401, "M_UNKNOWN_TOKEN")
			s.logIn("alice", nil).want(403, "M_FORBIDDEN")
			s.logIn("alice", object{"password": "new"}).want(200, "")
		})
		t.Run("keeps_other_devices_if_asked_to", func(t *testing.T) {
			first := s.signUp("bob")
			other := asLogin(s.logIn("bob", nil).want(200, ""))
			s.do("POST", path, first.Token, object{"auth": passwordAuth("bob", ""), "new_password": "new", "logout_devices": false}).want(200, "")
			s.whoami(other.Token).want(200, "")
		})
		t.Run("takes_the_old_password_instead_of_a_token", func(t *testing.T) {
			first := s.signUp("carol")
			s.do("POST", path, "", object{"auth": passwordAuth("carol", ""), "new_password": "new"}).want(200, "")
			s.whoami(first.Token).want(401, "M_UNKNOWN_TOKEN")
			s.logIn("carol", object{"password": "new"}).want(200, "")
		})
		t.Run("refuses", func(t *testing.T) {
			l := s.signUp("dave")
			s.do("POST", path, l.Token, object{"auth": passwordAuth("dave", "")}).want(400, "M_MISSING_PARAM")
			s.do("POST", path, l.Token, object{"new_password": ""}).want(400, "M_INVALID_PARAM")
			s.do("POST", path, "wrong", object{"new_password": "new"}).want(401, "M_UNKNOWN_TOKEN")
			s.do("POST", path, l.Token, object{"new_password": "new", "logout_devices": "yes"}).want(400, "M_BAD_JSON")
			s.logIn("dave", nil).want(200, "")
		})
	})
}

func TestInteractiveAuthentication(t *testing.T) {
	const path = "/_matrix/client/v3/account/password"
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		change := func(l login, auth any) answer {
			return s.do("POST", path, l.Token, object{"new_password": passwordOf("alice"), "auth": auth})
		}
		t.Run("says_what_it_wants", func(t *testing.T) {
			a := s.do("POST", path, alice.Token, object{"new_password": "new"}).want(401, "")
			want := `{"flows":[{"stages":["m.login.password"]}],"params":{},"session":"` + a.str("session") + `"}`
			if a.raw != want || a.str("session") == "" {
				t.Fatalf("got %s, want %s", a.raw, want)
			}
		})
		t.Run("says_what_was_wrong_and_lets_try_again", func(t *testing.T) {
			a := s.do("POST", path, alice.Token, object{"new_password": "new"}).want(401, "")
			wrong := passwordAuth("alice", a.str("session"))
			wrong["password"] = "wrong"
			b := change(alice, wrong).want(401, "M_FORBIDDEN")
			if b.str("session") != a.str("session") || b.Body["flows"] == nil || b.Body["params"] == nil {
				t.Fatalf("got %s", b.raw)
			}
			change(alice, passwordAuth("alice", a.str("session"))).want(200, "")
		})
		t.Run("refuses_the_password_of_another", func(t *testing.T) {
			change(alice, passwordAuth("bob", "")).want(403, "M_FORBIDDEN")
		})
		t.Run("binds_a_session_to_its_user", func(t *testing.T) {
			a := s.do("POST", path, alice.Token, object{"new_password": "new"}).want(401, "")
			change(bob, passwordAuth("bob", a.str("session"))).want(403, "M_FORBIDDEN")
		})
		t.Run("binds_a_session_to_its_request", func(t *testing.T) {
			a := s.do("POST", "/_matrix/client/v3/delete_devices", alice.Token, object{"devices": []string{"A"}}).want(401, "")
			auth := passwordAuth("alice", a.str("session"))
			change(alice, auth).want(403, "M_FORBIDDEN")
			s.do("POST", "/_matrix/client/v3/delete_devices", alice.Token, object{"devices": []string{"B"}, "auth": auth}).want(403, "M_FORBIDDEN")
			s.do("POST", "/_matrix/client/v3/delete_devices", alice.Token, object{"devices": []string{"A"}, "auth": auth}).want(200, "")
		})
		t.Run("begins_again_after_the_session_has_ended", func(t *testing.T) {
			a := s.do("POST", path, alice.Token, object{"new_password": "new"}).want(401, "")
			s.clock.Advance(time.Hour)
			b := change(alice, passwordAuth("alice", a.str("session"))).want(401, "M_FORBIDDEN")
			if b.str("session") == a.str("session") {
				t.Fatalf("got %s", b.raw)
			}
			change(alice, passwordAuth("alice", b.str("session"))).want(200, "")
		})
		t.Run("refuses_a_stage_that_is_not_offered", func(t *testing.T) {
			change(alice, object{"type": "m.login.dummy"}).want(401, "M_FORBIDDEN")
			change(alice, object{"type": "m.login.retina"}).want(401, "M_FORBIDDEN")
		})
		t.Run("refuses_what_is_malformed", func(t *testing.T) {
			change(alice, object{"type": "m.login.password"}).want(400, "M_MISSING_PARAM")
			change(alice, object{"type": "m.login.password", "identifier": "alice", "password": "x"}).want(400, "M_BAD_JSON")
			change(alice, []string{"x"}).want(400, "M_BAD_JSON")
			change(alice, object{"type": 7}).want(400, "M_BAD_JSON")
		})
		t.Run("is_kept_in_the_store", func(t *testing.T) {
			a := s.do("POST", path, alice.Token, object{"new_password": "new"}).want(401, "")
			other := newServer(t, s.store) // another instance
			other.do("POST", path, alice.Token, object{"new_password": passwordOf("alice"), "auth": passwordAuth("alice", a.str("session"))}).want(200, "")
		})
	})
}

func TestDeactivate(t *testing.T) {
	const path = "/_matrix/client/v3/account/deactivate"
	onEach(t, func(t *testing.T, s *server) {
		alice := s.signUp("alice")
		other := asLogin(s.logIn("alice", object{"refresh_token": true}).want(200, ""))
		s.whoami(other.Token).want(200, "")
		bob := s.signUp("bob")
		roomID := s.create(bob, public)
		s.join(roomID, alice)
		s.do("PUT", "/_matrix/client/v3/profile/"+alice.UserID+"/displayname", alice.Token, object{"displayname": "Alice"}).want(200, "")

		wrong := passwordAuth("alice", "")
		wrong["password"] = "wrong"
		s.do("POST", path, alice.Token, object{"auth": wrong}).want(401, "M_FORBIDDEN")
		a := s.do("POST", path, alice.Token, object{"auth": passwordAuth("alice", ""), "erase": true}).want(200, "")
		if a.str("id_server_unbind_result") != "success" {
			t.Fatalf("got %s", a.raw)
		}
		s.whoami(alice.Token).want(401, "M_UNKNOWN_TOKEN")
		s.whoami(other.Token).want(401, "M_UNKNOWN_TOKEN")
		s.do("POST", "/_matrix/client/v3/refresh", "", object{"refresh_token": other.Refresh}).want(401, "M_UNKNOWN_TOKEN")
		s.logIn("alice", nil).want(403, "M_FORBIDDEN")
		s.do("POST", registerPath, "", object{"username": "alice", "password": "p", "auth": object{"type": "m.login.dummy"}}).want(400, "M_USER_IN_USE")
		s.do("GET", "/_matrix/client/v3/profile/"+alice.UserID+"/displayname", "", nil).want(404, "M_NOT_FOUND")
		if a := s.do("GET", roomPath(roomID, "state", "m.room.member", alice.UserID), bob.Token, nil).want(200, ""); a.str("membership") != "leave" {
			t.Fatalf("in the room: %s", a.raw)
		}
		account, err := s.accounts.Named(t.Context(), "alice")
		if err != nil || !account.Deactivated || !account.Erased || account.HasPassword {
			t.Fatalf("got %+v, %v", account, err)
		}
		err = s.store.Read(t.Context(), func(r *store.Read) error {
			erased, err := userdb.Erased(r, []string{alice.UserID, "@nobody:stoa.test"})
			if len(erased) != 1 {
				t.Errorf("erased: %v", erased)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestDeactivateWithoutToken(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice := s.signUp("alice")
	s.do("POST", "/_matrix/client/v3/account/deactivate", "", object{"auth": passwordAuth("alice", "")}).want(200, "")
	s.whoami(alice.Token).want(401, "M_UNKNOWN_TOKEN")
}

func TestWhois(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice, bob := s.signUp("alice"), s.signUp("bob")
	const path = "/_matrix/client/v3/admin/whois/"
	a := s.do("GET", path+alice.UserID, alice.Token, nil).want(200, "")
	if !strings.Contains(a.raw, alice.Device) || !strings.Contains(a.raw, "192.0.2.1") {
		t.Fatalf("got %s", a.raw)
	}
	s.do("GET", path+alice.UserID, bob.Token, nil).want(403, "M_FORBIDDEN")
	s.do("GET", path+"@nobody:stoa.test", bob.Token, nil).want(403, "M_FORBIDDEN")
	account, err := s.accounts.Named(t.Context(), "bob")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.accounts.SetAdmin(t.Context(), account.Num, true); err != nil {
		t.Fatal(err)
	}
	s.do("GET", path+alice.UserID, bob.Token, nil).want(200, "")
	s.do("GET", path+"@nobody:stoa.test", bob.Token, nil).want(404, "M_NOT_FOUND")
	s.do("GET", path+"@alice:other.test", bob.Token, nil).want(400, "M_INVALID_PARAM")
	s.do("GET", path+"alice", bob.Token, nil).want(400, "M_INVALID_PARAM")
}

// Covers: getAdminLockUser, setAdminLockUser, getAdminSuspendUser, setAdminSuspendUser
func TestModeration(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, root := s.signUp("alice"), s.signUp("root")
		account, err := s.accounts.Named(t.Context(), "root")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.accounts.SetAdmin(t.Context(), account.Num, true); err != nil {
			t.Fatal(err)
		}
		const lock, suspend = "/_matrix/client/v1/admin/lock/", "/_matrix/client/v1/admin/suspend/"
		for _, path := range []string{lock, suspend} {
			key := map[string]string{lock: "locked", suspend: "suspended"}[path]
			s.do("PUT", path+root.UserID, alice.Token, object{key: true}).want(403, "M_FORBIDDEN")
			s.do("GET", path+"@nobody:stoa.test", alice.Token, nil).want(403, "M_FORBIDDEN")
			s.do("PUT", path+root.UserID, root.Token, object{key: true}).want(403, "M_FORBIDDEN") // oneself
			s.do("PUT", path+"@nobody:stoa.test", root.Token, object{key: true}).want(404, "M_NOT_FOUND")
			s.do("PUT", path+"@alice:other.test", root.Token, object{key: true}).want(400, "M_INVALID_PARAM")
			s.do("PUT", path+alice.UserID, root.Token, object{}).want(400, "M_MISSING_PARAM")
			s.do("PUT", path+alice.UserID, root.Token, object{key: "yes"}).want(400, "M_BAD_JSON")
			if a := s.do("PUT", path+alice.UserID, root.Token, object{key: true}).want(200, ""); a.Body[key] != true {
				t.Fatalf("got %s", a.raw)
			}
			if a := s.do("GET", path+alice.UserID, root.Token, nil).want(200, ""); a.Body[key] != true {
				t.Fatalf("got %s", a.raw)
			}
			if path == lock {
				s.whoami(alice.Token).want(401, "M_USER_LOCKED")
			} else {
				name := "/_matrix/client/v3/profile/" + alice.UserID + "/displayname"
				s.whoami(alice.Token).want(200, "")
				s.do("PUT", name, alice.Token, object{"displayname": "A"}).want(403, "M_USER_SUSPENDED")
			}
			s.do("PUT", path+alice.UserID, root.Token, object{key: false}).want(200, "")
			s.whoami(alice.Token).want(200, "")
		}
		if a := s.do("GET", "/_matrix/client/v3/capabilities", root.Token, nil); !strings.Contains(a.raw, `"m.account_moderation":{"suspend":true,"lock":true}`) {
			t.Fatalf("got %s", a.raw)
		}
		if a := s.do("GET", "/_matrix/client/v3/capabilities", alice.Token, nil); strings.Contains(a.raw, "m.account_moderation") {
			t.Fatalf("got %s", a.raw)
		}
	})
}

// Secrets must not reach the log, whatever goes wrong on the way.
func TestNoSecretIsLogged(t *testing.T) {
	t.Parallel()
	s := onSQLite(t, "STOA_REGISTRATION_SHARED_SECRET=SECRET-shared")
	s.do("POST", registerPath, "", object{"username": "alice", "password": "SECRET-1", "auth": object{"type": "m.login.dummy"}}).want(200, "")
	body := object{"type": "m.login.password", "user": "alice", "password": "SECRET-1", "refresh_token": true}
	l := asLogin(s.do("POST", "/_matrix/client/v3/login", "", body).want(200, ""))
	secrets := []string{"SECRET", l.Token, l.Refresh}

	body["password"] = "SECRET-wrong"
	s.do("POST", "/_matrix/client/v3/login", "", body).want(403, "M_FORBIDDEN")
	s.do("POST", "/_matrix/client/v3/login", "", `{"type":"m.login.password","user":"alice","password":["SECRET-list"]}`).want(400, "M_BAD_JSON")
	s.do("POST", "/_matrix/client/v3/login", "", `{"type":"m.login.password","user":"alice","password":"SECRET-cut`).want(400, "M_NOT_JSON")
	s.do("POST", "/_matrix/client/v3/login", "", `{"password":"SECRET-a","password":"SECRET-b"}`).want(400, "M_BAD_JSON")
	s.do("POST", "/_matrix/client/v3/refresh", "", object{"refresh_token": "SECRET-refresh"}).want(401, "M_UNKNOWN_TOKEN")
	fresh := asLogin(s.do("POST", "/_matrix/client/v3/refresh", "", object{"refresh_token": l.Refresh}).want(200, ""))
	secrets = append(secrets, fresh.Token, fresh.Refresh)
	s.whoami("SECRET-token").want(401, "M_UNKNOWN_TOKEN")
	a := s.do("POST", "/_matrix/client/v3/account/password", l.Token, object{"new_password": "SECRET-2"}).want(401, "")
	secrets = append(secrets, a.str("session"))
	auth := object{"type": "m.login.password", "identifier": object{"type": "m.id.user", "user": "alice"}, "password": "SECRET-1", "session": a.str("session")}
	s.do("POST", "/_matrix/client/v3/account/password", l.Token, object{"new_password": "SECRET-2", "auth": auth}).want(200, "")
	s.do("POST", "/_synapse/admin/v1/register", "", object{"nonce": "SECRET-n", "username": "x", "password": "SECRET-3", "mac": "SECRET-m"}).want(400, "M_INVALID_PARAM")

	s.store.Close() // and what goes wrong inside
	if a := s.do("POST", "/_matrix/client/v3/login", "", body); a.Status < 500 {
		t.Fatalf("got %d without a store", a.Status)
	}
	log := s.log.String()
	if !strings.Contains(log, "request") {
		t.Fatal("nothing was logged at all")
	}
	for _, secret := range secrets {
		if strings.Contains(log, secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
}
