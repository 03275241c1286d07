package clientapi_test

import (
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/account"
	"stoa/internal/mail/mailtest"
	"stoa/internal/server/servertest"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
	"stoa/matrix/id"
)

const (
	addEmailPath      = v3 + "/account/3pid/email/requestToken"
	registerEmailPath = v3 + "/register/email/requestToken"
	passwordEmailPath = v3 + "/account/password/email/requestToken"
)

// postOffice is a server of the client-server API with a mail server.
type postOffice struct {
	*server
	mails *mailtest.Server
}

func withMail(t *testing.T, st *store.Store, settings ...string) postOffice {
	t.Helper()
	mails := mailtest.Start(t, mailtest.Options{})
	return postOffice{newServer(t, st, append([]string{"STOA_MAIL_SMTP=" + mails.URL(), "STOA_MAIL_FROM=noreply@stoa.test", "STOA_MAIL_BUDGET=off"}, settings...)...), mails}
}

func onEachWithMail(t *testing.T, f func(*testing.T, postOffice), settings ...string) {
	t.Helper()
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		f(t, withMail(t, open(), settings...))
	})
}

func tokenBody(address string, attempt int) object {
	return object{"client_secret": "secret_of_client", "email": address, "send_attempt": attempt}
}

// link opens the link of a mail: with GET the page, with POST its form.
func (p postOffice) link(method string, m mailtest.Mail) *httptest.ResponseRecorder {
	p.t.Helper()
	u, err := url.Parse(m.Link())
	if err != nil || u.Host != "stoa.test" {
		p.t.Fatalf("the mail has no link: %q", m.Text)
	}
	r := httptest.NewRequest("GET", u.RequestURI(), nil)
	if method == "POST" {
		r = httptest.NewRequest("POST", u.Path, strings.NewReader(u.RawQuery))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	w := httptest.NewRecorder()
	p.handler.ServeHTTP(w, r)
	return w
}

func (p postOffice) confirm(m mailtest.Mail) {
	p.t.Helper()
	if w := p.link("POST", m); w.Code != 200 || !strings.Contains(w.Body.String(), "Done") {
		p.t.Fatalf("the address is not confirmed: %d %s", w.Code, w.Body)
	}
}

// addEmail gives an account an address.
func (p postOffice) addEmail(l login, name, address string) {
	p.t.Helper()
	sid := p.do("POST", addEmailPath, l.Token, tokenBody(address, 1)).want(200, "").str("sid")
	p.confirm(p.mails.AwaitTo(address, 0))
	p.do("POST", v3+"/account/3pid/add", l.Token, object{"sid": sid, "client_secret": "secret_of_client", "auth": passwordAuth(name, "")}).want(200, "")
}

func (p postOffice) addresses(l login) string {
	p.t.Helper()
	var list []string
	for _, t := range p.do("GET", v3+"/account/3pid", l.Token, nil).want(200, "").Body["threepids"].([]any) {
		t := t.(object)
		if t["medium"] != "email" || t["validated_at"].(float64) == 0 || t["added_at"].(float64) == 0 {
			p.t.Errorf("got %v", t)
		}
		list = append(list, t["address"].(string))
	}
	return strings.Join(list, " ")
}

func byAddress(address string) object {
	return object{"identifier": object{"type": "m.id.thirdparty", "medium": "email", "address": address}}
}

// Covers: requestTokenTo3PIDEmail add3PID getAccount3PIDs delete3pidFromAccount
func TestThreepids_of_an_account(t *testing.T) {
	onEachWithMail(t, func(t *testing.T, p postOffice) {
		alice, bob := p.signUp("alice"), p.signUp("bob")
		if enabled := p.do("GET", v3+"/capabilities", alice.Token, nil).Body["capabilities"].(object)["m.3pid_changes"].(object)["enabled"]; enabled != true {
			t.Error("clients are told that addresses can't be changed")
		}
		sid := p.do("POST", addEmailPath, alice.Token, tokenBody("Alice@B.test", 1)).want(200, "").str("sid")
		add := object{"sid": sid, "client_secret": "secret_of_client", "auth": passwordAuth("alice", "")}
		p.do("POST", v3+"/account/3pid/add", alice.Token, object{"sid": sid, "client_secret": "secret_of_client"}).want(401, "")
		p.do("POST", v3+"/account/3pid/add", alice.Token, add).want(403, "M_THREEPID_AUTH_FAILED")
		m := p.mails.AwaitTo("alice@b.test", 0)
		if !strings.Contains(m.Text, alice.UserID) {
			t.Errorf("got %s", m.Text)
		}
		if w := p.link("GET", m); w.Code != 200 || !strings.Contains(w.Body.String(), alice.UserID) || strings.Contains(w.Body.String(), "<script") {
			t.Errorf("the page: %d %s", w.Code, w.Body)
		}
		p.do("POST", v3+"/account/3pid/add", alice.Token, add).want(403, "M_THREEPID_AUTH_FAILED") // to open the page confirms nothing
		p.confirm(m)
		p.confirm(m) // again does no harm
		p.do("POST", v3+"/account/3pid/add", alice.Token, object{"sid": sid, "client_secret": "another", "auth": passwordAuth("alice", "")}).want(403, "M_THREEPID_AUTH_FAILED")
		p.do("POST", v3+"/account/3pid/add", bob.Token, object{"sid": sid, "client_secret": "secret_of_client", "auth": passwordAuth("bob", "")}).want(403, "M_THREEPID_AUTH_FAILED")
		p.do("POST", v3+"/account/3pid/add", alice.Token, add).want(200, "")
		p.do("POST", v3+"/account/3pid/add", alice.Token, add).want(403, "M_THREEPID_AUTH_FAILED") // a session is for one use
		if got := p.addresses(alice); got != "alice@b.test" {
			t.Errorf("got %q", got)
		}
		p.logIn("alice", byAddress("ALICE@b.TEST")).want(200, "")
		p.do("POST", v3+"/login", "", object{"type": "m.login.password", "medium": "email", "address": "alice@b.test", "password": passwordOf("alice")}).want(200, "")
		p.logIn("bob", byAddress("alice@b.test")).want(403, "M_FORBIDDEN")
		p.logIn("alice", byAddress("nobody@b.test")).want(403, "M_FORBIDDEN")
		p.logIn("alice", object{"identifier": object{"type": "m.id.phone", "country": "GB", "phone": "1"}}).want(403, "M_FORBIDDEN")
		p.do("POST", addEmailPath, alice.Token, tokenBody("alice@b.test", 2)).want(400, "M_THREEPID_IN_USE")

		t.Run("nobody_else_gets_it", func(t *testing.T) {
			p := postOffice{p.in(t), p.mails}
			sid := p.do("POST", addEmailPath, bob.Token, tokenBody("alice@b.test", 1)).want(200, "").str("sid")
			m := p.mails.AwaitTo("alice@b.test", 1)
			if m.Link() != "" || !strings.Contains(m.Text, alice.UserID) || strings.Contains(m.Text, bob.UserID) {
				t.Errorf("got %s", m.Text)
			}
			p.do("POST", v3+"/account/3pid/add", bob.Token, object{"sid": sid, "client_secret": "secret_of_client", "auth": passwordAuth("bob", "")}).want(403, "M_THREEPID_AUTH_FAILED")
		})
		t.Run("is_deleted", func(t *testing.T) {
			p := postOffice{p.in(t), p.mails}
			remove := object{"medium": "email", "address": "Alice@b.test"}
			for _, l := range []login{bob, alice} { // bob has no such address
				if a := p.do("POST", v3+"/account/3pid/delete", l.Token, remove).want(200, ""); a.str("id_server_unbind_result") != "no-support" {
					t.Errorf("got %s", a.raw)
				}
				if had := p.addresses(alice) != ""; had != (l == bob) {
					t.Errorf("the address is there: %v", had)
				}
			}
			p.logIn("alice", byAddress("alice@b.test")).want(403, "M_FORBIDDEN")
			p.addEmail(bob, "bob", "other@b.test")
		})
		t.Run("is_free_after_deactivation", func(t *testing.T) {
			p := postOffice{p.in(t), p.mails}
			if err := p.accounts.Deactivate(t.Context(), userID(t, bob.UserID), false, nil); err != nil {
				t.Fatal(err)
			}
			sid := p.do("POST", addEmailPath, alice.Token, tokenBody("other@b.test", 1)).want(200, "").str("sid")
			p.confirm(p.mails.AwaitTo("other@b.test", 1))
			p.do("POST", v3+"/account/3pid/add", alice.Token, object{"sid": sid, "client_secret": "secret_of_client", "auth": passwordAuth("alice", "")}).want(200, "")
		})
	})
}

func TestThreepids_send_attempts(t *testing.T) {
	onEachWithMail(t, func(t *testing.T, p postOffice) {
		alice := p.signUp("alice")
		first := p.do("POST", addEmailPath, alice.Token, tokenBody("a@b.test", 1)).want(200, "").str("sid")
		old := p.mails.AwaitTo("a@b.test", 0)
		for range 3 {
			if again := p.do("POST", addEmailPath, alice.Token, tokenBody("a@b.test", 1)).want(200, "").str("sid"); again != first {
				t.Errorf("another session %s", again)
			}
		}
		if again := p.do("POST", addEmailPath, alice.Token, tokenBody("a@b.test", 2)).want(200, "").str("sid"); again != first {
			t.Errorf("another session %s", again)
		}
		m := p.mails.AwaitTo("a@b.test", 1)
		if w := p.link("POST", old); w.Code != 404 {
			t.Errorf("the old link: %d", w.Code)
		}
		p.confirm(m)
		other := tokenBody("a@b.test", 1)
		other["client_secret"] = "another"
		if sid := p.do("POST", addEmailPath, alice.Token, other).want(200, "").str("sid"); sid == first {
			t.Error("two clients share a session")
		}
		p.mails.AwaitTo("a@b.test", 2)
		if n := len(p.mails.Mails()); n != 3 {
			t.Errorf("%d mails", n)
		}
	})
}

func TestThreepids_next_link(t *testing.T) {
	t.Parallel()
	p := withMail(t, storetest.SQLite(t), "STOA_MAIL_NEXT_LINK_HOSTS=app.test, b.test:8080")
	alice := p.signUp("alice")
	ask := func(address, link string) answer {
		body := tokenBody(address, 1)
		body["next_link"] = link
		return p.do("POST", addEmailPath, alice.Token, body)
	}
	for _, link := range []string{
		"https://evil.test/", "https://app.test.evil.test/", "https://app.test:8080/", "//app.test/", "javascript:alert(1)", "https://app.test@evil.test/",
		"https://user@app.test/", "app.test", "https://app.test/" + strings.Repeat("x", 2000), "https://app.test/\r\nSet-Cookie: a=b", "ftp://app.test/",
	} {
		ask("a@b.test", link).want(400, "M_INVALID_PARAM")
	}
	for i, link := range []string{"https://app.test/done?x=1", "http://B.test:8080"} {
		address := string(rune('c'+i)) + "@b.test"
		ask(address, link).want(200, "")
		m := p.mails.AwaitTo(address, 0)
		w := p.link("POST", m)
		if w.Code != 303 || w.Header().Get("Location") != link || !strings.Contains(w.Header().Get("Content-Security-Policy"), "form-action 'self' "+strings.TrimSuffix(link, "/done?x=1")) {
			t.Errorf("%s: %d %v", link, w.Code, w.Header())
		}
		if w := p.link("GET", m); w.Code != 200 || !strings.Contains(w.Body.String(), "Go on") || !strings.Contains(w.Header().Get("Content-Security-Policy"), "form-action 'self' ") {
			t.Errorf("%s: %d %s", link, w.Code, w.Body)
		}
	}
}

// Who asks learns nothing about an address: the answers are the same, and both get a mail.
//
// Covers: requestTokenToResetPasswordEmail requestTokenToRegisterEmail
func TestThreepids_answers_tell_nothing_of_accounts(t *testing.T) {
	onEachWithMail(t, func(t *testing.T, p postOffice) {
		alice := p.signUp("alice")
		p.addEmail(alice, "alice", "alice@b.test")
		for _, path := range []string{registerEmailPath, passwordEmailPath} {
			known, unknown := p.do("POST", path, "", tokenBody("alice@b.test", 1)).want(200, ""), p.do("POST", path, "", tokenBody("nobody@b.test", 1)).want(200, "")
			if len(known.Body) != 1 || len(unknown.Body) != 1 || len(known.str("sid")) != len(unknown.str("sid")) {
				t.Errorf("%s: %s and %s", path, known.raw, unknown.raw)
			}
		}
		p.mails.Await(5)
		for _, m := range p.mails.Mails()[1:] {
			reset := strings.Contains(m.Subject, "password")
			register := strings.Contains(m.Subject, "to join")
			if hasLink := m.Link() != ""; hasLink != (reset && m.To == "alice@b.test" || register && m.To == "nobody@b.test") {
				t.Errorf("%s to %s: %s", m.Subject, m.To, m.Text)
			}
		}
	})
}

func resetBody(sid, password string) object {
	creds := object{"sid": sid, "client_secret": "secret_of_client", "id_server": "ignored.test"}
	return object{"new_password": password, "auth": object{"type": "m.login.email.identity", "threepid_creds": creds, "threepidCreds": creds}}
}

// Spec: client-server-api#password-management
func TestPassword_by_mail(t *testing.T) {
	const path = v3 + "/account/password"
	onEachWithMail(t, func(t *testing.T, p postOffice) {
		alice := p.signUp("alice")
		p.addEmail(alice, "alice", "alice@b.test")
		flows := p.do("POST", path, "", object{"new_password": "new"}).want(401, "").Body["flows"].([]any)
		if len(flows) != 2 {
			t.Errorf("got %v", flows)
		}
		sid := p.do("POST", passwordEmailPath, "", tokenBody("alice@b.test", 1)).want(200, "").str("sid")
		m := p.mails.AwaitTo("alice@b.test", 1)
		p.do("POST", path, "", resetBody(sid, "new")).want(401, "M_THREEPID_AUTH_FAILED") // clients ask until it is confirmed
		if w := p.link("GET", m); !strings.Contains(w.Body.String(), alice.UserID) {
			t.Errorf("the page: %s", w.Body)
		}
		p.confirm(m)
		wrong := resetBody(sid, "new")
		wrong["auth"].(object)["threepid_creds"] = object{"sid": sid, "client_secret": "another"}
		p.do("POST", path, "", wrong).want(401, "M_THREEPID_AUTH_FAILED")
		p.do("POST", path, "", resetBody(sid, "new")).want(200, "")
		p.whoami(alice.Token).want(401, "M_UNKNOWN_TOKEN")
		p.logIn("alice", nil).want(403, "M_FORBIDDEN")
		p.logIn("alice", object{"password": "new"}).want(200, "")
		p.do("POST", path, "", resetBody(sid, "newer")).want(401, "M_THREEPID_AUTH_FAILED") // a session is for one use

		t.Run("not_for_an_unknown_address", func(t *testing.T) {
			p := postOffice{p.in(t), p.mails}
			sid := p.do("POST", passwordEmailPath, "", tokenBody("nobody@b.test", 1)).want(200, "").str("sid")
			p.do("POST", path, "", resetBody(sid, "new")).want(401, "M_THREEPID_AUTH_FAILED")
		})
		t.Run("not_by_a_session_for_something_else", func(t *testing.T) {
			p := postOffice{p.in(t), p.mails}
			sid := p.do("POST", registerEmailPath, "", tokenBody("new@b.test", 1)).want(200, "").str("sid")
			p.confirm(p.mails.AwaitTo("new@b.test", 0))
			p.do("POST", path, "", resetBody(sid, "new")).want(401, "M_THREEPID_AUTH_FAILED")
		})
	})
}

// What a mail allows is committed under the head that it was checked against: an address
// that is taken from the account, or a password that is changed, comes first.
func TestPassword_by_mail_is_fenced(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(p postOffice, alice login) error{
		"address_deleted": func(p postOffice, alice login) error {
			return account.DeleteThreepid(p.t.Context(), p.accounts, p.num(alice), "email", "alice@b.test")
		},
		"deactivated": func(p postOffice, alice login) error {
			return p.accounts.Deactivate(p.t.Context(), userID(p.t, alice.UserID), false, nil)
		},
		"locked": func(p postOffice, alice login) error { return p.accounts.SetLocked(p.t.Context(), p.num(alice), true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBetween()
			p := withMail(t, storetest.SQLite(t, func(o *store.Options) { o.Faults = b.faults }))
			alice := p.signUp("alice")
			p.addEmail(alice, "alice", "alice@b.test")
			sid := p.do("POST", passwordEmailPath, "", tokenBody("alice@b.test", 1)).want(200, "").str("sid")
			p.confirm(p.mails.AwaitTo("alice@b.test", 1))
			b.arm(func() {
				if err := end(p, alice); err != nil {
					t.Error(err)
				}
			})
			if a := p.do("POST", v3+"/account/password", "", resetBody(sid, "new")); a.Status != 403 && a.Status != 401 {
				t.Errorf("got %d %s", a.Status, a.raw)
			}
			if !b.ran() {
				t.Fatal("nothing came between")
			}
			if name == "locked" {
				if err := p.accounts.SetLocked(t.Context(), p.num(alice), false); err != nil {
					t.Fatal(err)
				}
			}
			p.logIn("alice", object{"password": "new"}).want(403, "M_FORBIDDEN")
		})
	}
}

// num is the number of a user.
func (p postOffice) num(l login) store.UserNum {
	p.t.Helper()
	user, err := id.ParseUserID(l.UserID)
	if err != nil {
		p.t.Fatal(err)
	}
	found, err := p.accounts.Account(p.t.Context(), user)
	if err != nil {
		p.t.Fatal(err)
	}
	return found.Num
}

// registerBy registers with a session of an address; session is of interactive authentication.
func (p postOffice) registerBy(name, sid, session string) answer {
	p.t.Helper()
	return p.do("POST", v3+"/register", "", object{"username": name, "password": passwordOf(name), "auth": object{
		"type": "m.login.email.identity", "session": session, "threepid_creds": object{"sid": sid, "client_secret": "secret_of_client"},
	}})
}

// Spec: client-server-api#legacy-account-registration
func TestRegister_by_mail(t *testing.T) {
	t.Run("required", func(t *testing.T) {
		onEachWithMail(t, func(t *testing.T, p postOffice) {
			challenge := p.do("POST", v3+"/register", "", object{"username": "alice", "password": "pw of alice"}).want(401, "")
			if flows := challenge.Body["flows"].([]any); len(flows) != 1 {
				t.Errorf("got %v", flows)
			}
			p.do("POST", v3+"/register", "", object{"username": "alice", "password": "pw of alice", "auth": object{"type": "m.login.dummy"}}).want(401, "M_FORBIDDEN")
			sid := p.do("POST", registerEmailPath, "", tokenBody("alice@b.test", 1)).want(200, "").str("sid")
			p.registerBy("alice", sid, challenge.str("session")).want(401, "M_THREEPID_AUTH_FAILED")
			p.confirm(p.mails.AwaitTo("alice@b.test", 0))
			first := p.registerBy("alice", sid, challenge.str("session")).want(200, "")
			if got := p.addresses(asLogin(first)); got != "alice@b.test" {
				t.Errorf("got %q", got)
			}
			if again := p.registerBy("alice", sid, challenge.str("session")).want(200, ""); again.raw != first.raw {
				t.Errorf("the same request has another answer: %s", again.raw)
			}
			p.logIn("alice", byAddress("alice@b.test")).want(200, "")
			p.registerBy("bob", sid, "").want(401, "M_THREEPID_AUTH_FAILED") // a session is for one use
		}, "STOA_REGISTRATION_EMAIL=required")
	})
	t.Run("optional", func(t *testing.T) {
		t.Parallel()
		p := withMail(t, storetest.SQLite(t))
		p.signUp("bob") // by the dummy stage
		if flows := p.do("POST", v3+"/register", "", object{}).want(401, "").Body["flows"].([]any); len(flows) != 2 {
			t.Errorf("got %v", flows)
		}
		two := make([]string, 2)
		for i := range two {
			body := tokenBody("alice@b.test", 1)
			if i == 1 {
				body["client_secret"] = "another"
			}
			two[i] = p.do("POST", registerEmailPath, "", body).want(200, "").str("sid")
			p.confirm(p.mails.AwaitTo("alice@b.test", i))
		}
		p.registerBy("alice", two[0], "").want(200, "")
		a := p.do("POST", v3+"/register", "", object{"username": "eve", "password": "pw", "auth": object{
			"type": "m.login.email.identity", "threepid_creds": object{"sid": two[1], "client_secret": "another"},
		}})
		a.want(400, "M_THREEPID_IN_USE")
		p.logIn("eve", object{"password": "pw"}).want(403, "M_FORBIDDEN")
	})
	t.Run("with_a_token", func(t *testing.T) {
		t.Parallel()
		p := withMail(t, storetest.SQLite(t), "STOA_REGISTRATION=token", "STOA_REGISTRATION_EMAIL=optional")
		flows := p.do("POST", v3+"/register", "", object{}).want(401, "").Body["flows"].([]any)
		if len(flows) != 2 || len(flows[0].(object)["stages"].([]any)) != 2 || len(flows[1].(object)["stages"].([]any)) != 2 {
			t.Errorf("one flow is a part of the other: %v", flows)
		}
	})
}

func TestThreepids_expire(t *testing.T) {
	t.Parallel()
	var now atomic.Int64
	now.Store(time.Now().UnixMilli())
	p := withMail(t, storetest.SQLite(t, func(o *store.Options) { o.Clock = func() time.Time { return time.UnixMilli(now.Load()) } }))
	alice := p.signUp("alice")
	p.addEmail(alice, "alice", "alice@b.test")
	sid := p.do("POST", passwordEmailPath, "", tokenBody("alice@b.test", 1)).want(200, "").str("sid")
	m := p.mails.AwaitTo("alice@b.test", 1)
	now.Add((time.Hour + time.Minute).Milliseconds())
	if w := p.link("GET", m); w.Code != 404 {
		t.Errorf("the link of an expired session: %d", w.Code)
	}
	if again := p.do("POST", passwordEmailPath, "", tokenBody("alice@b.test", 1)).want(200, "").str("sid"); again != sid {
		t.Errorf("another session: %s", again)
	}
	p.confirm(p.mails.AwaitTo("alice@b.test", 2)) // the same attempt has a new mail
	now.Add((time.Hour + time.Minute).Milliseconds())
	p.do("POST", v3+"/account/password", "", resetBody(sid, "new")).want(401, "M_THREEPID_AUTH_FAILED")
}

// A session is one of all instances.
func TestThreepids_on_two_instances(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		st := open()
		p := withMail(t, st)
		other := clientOf(t, servertest.Start(t, st, "STOA_MAIL_SMTP="+p.mails.URL(), "STOA_MAIL_FROM=noreply@stoa.test"))
		alice := p.signUp("alice")
		p.addEmail(alice, "alice", "alice@b.test")
		sid := other.do("POST", passwordEmailPath, "", tokenBody("alice@b.test", 1)).want(200, "").str("sid")
		p.do("POST", passwordEmailPath, "", tokenBody("alice@b.test", 1)).want(200, "")
		m := p.mails.AwaitTo("alice@b.test", 1)
		for n := 2; !strings.Contains(m.Subject, "new password"); n++ { // on SQLite, instances don't know of each other's jobs
			m = p.mails.AwaitTo("alice@b.test", n)
		}
		p.confirm(m)
		other.do("POST", v3+"/account/password", "", resetBody(sid, "new")).want(200, "")
		p.logIn("alice", object{"password": "new"}).want(200, "")
	})
}

// Covers: requestTokenTo3PIDMSISDN requestTokenToRegisterMSISDN requestTokenToResetPasswordMSISDN post3PIDs bind3PID unbind3pidFromAccount
func TestThreepids_of_others(t *testing.T) {
	t.Parallel()
	p := withMail(t, storetest.SQLite(t))
	alice := p.signUp("alice")
	phone := object{"client_secret": "x", "country": "GB", "phone_number": "07700900001", "send_attempt": 1}
	p.do("POST", v3+"/account/3pid/msisdn/requestToken", alice.Token, phone).want(400, "M_THREEPID_MEDIUM_NOT_SUPPORTED")
	p.do("POST", v3+"/account/3pid/msisdn/requestToken", alice.Token, object{}).want(400, "M_MISSING_PARAM")
	p.do("POST", v3+"/register/msisdn/requestToken", "", phone).want(403, "M_THREEPID_DENIED")
	p.do("POST", v3+"/account/password/msisdn/requestToken", "", phone).want(403, "M_THREEPID_DENIED")
	creds := object{"client_secret": "x", "id_server": "id.test", "id_access_token": "y", "sid": "z"}
	p.do("POST", v3+"/account/3pid", alice.Token, object{"three_pid_creds": creds}).want(403, "M_THREEPID_AUTH_FAILED")
	p.do("POST", v3+"/account/3pid", alice.Token, object{}).want(400, "M_MISSING_PARAM")
	p.do("POST", v3+"/account/3pid/bind", alice.Token, creds).want(400, "M_SERVER_NOT_TRUSTED")
	p.do("POST", v3+"/account/3pid/bind", alice.Token, object{}).want(400, "M_MISSING_PARAM")
	for _, path := range []string{"/account/3pid/unbind", "/account/3pid/delete"} {
		if a := p.do("POST", v3+path, alice.Token, object{"medium": "msisdn", "address": "447700900001", "id_server": "id.test"}).want(200, ""); a.str("id_server_unbind_result") != "no-support" {
			t.Errorf("got %s", a.raw)
		}
		p.do("POST", v3+path, alice.Token, object{"medium": "fax", "address": "1"}).want(400, "M_INVALID_PARAM")
	}
	for _, body := range []object{tokenBody("nobody", 1), tokenBody("a@b.test\r\nBcc: c@d.test", 1), {"client_secret": "not allowed!", "email": "a@b.test", "send_attempt": 1}} {
		p.do("POST", registerEmailPath, "", body).want(400, "M_INVALID_PARAM")
	}
}

func TestThreepids_without_mail(t *testing.T) {
	t.Parallel()
	s := onSQLite(t)
	alice := s.signUp("alice")
	s.do("POST", addEmailPath, alice.Token, tokenBody("a@b.test", 1)).want(400, "M_THREEPID_MEDIUM_NOT_SUPPORTED")
	s.do("POST", registerEmailPath, "", tokenBody("a@b.test", 1)).want(403, "M_THREEPID_DENIED")
	s.do("POST", passwordEmailPath, "", tokenBody("a@b.test", 1)).want(403, "M_THREEPID_DENIED")
	if flows := s.do("POST", v3+"/account/password", "", object{"new_password": "x"}).want(401, "").Body["flows"].([]any); len(flows) != 1 {
		t.Errorf("got %v", flows)
	}
	closed := onSQLite(t, "STOA_REGISTRATION=closed")
	closed.do("POST", registerEmailPath, "", tokenBody("a@b.test", 1)).want(403, "M_FORBIDDEN")
}

func TestThreepids_limits(t *testing.T) {
	t.Parallel()
	p := withMail(t, storetest.SQLite(t), "STOA_RATE_LIMITS=on")
	last := 0
	for i := range 7 {
		last = p.do("POST", passwordEmailPath, "", tokenBody("a@b.test", i)).Status
	}
	if last != 429 {
		t.Errorf("the seventh mail to one address: %d", last)
	}
	p.do("POST", passwordEmailPath, "", tokenBody("c@d.test", 1)).want(200, "")
}
