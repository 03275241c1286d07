package store_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/storetest"
)

// TestBarrier finds what another instance has committed, and what was committed here.
func TestBarrier(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		a := open()
		b := a
		if a.Shared() {
			b = open()
		}
		room, head := newRoom(t, a, "!a:stoa.test")
		for slot := 1; slot <= 20; slot++ {
			c, next := slotChange(t, a, room, head, store.Slot(slot))
			head = next
			pos, err := a.Commit(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if a.Committed() != pos {
				t.Errorf("committed %d, want %d", a.Committed(), pos)
			}
			got, err := b.Barrier(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got < pos {
				t.Fatalf("the barrier gives %d, %d is acknowledged", got, pos)
			}
			err = b.ReadReserved(t.Context(), func(r *store.Read) error {
				if r.Head() < pos {
					t.Errorf("a read on the reserved connection begins at %d, %d is acknowledged", r.Head(), pos)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestBarrierSharesQueries: callers who come together are answered by few queries, at most one in 2 ms.
func TestBarrierSharesQueries(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t, "postgres")
	began := time.Now()
	var all sync.WaitGroup
	const callers, rounds, gap = 50, 20, 2 * time.Millisecond
	for range callers {
		all.Go(func() {
			for range rounds {
				if _, err := s.Barrier(t.Context(), nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	limit := uint64(time.Since(began)/gap) + 3 // the first ones wait for nobody
	if n := store.Barriers(s); n > limit {
		t.Errorf("%d queries, want at most %d", n, limit)
	}
}

// TestBarrierOfACallerWhoGoes ends with their context, and the others are answered.
func TestBarrierOfACallerWhoGoes(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t, "postgres")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Barrier(gone, nil); err != nil && err != context.Canceled {
		t.Error(err)
	}
	if _, err := s.Barrier(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func BenchmarkBarrier(b *testing.B) {
	s := storetest.Open(b, "postgres")
	for b.Loop() {
		if _, err := s.Barrier(b.Context(), nil); err != nil {
			b.Fatal(err)
		}
	}
}

// blockedRows blocks in Add until over is closed, and with it the query of its barrier.
type blockedRows struct {
	known       store.Position
	began, over chan struct{}
}

func (g *blockedRows) Known() store.Position { return g.known }

func (g *blockedRows) Add(context.Context, store.Position, store.Position, []store.StreamRow) error {
	close(g.began)
	<-g.over
	return nil
}

// TestBarrierIsNotOlderThanItsCaller: whoever comes while a query is under way is not answered by it, since it may have begun
// before what they were told of was acknowledged.
func TestBarrierIsNotOlderThanItsCaller(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t, "postgres")
	a, b := storetest.OpenURL(t, url), storetest.OpenURL(t, url)
	room, head := newRoom(t, a, "!a:stoa.test")
	slot := store.Slot(0)
	commit := func() store.Position {
		t.Helper()
		slot++
		c, next := slotChange(t, a, room, head, slot)
		head = next
		pos, err := a.Commit(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return pos
	}
	g := &blockedRows{known: commit(), began: make(chan struct{}), over: make(chan struct{})}
	commit()
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := b.Barrier(t.Context(), g); err != nil {
			t.Error(err)
		}
	})
	<-g.began
	acknowledged := commit()
	for range 10 {
		all.Go(func() {
			if got, err := b.Barrier(t.Context(), nil); err != nil || got < acknowledged {
				t.Errorf("the barrier gives %d and %v, %d was acknowledged before the call", got, err, acknowledged)
			}
		})
	}
	// One that gives up: by then the others wait too.
	soon, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := b.Barrier(soon, nil); err == nil {
		t.Error("a query under way has answered somebody who came later")
	}
	close(g.over)
	all.Wait()
}
