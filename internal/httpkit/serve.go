package httpkit

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"stoa/internal/parking"
)

// MaxConnections bounds the open connections of a Server. Further ones wait in the
// kernel's queue.
const MaxConnections = 120_000

// maxHeader bounds the bytes of a request's line and headers.
const maxHeader = 64 << 10

// Listen opens a TCP address ("127.0.0.1:8008", "[::1]:8008", ":0") or, for "unix:PATH",
// a socket file that any user may connect to. It replaces a stale socket file.
func Listen(address string) (net.Listener, error) {
	path, isUnix := strings.CutPrefix(address, "unix:")
	if !isUnix {
		l, err := net.Listen("tcp", address)
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("listen on %s: another program has this address; stop it or choose another: %w", address, err)
		}
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", address, err)
		}
		return l, nil
	}
	if err := RemoveStaleSocket(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on unix socket %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		return nil, errors.Join(fmt.Errorf("open unix socket %s to other users: %w", path, err), l.Close())
	}
	return l, nil
}

// RemoveStaleSocket removes the socket of a killed server.
func RemoveStaleSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at unix socket %s: %w", path, err)
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("listen on unix socket %s: there is a file of that name that is no socket; move it away", path)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = c.Close() // nothing was sent on it
		return fmt.Errorf("listen on unix socket %s: another program listens there", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the old unix socket %s: %w", path, err)
	}
	return nil
}

// Server serves one handler on one listener with timeouts for the headers of requests and
// for idle connections. A Mux has its own for bodies and answers.
type Server struct {
	http     http.Server
	listener *parking.Listener
	open     chan struct{} // has one entry for each open connection
	serving  atomic.Bool

	mu     sync.Mutex            // guards unused; nothing is locked after it
	unused map[net.Conn]struct{} // connections without a request so far
}

// ServerOptions configure a Server.
type ServerOptions struct {
	Log *slog.Logger
	// Workers render the answers of parked connections. Several servers may share them.
	Workers *parking.WorkerPool
	// TLS makes the server speak TLS and HTTP/2; nil = neither.
	TLS *tls.Config
	// Times are the timeouts; zero = DefaultTimes.
	Times Times
	// HeaderLimits bound incomplete headers; nil = no bounds.
	HeaderLimits *HeaderLimits
}

// NewServer returns a Server for a handler on a listener.
func NewServer(l net.Listener, h http.Handler, opt ServerOptions) *Server {
	times, log := opt.Times, opt.Log
	if times == (Times{}) {
		times = DefaultTimes
	}
	open := make(chan struct{}, MaxConnections)
	bounded := &boundedListener{Listener: l, free: open, closed: make(chan struct{}), log: log, headerLimits: opt.HeaderLimits}
	s := &Server{
		listener: parking.New(bounded, h, opt.Workers, parking.Options{
			Log: log, Header: times.Header, Answer: times.Answer, Idle: times.Idle, ConnContext: noteProxyHeader,
		}),
		open:   open,
		unused: map[net.Conn]struct{}{},
	}
	s.http = http.Server{
		Handler:           s.lastly(h),
		TLSConfig:         opt.TLS,
		ReadHeaderTimeout: times.Header,
		IdleTimeout:       times.Idle,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnState:         s.noteUse,
		ConnContext:       s.listener.ConnContext,
		// OPTIONS * is answered like any other request.
		DisableGeneralOptionsHandler: true,
	}
	return s
}

// noteUse tracks connections without a request so far. Browsers open some ahead of time,
// and net/http would wait 5 s for each of them at the end.
//
// It also starts and ends the count of the bytes of a connection's header.
func (s *Server) noteUse(c net.Conn, state http.ConnState) {
	if a := headerReadOf(c); a != nil {
		switch state {
		case http.StateNew, http.StateIdle: // new is also one that was parked
			a.await()
		case http.StateActive, http.StateHijacked, http.StateClosed:
			a.end()
		}
	}
	if state == http.StateIdle { // was active before
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.unused[c] = struct{}{}
	case http.StateActive, http.StateClosed, http.StateHijacked:
		delete(s.unused, c)
	}
}

// unusedTime is how long a draining Server waits for the first request on a new
// connection. It may be on its way, above all if the connection waited in the queue of a
// listener that other processes hold open too.
const unusedTime = time.Second

// keptTime is how long it waits for the next request on kept-alive connections, so that
// busy ones end with an answer.
const keptTime = 250 * time.Millisecond

// settle waits until each accepted connection has had a request, or unusedTime has
// passed, and closes those without one.
func (s *Server) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, unusedTime)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for s.serving.Load() && !s.listener.HasEnded() || s.countUnused() > 0 || len(s.open) > 0 && time.Since(began) < keptTime {
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.closeUnused()
			return
		}
	}
}

func (s *Server) countUnused() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.unused)
}

func (s *Server) closeUnused() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.unused {
		_ = c.Close() // no request is waiting on it
	}
}

// Addr is the address of the listener.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Serve accepts connections until Drain or Close; then it returns nil.
func (s *Server) Serve() error {
	s.serving.Store(true)
	defer s.serving.Store(false)
	defer s.listener.Abandon()
	var err error
	if s.http.TLSConfig != nil {
		err = s.http.ServeTLS(s.listener, "", "")
	} else {
		err = s.http.Serve(s.listener)
	}
	if errors.Is(err, http.ErrServerClosed) || s.listener.IsWindingDown() && errors.Is(err, net.ErrClosed) {
		return nil
	}
	return fmt.Errorf("serve on %s: %w", s.listener.Addr(), err)
}

// closeConnection is shared and full, like the cross-origin headers.
var closeConnection = []string{"close"}

// lastly makes answers close their connections once the Server winds down, like those of
// parked connections.
func (s *Server) lastly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.listener.IsWindingDown() {
			w.Header()["Connection"] = closeConnection
		}
		h.ServeHTTP(w, r)
	})
}

// WindDown goes on serving, new connections too, but from now on each answer closes its
// connection, so that clients and balancers drop theirs.
func (s *Server) WindDown() { s.listener.WindDown() }

// Drain accepts no more connections and waits until the requests in progress are answered
// or ctx ends; then it closes the rest. Accepted connections are still served.
func (s *Server) Drain(ctx context.Context) error {
	s.WindDown()
	closing := s.listener.Close()
	if errors.Is(closing, net.ErrClosed) {
		closing = nil // drained before
	}
	s.settle(ctx) // from the next line on, net/http drops requests that it has just read
	s.listener.CloseIdle()
	err := s.http.Shutdown(ctx)
	if parked := s.listener.Shutdown(ctx); err == nil {
		err = parked
	}
	if err != nil {
		err = errors.Join(fmt.Errorf("drain %s: %w", s.listener.Addr(), err), s.http.Close())
	}
	if closing != nil {
		err = errors.Join(err, fmt.Errorf("close %s: %w", s.listener.Addr(), closing))
	}
	return err
}

// boundedListener accepts at most cap(free) connections at a time.
type boundedListener struct {
	net.Listener
	free   chan struct{}
	closed chan struct{}
	once   sync.Once
	log    *slog.Logger
	failed failures

	headerLimits *HeaderLimits
}

// failures tracks whether accepting connections fails, for the log. Only the accepting
// goroutine uses it.
type failures struct {
	since  time.Time // of the first failure after a success
	logged time.Time // the last log entry
}

// failuresLogged is the interval of log entries while connections can't be accepted.
const failuresLogged = time.Minute

// note logs that connections can't be accepted, mostly for lack of file descriptors, and
// that they can be again.
func (f *failures) note(log *slog.Logger, now time.Time, err error) {
	switch {
	case err == nil && f.since.IsZero():
	case err == nil:
		log.Info("connections are accepted again", "took_ms", now.Sub(f.since).Milliseconds())
		*f = failures{}
	case errors.Is(err, net.ErrClosed):
	case now.Sub(f.logged) >= failuresLogged:
		advice := "connections can't be accepted"
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
			advice = "connections can't be accepted: the limit of open files is reached; raise it (LimitNOFILE= in systemd, ulimit -n)"
		}
		log.Error(advice, "err", err)
		if f.logged = now; f.since.IsZero() {
			f.since = now
		}
	}
}

func (l *boundedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

func (l *boundedListener) Accept() (net.Conn, error) {
	select {
	case l.free <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	for {
		c, err := l.Listener.Accept()
		l.failed.note(l.log, time.Now(), err)
		if err != nil {
			<-l.free
			return nil, err
		}
		bounded, at := l.bound(c)
		if at.begin(l.headerLimits, c) {
			return bounded, nil
		}
		_ = c.Close() // no request is waiting on it
	}
}

// bound gives a connection its place.
func (l *boundedListener) bound(c net.Conn) (net.Conn, *headerRead) {
	if tcp, ok := c.(*net.TCPConn); ok {
		b := &boundedTCP{TCPConn: tcp, place: place{free: l.free}}
		return b, &b.headerRead
	}
	b := &boundedConn{Conn: c, place: place{free: l.free}}
	return b, &b.headerRead
}

// place is one connection's share of the bounds, returned once.
type place struct {
	free       chan struct{}
	given      atomic.Bool
	headerRead headerRead
}

func (p *place) giveBack() {
	p.headerRead.close()
	if p.given.CompareAndSwap(false, true) {
		<-p.free
	}
}

// boundedTCP keeps the methods of a TCP connection that net/http looks for.
type boundedTCP struct {
	*net.TCPConn
	place
	proxy proxyHeader
}

// Socket implements parking.Wrapper.
func (c *boundedTCP) Socket() net.Conn { return c.TCPConn }

// Read implements net.Conn.
func (c *boundedTCP) Read(b []byte) (int, error) {
	return c.headerRead.count(c.proxy.from(c.TCPConn, b))
}

func (c *boundedTCP) Close() error {
	defer c.giveBack()
	return c.TCPConn.Close()
}

type boundedConn struct {
	net.Conn
	place
	proxy proxyHeader
}

// Socket implements parking.Wrapper.
func (c *boundedConn) Socket() net.Conn { return c.Conn }

// Read implements net.Conn.
func (c *boundedConn) Read(b []byte) (int, error) { return c.headerRead.count(c.proxy.from(c.Conn, b)) }

func (c *boundedConn) Close() error {
	defer c.giveBack()
	return c.Conn.Close()
}
