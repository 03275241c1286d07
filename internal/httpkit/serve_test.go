package httpkit

import (
	"bufio"
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"stoa/internal/parking"
)

// serve runs routes on a real listener until the test ends.
func serve(t *testing.T, address string, routes ...Route) net.Addr {
	t.Helper()
	return serveWithin(t, address, DefaultTimes, routes...).Addr()
}

func serveWithin(t *testing.T, address string, times Times, routes ...Route) *Server {
	t.Helper()
	m, _ := testMux(t, Options{Times: times}, routes...)
	return serveMux(t, address, times, m)
}

// serveMux serves a Mux until the test ends.
func serveMux(t *testing.T, address string, times Times, m *Mux) *Server {
	t.Helper()
	return serveWith(t, address, m, ServerOptions{Times: times})
}

func serveWith(t *testing.T, address string, m *Mux, opt ServerOptions) *Server {
	t.Helper()
	l, err := Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	workers := parking.NewWorkerPool()
	t.Cleanup(workers.End)
	opt.Log, opt.Workers = slog.New(slog.DiscardHandler), workers
	s := NewServer(l, m, opt)
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	t.Cleanup(func() {
		if err := s.Drain(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestServer(t *testing.T) {
	t.Parallel()
	post := get("POST", "/", func(r *http.Request) (any, error) {
		b, err := ReadBody(r, 100_000)
		return greeting{string(b[:min(5, len(b))])}, err
	})
	for name, address := range map[string]string{
		"serves_ipv4":          "127.0.0.1:0",
		"serves_a_unix_socket": "unix:" + filepath.Join(t.TempDir(), "s"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := serve(t, address, post)
			c, err := net.Dial(addr.Network(), addr.String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			in := bufio.NewReader(c)
			for range 3 { // the connection is kept
				if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\nhello"+strings.Repeat("x", 69995)); err != nil {
					t.Fatal(err)
				}
				res, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(res.Body)
				if err != nil || string(body) != `{"hello":"hello"}` {
					t.Fatalf("%s, %v", body, err)
				}
			}
		})
	}
	t.Run("answers_413_to_a_declared_length_and_closes", func(t *testing.T) {
		t.Parallel()
		addr := serve(t, "127.0.0.1:0", post)
		c, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != 413 || !res.Close {
			t.Errorf("status %d, close %v", res.StatusCode, res.Close)
		}
	})
}

func TestListen(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sock")
	old, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix:" + path); err == nil {
		t.Fatal("took a socket that another program listens on")
	}
	old.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := Listen("unix:" + path)
	if err != nil {
		t.Fatal("a stale socket was not replaced:", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix:" + t.TempDir()); err == nil {
		t.Fatal("took a folder")
	}
}

// What is slow or half open is cut off; the test waits for that and would hang
// for ever if it did not happen.
func TestServerCutsOff(t *testing.T) {
	t.Parallel()
	const limit = 100 * time.Millisecond
	short := Times{Header: limit, Body: limit, Answer: limit, Idle: limit}
	read := get("POST", "/read", func(r *http.Request) (any, error) {
		_, err := ReadBody(r, 1<<30)
		return Empty{}, err
	})
	ignore := get("POST", "/ignore", func(*http.Request) (any, error) { return Empty{}, nil })
	hugeEnded := make(chan struct{})
	huge := Route{Method: "GET", Pattern: "/huge", Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		defer close(hugeEnded)
		if _, err := w.Write(make([]byte, 16<<20)); err == nil {
			t.Error("16 MiB were written to a client that reads nothing")
		}
	})}
	wait := get("GET", "/wait", func(r *http.Request) (any, error) {
		select { // longer than any limit: a long poll has none
		case <-time.After(3 * limit):
			return greeting{"waited"}, nil
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	})
	s := serveWithin(t, "127.0.0.1:0", short, read, ignore, huge, wait)
	ask := func(t *testing.T, request string) *bufio.Reader {
		t.Helper()
		c, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		return bufio.NewReader(c)
	}
	for name, c := range map[string]struct{ request, answer string }{
		"a_connection_without_a_request":   {"", ""},
		"half_a_header":                    {"GET /wait HTTP/1.1\r\nHost: a\r\nX", ""},
		"half_a_body":                      {"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345", "HTTP/1.1 408 "},
		"half_a_chunked_body":              {"POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n", "HTTP/1.1 408 "},
		"half_a_body_that_nobody_reads":    {"POST /ignore HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345", "HTTP/1.1 408 "},
		"an_idle_connection_after_a_poll":  {"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 "},
		"an_idle_connection_after_a_body":  {"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 200 "},
		"an_unknown_path_with_half_a_body": {"POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345", "HTTP/1.1 404 "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := ask(t, c.request)
			all, err := io.ReadAll(in) // ends when the server closes
			if err != nil || !strings.HasPrefix(string(all), c.answer) || (c.answer == "" && strings.HasPrefix(string(all), "HTTP/1.1 2")) {
				t.Errorf("%q, %v", all, err)
			}
		})
	}
	t.Run("a_client_that_takes_no_answer", func(t *testing.T) {
		t.Parallel()
		in := ask(t, "GET /huge HTTP/1.1\r\nHost: a\r\n\r\n")
		<-hugeEnded // the handler's write gave up, with nothing read here
		n, err := io.Copy(io.Discard, in)
		if n >= 16<<20 {
			t.Errorf("all %d bytes arrived, %v", n, err)
		}
	})
}

func TestDrainDoesNotWaitForUnusedConnections(t *testing.T) {
	t.Parallel()
	fine := get("GET", "/", func(*http.Request) (any, error) { return Empty{}, nil })
	s := serveWithin(t, "127.0.0.1:0", DefaultTimes, fine)
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// A request on another connection shows that the first was accepted.
	res, err := http.Get("http://" + s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	began := time.Now()
	if err := s.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("waited %v", took)
	}
}

// Whoever was accepted before a drain is served, though the request comes after it
// began, and is told that the connection ends.
func TestDrainServesWhoWasAccepted(t *testing.T) {
	t.Parallel()
	fine := get("GET", "/", func(*http.Request) (any, error) { return Empty{}, nil })
	s := serveWithin(t, "127.0.0.1:0", DefaultTimes, fine)
	var early []net.Conn
	for range 20 {
		c, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		early = append(early, c)
	}
	res, err := http.Get("http://" + s.Addr().String()) // they were accepted before this one
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	drained := make(chan error, 1)
	go func() { drained <- s.Drain(t.Context()) }()
	for { // until the listener has closed
		c, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			break
		}
		c.Close()
	}
	for _, c := range early {
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != 200 || !res.Close {
			t.Errorf("status %d, close %v", res.StatusCode, res.Close)
		}
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

// A server that winds down serves, new connections too, but keeps none.
func TestWindDown(t *testing.T) {
	t.Parallel()
	fine := get("GET", "/", func(*http.Request) (any, error) { return Empty{}, nil })
	s := serveWithin(t, "127.0.0.1:0", DefaultTimes, fine)
	for _, down := range []bool{false, true} {
		if down {
			s.WindDown()
		}
		for range 3 {
			res, err := http.Get("http://" + s.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			if err := res.Body.Close(); err != nil || res.StatusCode != 200 || res.Close != down {
				t.Errorf("status %d, close %v, %v", res.StatusCode, res.Close, err)
			}
		}
	}
}

// A busy connection that is kept ends with an answer, not between two.
func TestDrainEndsKeptConnectionsWithAnAnswer(t *testing.T) {
	t.Parallel()
	fine := get("GET", "/", func(*http.Request) (any, error) { return Empty{}, nil })
	s := serveWithin(t, "127.0.0.1:0", DefaultTimes, fine)
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in := bufio.NewReader(c)
	ask := func() *http.Response {
		t.Helper()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Fatal(err)
		}
		return res
	}
	ask()
	drained := make(chan error, 1)
	go func() { drained <- s.Drain(t.Context()) }()
	for !ask().Close {
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

// fullListener has no file descriptor left for the first connections.
type fullListener struct {
	net.Listener
	fails int
}

func (l *fullListener) Accept() (net.Conn, error) {
	if l.fails--; l.fails >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

func TestRunningOutOfFilesIsLogged(t *testing.T) {
	t.Parallel()
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m, _ := testMux(t, Options{}, Route{Method: "GET", Pattern: "/", Handler: Adapt(func(*http.Request) (Empty, error) { return Empty{}, nil })})
	workers := parking.NewWorkerPool()
	t.Cleanup(workers.End)
	var log safeBuffer
	s := NewServer(&fullListener{Listener: l, fails: 3}, m, ServerOptions{Log: slog.New(slog.NewTextHandler(&log, nil)), Workers: workers})
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	res, err := http.Get("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if err := s.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if text := log.String(); strings.Count(text, "the limit of open files is reached") != 1 || strings.Count(text, "accepted again") != 1 {
		t.Errorf("the log says\n%s", text)
	}
}

// safeBuffer is a buffer that several goroutines write to.
type safeBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
