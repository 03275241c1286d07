package clientsync

import (
	"errors"
	"testing"

	"stoa/internal/store"
	"stoa/internal/store/storetest"
)

// A room that was made after an answer's snapshot may be among those that are counted for later: it is left out.
func TestCounts_of_a_room_newer_than_the_snapshot(t *testing.T) {
	t.Parallel()
	err := storetest.SQLite(t).Read(t.Context(), func(r *store.Read) error {
		entries := []*entry{{timelineRange: timelineRange{num: 7}}}
		if kept, places, err := readPlaces(r, entries, 0); err != nil || len(kept)+len(places) != 0 {
			t.Errorf("kept %d, %d places, %v", len(kept), len(places), err)
		}
		if _, _, err := readPlaces(r, entries, 1); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a room that is told of: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
