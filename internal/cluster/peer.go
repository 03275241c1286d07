package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"stoa/internal/store"
)

// peer is another live instance. A goroutine pings it; requests are forwarded to it
// only while it answers.
type peer struct {
	store.Instance // as it was when it was first seen
	cluster        *Cluster
	config         *tls.Config
	// line is the connection for requests to the peer; nil: the next request dials.
	line atomic.Pointer[caller]
	// link is set while the peer answers.
	link atomic.Pointer[link]
	poke chan struct{} // capacity 1: ping now
	// draining: the peer has announced that it will stop, so its silence is no fault.
	draining atomic.Bool
	stop     context.CancelFunc
	queue    replicationQueue

	mu      sync.Mutex // guards the fields below; nothing is locked after it
	conns   map[*tracked]struct{}
	dialing *dialing // nil: no attempt to connect
	ended   bool     // no more attempts to connect
}

// tracked is a connection that its peer knows until it is closed.
type tracked struct {
	net.Conn
	peer *peer
}

// Close implements net.Conn.
func (t *tracked) Close() error {
	t.peer.mu.Lock()
	delete(t.peer.conns, t)
	t.peer.mu.Unlock()
	return t.Conn.Close()
}

func (p *peer) track(c net.Conn) *tracked {
	t := &tracked{c, p}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[t] = struct{}{}
	return t
}

// dialing is an attempt to connect. All requests to the peer wait for it.
type dialing struct {
	done chan struct{} // closed at the end; the fields below may be read after that
	line *caller
	err  error
}

// connect returns the connection for requests to the peer. It dials if there is none,
// and waits for that until ctx or gone ends.
func (p *peer) connect(ctx context.Context, gone <-chan struct{}) (*caller, error) {
	if l := p.line.Load(); l != nil {
		return l, nil
	}
	p.mu.Lock()
	d := p.dialing
	if d == nil {
		if l := p.line.Load(); l != nil || p.ended {
			ended := p.ended
			p.mu.Unlock()
			if ended {
				return nil, &dialError{errHungUp}
			}
			return l, nil
		}
		d = &dialing{done: make(chan struct{})}
		p.dialing = d
		p.cluster.runs.Go(func() { p.open(d) })
	}
	p.mu.Unlock()
	select {
	case <-d.done:
		return d.line, d.err
	case <-gone:
		return nil, errRefused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// open connects, and serves the connection until it ends.
func (p *peer) open(d *dialing) {
	conn, raw, err := p.dial(p.cluster.ctx)
	p.mu.Lock()
	p.dialing = nil
	switch {
	case err != nil:
		d.err = err
	case p.ended:
		d.err = &dialError{errHungUp}
	default:
		d.line = newCaller(p, conn, raw)
		p.line.Store(d.line)
	}
	p.mu.Unlock()
	close(d.done)
	switch {
	case d.line != nil:
		d.line.run()
	case err == nil:
		_ = raw.Close() // nothing was sent on it
	}
}

// dial connects. Any error is a dialError.
func (p *peer) dial(ctx context.Context) (*tls.Conn, *tracked, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cluster.opt.Times.Dial)
	defer cancel()
	plain, err := p.cluster.opt.Dial(ctx, p.Address)
	if err != nil {
		return nil, nil, &dialError{err}
	}
	raw := p.track(plain)
	conn := tls.Client(raw, p.config)
	if err := handshake(ctx, conn); err != nil {
		_ = raw.Close() // nothing was sent on it
		return nil, nil, &dialError{err}
	}
	return conn, raw, nil
}

// hangUp closes all connections. A new connection works at once after a network
// fault; an old one would wait for TCP to retransmit.
func (p *peer) hangUp() {
	p.mu.Lock()
	open := slices.Collect(maps.Keys(p.conns))
	p.mu.Unlock()
	if l := p.line.Load(); l != nil {
		l.close(errHungUp)
	}
	for _, t := range open {
		_ = t.Close() // whether it was open makes no difference
	}
}

// link ends when the peer stops answering, and with it the requests in flight.
type link struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
}

// errSilent says that a peer stopped answering while a request was in flight.
var errSilent = errors.New("the instance does not answer")

// dialError says that a request did not leave this instance.
type dialError struct{ err error }

func (e *dialError) Error() string { return fmt.Sprintf("connect: %v", e.err) }
func (e *dialError) Unwrap() error { return e.err }

func (c *Cluster) newPeer(i store.Instance) *peer {
	p := &peer{
		Instance: i, cluster: c, poke: make(chan struct{}, 1), conns: map[*tracked]struct{}{},
		config: c.identity.config(func(fingerprint string) bool { return fingerprint == i.Fingerprint }),
	}
	ctx, stop := context.WithCancel(c.ctx)
	p.stop = stop
	p.queue.wake = make(chan struct{}, 1)
	c.runs.Go(func() { p.watch(ctx) })
	for range replicationsAtOnce {
		c.runs.Go(func() { p.replicate(ctx) })
	}
	return p
}

// watch pings the peer until ctx ends.
func (p *peer) watch(ctx context.Context) {
	timer := time.NewTimer(p.cluster.opt.Times.Ping)
	defer timer.Stop()
	for {
		wait := p.cluster.opt.Times.Ping
		if err := p.ping(ctx); err == nil {
			p.up()
		} else if ctx.Err() == nil {
			p.down(err)
			wait = p.cluster.opt.Times.Again
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			p.mu.Lock()
			p.ended = true
			p.mu.Unlock()
			p.down(errSilent)
			return
		case <-timer.C:
		case <-p.poke:
		}
	}
}

func (p *peer) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.cluster.opt.Times.Silence)
	defer cancel()
	a, err := p.ask(ctx, nil, &question{host: p.Address, uri: pingPath, method: http.MethodGet})
	switch {
	case errors.Is(err, errRefused): // overloaded, but it answers
		return nil
	case err != nil:
		return err
	case a.status != http.StatusOK:
		return errors.New("its lease is in doubt")
	}
	return nil
}

// again asks for a ping now.
func (p *peer) again() {
	select {
	case p.poke <- struct{}{}:
	default: // a ping is already due
	}
}

func (p *peer) up() {
	if p.link.Load() != nil {
		return
	}
	ctx, cancel := context.WithCancelCause(context.Background()) // down ends it
	if p.link.CompareAndSwap(nil, &link{ctx, cancel}) {
		p.cluster.log.Info("connected to an instance", "instance", p.Name, "addr", p.Address)
	}
}

// down stops the use of the peer until it answers again. Requests in flight fail.
func (p *peer) down(err error) {
	l := p.link.Swap(nil)
	if l != nil {
		l.cancel(errSilent)
	}
	p.hangUp()
	if l == nil {
		p.cluster.log.Debug("an instance does not answer yet", "instance", p.Name, "addr", p.Address, "err", err)
		return
	}
	switch {
	case errors.Is(err, errSilent):
	case p.draining.Load():
		p.cluster.log.Info("an instance has stopped", "instance", p.Name)
	default:
		p.cluster.log.Warn("an instance does not answer", "instance", p.Name, "addr", p.Address, "err", err)
	}
}

// end stops the goroutines of a peer whose lease has ended.
func (p *peer) end() { p.stop() }
