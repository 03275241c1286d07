package webui_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"stoa/internal/account"
	"stoa/internal/auth"
	"stoa/internal/server/servertest"
	"stoa/internal/who"
	"stoa/matrix/mxerr"
)

// site is the pages of a whole server.
type site struct {
	t        *testing.T
	accounts *account.Accounts
	auth     *auth.Auth
	mux      http.Handler
}

var terms = auth.Terms{"privacy": {Version: "2", Languages: map[string]auth.PolicyText{
	"en": {Name: "Privacy <policy>", URL: "https://stoa.test/en"},
	"el": {Name: "Απόρρητο", URL: "https://stoa.test/el"},
}}}

const termsSetting = "STOA_TERMS=privacy 2 en https://stoa.test/en Privacy <policy>;privacy 2 el https://stoa.test/el Απόρρητο"

func siteOf(t *testing.T, s *servertest.Server) *site {
	return &site{t: t, accounts: s.Accounts, auth: s.Auth, mux: s.Handler}
}

func newSite(t *testing.T, settings ...string) *site {
	t.Helper()
	return siteOf(t, servertest.SQLite(t, append([]string{termsSetting}, settings...)...))
}

// get opens a page, post sends its form.
func (s *site) get(path string) *httptest.ResponseRecorder {
	return s.do(httptest.NewRequest("GET", path, nil))
}

func (s *site) post(path string, form url.Values) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return s.do(r)
}

func (s *site) do(r *http.Request) *httptest.ResponseRecorder {
	s.t.Helper()
	w := httptest.NewRecorder()
	s.mux.ServeHTTP(w, r)
	if !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
		s.t.Fatalf("no page: %d %s", w.Code, w.Body)
	}
	checkPolicy(s.t, w)
	return w
}

var inline = regexp.MustCompile(`(?s)<(style|script)>(.*?)</`)

// checkPolicy fails if a browser would refuse a style or script of the page.
func checkPolicy(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	policy := w.Header().Get("Content-Security-Policy")
	for _, found := range inline.FindAllStringSubmatch(w.Body.String(), -1) {
		sum := sha256.Sum256([]byte(found[2]))
		if hash := "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.Contains(policy, found[1]+"-src "+hash) {
			t.Errorf("the policy %q refuses the page's %s", policy, found[1])
		}
	}
}

func shows(t *testing.T, w *httptest.ResponseRecorder, status int, words ...string) {
	t.Helper()
	if w.Code != status {
		t.Fatalf("status %d, want %d: %s", w.Code, status, w.Body)
	}
	for _, word := range words {
		if !strings.Contains(w.Body.String(), word) {
			t.Fatalf("the page does not hold %q: %s", word, w.Body)
		}
	}
}

func TestLandingPage(t *testing.T) {
	t.Parallel()
	shows(t, newSite(t, "STOA_PUBLIC_URL=https://x.test/<b>", "STOA_REGISTRATION=closed").get("/"), 200,
		"stoa.test is up", "https://x.test/&lt;b&gt;", "administrators")
	shows(t, newSite(t, "STOA_REGISTRATION=open").get("/"), 200, "create account")
}

// Spec: client-server-api#login-fallback
func TestLoginPage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	shows(t, s.get("/_matrix/static/client/login/?device_id=GHTYAJCE"), 200, "window.matrixLogin.onLogin(response)", "stoa.test")
}

// begin asks for what needs the flow and gives the session of the challenge.
func (s *site) begin(in auth.Interaction) (session string) {
	s.t.Helper()
	_, err := s.auth.Interact(httptest.NewRequest("POST", "/", nil), in)
	refused, ok := mxerr.As(err)
	if !ok || refused.Status != 401 {
		s.t.Fatalf("got %v", err)
	}
	return refused.Extra["session"].(string)
}

// finish repeats the request with the session alone.
func (s *site) finish(in auth.Interaction, session string) (*auth.Proof, error) {
	in.Auth, _ = json.Marshal(map[string]string{"session": session}) // a string
	return s.auth.Interact(httptest.NewRequest("POST", "/", nil), in)
}

func pageOf(stage, session string) string {
	return "/_matrix/client/v3/auth/" + stage + "/fallback/web?session=" + url.QueryEscape(session)
}

// Spec: client-server-api#fallback
func TestStagesAreCompletedOnPages(t *testing.T) {
	t.Parallel()
	servertest.Each(t, func(t *testing.T, whole *servertest.Server) {
		s := siteOf(t, whole)
		token, err := s.accounts.CreateRegistrationToken(t.Context(), account.RegistrationToken{Name: "door"}, "let-me-in")
		if err != nil {
			t.Fatal(err)
		}
		alice, err := s.accounts.Register(t.Context(), account.Registration{Username: "alice", Password: "pw of alice"})
		if err != nil {
			t.Fatal(err)
		}
		known, err := s.accounts.Account(t.Context(), alice)
		if err != nil {
			t.Fatal(err)
		}
		caller := &who.Caller{Device: who.Device{User: who.User{UserID: alice, UserNum: known.Num}}}
		for _, c := range []struct {
			stage  string
			caller *who.Caller
			shown  string
			wrong  url.Values // nil: nothing can be wrong
			right  url.Values
		}{
			{auth.StageDummy, nil, "Continue", nil, nil},
			{auth.StageTerms, nil, `<a href="https://stoa.test/en" target="_blank" rel="noopener noreferrer" hreflang="en">Privacy &lt;policy&gt;</a>`, nil, nil},
			{auth.StageRegistrationToken, nil, `name="token"`, url.Values{"token": {"guess"}}, url.Values{"token": {token}}},
			{auth.StagePassword, caller, alice.String(), url.Values{"password": {"guess"}}, url.Values{"password": {"pw of alice"}}},
		} {
			t.Run(c.stage, func(t *testing.T) {
				in := auth.Interaction{Operation: "test", Caller: c.caller, Terms: terms, Flows: []auth.Flow{{Stages: []string{c.stage}}}}
				session := s.begin(in)
				page := pageOf(c.stage, session)
				shows(t, s.get(page), 200, c.shown)
				if c.wrong != nil {
					shows(t, s.post(page, c.wrong), 403, c.shown, `role="alert"`)
					if _, err := s.finish(in, session); err == nil {
						t.Fatal("what was wrong has completed the stage")
					}
				}
				shows(t, s.post(page, c.right), 200, "window.onAuthDone()", `window.opener.postMessage("authDone", "*")`)
				shows(t, s.get(page), 200, "window.onAuthDone()")
				proof, err := s.finish(in, session)
				if err != nil {
					t.Fatal(err)
				}
				if c.caller != nil && proof.User.UserID != alice {
					t.Errorf("it proves to be %s", proof.User.UserID)
				}
				if c.stage == auth.StageRegistrationToken && proof.RegistrationToken != account.HashRegistrationToken(token) {
					t.Error("it proves another token")
				}
			})
		}
	}, termsSetting)
}

func TestStagesThatNoPageCompletes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	session := s.begin(auth.Interaction{Operation: "test", Flows: []auth.Flow{{Stages: []string{auth.StageDummy}}}})
	for _, c := range []struct {
		name, page string
		status     int
	}{
		{"a_session_that_nobody_began", pageOf(auth.StageDummy, "stoa_guess"), 404},
		{"an_overlong_session", pageOf(auth.StageDummy, strings.Repeat("x", 5000)), 404},
		{"no_session", "/_matrix/client/v3/auth/m.login.dummy/fallback/web", 400},
		{"a_stage_that_is_not_offered", pageOf("m.login.recaptcha", session), 404},
		{"a_password_of_nobody", pageOf(auth.StagePassword, session), 404},
	} {
		t.Run(c.name, func(t *testing.T) {
			shows(t, s.get(c.page), c.status, `class="wrong"`)
			shows(t, s.post(c.page, nil), c.status, `class="wrong"`)
		})
	}
	t.Run("what_is_no_form", func(t *testing.T) {
		r := httptest.NewRequest("POST", pageOf(auth.StageDummy, session), strings.NewReader(`{}`))
		shows(t, s.do(r), 400, `class="wrong"`)
	})
	t.Run("a_form_that_is_too_large", func(t *testing.T) {
		shows(t, s.post(pageOf(auth.StageDummy, session), url.Values{"token": {strings.Repeat("x", 20<<10)}}), 413, `class="wrong"`)
	})
}

func TestTokensAreNotGuessedOnThePage(t *testing.T) {
	t.Parallel()
	s := newSite(t, "STOA_RATE_LIMITS=on")
	session := s.begin(auth.Interaction{Operation: "test", Flows: []auth.Flow{{Stages: []string{auth.StageRegistrationToken}}}})
	limited := false
	for range 120 { // fewer requests than an address may send at once
		w := s.post(pageOf(auth.StageRegistrationToken, session), url.Values{"token": {"guess"}})
		limited = limited || w.Code == http.StatusTooManyRequests
	}
	if !limited {
		t.Error("120 tokens were tried at once")
	}
}
