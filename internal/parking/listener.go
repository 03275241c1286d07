package parking

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Options are the settings of a Listener.
type Options struct {
	Log *slog.Logger
	// Header is the time within which the header of a request must arrive.
	Header time.Duration
	// Answer is the time within which a client must take MaxWrite bytes of an answer.
	Answer time.Duration
	// Idle is how long a connection may be without a request.
	Idle time.Duration
	// ConnContext adds values to the context of a connection's requests, like that of http.Server. It is called again when a
	// connection is parked.
	ConnContext func(context.Context, net.Conn) context.Context
}

// MaxWrite is how much of an answer is written to a connection at a time, in bytes.
const MaxWrite = 256 << 10

// Listener is the listener of an http.Server. It accepts new connections, and parked ones that return to the server.
type Listener struct {
	net.Listener
	handler http.Handler // of requests on parked connections
	workers *WorkerPool
	opt     Options
	watcher *watcher // nil where connections can't be watched: none is parked then

	workerContext  context.Context // of work that a worker does
	requestContext context.Context // of requests on parked connections

	accepted chan accepted
	returned chan net.Conn
	closed   chan struct{} // closed when no new connection is accepted any more
	ended    chan struct{} // closed when all connections that were accepted have been handed on
	finished chan struct{} // closed when no connection returns any more
	dropped  chan struct{} // closed when Accept is not called any more

	start  func()       // begins to accept, once
	end    func()       // closes closed, once
	finish func()       // closes finished, once
	drop   func()       // closes dropped, once
	close  func() error // closes the inner Listener, once

	windingDown atomic.Bool    // every answer ends its connection
	closeIdle   atomic.Bool    // a connection without a request is closed
	requests    sync.WaitGroup // counts the parked connections that have a request
}

type accepted struct {
	conn net.Conn
	err  error
}

// New makes a Listener around another. The handler serves the requests on parked connections; it is the one of the http.Server
// that gets the Listener. Several Listeners may share the workers.
func New(l net.Listener, h http.Handler, w *WorkerPool, opt Options) *Listener {
	p := &Listener{
		Listener: l, handler: h, workers: w, opt: opt,
		accepted: make(chan accepted), returned: make(chan net.Conn),
		closed: make(chan struct{}), ended: make(chan struct{}), finished: make(chan struct{}), dropped: make(chan struct{}),
	}
	p.workerContext = context.WithValue(context.Background(), workersKey{}, w)
	p.requestContext = context.WithValue(p.workerContext, originKey{}, origin{waited: true})
	p.start = sync.OnceFunc(func() { go p.accept() })
	p.end = sync.OnceFunc(func() { close(p.closed) })
	p.finish = sync.OnceFunc(func() { close(p.finished) })
	p.drop = sync.OnceFunc(func() { close(p.dropped) })
	p.close = sync.OnceValue(l.Close)
	var err error
	if p.watcher, err = newWatcher(); err != nil {
		opt.Log.Warn("requests that wait take more memory than they need: their connections can't be watched", "err", err)
	}
	if p.watcher != nil {
		go p.closeOverdue()
	}
	return p
}

// accept passes new connections to Accept until the listener closes. Connections that were accepted before are served: their
// requests may be on the way.
func (p *Listener) accept() {
	defer close(p.ended)
	for {
		c, err := p.Listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		select {
		case p.accepted <- accepted{c, err}:
		case <-p.dropped:
			if c != nil {
				_ = c.Close() // nothing serves it any more
			}
		}
	}
}

// Accept implements net.Listener. After Close it returns the connections that return from parking, until CloseIdle.
func (p *Listener) Accept() (net.Conn, error) {
	p.start()
	select {
	case a := <-p.accepted:
		return a.conn, a.err
	case c := <-p.returned:
		return c, nil
	case <-p.ended:
	}
	select {
	case c := <-p.returned:
		return c, nil
	case <-p.finished:
		return nil, net.ErrClosed
	}
}

// HasEnded reports whether the server has all connections that were accepted before Close.
func (p *Listener) HasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// Close implements net.Listener. Parked connections stay.
func (p *Listener) Close() error {
	p.end()
	return p.close() // net/http closes it again
}

// Abandon declares that Accept is not called any more. Connections that it would return are closed.
func (p *Listener) Abandon() { p.drop() }

// WindDown makes every answer on a parked connection the last on it.
func (p *Listener) WindDown() { p.windingDown.Store(true) }

// IsWindingDown reports whether WindDown was called.
func (p *Listener) IsWindingDown() bool { return p.windingDown.Load() }

// CloseIdle closes the parked connections without a request, and from now on each after its answer. No connection returns to the
// server after it.
func (p *Listener) CloseIdle() {
	p.closeIdle.Store(true)
	p.closeIdleFor(0)
	p.finish()
}

// Shutdown waits until no request is parked, or ctx ends. No connection is watched after it.
func (p *Listener) Shutdown(ctx context.Context) error {
	defer p.watcher.close()
	done := make(chan struct{})
	go func() {
		p.requests.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// closeIdleFor closes the connections that have had no request for some time.
func (p *Listener) closeIdleFor(least time.Duration) {
	if p.watcher == nil {
		return
	}
	for _, c := range p.watcher.all() {
		if c.takeIdle(least) {
			c.drop()
		}
	}
}

// closeOverdue closes connections that have been idle for too long, until Close.
func (p *Listener) closeOverdue() {
	tick := time.NewTicker(max(p.opt.Idle/8, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.closeIdleFor(p.opt.Idle)
		case <-p.closed:
			return
		}
	}
}

type originKey struct{}

// origin is the connection of a request.
type origin struct {
	listener *Listener
	raw      syscall.RawConn // nil for a connection that can't be parked
	waited   bool            // its last request waited for long, or it is parked already
}

// ConnContext is the ConnContext of the http.Server; without it, requests can't be parked.
func (p *Listener) ConnContext(ctx context.Context, c net.Conn) context.Context {
	from := origin{listener: p}
	if again, ok := c.(*returnedConn); ok {
		c, from.waited = again.Conn, again.waited
	}
	if system, ok := socketOf(c).(syscall.Conn); ok && p.watcher != nil {
		from.raw, _ = system.SyscallConn() // an error means that it is closed already
	}
	return p.opt.ConnContext(context.WithValue(ctx, originKey{}, from), c)
}

// Wrapper is a connection around another that does not change what is written: parking reads and writes the inner one.
type Wrapper interface {
	net.Conn
	Socket() net.Conn
}

// socketOf returns a connection as package net made it. It can be watched, and takes several buffers in one system call.
func socketOf(c net.Conn) net.Conn {
	if around, ok := c.(Wrapper); ok {
		return around.Socket()
	}
	return c
}
