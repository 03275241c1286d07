package clientapi_test

import (
	"testing"
	"time"
)

const userInfo = "/_matrix/federation/v1/openid/userinfo"

// openIDToken requests a token as a user.
func (s *server) openIDToken(l login) string {
	s.t.Helper()
	a := s.do("POST", v3+"/user/"+esc(l.UserID)+"/openid/request_token", l.Token, object{}).want(200, "")
	if a.str("token_type") != "Bearer" || a.str("matrix_server_name") != "stoa.test" || a.Body["expires_in"] != 3600.0 || a.str("access_token") == "" {
		s.t.Fatalf("got %s", a.raw)
	}
	return a.str("access_token")
}

// whose asks who a token proves somebody to be.
func (s *server) whose(token string) answer {
	return s.do("GET", userInfo+"?access_token="+esc(token), "", nil)
}

func TestOpenID(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		token := s.openIDToken(alice)
		if a := s.whose(token).want(200, ""); a.raw != `{"sub":"@alice:stoa.test"}` {
			t.Fatalf("got %s", a.raw)
		}
		s.do("POST", v3+"/user/"+esc(alice.UserID)+"/openid/request_token", bob.Token, object{}).want(403, "M_FORBIDDEN")
		s.do("POST", v3+"/user/"+esc(alice.UserID)+"/openid/request_token", "", object{}).want(401, "M_MISSING_TOKEN")
		// Neither token is good for what the other is.
		s.whose(alice.Token).want(401, "M_UNKNOWN_TOKEN")
		s.whoami(token).want(401, "M_UNKNOWN_TOKEN")
		s.do("GET", userInfo, "", nil).want(401, "M_MISSING_TOKEN")
		s.whose("nonsense").want(401, "M_UNKNOWN_TOKEN")

		s.clock.Advance(time.Hour - time.Second)
		s.whose(token).want(200, "")
		s.clock.Advance(2 * time.Second)
		s.whose(token).want(401, "M_UNKNOWN_TOKEN")
	})
}

// A token ends with what allowed it.
func TestOpenID_tokens_end(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice := s.signUp("alice")
	for name, end := range map[string]func(login){
		"logout":            func(l login) { s.do("POST", v3+"/logout", l.Token, nil).want(200, "") },
		"login on a device": func(l login) { s.logIn("alice", object{"device_id": l.Device}).want(200, "") },
	} {
		l := asLogin(s.logIn("alice", nil).want(200, ""))
		token := s.openIDToken(l)
		s.whose(token).want(200, "")
		end(l)
		if a := s.whose(token); a.Status != 401 {
			t.Errorf("after a %s the token proves %s", name, a.raw)
		}
	}
	token := s.openIDToken(alice)
	s.lock(t, "alice", true)
	s.whose(token).want(401, "M_UNKNOWN_TOKEN")
	s.lock(t, "alice", false)
	s.whose(token).want(200, "")
	if err := s.accounts.Deactivate(t.Context(), userID(t, alice.UserID), false, nil); err != nil {
		t.Fatal(err)
	}
	s.whose(token).want(401, "M_UNKNOWN_TOKEN")
}

// lock locks or unlocks an account.
func (s *server) lock(t *testing.T, name string, locked bool) {
	t.Helper()
	known, err := s.accounts.Named(t.Context(), name)
	if err == nil {
		err = s.accounts.SetLocked(t.Context(), known.Num, locked)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A user has 100 tokens at most; the oldest make room.
func TestOpenID_tokens_are_bounded(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice := s.signUp("alice")
	first := s.openIDToken(alice)
	var last string
	for range 100 {
		s.clock.Advance(time.Millisecond)
		last = s.openIDToken(alice)
	}
	s.whose(first).want(401, "M_UNKNOWN_TOKEN")
	s.whose(last).want(200, "")
}

// The token is a parameter of the endpoint: it works where access tokens in the query are refused, and is never logged.
func TestOpenID_works_without_access_tokens_in_queries(t *testing.T) {
	t.Parallel()
	s := onSQLite(t, "STOA_QUERY_ACCESS_TOKENS=off")
	alice := s.signUp("alice")
	s.whose(s.openIDToken(alice)).want(200, "")
	s.do("GET", v3+"/account/whoami?access_token="+esc(alice.Token), "", nil).want(401, "M_MISSING_TOKEN")
}

// A user who requests tokens without end has to wait.
func TestOpenID_tokens_are_limited(t *testing.T) {
	t.Parallel()
	s := onSQLite(t, "STOA_RATE_LIMITS=on")
	alice := s.signUp("alice")
	for n := range 101 {
		a := s.do("POST", v3+"/user/"+esc(alice.UserID)+"/openid/request_token", alice.Token, object{})
		if want := map[bool]int{true: 429, false: 200}[n == 100]; a.Status != want {
			t.Fatalf("request %d: %s", n, a.raw)
		}
	}
}
