package auth

import (
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"stoa/internal/account"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
	"stoa/internal/store/userdb"
	"stoa/matrix/id"
)

func newAuth(t testing.TB, st *store.Store) *Auth {
	t.Helper()
	name, err := id.ParseServerName(storetest.ServerName)
	if err != nil {
		t.Fatal(err)
	}
	sessions := NewSessions()
	accounts := account.New(account.Options{
		Store: st, ServerName: name, Sessions: sessions,
		Hasher: account.NewHasher(account.Cost{MemoryKiB: 64, Passes: 1, Threads: 1}, 1),
	})
	return New(Options{Store: st, Accounts: accounts, Sessions: sessions, RateLimits: true})
}

func TestACallerInMemoryCostsOneHashAndOneLookup(t *testing.T) { // not parallel: it counts allocations
	a := newAuth(t, storetest.SQLite(t))
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+signUp(t, a))
	if _, err := a.Caller(r); err != nil {
		t.Fatal(err)
	}
	if err := a.store.Close(); err != nil { // nothing is asked of it any more
		t.Fatal(err)
	}
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := a.Caller(r); err != nil {
			t.Error(err)
		}
	})
	if allocs > 1 {
		t.Errorf("%v allocations", allocs)
	}
}

func signUp(t testing.TB, a *Auth) (token string) {
	t.Helper()
	begun, err := a.accounts.Begin(t.Context(), account.Registration{Username: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	issued, err := a.Open(httptest.NewRequest("POST", "/", nil), begun.Change, begun.UserID, begun.Num, Device{})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.accounts.Complete(t.Context(), begun); err != nil {
		t.Fatal(err)
	}
	return issued.AccessToken
}

func BenchmarkCaller(b *testing.B) {
	a := newAuth(b, storetest.SQLite(b))
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+signUp(b, a))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Caller(r); err != nil {
			b.Fatal(err)
		}
	}
}

func TestLimitsAreExactUnderManyAtOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		st := open()
		now := time.Now().UnixMilli()
		buckets := []userdb.Limit{{Name: "b", EveryMS: 1000, Burst: 10}, {Name: "a", EveryMS: 1000, Burst: 20}}
		var all sync.WaitGroup
		waits := make([]int64, 30)
		for i := range waits {
			all.Go(func() {
				wait, err := userdb.TakeLimits(t.Context(), st, now, buckets...)
				if err != nil {
					t.Error(err)
				}
				waits[i] = wait
			})
		}
		all.Wait()
		passed := 0
		for _, wait := range waits {
			if wait == 0 {
				passed++
			} else if wait != 1000 {
				t.Errorf("told to wait %d ms", wait)
			}
		}
		if passed != 10 {
			t.Errorf("%d passed a limit of 10", passed)
		}
		// Of the wider bucket only those were taken that passed the narrow one.
		for i := range 10 {
			if wait, err := userdb.TakeLimits(t.Context(), st, now, buckets[1]); err != nil || wait != 0 {
				t.Fatalf("the wide bucket was empty after %d: %d, %v", i, wait, err)
			}
		}
		if wait, err := userdb.TakeLimits(t.Context(), st, now, buckets[1]); err != nil || wait != 1000 {
			t.Errorf("the wide bucket is not empty: %d, %v", wait, err)
		}
		if wait, err := userdb.TakeLimits(t.Context(), st, now+1000, buckets...); err != nil || wait != 0 {
			t.Errorf("no token came back: %d, %v", wait, err)
		}
	})
}
