package server

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"stoa/internal/account"
	"stoa/internal/config"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
)

// ahead is the clock of a machine that is an hour fast.
func ahead() time.Time { return time.Now().Add(time.Hour) }

// withClock starts an instance on the same database whose machine has its own clock.
func withClock(t *testing.T, st *store.Store) *Server {
	t.Helper()
	cfg, _, err := config.Load("", []string{"STOA_SERVER_NAME=" + storetest.ServerName, "STOA_DATA_DIR=" + t.TempDir(), "STOA_CLUSTER_LISTEN=127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := New(t.Context(), Options{Config: cfg, Store: st, Hasher: account.NewHasher(account.Cost{MemoryKiB: 64, Passes: 1, Threads: 1}, 2)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := srv.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	srv.Start()
	return srv
}

// An instance whose clock is wrong must not refuse people on the others.
func TestAWrongClockLimitsNobodyElsewhere(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		wrong := open(func(o *store.Options) { o.Clock = ahead })
		if !wrong.Shared() {
			t.Skip("one instance has one clock")
		}
		instances := []*Server{withClock(t, wrong), withClock(t, open())}
		logIn := func(s *Server) int {
			r := httptest.NewRequest(http.MethodPost, "/_matrix/client/v3/login",
				strings.NewReader(`{"type":"m.login.password","identifier":{"type":"m.id.user","user":"nobody"},"password":"wrong"}`))
			r.RemoteAddr = "192.0.2.1:5000"
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, r)
			if _, err := io.ReadAll(w.Body); err != nil {
				t.Fatal(err)
			}
			return w.Code
		}
		for i, s := range []int{0, 0, 1, 0, 1} {
			if status := logIn(instances[s]); status != http.StatusForbidden {
				t.Errorf("attempt %d: %d", i+1, status)
			}
		}
	})
}

// Each chore has one owner, and is due again and again.
func TestHousekeepingIsPeriodic(t *testing.T) {
	t.Parallel()
	srv := withClock(t, storetest.SQLite(t))
	want := map[string]time.Duration{
		"stream": housekeepingEvery, "transactions": housekeepingEvery, "claimed_keys": housekeepingEvery, "media": housekeepingEvery, "url_previews": housekeepingEvery,
		"mail_bounces": housekeepingEvery, "sliding_connections": housekeepingEvery, "threepid_sessions": housekeepingEvery,
		"people_index": 24 * time.Hour, "media_orphans": 24 * time.Hour, "media_retention": 24 * time.Hour, "reports": 24 * time.Hour,
	}
	got := map[string]time.Duration{}
	for _, k := range srv.housekeeping(parts{}) {
		got[strings.TrimPrefix(k.Name, "housekeeping.")] = k.Every
	}
	if !maps.Equal(got, want) {
		t.Errorf("the chores are due every %v, want %v", got, want)
	}
}
