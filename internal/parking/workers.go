package parking

import (
	"context"
	"runtime"
	"sync"
)

// WorkerPool is a pool of goroutines that render the answers of parked connections. A message in a large room wakes hundreds of
// requests at once; they wait in the pool's queue, in order of arrival, while the rest of the server gets its share of the CPU. A
// connection has at most one task in the queue, so the connections bound the queue.
type WorkerPool struct {
	limit int

	mu      sync.Mutex // guards the fields below; nothing is locked after it
	ready   sync.Cond  // there is work, or the pool has ended
	queue   []func()   // from begin on
	begin   int
	started int // workers
	idle    int // of those, the ones that wait for work and were not woken for any
	waiting int // of those, the ones within Blocking, which don't count against the limit
	ended   bool
}

// workersPerCPU is the number of workers for each core: more than one, since some wait for the store.
const workersPerCPU = 8

func limitedWorkers(limit int) *WorkerPool {
	w := &WorkerPool{limit: limit}
	w.ready.L = &w.mu
	return w
}

// NewWorkerPool makes a pool; its workers start when there is work.
func NewWorkerPool() *WorkerPool { return limitedWorkers(workersPerCPU * runtime.GOMAXPROCS(0)) }

// Submit queues a task for a worker. It does not block.
func (w *WorkerPool) Submit(work func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.begin > 0 && len(w.queue) == cap(w.queue) {
		n := copy(w.queue, w.queue[w.begin:])
		clear(w.queue[n:])
		w.queue, w.begin = w.queue[:n], 0
	}
	w.queue = append(w.queue, work)
	w.startWorker()
}

// startWorker wakes or starts a worker, if there is work and the limit allows it. Called with the lock held.
func (w *WorkerPool) startWorker() {
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

func (w *WorkerPool) run() {
	for work := w.next(); work != nil; work = w.next() {
		work()
	}
}

// next returns the next task for a worker; nil if the worker has to exit.
func (w *WorkerPool) next() func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.begin == len(w.queue) && !w.ended && w.started-w.waiting <= w.limit {
		w.idle++
		w.ready.Wait()
	}
	if w.begin == len(w.queue) || w.started-w.waiting > w.limit {
		w.started--
		w.startWorker() // it may have been woken for work
		return nil
	}
	work := w.queue[w.begin]
	w.queue[w.begin] = nil
	if w.begin++; w.begin == len(w.queue) {
		w.queue, w.begin = w.queue[:0], 0
	}
	return work
}

// block calls wait, during which another worker may run.
func (w *WorkerPool) block(wait func()) {
	w.mu.Lock()
	w.waiting++
	w.startWorker()
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.waiting--
		w.mu.Unlock()
	}()
	wait()
}

// End stops idle workers, now and later. Tasks submitted after it are still done.
func (w *WorkerPool) End() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended, w.idle = true, 0
	w.ready.Broadcast()
}

type workersKey struct{}

// Blocking calls wait, which waits for something other than the CPU. If ctx is that of a worker of parked connections, another
// worker runs meanwhile.
func Blocking(ctx context.Context, wait func()) {
	if w, ok := ctx.Value(workersKey{}).(*WorkerPool); ok {
		w.block(wait)
	} else {
		wait()
	}
}
