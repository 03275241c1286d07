package parking

import (
	"context"
	"runtime"
	"sync"
)

// Workers is a pool of goroutines that make the answers of parked connections. A message in a large room wakes hundreds of
// requests at once; they wait in the pool's queue, in the order in which they came, while the rest of the server gets its turn
// on the processor. A connection has one piece of work in the queue at most, so the queue is bounded by the connections.
type Workers struct {
	limit int

	mu      sync.Mutex // guards what follows; nothing is taken after it
	ready   sync.Cond  // there is work, or the pool has ended
	queue   []func()   // from begin on
	begin   int
	started int // workers
	idle    int // those of them that wait for work and were not told of any
	waiting int // those of them that wait within Blocking, and are not counted against the limit
	ended   bool
}

// workersPerCPU is how many workers there are for each core. A few more than cores, since some wait for the store.
const workersPerCPU = 8

func limitedWorkers(limit int) *Workers {
	w := &Workers{limit: limit}
	w.ready.L = &w.mu
	return w
}

// NewWorkers makes a pool, whose workers begin when there is work.
func NewWorkers() *Workers { return limitedWorkers(workersPerCPU * runtime.GOMAXPROCS(0)) }

// Take has a piece of work done by a worker. It does not block.
func (w *Workers) Take(work func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.begin > 0 && len(w.queue) == cap(w.queue) {
		n := copy(w.queue, w.queue[w.begin:])
		clear(w.queue[n:])
		w.queue, w.begin = w.queue[:n], 0
	}
	w.queue = append(w.queue, work)
	w.staff()
}

// staff has a worker begin, if there is work for one and the limit allows it. Called with the lock held.
func (w *Workers) staff() {
	switch {
	case w.begin == len(w.queue):
	case w.idle > 0:
		w.idle-- // for the one that is woken
		w.ready.Signal()
	case w.started-w.waiting < w.limit:
		w.started++
		go w.run()
	}
}

func (w *Workers) run() {
	for work := w.next(); work != nil; work = w.next() {
		work()
	}
}

// next is the next piece of work for a worker; nil if the worker is not needed any more.
func (w *Workers) next() func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.begin == len(w.queue) && !w.ended && w.started-w.waiting <= w.limit {
		w.idle++
		w.ready.Wait()
	}
	if w.begin == len(w.queue) || w.started-w.waiting > w.limit {
		w.started--
		w.staff() // it may have been woken for work
		return nil
	}
	work := w.queue[w.begin]
	w.queue[w.begin] = nil
	if w.begin++; w.begin == len(w.queue) {
		w.queue, w.begin = w.queue[:0], 0
	}
	return work
}

// block calls wait, which a worker does not spend on the processor: another may work meanwhile.
func (w *Workers) block(wait func()) {
	w.mu.Lock()
	w.waiting++
	w.staff()
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.waiting--
		w.mu.Unlock()
	}()
	wait()
}

// End has workers without work end, now and later. Work that comes after it is done all the same.
func (w *Workers) End() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended, w.idle = true, 0
	w.ready.Broadcast()
}

type workersKey struct{}

// Blocking calls wait, which waits for something other than the processor. If the context is that of a worker of parked
// connections, another works meanwhile.
func Blocking(ctx context.Context, wait func()) {
	if w, ok := ctx.Value(workersKey{}).(*Workers); ok {
		w.block(wait)
	} else {
		wait()
	}
}
