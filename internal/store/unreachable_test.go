package store_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/storetest"
	"stoa/internal/store/userdb"
)

func TestErrUnreachable_is_what_a_cut_off_store_gives(t *testing.T) {
	t.Parallel()
	if os.Getenv("ENGINE") == "sqlite" {
		return
	}
	proxy := storetest.NewProxy(t, storetest.URL(t, "postgres"))
	s := storetest.OpenURL(t, proxy.URL)
	users, err := s.InternUsers(t.Context(), func(string) bool { return true }, "@alice:stoa.test")
	if err != nil {
		t.Fatal(err)
	}
	change := func() *store.Change {
		c := store.NewChange()
		userdb.SetPresence(c, userdb.Presence{User: users[0], Presence: "online"})
		return c
	}
	calls := map[string]func(context.Context) error{
		"read":    func(ctx context.Context) error { return s.Read(ctx, func(*store.Read) error { return nil }) },
		"apart":   func(ctx context.Context) error { return s.ReadReserved(ctx, func(*store.Read) error { return nil }) },
		"barrier": func(ctx context.Context) error { _, err := s.Barrier(ctx, nil); return err },
		"commit":  func(ctx context.Context) error { _, err := s.Commit(ctx, change()); return err },
		"write": func(ctx context.Context) error {
			_, err := userdb.TakeLimits(ctx, s, time.Now().UnixMilli(), userdb.Limit{Name: "x", EveryMS: 1, Burst: 9})
			return err
		},
	}
	for name, call := range calls {
		if err := call(t.Context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	snapshot, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	proxy.Break()
	if _, err := userdb.PresenceByNum(snapshot, users[0]); !errors.Is(err, store.ErrUnreachable) {
		t.Errorf("a snapshot gives %v", err)
	}
	snapshot.Close()
	for range 3 { // with connections of before, then without any
		for name, call := range calls {
			if err := call(t.Context()); !errors.Is(err, store.ErrUnreachable) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := calls["read"](gone); errors.Is(err, store.ErrUnreachable) || !errors.Is(err, context.Canceled) {
		t.Errorf("of who has gone: %v", err)
	}
	proxy.Mend()
	for name, call := range calls {
		if err := call(t.Context()); err != nil {
			t.Errorf("%s, after that: %v", name, err)
		}
	}
}
