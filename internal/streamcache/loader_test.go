package streamcache

import (
	"context"
	"errors"
	"testing"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
)

// A room that can't be read is an error: with its events left out the answer would look whole.
func TestLoader_tells_what_it_can_not_read(t *testing.T) {
	t.Parallel()
	s := storetest.SQLite(t)
	h := New(Options{Store: s})
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Read(ctx, func(r *store.Read) error {
		l := h.Loader(r)
		l.WantEvents([]roomdb.SyncEvent{{Num: 1, Room: 1, Bytes: []byte("{}")}})
		cancel()
		return l.Load()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("an event of a room that could not be read: %v", err)
	}
}
