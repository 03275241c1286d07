package cluster

import (
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"stoa/internal/httpkit"
)

// An instance sends what it has committed to its peers, so that they need not read it
// from the database. A batch may be lost: peers then read the stream.

const (
	// replicationPath is where peers receive batches. The number is the version of the
	// format: an instance of another release answers 404, and reads the database.
	replicationPath = "/_stoa/groups/2"
	// replicationBacklog bounds the bytes that wait for one peer, without those that are
	// being sent. It is what a peer accepts in one request.
	replicationBacklog = httpkit.MaxBody
	// replicationsAtOnce bounds the batches in flight to one peer. A busy peer answers
	// after tens of milliseconds; with one batch in flight, waiting syncs there would wait
	// that much longer for the next.
	replicationsAtOnce = 4
	// replicationPause is how long nothing is sent to a peer that needs no more for now.
	replicationPause = time.Second
)

// replicationQueue holds what waits to be sent to a peer. It grows while
// replicationsAtOnce batches are in flight.
type replicationQueue struct {
	mu      sync.Mutex // guards pending; nothing is locked after it
	pending []byte
	wake    chan struct{} // capacity 1
	// pausedUntil is the time before which nothing is sent, in ms since 1970.
	pausedUntil atomic.Int64
}

// OnReplicated sets the function that receives the batches of peers. Several goroutines
// call f, and one batch may overtake another. f keeps no reference to the batch, and
// reports whether this instance needs more for now.
func (c *Cluster) OnReplicated(f func([]byte) (more bool, err error)) { c.onReplicated.Store(&f) }

// Replicate sends what f appends to all peers that answer and need it. It does not
// block, and does not call f if there are no such peers.
func (c *Cluster) Replicate(f func([]byte) []byte) {
	v := c.view.Load()
	if v == nil {
		return
	}
	var batch []byte
	now := c.opt.Clock()
	for _, p := range v.peers {
		if p.link.Load() == nil || now.UnixMilli() < p.queue.pausedUntil.Load() {
			continue
		}
		if batch == nil {
			batch = f(nil)
		}
		p.enqueue(batch)
	}
}

func (p *peer) enqueue(batch []byte) {
	p.queue.mu.Lock()
	full := len(p.queue.pending)+len(batch) > replicationBacklog
	if !full {
		p.queue.pending = append(p.queue.pending, batch...)
	}
	p.queue.mu.Unlock()
	if full {
		p.cluster.metrics.replicationLost.Add(uint64(len(batch)))
		return
	}
	select {
	case p.queue.wake <- struct{}{}:
	default:
	}
}

// replicate sends the queue's batches until ctx ends. Each goroutine that runs it has
// one batch in flight.
func (p *peer) replicate(ctx context.Context) {
	var spare []byte
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.queue.wake:
		}
		p.queue.mu.Lock()
		batch := p.queue.pending
		p.queue.pending = spare[:0]
		p.queue.mu.Unlock()
		if len(batch) > 0 {
			p.sendBatch(ctx, batch)
		}
		if spare = batch; cap(spare) > keptOutbox {
			spare = nil
		}
	}
}

func (p *peer) sendBatch(ctx context.Context, batch []byte) {
	m := &p.cluster.metrics
	l := p.link.Load()
	if l == nil {
		m.replicationLost.Add(uint64(len(batch)))
		return
	}
	ctx, cancel := context.WithTimeout(ctx, p.cluster.opt.Times.Silence)
	defer cancel()
	a, err := p.ask(ctx, l.ctx.Done(), &question{method: http.MethodPost, host: p.Address, uri: replicationPath, body: batch})
	if err != nil || a.status >= http.StatusBadRequest { // refused by another release, it may be
		p.cluster.log.Debug("a batch was not replicated", "instance", p.Name, "err", err)
		m.replicationLost.Add(uint64(len(batch)))
	} else {
		m.replicated.Add(uint64(len(batch)))
	}
	if err != nil || a.status != http.StatusOK {
		p.queue.pausedUntil.Store(p.cluster.opt.Clock().Add(replicationPause).UnixMilli())
	}
}

// serveReplication receives a batch of a peer.
func (c *Cluster) serveReplication(w http.ResponseWriter, r *http.Request) {
	take := c.onReplicated.Load()
	if take == nil || r.Method != http.MethodPost {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	batch, err := io.ReadAll(http.MaxBytesReader(w, r.Body, httpkit.MaxBody))
	more := true
	if err == nil {
		more, err = (*take)(batch)
	}
	switch {
	case err != nil:
		c.log.Warn("a replicated batch can't be read", "err", err)
		w.WriteHeader(http.StatusBadRequest)
	case !more:
		w.WriteHeader(http.StatusAccepted)
	}
}
