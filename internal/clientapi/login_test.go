package clientapi_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestLogin(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		s.signUp("alice")
		password := passwordOf("alice")
		for _, c := range []struct {
			name    string
			body    object
			status  int
			errcode string
		}{
			{"takes_a_localpart", object{"type": "m.login.password", "identifier": object{"type": "m.id.user", "user": "alice"}, "password": password}, 200, ""},
			{"takes_a_user_id", object{"type": "m.login.password", "identifier": object{"type": "m.id.user", "user": "@alice:stoa.test"}, "password": password}, 200, ""},
			{"takes_a_user_id_in_capitals", object{"type": "m.login.password", "identifier": object{"type": "m.id.user", "user": "@ALICE:stoa.test"}, "password": password}, 200, ""},
			{"takes_the_deprecated_user", object{"type": "m.login.password", "user": "alice", "password": password}, 200, ""},
			{"refuses_a_wrong_password", object{"type": "m.login.password", "user": "alice", "password": "x"}, 403, "M_FORBIDDEN"},
			{"refuses_an_unknown_user", object{"type": "m.login.password", "user": "nobody", "password": password}, 403, "M_FORBIDDEN"},
			{"refuses_a_user_of_another_server", object{"type": "m.login.password", "user": "@alice:other.test", "password": password}, 403, "M_FORBIDDEN"},
			{"refuses_an_unknown_email_address", object{"type": "m.login.password", "identifier": object{"type": "m.id.thirdparty", "medium": "email", "address": "a@b.c"}, "password": password}, 403, "M_FORBIDDEN"},
			{"refuses_an_unknown_address_without_type", object{"type": "m.login.password", "identifier": object{"medium": "email", "address": "a@b.c"}, "password": password}, 403, "M_FORBIDDEN"},
			{"refuses_the_deprecated_address", object{"type": "m.login.password", "medium": "email", "address": "a@b.c", "password": password}, 403, "M_FORBIDDEN"},
			{"refuses_an_unknown_phone", object{"type": "m.login.password", "identifier": object{"type": "m.id.phone", "country": "DE", "phone": "0301"}, "password": password}, 403, "M_FORBIDDEN"},
			{"needs_a_known_identifier_type", object{"type": "m.login.password", "identifier": object{"type": "m.id.dna", "user": "alice"}, "password": password}, 400, "M_INVALID_PARAM"},
			{"needs_an_identifier", object{"type": "m.login.password", "password": password}, 400, "M_MISSING_PARAM"},
			{"needs_a_user_in_the_identifier", object{"type": "m.login.password", "identifier": object{"type": "m.id.user"}, "password": password}, 400, "M_MISSING_PARAM"},
			{"needs_a_password", object{"type": "m.login.password", "user": "alice"}, 400, "M_MISSING_PARAM"},
			{"needs_a_password_that_is_text", object{"type": "m.login.password", "user": "alice", "password": 1}, 400, "M_BAD_JSON"},
			{"needs_a_type", object{"user": "alice", "password": password}, 400, "M_MISSING_PARAM"},
			{"refuses_an_unknown_type", object{"type": "m.login.retina", "user": "alice"}, 400, "M_UNKNOWN"},
			{"asks_application_services_for_their_token", object{"type": "m.login.application_service"}, 401, "M_MISSING_TOKEN"},
			{"refuses_an_unknown_login_token", object{"type": "m.login.token", "token": "x"}, 403, "M_FORBIDDEN"},
			{"refuses_an_overlong_login_token", object{"type": "m.login.token", "token": strings.Repeat("x", 5000)}, 403, "M_FORBIDDEN"},
			{"needs_a_login_token", object{"type": "m.login.token"}, 400, "M_MISSING_PARAM"},
			{"refuses_an_overlong_device_id", object{"type": "m.login.password", "user": "alice", "password": password, "device_id": strings.Repeat("x", 300)}, 400, "M_INVALID_PARAM"},
		} {
			t.Run(c.name, func(t *testing.T) {
				a := s.do("POST", "/_matrix/client/v3/login", "", c.body).want(c.status, c.errcode)
				if c.status != 200 {
					return
				}
				if a.str("user_id") != "@alice:stoa.test" || a.str("device_id") == "" {
					t.Fatalf("got %s", a.raw)
				}
				s.whoami(a.str("access_token")).want(200, "")
			})
		}
	})
}

func TestLoginFlowsAreListed(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	a := s.do("GET", "/_matrix/client/v3/login", "", nil).want(200, "")
	if !strings.Contains(a.raw, `"m.login.password"`) || !strings.Contains(a.raw, `"get_login_token":true`) {
		t.Fatalf("got %s", a.raw)
	}
}

func TestLoginToAKnownDeviceEndsItsEarlierTokens(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		s.signUp("alice")
		first := asLogin(s.logIn("alice", object{"device_id": "PHONE", "initial_device_display_name": "phone", "refresh_token": true}).want(200, ""))
		s.whoami(first.Token).want(200, "")
		second := asLogin(s.logIn("alice", object{"device_id": "PHONE", "initial_device_display_name": "other"}).want(200, ""))
		s.whoami(first.Token).want(401, "M_UNKNOWN_TOKEN")
		s.do("POST", "/_matrix/client/v3/refresh", "", object{"refresh_token": first.Refresh}).want(401, "M_UNKNOWN_TOKEN")
		s.whoami(second.Token).want(200, "")
		d := s.do("GET", "/_matrix/client/v3/devices/PHONE", second.Token, nil).want(200, "")
		if d.str("display_name") != "phone" {
			t.Fatalf("the name of a known device changed: %s", d.raw)
		}
	})
}

func TestCallers(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice := s.signUp("alice")
	for _, c := range []struct{ name, token, errcode string }{
		{"without_token_are_refused", "", "M_MISSING_TOKEN"},
		{"with_a_foreign_token_are_refused", "invalidAccessToken", "M_UNKNOWN_TOKEN"},
		{"with_an_overlong_token_are_refused", strings.Repeat("x", 1000), "M_UNKNOWN_TOKEN"},
		{"with_part_of_a_token_are_refused", alice.Token[:len(alice.Token)-1], "M_UNKNOWN_TOKEN"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := s.whoami(c.token).want(401, c.errcode)
			if soft, _ := a.Body["soft_logout"].(bool); soft {
				t.Fatalf("a session that never was is offered again: %s", a.raw)
			}
		})
	}
	a := s.whoami(alice.Token).want(200, "")
	if a.str("user_id") != alice.UserID || a.str("device_id") != alice.Device {
		t.Fatalf("got %s", a.raw)
	}
}

// Old clients and bots have no other way.
func TestATokenInTheQuery(t *testing.T) {
	t.Parallel()
	const path = v3 + "/account/whoami?"
	s := onSQLite(t)
	alice, bob := s.signUp("alice"), s.signUp("bob")
	in := func(token string) string { return path + "x=1&access_token=" + token }
	for name, c := range map[string]struct {
		path, header string
		status       int
		errcode      string
	}{
		"is_taken":                          {in(alice.Token), "", 200, ""},
		"is_taken_however_it_is_escaped":    {path + "access%5Ftoken=" + strings.ReplaceAll(alice.Token, "_", "%5f"), "", 200, ""},
		"may_be_the_one_of_the_header":      {in(alice.Token), alice.Token, 200, ""},
		"may_be_empty":                      {in(""), alice.Token, 200, ""},
		"must_not_be_another_than_there":    {in(bob.Token), alice.Token, 401, "M_UNKNOWN_TOKEN"},
		"must_be_one":                       {in(alice.Token) + "&access_token=" + bob.Token, "", 401, "M_UNKNOWN_TOKEN"},
		"must_be_valid":                     {in("SECRET"), "", 401, "M_UNKNOWN_TOKEN"},
		"may_have_a_broken_escape":          {in("SECRET%zz"), "", 401, "M_UNKNOWN_TOKEN"},
		"is_missing_if_empty":               {in(""), "", 401, "M_MISSING_TOKEN"},
		"is_cut_out_before_the_rest_is_bad": {path + "y=%zz&access_token=SECRET", "", 400, "M_INVALID_PARAM"},
	} {
		t.Run(name, func(t *testing.T) {
			a := s.in(t).do("GET", c.path, c.header, nil).want(c.status, c.errcode)
			if c.status == 200 && a.str("user_id") != alice.UserID || strings.Contains(a.raw, "SECRET") {
				t.Errorf("got %s", a.raw)
			}
		})
	}
	if n := s.whole.Metric(t, "stoa_httpkit_query_tokens_total"); n != 8 {
		t.Errorf("%v requests were counted", n)
	}
	for _, secret := range []string{alice.Token, bob.Token, "SECRET"} {
		if strings.Contains(s.log.String(), secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
	s.do("GET", v3+"/sync?access_token="+alice.Token+"&timeout=0", "", nil).want(200, "")
	off := onSQLite(t, "STOA_QUERY_ACCESS_TOKENS=off")
	carol := off.signUp("carol")
	off.do("GET", in(carol.Token), "", nil).want(401, "M_MISSING_TOKEN")
	off.do("GET", in("SECRET"), carol.Token, nil).want(200, "")
	if strings.Contains(off.log.String(), "SECRET") || strings.Contains(off.log.String(), carol.Token) {
		t.Error("a token that was not taken is in the log")
	}
}

func TestRefresh(t *testing.T) {
	const path = "/_matrix/client/v3/refresh"
	onEach(t, func(t *testing.T, s *server) {
		s.signUp("alice")
		begin := func() login {
			return asLogin(s.logIn("alice", object{"refresh_token": true}).want(200, ""))
		}
		refresh := func(token string) login {
			return asLogin(s.do("POST", path, "", object{"refresh_token": token}).want(200, ""))
		}
		t.Run("keeps_the_device", func(t *testing.T) {
			old := begin()
			fresh := refresh(old.Refresh)
			if a := s.whoami(fresh.Token).want(200, ""); a.str("device_id") != old.Device {
				t.Fatalf("device %s became %s", old.Device, a.str("device_id"))
			}
		})
		t.Run("leaves_the_old_tokens_until_a_new_one_is_used", func(t *testing.T) {
			old := begin()
			lost := refresh(old.Refresh) // the answer never arrived
			s.whoami(old.Token).want(200, "")
			fresh := refresh(old.Refresh)
			s.whoami(lost.Token).want(401, "M_UNKNOWN_TOKEN")
			s.whoami(old.Token).want(200, "")
			s.whoami(fresh.Token).want(200, "") // now the old ones end
			a := s.do("POST", path, "", object{"refresh_token": old.Refresh}).want(401, "M_UNKNOWN_TOKEN")
			if soft, _ := a.Body["soft_logout"].(bool); !soft {
				t.Fatalf("who used a revoked refresh token can't log in again with the device: %s", a.raw)
			}
			s.whoami(old.Token).want(401, "M_UNKNOWN_TOKEN")
		})
		t.Run("ends_the_old_tokens_when_the_new_refresh_token_is_used", func(t *testing.T) {
			old := begin()
			second := refresh(old.Refresh)
			third := refresh(second.Refresh)
			s.do("POST", path, "", object{"refresh_token": old.Refresh}).want(401, "M_UNKNOWN_TOKEN")
			s.whoami(old.Token).want(401, "M_UNKNOWN_TOKEN")
			s.whoami(second.Token).want(200, "")
			s.whoami(third.Token).want(200, "")
			s.whoami(second.Token).want(401, "M_UNKNOWN_TOKEN")
		})
		t.Run("is_asked_for_by_soft_logout_when_a_token_expires", func(t *testing.T) {
			old := begin()
			s.whoami(old.Token).want(200, "")
			s.clock.Advance(61 * time.Minute)
			a := s.whoami(old.Token).want(401, "M_UNKNOWN_TOKEN")
			if soft, _ := a.Body["soft_logout"].(bool); !soft {
				t.Fatalf("no soft logout: %s", a.raw)
			}
			s.whoami(refresh(old.Refresh).Token).want(200, "")
		})
		t.Run("refuses_a_foreign_token", func(t *testing.T) {
			a := s.do("POST", path, "", object{"refresh_token": "x"}).want(401, "M_UNKNOWN_TOKEN")
			if soft, _ := a.Body["soft_logout"].(bool); soft {
				t.Fatalf("got %s", a.raw)
			}
			s.do("POST", path, "", object{}).want(400, "M_MISSING_PARAM")
		})
		t.Run("gives_no_access_with_a_refresh_token", func(t *testing.T) {
			s.whoami(begin().Refresh).want(401, "M_UNKNOWN_TOKEN")
		})
		t.Run("leaves_one_good_pair_after_many_at_once", func(t *testing.T) {
			old := begin()
			answers := make([]answer, 8)
			var all sync.WaitGroup
			for i := range answers {
				all.Go(func() { answers[i] = s.do("POST", path, "", object{"refresh_token": old.Refresh}) })
			}
			all.Wait()
			good := 0
			for _, a := range answers {
				if s.whoami(a.want(200, "").str("access_token")).Status == 200 {
					good++
				}
			}
			if good != 1 {
				t.Fatalf("%d of the new access tokens are good", good)
			}
		})
	})
}

func TestTokensOfClientsThatCannotRefreshDoNotExpire(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice := s.signUp("alice")
	s.clock.Advance(400 * 24 * time.Hour)
	s.whoami(alice.Token).want(200, "")
	if _, ok := s.logIn("alice", nil).want(200, "").Body["expires_in_ms"]; ok {
		t.Fatal("an end is announced for a token that has none")
	}
}

func TestLoginToken(t *testing.T) {
	const path = "/_matrix/client/v1/login/get_token"
	onEach(t, func(t *testing.T, s *server) {
		alice := s.signUp("alice")
		make1 := func() string {
			t.Helper()
			a := s.do("POST", path, alice.Token, object{"auth": passwordAuth("alice", "")}).want(200, "")
			if a.Body["expires_in_ms"] != 120000.0 {
				t.Fatalf("got %s", a.raw)
			}
			return a.str("login_token")
		}
		use := func(token string) answer {
			return s.do("POST", "/_matrix/client/v3/login", "", object{"type": "m.login.token", "token": token})
		}
		t.Run("is_good_for_one_login", func(t *testing.T) {
			token := make1()
			a := use(token).want(200, "")
			if a.str("user_id") != alice.UserID || a.str("device_id") == alice.Device {
				t.Fatalf("got %s", a.raw)
			}
			use(token).want(403, "M_FORBIDDEN")
		})
		t.Run("is_good_for_one_of_many_logins_at_once", func(t *testing.T) {
			token := make1()
			var all sync.WaitGroup
			statuses := make([]int, 8)
			for i := range statuses {
				all.Go(func() { statuses[i] = use(token).Status })
			}
			all.Wait()
			good := 0
			for _, status := range statuses {
				if status == 200 {
					good++
				} else if status != 403 {
					t.Errorf("got %d", status)
				}
			}
			if good != 1 {
				t.Fatalf("%d logins with one token", good)
			}
		})
		t.Run("expires", func(t *testing.T) {
			token := make1()
			s.clock.Advance(2*time.Minute + time.Millisecond)
			use(token).want(403, "M_FORBIDDEN")
		})
		t.Run("asks_for_the_password_each_time", func(t *testing.T) {
			a := s.do("POST", path, alice.Token, object{}).want(401, "")
			session := a.str("session")
			s.do("POST", path, alice.Token, object{"auth": passwordAuth("alice", session)}).want(200, "")
			s.do("POST", path, alice.Token, object{"auth": object{"session": session}}).want(401, "M_FORBIDDEN")
		})
		t.Run("is_for_callers_only", func(t *testing.T) {
			s.do("POST", path, "", object{}).want(401, "M_MISSING_TOKEN")
		})
	})
}

func TestLogout(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		first := s.signUp("alice")
		second := asLogin(s.logIn("alice", object{"refresh_token": true}).want(200, ""))
		s.whoami(second.Token).want(200, "")

		s.do("POST", "/_matrix/client/v3/logout", second.Token, nil).want(200, "")
		s.whoami(second.Token).want(401, "M_UNKNOWN_TOKEN")
		s.do("POST", "/_matrix/client/v3/refresh", "", object{"refresh_token": second.Refresh}).want(401, "M_UNKNOWN_TOKEN")
		s.do("GET", "/_matrix/client/v3/devices/"+second.Device, first.Token, nil).want(404, "M_NOT_FOUND")
		s.whoami(first.Token).want(200, "")

		third := asLogin(s.logIn("alice", nil).want(200, ""))
		s.do("POST", "/_matrix/client/v3/logout/all", third.Token, nil).want(200, "")
		s.whoami(first.Token).want(401, "M_UNKNOWN_TOKEN")
		s.whoami(third.Token).want(401, "M_UNKNOWN_TOKEN")
		s.do("POST", "/_matrix/client/v3/logout", "", nil).want(401, "M_MISSING_TOKEN")
		s.logIn("alice", nil).want(200, "")
	})
}

func TestNoTokenSurvivesALogoutThatRacesWithItsUse(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	s.signUp("alice")
	for range 30 {
		l := asLogin(s.logIn("alice", nil).want(200, ""))
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() { s.whoami(l.Token) })
		}
		all.Go(func() { s.do("POST", "/_matrix/client/v3/logout", l.Token, nil).want(200, "") })
		all.Wait()
		s.whoami(l.Token).want(401, "M_UNKNOWN_TOKEN")
	}
}

func TestLockedAccounts(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice := s.signUp("alice")
	account, err := s.accounts.Named(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.accounts.SetLocked(t.Context(), account.Num, true); err != nil {
		t.Fatal(err)
	}
	a := s.whoami(alice.Token).want(401, "M_USER_LOCKED")
	if a.Body["soft_logout"] != true {
		t.Fatalf("got %s", a.raw)
	}
	s.logIn("alice", nil).want(401, "M_USER_LOCKED")
	if err := s.accounts.SetLocked(t.Context(), account.Num, false); err != nil {
		t.Fatal(err)
	}
	s.whoami(alice.Token).want(200, "")
	if err := s.accounts.SetLocked(t.Context(), account.Num, true); err != nil {
		t.Fatal(err)
	}
	s.do("POST", "/_matrix/client/v3/logout", alice.Token, nil).want(200, "")
}

func TestLoginsAreLimited(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		s.signUp("alice")
		s.signUp("bob")
		wrong := func(name string) answer {
			return s.logIn(name, object{"password": "wrong"})
		}
		for range 10 {
			wrong("alice").want(403, "M_FORBIDDEN")
		}
		a := wrong("@Alice:stoa.test").want(429, "M_LIMIT_EXCEEDED")
		if a.Header.Get("Retry-After") != "20" || a.Body["retry_after_ms"] != 20000.0 {
			t.Fatalf("got %s, Retry-After %s", a.raw, a.Header.Get("Retry-After"))
		}
		s.logIn("alice", nil).want(429, "M_LIMIT_EXCEEDED") // a right guess helps nobody
		s.logIn("bob", nil).want(200, "")
		s.address = "192.0.2.77:1" // the owner, from elsewhere
		s.logIn("alice", nil).want(200, "")
		s.address = "192.0.2.1:1"
		s.logIn("alice", nil).want(429, "M_LIMIT_EXCEEDED")
		s.clock.Advance(20 * time.Second)
		s.logIn("alice", nil).want(200, "") // and forgives
		for range 10 {
			s.logIn("alice", nil).want(200, "")
		}
	}, "STOA_RATE_LIMITS=on")
}

// TestStrangersDoNotLockOut has strangers guess from eight IPv6 networks of one customer, and then from many networks.
func TestStrangersDoNotLockOut(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		s.address = "[2001:db8:1::7]:1"
		s.signUp("alice")
		home, elsewhere := s.address, "[2001:db8:2::7]:1"
		guess := func(address string) int {
			s.address = address
			return s.logIn("alice", object{"password": "wrong"}).Status
		}
		taken := 0
		for i := range 80 {
			if guess(fmt.Sprintf("[2001:db8:f00:%x::1]:1", i%8)) == 403 {
				taken++
			}
		}
		if taken != 20 {
			t.Errorf("%d guesses from one customer's networks", taken)
		}
		s.address = elsewhere
		s.logIn("alice", nil).want(200, "")
		for i := range 80 {
			guess(fmt.Sprintf("[2001:db8:%x::1]:1", 0x100+i))
		}
		s.address = "[2001:db8:3::7]:1"
		s.logIn("alice", nil).want(429, "M_LIMIT_EXCEEDED") // from where nobody knows alice
		s.address = home
		s.logIn("alice", nil).want(200, "")
	}, "STOA_RATE_LIMITS=on")
}
