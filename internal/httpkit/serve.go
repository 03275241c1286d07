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
)

// MaxConnections is how many connections a Server holds open; the next one
// waits in the kernel's queue until one ends.
const MaxConnections = 120_000

// maxHeader bounds the bytes of a request's line and headers.
const maxHeader = 64 << 10

// Listen opens a TCP address ("127.0.0.1:8008", "[::1]:8008", ":0") or, for
// "unix:PATH", a socket file that any user may connect to. A socket file that
// nobody listens on any more is replaced.
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
	if err := removeStaleSocket(path); err != nil {
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

// removeStaleSocket takes away what a killed server left behind.
func removeStaleSocket(path string) error {
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

// Server serves one handler on one listener with the time limits of this
// package: a header must be complete and an idle connection is closed within
// its Times; the bodies and answers of a Mux have theirs.
type Server struct {
	http     http.Server
	listener *parking

	mu     sync.Mutex            // guards unused; nothing is taken after it
	unused map[net.Conn]struct{} // connections on which nothing was asked yet
}

// NewServer makes a Server with DefaultTimes. With a TLS configuration it speaks
// TLS and HTTP/2.
func NewServer(l net.Listener, h http.Handler, t *tls.Config, log *slog.Logger) *Server {
	return newServer(l, h, t, log, DefaultTimes)
}

func newServer(l net.Listener, h http.Handler, t *tls.Config, log *slog.Logger, times Times) *Server {
	s := &Server{
		listener: newParking(&boundedListener{Listener: l, free: make(chan struct{}, MaxConnections)}, log),
		unused:   map[net.Conn]struct{}{},
	}
	s.http = http.Server{
		Handler:           h,
		TLSConfig:         t,
		ReadHeaderTimeout: times.Header,
		IdleTimeout:       times.Idle,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnState:         s.noteUse,
		ConnContext:       s.listener.connContext,
	}
	return s
}

// noteUse keeps the connections on which nothing was asked yet. Browsers open
// such ahead of time, and net/http would wait 5 s for each of them at the end.
func (s *Server) noteUse(c net.Conn, state http.ConnState) {
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

func (s *Server) closeUnused() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.unused {
		_ = c.Close() // nobody waits for anything on it
	}
}

// Addr is where the Server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Serve takes connections until Drain or Close; it returns nil then.
func (s *Server) Serve() error {
	var err error
	if s.http.TLSConfig != nil {
		err = s.http.ServeTLS(s.listener, "", "")
	} else {
		err = s.http.Serve(s.listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve on %s: %w", s.listener.Addr(), err)
}

// Drain takes no new connections and waits until the requests under way are
// answered or ctx ends; what is left then is cut off.
func (s *Server) Drain(ctx context.Context) error {
	s.http.RegisterOnShutdown(s.closeUnused) // runs once the listener is closed
	err := s.http.Shutdown(ctx)
	if err == nil {
		err = s.listener.wait(ctx)
	}
	if err != nil {
		err = errors.Join(fmt.Errorf("drain %s: %w", s.listener.Addr(), err), s.http.Close())
	}
	s.listener.watcher.close()
	// A Server that was never started must let go of its listener too.
	if closing := s.listener.Close(); closing != nil && !errors.Is(closing, net.ErrClosed) {
		err = errors.Join(err, fmt.Errorf("close %s: %w", s.listener.Addr(), closing))
	}
	return err
}

// boundedListener accepts at most cap(free) connections at a time.
type boundedListener struct {
	net.Listener
	free chan struct{}
}

func (l *boundedListener) Accept() (net.Conn, error) {
	l.free <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		return &boundedTCP{TCPConn: tcp, place: place{free: l.free}}, nil
	}
	return &boundedConn{Conn: c, place: place{free: l.free}}, nil
}

// place is one connection's part of the bound, given back once.
type place struct {
	free  chan struct{}
	given atomic.Bool
}

func (p *place) giveBack() {
	if p.given.CompareAndSwap(false, true) {
		<-p.free
	}
}

// boundedTCP keeps the methods of a TCP connection that net/http looks for.
type boundedTCP struct {
	*net.TCPConn
	place
}

func (c *boundedTCP) Close() error {
	defer c.giveBack()
	return c.TCPConn.Close()
}

type boundedConn struct {
	net.Conn
	place
}

func (c *boundedConn) Close() error {
	defer c.giveBack()
	return c.Conn.Close()
}
