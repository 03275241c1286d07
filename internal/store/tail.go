package store

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// tailLimit bounds the batches that a slow reader of a tail may lag behind.
const tailLimit = 1024

// Batch is a committed group as the readers of a tail get it.
type Batch struct {
	// Prev is the head of the stream before the group, Last after it. If Prev is
	// above the last position that the reader has applied, other instances wrote
	// in between, or the reader was too slow: it reads the rows between from the
	// store.
	Prev, Last Position
	Rows       []StreamRow
	// Payloads are the [Change.Payload] of the group's changes, in their order,
	// without the nil ones, each followed by what was given to [Change.Tell].
	Payloads []any
}

// Tail hands over the groups that this instance commits, in stream order, so
// that a reader needs no query for them.
type Tail struct {
	owner *tails
	mu    sync.Mutex // guards queue, closed
	queue []*Batch
	shut  bool
	wake  chan struct{} // capacity 1
}

type tails struct {
	mu   sync.Mutex // guards list; Tail.mu may be taken under it
	list []*Tail
	shut bool
}

// Tail starts a tail: all groups committed from now on. Close it when done.
func (s *Store) Tail() *Tail {
	t := &Tail{owner: &s.tails, wake: make(chan struct{}, 1)}
	s.tails.mu.Lock()
	defer s.tails.mu.Unlock()
	s.tails.list = append(s.tails.list, t)
	t.shut = s.tails.shut
	return t
}

// Next waits for the next batch. If the reader lagged too far, batches are
// missing, which the next one's Prev shows. ErrClosed after Close of either.
func (t *Tail) Next(ctx context.Context) (*Batch, error) {
	for {
		t.mu.Lock()
		if len(t.queue) > 0 {
			b := t.queue[0]
			t.queue = slices.Delete(t.queue, 0, 1)
			t.mu.Unlock()
			return b, nil
		}
		shut := t.shut
		t.mu.Unlock()
		if shut {
			return nil, ErrClosed
		}
		select {
		case <-t.wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Close ends the tail.
func (t *Tail) Close() {
	t.owner.mu.Lock()
	t.owner.list = slices.DeleteFunc(t.owner.list, func(x *Tail) bool { return x == t })
	t.owner.mu.Unlock()
	t.close()
}

func (t *Tail) close() {
	t.mu.Lock()
	t.shut = true
	t.mu.Unlock()
	t.signal()
}

func (t *Tail) signal() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (ts *tails) close() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.shut = true
	for _, t := range ts.list {
		t.close()
	}
}

// publish hands a group to all tails. It never waits: a full queue loses its
// oldest batch.
func (ts *tails) publish(g *group, lost *atomic.Uint64) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if len(ts.list) == 0 {
		return
	}
	b := &Batch{Prev: g.prev, Last: g.last, Rows: slices.Clone(g.stream)}
	for _, p := range g.winners {
		if p.change.Payload != nil {
			b.Payloads = append(b.Payloads, p.change.Payload)
		}
		b.Payloads = append(b.Payloads, p.change.told...)
	}
	if len(b.Rows) == 0 && len(b.Payloads) == 0 {
		return
	}
	for _, t := range ts.list {
		t.mu.Lock()
		if len(t.queue) >= tailLimit {
			t.queue = slices.Delete(t.queue, 0, 1)
			lost.Add(1)
		}
		t.queue = append(t.queue, b)
		t.mu.Unlock()
		t.signal()
	}
}
