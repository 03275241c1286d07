package store_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
	"stoa/internal/store/userdb"
)

// What instances share has the time of the database, whatever the clock of a machine says; and while they disagree nothing
// is deleted by its age.
func TestClockIsTheDatabases(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		month := 31 * 24 * time.Hour
		var log bytes.Buffer
		s := open(func(o *store.Options) {
			o.Clock = func() time.Time { return time.Now().Add(month) }
			o.Log = slog.New(slog.NewTextHandler(&log, nil))
		})
		if !s.Shared() { // the clock of this machine is the database's
			if off := s.Now().Sub(time.Now().Add(month)).Abs(); off > time.Minute || store.CheckClocks(s) != nil {
				t.Errorf("off by %v: %v", off, store.CheckClocks(s))
			}
			return
		}
		if off := time.Until(s.Now()).Abs(); off > time.Minute {
			t.Errorf("the time of the store is off by %v", off)
		}
		if err := store.CheckClocks(s); !errors.Is(err, store.ErrClocks) {
			t.Errorf("clocks: %v", err)
		}
		if err := s.TrimStream(t.Context(), 0); !errors.Is(err, store.ErrClocks) {
			t.Errorf("trim: %v", err)
		}
		if err := roomdb.ExpireTxns(t.Context(), s, 0); !errors.Is(err, store.ErrClocks) {
			t.Errorf("expire: %v", err)
		}
		if text := log.String(); strings.Count(text, "disagree; set both (NTP)") != 1 || !strings.Contains(text, "this machine's is 744h") {
			t.Errorf("the log does not say once what is wrong and what to do:\n%s", text)
		}
		if err := store.CheckClocks(open()); err != nil {
			t.Error(err)
		}
	})
}

// A bucket that is full later than one that was just emptied was written by a wrong clock.
func TestLimitsOfAWrongClockCountAsFull(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		l := userdb.Limit{Name: "login 192.0.2.1", EveryMS: 1000, Burst: 3}
		now := time.Now().UnixMilli()
		take := func(now int64) int64 {
			t.Helper()
			wait, err := userdb.TakeLimits(t.Context(), s, now, l)
			if err != nil {
				t.Fatal(err)
			}
			return wait
		}
		if wait := take(now + time.Hour.Milliseconds()); wait != 0 {
			t.Fatalf("wait %d", wait)
		}
		for range l.Burst {
			if wait := take(now); wait != 0 {
				t.Fatalf("refused for %d ms because of an hour that has not come", wait)
			}
		}
		if wait := take(now); wait != 1000 {
			t.Errorf("the burst is over, and the wait is %d", wait)
		}
	})
}
