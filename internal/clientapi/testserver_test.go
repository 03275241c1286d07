package clientapi_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"stoa/internal/account"
	"stoa/internal/auth"
	"stoa/internal/server/servertest"
	"stoa/internal/store"
)

// server is a whole server, and where its client is.
type server struct {
	t        *testing.T
	handler  http.Handler
	store    *store.Store
	accounts *account.Accounts
	auth     *auth.Auth
	log      *servertest.Log
	clock    *servertest.Clock
	address  string // of the client
	whole    *servertest.Server
}

func newServer(t *testing.T, st *store.Store, settings ...string) *server {
	t.Helper()
	return clientOf(t, servertest.Start(t, st, settings...))
}

func clientOf(t *testing.T, s *servertest.Server) *server {
	return &server{
		t: t, handler: s.Handler, store: s.Store, accounts: s.Accounts, auth: s.Auth, log: s.Log, clock: s.Clock,
		address: "192.0.2.1:5000", whole: s,
	}
}

// in is the same server for a part of a test.
func (s *server) in(t *testing.T) *server {
	part := *s
	part.t = t
	return &part
}

// answer is what came back: the status and the decoded body.
type answer struct {
	t      *testing.T
	Status int
	Header http.Header
	Body   map[string]any
	raw    string
}

// do sends a request, which is answered with a JSON object. body is JSON text, or a value to be encoded; nil = none.
func (s *server) do(method, path, token string, body any) answer {
	s.t.Helper()
	a := s.send(method, path, token, body)
	if a.Body == nil {
		s.t.Fatalf("%s %s answered no JSON object: %q", method, path, a.raw)
	}
	return a
}

// send is do for any answer.
func (s *server) send(method, path, token string, body any) answer {
	s.t.Helper()
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			s.t.Fatal(err)
		}
		reader = bytes.NewReader(text)
	}
	r := httptest.NewRequest(method, path, reader)
	r.RemoteAddr = s.address
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	a := answer{t: s.t, Status: w.Code, Header: w.Header(), raw: w.Body.String()}
	if json.Unmarshal(w.Body.Bytes(), &a.Body) != nil {
		a.Body = nil
	}
	return a
}

// want checks status and errcode ("" for none).
func (a answer) want(status int, errcode string) answer {
	a.t.Helper()
	got, _ := a.Body["errcode"].(string)
	if a.Status != status || got != errcode {
		a.t.Fatalf("got %d %s, want %d %q", a.Status, a.raw, status, errcode)
	}
	if errcode != "" && a.str("error") == "" {
		a.t.Fatalf("no text for people in %s", a.raw)
	}
	return a
}

func (a answer) str(key string) string {
	v, _ := a.Body[key].(string)
	return v
}

type object = map[string]any

// login is a device of a user, logged in.
type login struct {
	UserID, Token, Device, Refresh string
}

func asLogin(a answer) login {
	return login{UserID: a.str("user_id"), Token: a.str("access_token"), Device: a.str("device_id"), Refresh: a.str("refresh_token")}
}

// signUp registers a user with the password "pw of NAME".
func (s *server) signUp(name string) login {
	s.t.Helper()
	a := s.do("POST", "/_matrix/client/v3/register", "", object{
		"username": name, "password": passwordOf(name), "auth": object{"type": "m.login.dummy"},
	})
	return asLogin(a.want(200, ""))
}

func passwordOf(name string) string { return "pw of " + name }

// logIn logs a user in; more is put into the body.
func (s *server) logIn(name string, more object) answer {
	s.t.Helper()
	body := object{
		"type": "m.login.password", "identifier": object{"type": "m.id.user", "user": name}, "password": passwordOf(name),
	}
	for k, v := range more {
		body[k] = v
	}
	return s.do("POST", "/_matrix/client/v3/login", "", body)
}

// passwordAuth is the `auth` of the password stage.
func passwordAuth(name, session string) object {
	a := object{"type": "m.login.password", "identifier": object{"type": "m.id.user", "user": name}, "password": passwordOf(name)}
	if session != "" {
		a["session"] = session
	}
	return a
}

// whoami checks whether a token is good.
func (s *server) whoami(token string) answer {
	s.t.Helper()
	return s.do("GET", "/_matrix/client/v3/account/whoami", token, nil)
}

// onEach runs a test on both engines with a server.
func onEach(t *testing.T, f func(*testing.T, *server), settings ...string) {
	t.Helper()
	t.Parallel()
	servertest.Each(t, func(t *testing.T, s *servertest.Server) { f(t, clientOf(t, s)) }, settings...)
}

// onSQLite is onEach for what does not depend on the engine.
func onSQLite(t *testing.T, settings ...string) *server {
	t.Helper()
	return clientOf(t, servertest.SQLite(t, settings...))
}
