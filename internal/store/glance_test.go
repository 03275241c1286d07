package store_test

import (
	"context"
	"testing"

	"stoa/internal/store"
	"stoa/internal/store/storetest"
)

// glance keeps what the queries of barriers bring along.
type glance struct {
	known store.Position
	rows  []store.StreamRow
	calls int
}

func (g *glance) Known() store.Position { return g.known }

func (g *glance) Take(_ context.Context, _, head store.Position, rows []store.StreamRow) error {
	g.known, g.rows = head, append(g.rows, rows...)
	g.calls++
	return nil
}

// TestGlance gets the rows that others and this instance wrote since the last barrier, and can tell them apart.
func TestGlance(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t, "postgres")
	here, there := storetest.OpenURL(t, url), storetest.OpenURL(t, url)
	ctx := t.Context()
	room, head := newRoom(t, here, "!a:stoa.test")
	slot := store.Slot(1)
	write := func(s *store.Store) store.Position {
		c, next := slotChange(t, s, room, head, slot)
		head, slot = next, slot+1
		pos, err := s.Commit(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		return pos
	}
	first := write(there)

	g := &glance{}
	if at, err := here.Barrier(ctx, g, false); err != nil || at < first || g.calls != 0 {
		t.Fatalf("without a known position: %d after %d, %d calls, %v", at, first, g.calls, err)
	}
	g.known = first
	if at, err := here.Barrier(ctx, g, false); err != nil || at != first || g.calls != 0 {
		t.Fatalf("without news: %d after %d, %d calls, %v", at, first, g.calls, err)
	}
	want := map[store.Position]bool{write(there): false, write(here): true, write(there): false}
	at, err := here.Barrier(ctx, g, false)
	if err != nil || at != g.known || len(g.rows) != len(want) {
		t.Fatalf("the barrier at %d brings %+v, %v", at, g.rows, err)
	}
	for _, row := range g.rows {
		if own, ok := want[row.Pos]; !ok || row.Own != own {
			t.Errorf("row %+v, want own %v", row, own)
		}
	}

	// A position that is not in the stream brings nothing but the head.
	g.known, g.calls = first-1, 0
	if again, err := here.Barrier(ctx, g, false); err != nil || again != at || g.calls != 0 {
		t.Errorf("from a position that is not there: %d, %d calls, %v", again, g.calls, err)
	}
}
