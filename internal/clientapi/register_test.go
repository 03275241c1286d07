package clientapi_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"stoa/internal/account"
)

const registerPath = "/_matrix/client/v3/register"

func TestRegister(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		s.signUp("taken")
		dummy := object{"type": "m.login.dummy"}
		for _, c := range []struct {
			name    string
			body    object
			status  int
			errcode string
			userID  string
		}{
			{"makes_an_account", object{"username": "alice", "password": "p", "auth": dummy}, 200, "", "@alice:stoa.test"},
			{"makes_capitals_small", object{"username": "Mixed-UPPER", "password": "p", "auth": dummy}, 200, "", "@mixed-upper:stoa.test"},
			{"takes_all_permitted_characters", object{"username": "a.b_c=d-e/f+9", "password": "p", "auth": dummy}, 200, "", "@a.b_c=d-e/f+9:stoa.test"},
			{"takes_passwords_beyond_ascii", object{"username": "pw", "password": "übers3kr1t", "auth": dummy}, 200, "", "@pw:stoa.test"},
			{"picks_a_username", object{"password": "p", "auth": dummy}, 200, "", ""},
			{"asks_for_authentication_first", object{}, 401, "", ""},
			{"asks_for_authentication_with_an_empty_auth", object{"username": "bob", "password": "p", "auth": object{}}, 401, "", ""},
			{"refuses_a_taken_name_before_authentication", object{"username": "taken", "password": "p"}, 400, "M_USER_IN_USE", ""},
			{"refuses_a_taken_name_in_capitals", object{"username": "TAKEN", "password": "p", "auth": dummy}, 400, "M_USER_IN_USE", ""},
			{"refuses_other_characters", object{"username": "böb", "password": "p"}, 400, "M_INVALID_USERNAME", ""},
			{"refuses_letters_that_lower_to_ascii", object{"username": "\u212aelvin", "password": "p"}, 400, "M_INVALID_USERNAME", ""},
			{"refuses_a_colon", object{"username": "bob:stoa.test", "password": "p"}, 400, "M_INVALID_USERNAME", ""},
			{"refuses_overlong_names", object{"username": strings.Repeat("x", 250), "password": "p"}, 400, "M_INVALID_USERNAME", ""},
			{"refuses_a_name_that_is_no_text", object{"username": 5, "password": "p"}, 400, "M_BAD_JSON", ""},
			{"needs_a_password", object{"username": "bob", "auth": dummy}, 400, "M_MISSING_PARAM", ""},
			{"needs_a_password_that_is_not_empty", object{"username": "bob", "password": "", "auth": dummy}, 400, "M_INVALID_PARAM", ""},
			{"refuses_an_overlong_password", object{"username": "bob", "password": strings.Repeat("p", 513), "auth": dummy}, 400, "M_INVALID_PARAM", ""},
			{"refuses_an_auth_that_is_no_object", object{"username": "bob", "password": "p", "auth": "please"}, 400, "M_BAD_JSON", ""},
			{"refuses_application_services", object{"type": "m.login.application_service", "username": "bob"}, 403, "M_FORBIDDEN", ""},
		} {
			t.Run(c.name, func(t *testing.T) {
				a := s.do("POST", registerPath, "", c.body).want(c.status, c.errcode)
				if c.status != 200 {
					return
				}
				if c.userID != "" && a.str("user_id") != c.userID || a.str("device_id") == "" {
					t.Fatalf("got %s", a.raw)
				}
				s.whoami(a.str("access_token")).want(200, "")
			})
		}
	})
}

func TestRegisterForADevice(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	a := s.do("POST", registerPath, "", object{
		"username": "alice", "password": "p", "auth": object{"type": "m.login.dummy"},
		"device_id": "xyzzy", "initial_device_display_name": "lamp", "refresh_token": true,
	}).want(200, "")
	if a.str("device_id") != "xyzzy" || a.str("refresh_token") == "" || a.Body["expires_in_ms"] == nil {
		t.Fatalf("got %s", a.raw)
	}
	d := s.do("GET", "/_matrix/client/v3/devices/xyzzy", a.str("access_token"), nil).want(200, "")
	if d.str("display_name") != "lamp" || d.str("last_seen_ip") != "192.0.2.1" || d.Body["last_seen_ts"] == nil {
		t.Fatalf("got %s", d.raw)
	}
}

func TestRegisterWithoutLogin(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	a := s.do("POST", registerPath, "", object{
		"username": "alice", "password": passwordOf("alice"), "auth": object{"type": "m.login.dummy"}, "inhibit_login": true,
	}).want(200, "")
	if a.raw != `{"user_id":"@alice:stoa.test"}` {
		t.Fatalf("got %s", a.raw)
	}
	l := asLogin(s.logIn("alice", nil).want(200, ""))
	if n := len(s.do("GET", "/_matrix/client/v3/devices", l.Token, nil).Body["devices"].([]any)); n != 1 {
		t.Fatalf("%d devices after the first login", n)
	}
}

func TestOneOfManyRegistrationsOfANameSucceeds(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		statuses := make([]int, 6)
		var all sync.WaitGroup
		for i := range statuses {
			all.Go(func() {
				statuses[i] = s.do("POST", registerPath, "", object{"username": "alice", "password": "p", "auth": object{"type": "m.login.dummy"}}).Status
			})
		}
		all.Wait()
		good := 0
		for _, status := range statuses {
			switch status {
			case 200:
				good++
			case 400:
			default:
				t.Errorf("got %d", status)
			}
		}
		if good != 1 {
			t.Fatalf("%d accounts of one name", good)
		}
	})
}

func TestGuestsAreRefused(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	s.do("POST", registerPath+"?kind=guest", "", object{}).want(403, "M_GUEST_ACCESS_FORBIDDEN")
	s.do("POST", registerPath+"?kind=god", "", object{}).want(400, "M_INVALID_PARAM")
}

func TestClosedRegistration(t *testing.T) {
	t.Parallel()
	s := onSQLite(t, "STOA_REGISTRATION=closed")
	s.do("POST", registerPath, "", object{"username": "alice", "password": "p", "auth": object{"type": "m.login.dummy"}}).want(403, "M_FORBIDDEN")
	s.do("GET", "/_matrix/client/v1/register/m.login.registration_token/validity?token=x", "", nil).want(403, "M_FORBIDDEN")
	s.do("GET", "/_synapse/admin/v1/register", "", nil).want(404, "M_UNRECOGNIZED")
	s.do("POST", "/_synapse/admin/v1/register", "", object{}).want(404, "M_UNRECOGNIZED")
}

// Covers: checkUsernameAvailability
func TestUsernameAvailability(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	s.signUp("taken")
	check := func(query string) answer {
		return s.do("GET", registerPath+"/available"+query, "", nil)
	}
	if a := check("?username=free").want(200, ""); a.Body["available"] != true {
		t.Fatalf("got %s", a.raw)
	}
	check("?username=taken").want(400, "M_USER_IN_USE")
	check("?username=Taken").want(400, "M_USER_IN_USE")
	check("?username=no,good").want(400, "M_INVALID_USERNAME")
	check("").want(400, "M_MISSING_PARAM")
}

func TestRegistrationByToken(t *testing.T) {
	token := "STOA_REGISTRATION=token"
	onEach(t, func(t *testing.T, s *server) {
		ctx := t.Context()
		secret, err := s.accounts.CreateRegistrationToken(ctx, account.RegistrationToken{Name: "two", UsesAllowed: 2}, "")
		if err != nil {
			t.Fatal(err)
		}
		register := func(name, token, session string) answer {
			auth := object{"type": "m.login.registration_token", "token": token}
			if session != "" {
				auth["session"] = session
			}
			return s.do("POST", registerPath, "", object{"username": name, "password": "p", "auth": auth})
		}
		valid := func(token string) any {
			a := s.do("GET", "/_matrix/client/v1/register/m.login.registration_token/validity?token="+token, "", nil)
			return a.want(200, "").Body["valid"]
		}
		first := s.do("POST", registerPath, "", object{"username": "one", "password": "p"}).want(401, "")
		if !strings.Contains(first.raw, `"flows":[{"stages":["m.login.registration_token"]}]`) {
			t.Fatalf("got %s", first.raw)
		}
		again := register("one", "wrong", first.str("session")).want(401, "M_FORBIDDEN")
		if again.str("session") != first.str("session") {
			t.Fatalf("the session changed: %s", again.raw)
		}
		register("one", secret, first.str("session")).want(200, "")
		if valid(secret) != true || valid("wrong") != false {
			t.Fatal("validity is wrong")
		}
		// The session is used up with the account that it made.
		s.do("POST", registerPath, "", object{"username": "more", "password": "p", "auth": object{"session": first.str("session")}}).want(401, "M_FORBIDDEN")

		var all sync.WaitGroup // one use is left
		statuses := make([]int, 4)
		for i := range statuses {
			all.Go(func() { statuses[i] = register("many"+string(rune('a'+i)), secret, "").Status })
		}
		all.Wait()
		good := 0
		for _, status := range statuses {
			if status == 200 {
				good++
			}
		}
		if good != 1 {
			t.Fatalf("%d accounts with the last use of a token", good)
		}
		if valid(secret) != false {
			t.Fatal("a used-up token is called valid")
		}
		short, err := s.accounts.CreateRegistrationToken(ctx, account.RegistrationToken{Name: "short", Expires: s.clock.Now().Add(time.Hour)}, "till-tea")
		if err != nil || valid(short) != true {
			t.Fatal("a fresh token is not valid", err)
		}
		s.clock.Advance(time.Hour)
		register("late", short, "").want(401, "M_FORBIDDEN")
	}, token)
}

func TestRegistrationWithTerms(t *testing.T) {
	t.Parallel()
	s := onSQLite(t, "STOA_REGISTRATION=token", "STOA_TERMS=privacy 1.2 en https://stoa.test/privacy Privacy")
	secret, err := s.accounts.CreateRegistrationToken(t.Context(), account.RegistrationToken{Name: "any"}, "opensesame")
	if err != nil {
		t.Fatal(err)
	}
	register := func(auth object) answer {
		return s.do("POST", registerPath, "", object{"username": "alice", "password": "p", "auth": auth})
	}
	a := s.do("POST", registerPath, "", object{}).want(401, "")
	want := `"params":{"m.login.terms":{"policies":{"privacy":{"en":{"name":"Privacy","url":"https://stoa.test/privacy"},"version":"1.2"}}}}`
	if !strings.Contains(a.raw, want) {
		t.Fatalf("got %s, want %s in it", a.raw, want)
	}
	session := a.str("session")
	register(object{"type": "m.login.terms", "session": session}).want(401, "M_FORBIDDEN") // not yet its turn
	a = register(object{"type": "m.login.registration_token", "token": secret, "session": session}).want(401, "")
	if !strings.Contains(a.raw, `"completed":["m.login.registration_token"]`) || a.str("session") != session {
		t.Fatalf("got %s", a.raw)
	}
	register(object{"session": session}).want(401, "")
	register(object{"type": "m.login.registration_token", "token": "wrong", "session": session}).want(401, "") // is completed: not tried again
	register(object{"type": "m.login.terms", "session": session}).want(200, "")
}

func TestRegistrationBySharedSecret(t *testing.T) {
	const path, secret = "/_synapse/admin/v1/register", "correct horse"
	onEach(t, func(t *testing.T, s *server) {
		sign := func(parts ...string) string {
			mac := hmac.New(sha1.New, []byte(secret))
			mac.Write([]byte(strings.Join(parts, "\x00")))
			return hex.EncodeToString(mac.Sum(nil))
		}
		nonce := func() string {
			return s.do("GET", path, "", nil).want(200, "").str("nonce")
		}
		n := nonce()
		body := object{"nonce": n, "username": "Root", "password": "pw", "admin": true, "displayname": "The Root",
			"mac": sign(n, "Root", "pw", "admin")}
		a := s.do("POST", path, "", body).want(200, "")
		if a.str("user_id") != "@root:stoa.test" || a.str("device_id") == "" {
			t.Fatalf("got %s", a.raw)
		}
		s.do("GET", "/_matrix/client/v3/admin/whois/@nobody:stoa.test", a.str("access_token"), nil).want(404, "M_NOT_FOUND")
		if p := s.do("GET", "/_matrix/client/v3/profile/@root:stoa.test", "", nil); p.str("displayname") != "The Root" {
			t.Fatalf("got %s", p.raw)
		}
		s.do("POST", path, "", body).want(400, "M_USER_IN_USE") // sent again

		n = nonce()
		s.do("POST", path, "", object{"nonce": n, "username": "eve", "password": "pw", "admin": true, "mac": sign(n, "eve", "pw", "notadmin")}).want(403, "M_FORBIDDEN")
		s.do("POST", path, "", object{"nonce": n, "username": "eve", "password": "pw", "mac": "zz"}).want(403, "M_FORBIDDEN")
		s.do("POST", path, "", object{"nonce": "00", "username": "eve", "password": "pw", "mac": sign("00", "eve", "pw", "notadmin")}).want(400, "M_INVALID_PARAM")
		s.do("POST", path, "", object{"nonce": n, "username": "eve", "password": "pw"}).want(400, "M_MISSING_PARAM")
		s.do("POST", path, "", object{"nonce": n, "username": "us,er", "password": "pw", "mac": sign(n, "us,er", "pw", "notadmin")}).want(400, "M_INVALID_USERNAME")
		s.do("POST", path, "", object{"nonce": n, "username": "plain", "password": "pw", "mac": sign(n, "plain", "pw", "notadmin")}).want(200, "")
	}, "STOA_REGISTRATION=closed", "STOA_REGISTRATION_SHARED_SECRET="+secret)
}

func TestRegistrationsAreLimited(t *testing.T) {
	t.Parallel()
	s := onSQLite(t, "STOA_RATE_LIMITS=on")
	for i := range 60 {
		s.signUp(fmt.Sprintf("user%d", i))
		s.do("POST", registerPath, "", object{}).want(401, "") // a login page that asks for the stages
		for range 3 {
			s.do("GET", registerPath+"/available?username=user0", "", nil).want(400, "M_USER_IN_USE")
		}
	}
	body := object{"username": "toomany", "password": "p", "auth": object{"type": "m.login.dummy"}}
	a := s.do("POST", registerPath, "", body).want(429, "M_LIMIT_EXCEEDED")
	if a.Header.Get("Retry-After") == "" || a.Body["retry_after_ms"] == nil {
		t.Fatalf("got %s", a.raw)
	}
	s.address = "198.51.100.1:1"
	s.do("POST", registerPath, "", body).want(200, "")
}

// A network with many addresses creates no more accounts than its limit.
func TestRegistrationsOfANetworkAreLimited(t *testing.T) {
	t.Parallel()
	s := onSQLite(t, "STOA_RATE_LIMITS=on")
	made := 0
	for i := range 220 {
		s.address = fmt.Sprintf("[2001:db8:7:%x::1]:1", i)
		body := object{"username": fmt.Sprintf("eve%d", i), "password": passwordOf("eve"), "auth": object{"type": "m.login.dummy"}}
		if a := s.do("POST", registerPath, "", body); a.Status == 200 {
			made++
		}
	}
	if made != 200 {
		t.Errorf("one network made %d accounts", made)
	}
	s.address = "[2001:db8:8::1]:1"
	s.signUp("ann")
}

// In report mode, attempts above the limits are let through.
func TestReportModeRefusesNothing(t *testing.T) {
	t.Parallel()
	s := onSQLite(t, "STOA_RATE_LIMITS=report")
	for i := range 70 {
		s.signUp(fmt.Sprintf("user%d", i))
	}
	for range 15 {
		s.do("POST", v3+"/login", "", object{"type": "m.login.password", "identifier": object{"type": "m.id.user", "user": "user0"}, "password": "wrong"}).want(403, "M_FORBIDDEN")
	}
}

// A lecture hall behind one address gets in, all at the same time.
func TestALectureHallLogsIn(t *testing.T) {
	t.Parallel()
	s := onSQLite(t, "STOA_RATE_LIMITS=on")
	for i := range 30 {
		s.signUp(fmt.Sprintf("student%d", i))
	}
	var hall sync.WaitGroup
	answers := make([]answer, 30)
	for i := range answers {
		hall.Go(func() {
			s.do("GET", v3+"/login", "", nil)
			answers[i] = s.logIn(fmt.Sprintf("student%d", i), nil)
		})
	}
	hall.Wait()
	for i, a := range answers {
		if a.Status != 200 {
			t.Errorf("student %d: %d %s", i, a.Status, a.raw)
		}
	}
}

func TestPasswordsHaveALength(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		register := func(name, password string) answer {
			return s.do("POST", registerPath, "", object{"username": name, "password": password, "auth": object{"type": "m.login.dummy"}})
		}
		register("alice", "seven77").want(400, "M_WEAK_PASSWORD")
		register("alice", "äöüäöü7").want(400, "M_WEAK_PASSWORD") // characters, not bytes
		alice := asLogin(register("alice", passwordOf("alice")).want(200, ""))
		change := func(password string) answer {
			return s.do("POST", v3+"/account/password", alice.Token, object{"new_password": password, "auth": passwordAuth("alice", "")})
		}
		change("x1").want(400, "M_WEAK_PASSWORD")
		change("eight888").want(200, "")
	}, "STOA_PASSWORD_MIN_LENGTH=8")
}

func TestANewAccountHasAName(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		anna := s.signUp("anna")
		name := s.do("GET", v3+"/profile/"+esc(anna.UserID)+"/displayname", "", nil).want(200, "").str("displayname")
		room := s.create(anna, public)
		member := s.do("GET", roomPath(room, "state", "m.room.member", anna.UserID), anna.Token, nil).want(200, "").str("displayname")
		if name != "anna" || member != "anna" {
			t.Errorf("called %q, and %q in the room", name, member)
		}
	}, "STOA_LOCALPART_AS_DISPLAY_NAME=on")
}

// An answer that got lost is had again by sending the same request.
func TestRegistrationIsRepeatedAfterALostAnswer(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		session := s.do("POST", registerPath, "", object{"username": "alice", "password": passwordOf("alice")}).want(401, "").str("session")
		request := func(more object) answer {
			body := object{"username": "alice", "password": passwordOf("alice"), "auth": object{"type": "m.login.dummy", "session": session}}
			for k, v := range more {
				body[k] = v
			}
			return s.do("POST", registerPath, "", body)
		}
		first := request(nil).want(200, "")
		if again := request(nil).want(200, ""); again.raw != first.raw {
			t.Errorf("got %s, then %s", first.raw, again.raw)
		}
		s.whoami(first.str("access_token")).want(200, "")
		// It is told to nobody who does not send the same.
		request(object{"password": "another password"}).want(400, "M_USER_IN_USE")
		request(object{"username": "bob"}).want(401, "M_FORBIDDEN")
		s.clock.Advance(2 * time.Hour)
		request(nil).want(400, "M_USER_IN_USE")
		// What is kept does not say which tokens there are.
		s.healthy(t)
	})
}
