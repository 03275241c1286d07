// Package servertest starts whole servers for the tests of APIs and pages: everything that a server is made of, on a
// temporary store, without a listener.
//
// It owns a clock that stands still until a test moves it (long polls end then too), the log, and the end of what it starts. It replaces no part of a
// server.
//
// The invariant that matters: a request that Handler serves runs through the same code as one that a client sends.
package servertest

import (
	"bytes"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/account"
	"stoa/internal/auth"
	"stoa/internal/config"
	"stoa/internal/room"
	"stoa/internal/server"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
)

// Server is a server that runs until its test ends.
type Server struct {
	// Handler serves what the client's listener does.
	Handler  http.Handler
	Store    *store.Store
	Accounts *account.Accounts
	Rooms    *room.Rooms
	Auth     *auth.Auth
	Clock    *Clock
	Log      *Log

	server  *server.Server
	stopped atomic.Bool
}

// Each runs a test on both engines, in parallel, with a server on each. settings are as in the environment
// (STOA_REGISTRATION=closed).
func Each(t *testing.T, f func(t *testing.T, s *Server), settings ...string) {
	t.Helper()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) { f(t, Start(t, open(), settings...)) })
}

// SQLite starts a server for a test that does not depend on the engine.
func SQLite(t testing.TB, settings ...string) *Server {
	t.Helper()
	return Start(t, storetest.SQLite(t), settings...)
}

// Start starts a server on a store; called again with the same store, another instance on it. Registration is open and
// rates are not limited if the settings don't say otherwise.
func Start(t testing.TB, st *store.Store, settings ...string) *Server {
	t.Helper()
	return StartWith(t, st, nil, settings...)
}

// StartWith is Start with options that are no settings.
func StartWith(t testing.TB, st *store.Store, change func(*server.Options), settings ...string) *Server {
	t.Helper()
	environ := append([]string{
		"STOA_SERVER_NAME=" + storetest.ServerName, "STOA_PUBLIC_URL=https://stoa.test", "STOA_DATA_DIR=" + t.TempDir(),
		"STOA_CLUSTER_LISTEN=127.0.0.1:0", "STOA_REGISTRATION=open", "STOA_RATE_LIMITS=off", "STOA_PASSWORD_MIN_LENGTH=1", "STOA_LOCALPART_AS_DISPLAY_NAME=off",
	}, settings...)
	cfg, warnings, err := config.Load("", environ)
	if err != nil || len(warnings) > 0 {
		t.Fatalf("the settings of a test: %v %v", warnings, err)
	}
	s := &Server{Store: st, Clock: newClock(), Log: &Log{}}
	opt := server.Options{
		Config: cfg, Store: st, Clock: s.Clock.Now, Version: "test",
		Log:    slog.New(slog.NewTextHandler(s.Log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Hasher: account.NewHasher(account.Cost{MemoryKiB: 64, Passes: 1, Threads: 1}, 2),
	}
	if change != nil {
		change(&opt)
	}
	s.server, err = server.New(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop(t) })
	if err := s.server.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.server.Start()
	s.Handler = s.server.Handler()
	s.Accounts, s.Rooms, s.Auth = s.server.Services().Accounts, s.server.Services().Rooms, s.server.Auth()
	return s
}

// Stop stops the server before its test ends.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if s.stopped.Swap(true) {
		return
	}
	if err := s.server.Stop(); err != nil {
		t.Errorf("stop the server: %v", err)
	}
}

// Metric is the value of a gauge or counter without labels.
func (s *Server) Metric(t testing.TB, name string) float64 {
	t.Helper()
	families, err := s.server.Metrics().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name && len(f.GetMetric()) == 1 {
			m := f.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue() // one of them is there
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// AwaitWaiting waits until a number of clients wait for news.
func (s *Server) AwaitWaiting(t testing.TB, n int) {
	t.Helper()
	for range 5000 {
		if s.Metric(t, "stoa_clientsync_waiting_requests") == float64(n) {
			return
		}
		time.Sleep(time.Millisecond) // a request that waits tells nobody
	}
	t.Fatalf("there are never %d clients that wait", n)
}

// Clock is a clock that a test moves. It may be read and moved at the same time.
type Clock struct{ ms atomic.Int64 }

func newClock() *Clock {
	c := &Clock{}
	c.ms.Store(time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC).UnixMilli())
	return c
}

// Now is the time.
func (c *Clock) Now() time.Time { return time.UnixMilli(c.ms.Load()) }

// Advance moves the clock on, and gives the time.
func (c *Clock) Advance(d time.Duration) time.Time { return time.UnixMilli(c.ms.Add(d.Milliseconds())) }

// Log keeps what a server logs.
type Log struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

// Write is for a handler of package slog.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String is all that was logged.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
