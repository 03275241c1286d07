package store_test

import (
	"errors"
	"testing"

	"stoa/internal/store"
	"stoa/internal/store/storetest"
)

// TestRoomOnTheDiskIsNoticed has nobody who writes: a balancer sends nothing to a server
// that is not ready.
func TestRoomOnTheDiskIsNoticed(t *testing.T) {
	t.Parallel()
	s := storetest.SQLite(t)
	if err := s.LimitPages(1); err != nil { // at least the pages in use
		t.Fatal(err)
	}
	write := func() error {
		return s.Script(t.Context(), `CREATE TABLE filler (x BLOB); INSERT INTO filler (x) VALUES (zeroblob(100000))`)
	}
	if err := store.Healthy(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := write(); !errors.Is(err, store.ErrFull) {
		t.Fatalf("write: %v", err)
	}
	s.ProbeNow()
	for range 2 { // the second does not write
		if err := store.Healthy(t.Context(), s); !errors.Is(err, store.ErrFull) {
			t.Errorf("healthy: %v", err)
		}
	}
	if err := s.LimitPages(1_000_000); err != nil {
		t.Fatal(err)
	}
	s.ProbeNow()
	if err := store.Healthy(t.Context(), s); err != nil {
		t.Errorf("there is room: %v", err)
	}
	if err := write(); err != nil {
		t.Error(err)
	}
}
