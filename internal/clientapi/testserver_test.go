package clientapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/account"
	"stoa/internal/auth"
	"stoa/internal/clientapi"
	"stoa/internal/httpkit"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
	"stoa/matrix/id"
)

// server is the API on a real store, with a log that is kept.
type server struct {
	t        *testing.T
	handler  http.Handler
	store    *store.Store
	accounts *account.Accounts
	auth     *auth.Auth
	rooms    *fakeRooms
	log      *logBuffer
	clock    *testClock
	address  string // of the client
}

// testClock is a clock that tests move.
type testClock struct{ ms atomic.Int64 }

func newTestClock() *testClock {
	c := &testClock{}
	c.ms.Store(time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC).UnixMilli())
	return c
}

func (c *testClock) now() time.Time          { return time.UnixMilli(c.ms.Load()) }
func (c *testClock) advance(d time.Duration) { c.ms.Add(d.Milliseconds()) }

type logBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// fakeRooms notes what rooms are told of accounts.
type fakeRooms struct {
	mu       sync.Mutex // guards all below
	profiles []id.UserID
	left     []id.UserID
}

func (f *fakeRooms) SetProfile(_ context.Context, user id.UserID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.profiles = append(f.profiles, user)
	return nil
}

func (f *fakeRooms) LeaveAll(_ context.Context, user id.UserID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left = append(f.left, user)
	return nil
}

// settings of a server under test.
type settings struct {
	clientapi.Options
	rateLimits bool
}

func newServer(t *testing.T, st *store.Store, change ...func(*settings)) *server {
	t.Helper()
	name, err := id.ParseServerName(storetest.ServerName)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, store: st, rooms: &fakeRooms{}, log: &logBuffer{}, clock: newTestClock(), address: "192.0.2.1:5000"}
	log := slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	set := settings{Options: clientapi.Options{
		ServerName: name, PublicURL: "https://stoa.test", RoomVersion: "12", Registration: clientapi.RegistrationOpen,
	}}
	for _, f := range change {
		f(&set)
	}
	sessions := auth.NewSessions()
	s.accounts = account.New(account.Options{
		Store: st, ServerName: name, Sessions: sessions, Rooms: s.rooms, Clock: s.clock.now, Log: log,
		Hasher: account.NewHasher(account.Cost{MemoryKiB: 64, Passes: 1, Threads: 1}, 2),
	})
	s.auth = auth.New(auth.Options{
		Store: st, Accounts: s.accounts, Sessions: sessions, Clock: s.clock.now, Log: log, RateLimits: set.rateLimits,
	})
	set.Auth, set.Accounts = s.auth, s.accounts
	mux, err := httpkit.NewMux(httpkit.Options{Log: log}, clientapi.New(set.Options).Routes())
	if err != nil {
		t.Fatal(err)
	}
	s.handler = mux
	return s
}

// answer is what came back: the status and the decoded body.
type answer struct {
	t      *testing.T
	Status int
	Header http.Header
	Body   map[string]any
	raw    string
}

// do sends a request. body is JSON text, or a value to be encoded; nil = none.
func (s *server) do(method, path, token string, body any) answer {
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
	if err := json.Unmarshal(w.Body.Bytes(), &a.Body); err != nil {
		s.t.Fatalf("%s %s answered no JSON object: %q", method, path, a.raw)
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
func onEach(t *testing.T, f func(*testing.T, *server), change ...func(*settings)) {
	t.Helper()
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		f(t, newServer(t, open(), change...))
	})
}

// onSQLite is onEach for what does not depend on the engine.
func onSQLite(t *testing.T, change ...func(*settings)) *server {
	t.Helper()
	return newServer(t, storetest.SQLite(t), change...)
}
