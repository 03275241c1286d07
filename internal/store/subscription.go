package store

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// subscriptionLimit bounds the batches that wait for a slow reader.
const subscriptionLimit = 1024

// Batch is a committed group for subscribers.
type Batch struct {
	// Prev is the head of the stream before the group, Last after it. If Prev is above
	// the last position that the reader has applied, other instances wrote in between, or
	// the reader was too slow. It must then read the missing rows from the store.
	Prev, Last Position
	Rows       []StreamRow
	// Payloads are the payloads of the group's changes, in order: [Change.Payload] if
	// it is not nil, then those of [Change.AddPayload].
	Payloads []any
}

// Subscription delivers the groups that this instance commits, in stream order, so
// that a reader needs no query for them.
type Subscription struct {
	owner *subscriptions
	mu    sync.Mutex // guards queue and shut
	queue []*Batch
	shut  bool
	wake  chan struct{} // capacity 1
}

type subscriptions struct {
	mu   sync.Mutex // guards list and shut; Subscription.mu may be taken under it
	list []*Subscription
	shut bool
}

// Subscribe delivers all groups that are committed from now on. Close it when done.
func (s *Store) Subscribe() *Subscription {
	t := &Subscription{owner: &s.subscriptions, wake: make(chan struct{}, 1)}
	s.subscriptions.mu.Lock()
	defer s.subscriptions.mu.Unlock()
	s.subscriptions.list = append(s.subscriptions.list, t)
	t.shut = s.subscriptions.shut
	return t
}

// Next waits for the next batch. If the reader was too slow, batches are missing, as the
// next one's Prev shows. It returns ErrClosed once the subscription or the store is
// closed.
func (t *Subscription) Next(ctx context.Context) (*Batch, error) {
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

// Close ends the subscription.
func (t *Subscription) Close() {
	t.owner.mu.Lock()
	t.owner.list = slices.DeleteFunc(t.owner.list, func(x *Subscription) bool { return x == t })
	t.owner.mu.Unlock()
	t.close()
}

func (t *Subscription) close() {
	t.mu.Lock()
	t.shut = true
	t.mu.Unlock()
	t.signal()
}

func (t *Subscription) signal() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (ts *subscriptions) close() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.shut = true
	for _, t := range ts.list {
		t.close()
	}
}

// publish delivers a group to all subscribers. It never blocks: a full queue drops its
// oldest batch.
func (ts *subscriptions) publish(g *group, lost *atomic.Uint64) {
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
		b.Payloads = append(b.Payloads, p.change.morePayloads...)
	}
	if len(b.Rows) == 0 && len(b.Payloads) == 0 {
		return
	}
	for _, t := range ts.list {
		t.mu.Lock()
		if len(t.queue) >= subscriptionLimit {
			t.queue = slices.Delete(t.queue, 0, 1)
			lost.Add(1)
		}
		t.queue = append(t.queue, b)
		t.mu.Unlock()
		t.signal()
	}
}
