package parking

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func startWorkers(t *testing.T, limit int) *WorkerPool {
	t.Helper()
	w := limitedWorkers(limit)
	t.Cleanup(w.End)
	return w
}

// TestWorkers: all that comes is done, in order and not more at a time than the limit allows.
func TestWorkers(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]int{"one": 1, "several": 7} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := startWorkers(t, limit)
			var now, most atomic.Int64
			var mu sync.Mutex
			var order []int
			for round := range 20 {
				var done sync.WaitGroup
				done.Add(500)
				order = order[:0]
				for i := range 500 {
					w.Submit(func() {
						defer done.Done()
						for n := now.Add(1); ; {
							if old := most.Load(); n <= old || most.CompareAndSwap(old, n) {
								break
							}
						}
						mu.Lock()
						order = append(order, i)
						mu.Unlock()
						now.Add(-1)
					})
				}
				done.Wait()
				for i := range order {
					if limit == 1 && order[i] != i {
						t.Fatalf("round %d: piece %d is done as number %d", round, order[i], i)
					}
				}
				if len(order) != 500 {
					t.Fatalf("round %d: %d of 500 are done", round, len(order))
				}
			}
			if n := most.Load(); n > int64(limit) {
				t.Errorf("%d work at a time, with a limit of %d", n, limit)
			}
		})
	}
}

// TestWorkersBlocking: work that waits within Blocking does not keep other work from being done, so it may wait for that.
func TestWorkersBlocking(t *testing.T) {
	t.Parallel()
	const limit, pieces = 3, 100
	w := startWorkers(t, limit)
	ctx := context.WithValue(t.Context(), workersKey{}, w)
	var begun, done sync.WaitGroup
	begun.Add(pieces)
	done.Add(pieces)
	for range pieces {
		w.Submit(func() {
			begun.Done()
			Blocking(ctx, begun.Wait)
			done.Done()
		})
	}
	done.Wait()
	var more sync.WaitGroup // the workers that the limit does not allow any more are gone, and the others still work
	more.Add(pieces)
	for range pieces {
		w.Submit(more.Done)
	}
	more.Wait()
	Blocking(t.Context(), func() { more.Add(1) }) // elsewhere it is a call
	more.Done()
	more.Wait()
}

// TestWorkersRetire: a worker that is woken for work and exceeds the limit wakes another for it.
func TestWorkersRetire(t *testing.T) {
	t.Parallel()
	w := startWorkers(t, 2)
	ctx := context.WithValue(t.Context(), workersKey{}, w)
	is := func(f func() bool) {
		for ok := false; !ok; runtime.Gosched() {
			w.mu.Lock()
			ok = f()
			w.mu.Unlock()
		}
	}
	blocked, unblocked := make(chan struct{}), make(chan struct{})
	defer close(blocked)
	block := func(until <-chan struct{}) func() { return func() { Blocking(ctx, func() { <-until }) } }
	busy, release := make(chan struct{}), make(chan struct{})
	w.Submit(block(blocked))
	w.Submit(func() {
		block(unblocked)()
		close(busy)
		<-release
	})
	defer close(release)
	is(func() bool { return w.waiting == 2 })
	started := make(chan struct{})
	var done sync.WaitGroup // two more workers
	done.Add(2)
	for range 2 {
		w.Submit(func() {
			done.Done()
			<-started
		})
	}
	done.Wait()
	close(started)
	is(func() bool { return w.idle == 2 })
	close(unblocked)
	<-busy
	result := make(chan struct{})
	w.Submit(func() { close(result) })
	select {
	case <-result:
	case <-time.After(10 * time.Second):
		t.Error("work waits in the queue beside an idle worker")
	}
}

// TestWorkersEnd: what comes after the end is done too.
func TestWorkersEnd(t *testing.T) {
	t.Parallel()
	w := limitedWorkers(2)
	for range 3 {
		var done sync.WaitGroup
		done.Add(10)
		for range 10 {
			w.Submit(done.Done)
		}
		done.Wait()
		w.End()
	}
}
