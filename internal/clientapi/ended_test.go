package clientapi_test

import (
	"net/http/httptest"
	"runtime/debug"
	"strings"
	"sync"
	"testing"

	"stoa/internal/account"
	"stoa/internal/auth"
	"stoa/internal/store"
	"stoa/internal/store/doctor"
	"stoa/internal/store/keydb"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
	"stoa/internal/store/userdb"
	"stoa/matrix/id"
)

// between runs something once, between a request's look at the store and its commit.
type between struct {
	faults *store.Faults
	mu     sync.Mutex // guards f; nothing is taken after it
	f      func()
}

func newBetween() *between {
	b := &between{faults: &store.Faults{}}
	b.faults.Arm(store.FaultBuilt, func() error {
		if !strings.Contains(string(debug.Stack()), "httpkit.(*Mux).ServeHTTP") {
			return nil // not of the request
		}
		b.mu.Lock()
		f := b.f
		b.f = nil
		b.mu.Unlock()
		if f != nil {
			f()
		}
		return nil
	})
	return b
}

func (b *between) arm(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.f = f
}

// ran says whether what was armed has run.
func (b *between) ran() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.f == nil
}

// raced is a user with one device, about whom a request and an end race.
type raced struct {
	*server
	login
	num    store.UserNum
	room   string // public, of another user
	helper login
}

// endings are the ways in which a session or an account ends.
var endings = map[string]func(t *testing.T, r raced) error{
	"deactivate": func(t *testing.T, r raced) error {
		return r.accounts.Deactivate(t.Context(), userID(t, r.UserID), false, nil)
	},
	"reset": func(t *testing.T, r raced) error {
		return r.accounts.SetPassword(t.Context(), account.PasswordChange{User: r.num, Password: "another password", Logout: true})
	},
	"logout": func(t *testing.T, r raced) error {
		return r.accounts.DeleteDevices(t.Context(), r.num, nil, id.DeviceID(r.Device))
	},
	"logout_all": func(t *testing.T, r raced) error { return r.accounts.DeleteAllDevices(t.Context(), r.num) },
}

// Whatever a request is about to write, an end that comes first is not undone by it: no session outlives it, and nothing
// stays that hangs on what is gone.
func TestNothingOutlivesTheEndOfItsSession(t *testing.T) {
	t.Parallel()
	user := func(r raced, rest string) string { return v3 + "/user/" + esc(r.UserID) + rest }
	put := func(path string, body any) func(*testing.T, raced) func() answer {
		return func(_ *testing.T, r raced) func() answer {
			path := strings.NewReplacer("{user}", esc(r.UserID), "{room}", esc(r.room), "{device}", r.Device).Replace(path)
			return func() answer { return r.do("PUT", path, r.Token, body) }
		}
	}
	for name, prepare := range map[string]func(*testing.T, raced) func() answer{
		"login": func(_ *testing.T, r raced) func() answer {
			return func() answer { return r.logIn("alice", object{"refresh_token": true}) }
		},
		"login_to_the_device": func(_ *testing.T, r raced) func() answer {
			return func() answer { return r.logIn("alice", object{"device_id": r.Device}) }
		},
		"login_by_token": func(_ *testing.T, r raced) func() answer {
			token := r.do("POST", "/_matrix/client/v1/login/get_token", r.Token, object{"auth": passwordAuth("alice", "")}).want(200, "").str("login_token")
			return func() answer {
				return r.do("POST", v3+"/login", "", object{"type": "m.login.token", "token": token})
			}
		},
		"refresh": func(_ *testing.T, r raced) func() answer {
			return func() answer { return r.do("POST", v3+"/refresh", "", object{"refresh_token": r.Refresh}) }
		},
		"first_use_of_a_refreshed_token": func(_ *testing.T, r raced) func() answer {
			fresh := asLogin(r.do("POST", v3+"/refresh", "", object{"refresh_token": r.Refresh}).want(200, ""))
			return func() answer { return r.whoami(fresh.Token) }
		},
		"login_token": func(_ *testing.T, r raced) func() answer {
			return func() answer {
				a := r.do("POST", "/_matrix/client/v1/login/get_token", r.Token, object{"auth": passwordAuth("alice", "")})
				if a.Status != 200 {
					return a
				}
				return r.do("POST", v3+"/login", "", object{"type": "m.login.token", "token": a.str("login_token")})
			}
		},
		"change_of_the_password": func(_ *testing.T, r raced) func() answer {
			return func() answer {
				return r.do("POST", v3+"/account/password", r.Token, object{"auth": passwordAuth("alice", ""), "new_password": passwordOf("alice"), "logout_devices": false})
			}
		},
		"device_keys": func(t *testing.T, r raced) func() answer {
			return func() answer { return r.uploadKeys(r.login, object{"device_keys": deviceKeys(t, r.login)}) }
		},
		"one_time_keys": func(_ *testing.T, r raced) func() answer {
			return func() answer {
				return r.uploadKeys(r.login, object{"one_time_keys": object{"signed_curve25519:A": object{"key": "x"}}})
			}
		},
		"fallback_keys": func(_ *testing.T, r raced) func() answer {
			return func() answer {
				return r.uploadKeys(r.login, object{"fallback_keys": object{"signed_curve25519:A": object{"key": "x", "fallback": true}}})
			}
		},
		"claim_of_a_fallback_key": func(_ *testing.T, r raced) func() answer {
			r.uploadKeys(r.login, object{"fallback_keys": object{"signed_curve25519:A": object{"key": "x", "fallback": true}}}).want(200, "")
			return func() answer {
				return r.do("POST", v3+"/keys/claim", r.helper.Token, object{"one_time_keys": object{r.UserID: object{r.Device: "signed_curve25519"}}})
			}
		},
		"to_device": func(_ *testing.T, r raced) func() answer {
			return func() answer {
				return r.do("PUT", v3+"/sendToDevice/org.example.x/1", r.helper.Token, object{"messages": object{r.UserID: object{"*": object{}}}})
			}
		},
		"backup": func(_ *testing.T, r raced) func() answer {
			return func() answer {
				return r.do("POST", v3+"/room_keys/version", r.Token, object{"algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": object{}})
			}
		},
		"account_data": put(v3+"/user/{user}/account_data/org.example.x", object{}),
		"tag":          put(v3+"/user/{user}/rooms/{room}/tags/u.x", object{}),
		"push_rule":    put(pushGlobal+"override/x", object{"actions": []string{}}),
		"presence":     put(v3+"/presence/{user}/status", object{"presence": "online"}),
		"display_name": put(v3+"/profile/{user}/displayname", object{"displayname": "Alice"}),
		"device_name":  put(v3+"/devices/{device}", object{"display_name": "Phone"}),
		"filter": func(_ *testing.T, r raced) func() answer {
			return func() answer { return r.do("POST", user(r, "/filter"), r.Token, object{}) }
		},
		"join": func(_ *testing.T, r raced) func() answer {
			return func() answer { return r.do("POST", roomPath(r.room, "join"), r.Token, object{}) }
		},
		"create_room": func(_ *testing.T, r raced) func() answer {
			return func() answer { return r.do("POST", v3+"/createRoom", r.Token, object{}) }
		},
	} {
		for how, end := range endings {
			if !matters(name, how) {
				continue
			}
			t.Run(name+"/"+how, func(t *testing.T) {
				t.Parallel()
				storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
					hook := newBetween()
					s := newServer(t, open(func(o *store.Options) { o.Faults = hook.faults }))
					r := raced{server: s, helper: s.signUp("helper")}
					r.room = s.create(r.helper, public)
					s.signUp("alice")
					r.login = asLogin(s.logIn("alice", object{"refresh_token": true}).want(200, ""))
					known, err := s.accounts.Named(t.Context(), "alice")
					if err != nil {
						t.Fatal(err)
					}
					r.num = known.Num
					request := prepare(t, r)
					hook.arm(func() {
						if err := end(t, r); err != nil {
							t.Errorf("%s: %v", how, err)
						}
					})
					got := request()
					if !hook.ran() {
						t.Fatalf("the request commits nothing: %d %s", got.Status, got.raw)
					}
					if got.Status >= 500 {
						t.Errorf("got %d %s", got.Status, got.raw)
					}
					s.checkEnded(t, how, r, got)
				})
			})
		}
	}
}

// matters says whether a request has to do with a way to end: what belongs to an account with its deactivation, what
// belongs to a device with its logout too, and what gives a session with all.
func matters(request, end string) bool {
	switch request {
	case "backup", "account_data", "tag", "push_rule", "presence", "display_name", "filter", "join", "create_room":
		return end == "deactivate"
	case "device_keys", "one_time_keys", "fallback_keys", "claim_of_a_fallback_key", "to_device", "device_name":
		return end == "deactivate" || end == "logout"
	}
	return true
}

// checkEnded checks that what a request was answered with is no good after an end, and that nothing was left over.
func (s *server) checkEnded(t *testing.T, how string, r raced, got answer) {
	t.Helper()
	if token := got.str("access_token"); token != "" && (how == "deactivate" || how == "reset") {
		if a := s.whoami(token); a.Status == 200 {
			t.Errorf("the session outlived: %s", a.raw)
		}
	}
	if a := s.whoami(r.Token); a.Status == 200 {
		t.Errorf("the old session outlived: %s", a.raw)
	}
	if how == "deactivate" {
		err := s.store.Read(t.Context(), func(read *store.Read) error {
			rooms, err := roomdb.JoinedRooms(read, r.num)
			if len(rooms) > 0 {
				t.Errorf("still in %v", rooms)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	s.healthy(t)
}

// healthy checks that the doctor finds nothing in the store.
func (s *server) healthy(t *testing.T) {
	t.Helper()
	found, err := doctor.Findings(t.Context(), s.store, doctor.Options{}, 20)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Errorf("the doctor finds %s", f)
	}
}

func userID(t *testing.T, text string) id.UserID {
	t.Helper()
	user, err := id.ParseUserID(text)
	if err != nil {
		t.Fatal(err)
	}
	return user
}

// What a password allowed without a session ends with it.
func TestWhatAPasswordAllowedEndsWithIt(t *testing.T) {
	const devices = v3 + "/delete_devices"
	onEach(t, func(t *testing.T, s *server) {
		for how, end := range endings {
			if how == "logout" {
				continue
			}
			t.Run(how, func(t *testing.T) {
				s := s.in(t)
				name := strings.ReplaceAll(how, "_", "")
				alice := s.signUp(name)
				known, err := s.accounts.Named(t.Context(), name)
				if err != nil {
					t.Fatal(err)
				}
				token := s.do("POST", v1+"/login/get_token", alice.Token, object{"auth": passwordAuth(name, "")}).want(200, "").str("login_token")
				if err := end(t, raced{server: s, login: alice, num: known.Num}); err != nil {
					t.Fatal(err)
				}
				s.do("POST", v3+"/login", "", object{"type": "m.login.token", "token": token}).want(403, "M_FORBIDDEN")
			})
		}
		t.Run("completed_stage", func(t *testing.T) {
			s := s.in(t)
			alice := s.signUp("alice")
			known, err := s.accounts.Named(t.Context(), "alice")
			if err != nil {
				t.Fatal(err)
			}
			request := func(session any) answer {
				return s.do("POST", devices, alice.Token, object{"devices": []string{alice.Device}, "auth": session})
			}
			session := s.do("POST", devices, alice.Token, object{"devices": []string{alice.Device}}).want(401, "").str("session")
			page, err := s.auth.Fallback(t.Context(), session, auth.StagePassword)
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest("POST", "/", nil)
			if err := s.auth.CompleteFallback(r, page, nil, auth.FallbackForm{Password: passwordOf("alice")}); err != nil {
				t.Fatal(err)
			}
			change := account.PasswordChange{User: known.Num, Password: passwordOf("alice")}
			if err := s.accounts.SetPassword(t.Context(), change); err != nil {
				t.Fatal(err)
			}
			a := request(object{"session": session}).want(401, "M_FORBIDDEN")
			if a.Body["completed"] != nil {
				t.Errorf("the stage counts as completed: %s", a.raw)
			}
			request(passwordAuth("alice", a.str("session"))).want(200, "")
		})
	})
}

// An account that is deactivated again loses what it should not have had any more.
func TestDeactivatingAgainDeletesAgain(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice := s.signUp("alice")
		user := userID(t, alice.UserID)
		known, err := s.accounts.Account(t.Context(), user)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.accounts.Deactivate(t.Context(), user, false, nil); err != nil {
			t.Fatal(err)
		}
		// As an earlier version left it: a session that came after the end.
		token := auth.HashOf("left over")
		c := store.NewChange()
		userdb.PutDevice(c, known.Num, userdb.Device{ID: "GHOST", CreatedTS: 1})
		userdb.AddAccessToken(c, token[:], known.Num, "GHOST", 0, 0)
		keydb.PutDeviceKeys(c, known.Num, "GONE", "{}")
		if _, err := s.store.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		s.whoami("left over").want(401, "M_UNKNOWN_TOKEN")
		found, err := doctor.Findings(t.Context(), s.store, doctor.Options{}, 20)
		if err != nil || len(found) != 2 {
			t.Errorf("the doctor finds %v, %v", found, err)
		}
		if err := s.accounts.Deactivate(t.Context(), user, false, nil); err != nil {
			t.Fatal(err)
		}
		s.healthy(t)
	})
}
