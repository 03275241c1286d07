package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/storetest"
)

// keptRows keeps the rows that the queries of barriers read.
type keptRows struct {
	known store.Position
	rows  []store.StreamRow
	calls int
}

func (g *keptRows) Known() store.Position { return g.known }

func (g *keptRows) Add(_ context.Context, _, head store.Position, rows []store.StreamRow) error {
	g.known, g.rows = head, append(g.rows, rows...)
	g.calls++
	return nil
}

// stuckRows never returns from Add.
type stuckRows struct {
	keptRows
	taking, free chan struct{}
}

func (s *stuckRows) Add(context.Context, store.Position, store.Position, []store.StreamRow) error {
	s.taking <- struct{}{}
	<-s.free
	return nil
}

// A barrier whose rows are stuck fails after a time, and so do those that wait for the next query.
func TestBarrier_ends_when_its_rows_are_stuck(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t, "postgres")
	store.LimitBarriers(s, 50*time.Millisecond)
	room, head := newRoom(t, s, "!a:stoa.test")
	g := &stuckRows{taking: make(chan struct{}, 1), free: make(chan struct{})}
	for slot := range store.Slot(2) {
		c, next := slotChange(t, s, room, head, slot+1)
		at, err := s.Commit(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if head = next; slot == 0 {
			g.known = at
		}
	}
	failed := make(chan error)
	ask := func() {
		_, err := s.Barrier(t.Context(), g)
		failed <- err
	}
	go ask()
	<-g.taking
	go ask()
	for range 2 {
		if err := <-failed; !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	}
	close(g.free)
	if _, err := s.Barrier(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

// The query of a barrier reads the rows that this and other instances wrote since the last one, and tells them apart.
func TestBarrier_reads_the_newest_rows(t *testing.T) {
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

	g := &keptRows{}
	if at, err := here.Barrier(ctx, g); err != nil || at < first || g.calls != 0 {
		t.Fatalf("without a known position: %d after %d, %d calls, %v", at, first, g.calls, err)
	}
	g.known = first
	if at, err := here.Barrier(ctx, g); err != nil || at != first || g.calls != 0 {
		t.Fatalf("without news: %d after %d, %d calls, %v", at, first, g.calls, err)
	}
	want := map[store.Position]bool{write(there): false, write(here): true, write(there): false}
	at, err := here.Barrier(ctx, g)
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
	if again, err := here.Barrier(ctx, g); err != nil || again != at || g.calls != 0 {
		t.Errorf("from a position that is not there: %d, %d calls, %v", again, g.calls, err)
	}
}
