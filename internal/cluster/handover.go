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

// What an instance has committed is handed to the others, so that they need not read
// it. It may be lost: they find it in the store.

const (
	// handPath is where other instances are handed what was committed. It names the
	// form in which that stands: one of another release answers 404, and reads.
	handPath = "/_stoa/groups/2"
	// handLimit bounds what waits for one peer, in bytes, beside what is on its way: as
	// much as is taken at a time.
	handLimit = httpkit.MaxBody
	// handsAtOnce bounds the pieces on their way to one peer. On a busy machine the
	// answer to one takes tens of milliseconds, in which the next would wait here, and
	// with them whoever waits for news at the peer.
	handsAtOnce = 4
	// handRest is how long a peer that has enough for now is handed nothing.
	handRest = time.Second
)

// outgo is what is to be handed to a peer. While handsAtOnce pieces are on their way the
// next gathers.
type outgo struct {
	mu       sync.Mutex // guards gathered; nothing is taken after it
	gathered []byte
	wake     chan struct{} // capacity 1
	// rests is until when nothing is handed, in ms since 1970.
	rests atomic.Int64
}

// OnHanded has f called with what other instances hand over, by several goroutines: one
// piece may overtake another. f keeps nothing of it, and says whether more is of use at
// present.
func (c *Cluster) OnHanded(f func([]byte) (more bool, err error)) { c.onHanded.Store(&f) }

// Hand hands what f appends to all other instances that answer and want it. It does not
// wait, and f is not called if there are none.
func (c *Cluster) Hand(f func([]byte) []byte) {
	v := c.view.Load()
	if v == nil {
		return
	}
	var piece []byte
	now := c.opt.Clock()
	for _, p := range v.peers {
		if p.link.Load() == nil || now.UnixMilli() < p.outgo.rests.Load() {
			continue
		}
		if piece == nil {
			piece = f(nil)
		}
		p.gather(piece)
	}
}

func (p *peer) gather(piece []byte) {
	p.outgo.mu.Lock()
	full := len(p.outgo.gathered)+len(piece) > handLimit
	if !full {
		p.outgo.gathered = append(p.outgo.gathered, piece...)
	}
	p.outgo.mu.Unlock()
	if full {
		p.cluster.metrics.handLost.Add(uint64(len(piece)))
		return
	}
	select {
	case p.outgo.wake <- struct{}{}:
	default:
	}
}

// handOver sends what gathers until ctx ends. Each of the goroutines that run it has
// one piece on its way.
func (p *peer) handOver(ctx context.Context) {
	var spare []byte
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.outgo.wake:
		}
		p.outgo.mu.Lock()
		piece := p.outgo.gathered
		p.outgo.gathered = spare[:0]
		p.outgo.mu.Unlock()
		if len(piece) > 0 {
			p.handPiece(ctx, piece)
		}
		if spare = piece; cap(spare) > keptOutbox {
			spare = nil
		}
	}
}

func (p *peer) handPiece(ctx context.Context, piece []byte) {
	m := &p.cluster.metrics
	l := p.link.Load()
	if l == nil {
		m.handLost.Add(uint64(len(piece)))
		return
	}
	ctx, cancel := context.WithTimeout(ctx, p.cluster.opt.Times.Silence)
	defer cancel()
	a, err := p.ask(ctx, l.ctx.Done(), &question{method: http.MethodPost, host: p.Address, uri: handPath, body: piece})
	if err != nil || a.status >= http.StatusBadRequest { // refused by another release, it may be
		p.cluster.log.Debug("what was committed was not handed over", "instance", p.Name, "err", err)
		m.handLost.Add(uint64(len(piece)))
	} else {
		m.handed.Add(uint64(len(piece)))
	}
	if err != nil || a.status != http.StatusOK {
		p.outgo.rests.Store(p.cluster.opt.Clock().Add(handRest).UnixMilli())
	}
}

// takeHanded takes what another instance hands over.
func (c *Cluster) takeHanded(w http.ResponseWriter, r *http.Request) {
	take := c.onHanded.Load()
	if take == nil || r.Method != http.MethodPost {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	piece, err := io.ReadAll(http.MaxBytesReader(w, r.Body, httpkit.MaxBody))
	more := true
	if err == nil {
		more, err = (*take)(piece)
	}
	switch {
	case err != nil:
		c.log.Warn("what another instance handed over can't be read", "err", err)
		w.WriteHeader(http.StatusBadRequest)
	case !more:
		w.WriteHeader(http.StatusAccepted)
	}
}
