package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// anyone accepts every fingerprint.
func anyone(t testing.TB) *tls.Config {
	t.Helper()
	id, err := newIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return id.config(func(string) bool { return true })
}

// wires returns both ends of a connection.
func wires(t testing.TB) (near, far *tls.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return shake(t, a, b)
}

func shake(t testing.TB, a, b net.Conn) (near, far *tls.Conn) {
	t.Helper()
	near, far = tls.Client(a, anyone(t)), tls.Server(b, anyone(t))
	shaken := make(chan error, 1)
	go func() { shaken <- far.HandshakeContext(t.Context()) }()
	if err := errors.Join(near.HandshakeContext(t.Context()), <-shaken); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = a.Close() // they may be closed already
		_ = b.Close()
	})
	return near, far
}

// calls makes a caller on one end.
func calls(t testing.TB, near *tls.Conn) *caller {
	t.Helper()
	p := &peer{conns: map[*tracked]struct{}{}}
	l := newCaller(p, near, near.NetConn())
	p.line.Store(l)
	var runs sync.WaitGroup
	runs.Go(l.run)
	t.Cleanup(func() {
		l.close(errHungUp)
		runs.Wait()
	})
	return l
}

// answers serves a handler on one end. ended is closed when the connection has ended.
func answers(t testing.TB, far *tls.Conn, handler http.HandlerFunc) (c *Cluster, ended chan struct{}) {
	t.Helper()
	c, ended = &Cluster{log: slog.New(slog.NewTextHandler(testLog{t}, nil))}, make(chan struct{})
	go func() {
		defer close(ended)
		c.answer(far, handler)
	}()
	t.Cleanup(func() {
		_ = far.NetConn().Close() // as above
		<-ended
	})
	return c, ended
}

// never is the end of a link that never ends.
var never = make(chan struct{})

func put(body string) *question { return &question{method: "PUT", uri: "/", body: []byte(body)} }

func TestCaller_gives_each_its_own_answer(t *testing.T) {
	t.Parallel()
	near, far := wires(t)
	answers(t, far, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || int64(len(body)) != r.ContentLength {
			t.Error(len(body), r.ContentLength, err)
		}
		w.Header()["X-Path"] = []string{r.URL.Path, r.URL.RawQuery, r.Host, r.Header.Get("X-Name"), r.Header.Get(addressHeader)}
		w.WriteHeader(201)
		_, _ = w.Write(body)
	})
	l := calls(t, near)
	sizes := []int{0, 1, 100, 5_000, 16 << 10, inbox - headSize, inbox, 300_000, maxBody}
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			for j := range 10 {
				size := sizes[(i+j)%len(sizes)]
				body := bytes.Repeat([]byte{byte(i)}, size)
				name := strings.Repeat("x", i*j)
				a, err := l.ask(t.Context(), never, &question{
					method: "PUT", uri: fmt.Sprintf("/a%d?b=%d", i, j), host: "example.org", address: "1.2.3.4:5", body: body,
					header: http.Header{"X-Name": {name}, "Connection": {"close"}},
				})
				if err != nil {
					t.Error(err)
					return
				}
				want := fmt.Sprint([]string{fmt.Sprint("/a", i), fmt.Sprint("b=", j), "example.org", name, "1.2.3.4:5"})
				if a.status != 201 || !bytes.Equal(a.body, body) || fmt.Sprint(a.header["X-Path"]) != want {
					t.Errorf("%d of %d bytes, %v", a.status, len(a.body), a.header)
				}
			}
		})
	}
	all.Wait()
}

func TestCaller_tells_who_goes_away(t *testing.T) {
	t.Parallel()
	near, far := wires(t)
	begun, ended := make(chan struct{}, 1), make(chan struct{}, 1)
	answers(t, far, func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 {
			return
		}
		begun <- struct{}{}
		<-r.Context().Done()
		ended <- struct{}{}
	})
	l := calls(t, near)
	for name, gone := range map[string]bool{"the client": false, "the link": true} {
		ctx, cancel := context.WithCancel(t.Context())
		link := make(chan struct{})
		go func() {
			<-begun
			if gone {
				close(link)
			} else {
				cancel()
			}
		}()
		_, err := l.ask(ctx, link, put("x"))
		if want := map[bool]error{false: context.Canceled, true: errSilent}[gone]; !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
		<-ended
		cancel()
	}
	if a, err := l.ask(t.Context(), never, put("")); err != nil || a.status != 200 {
		t.Errorf("the next: %v, %v", a, err)
	}
}

func TestCallee_says_what_has_no_answer(t *testing.T) {
	t.Parallel()
	near, far := wires(t)
	answers(t, far, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/abort":
			panic(http.ErrAbortHandler)
		case "/large":
			if _, err := w.Write(make([]byte, maxAnswer)); err != nil {
				t.Error(err)
			}
			if _, err := w.Write([]byte{0}); err == nil {
				t.Error("an answer that is too large was taken")
			}
		case "/header":
			w.Header().Set("X", strings.Repeat("x", maxBlock))
		}
	})
	l := calls(t, near)
	for _, path := range []string{"/abort", "/large", "/header"} {
		if _, err := l.ask(t.Context(), never, &question{method: "GET", uri: path}); !errors.Is(err, errBroken) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := l.ask(t.Context(), never, &question{method: "GET", uri: "no path"}); !errors.Is(err, errRefused) {
		t.Errorf("a path that is none: %v", err)
	}
	if _, err := l.ask(t.Context(), never, &question{method: "GET", uri: "/"}); err != nil {
		t.Errorf("the next: %v", err)
	}
}

func TestCallee_hangs_up_on_nonsense(t *testing.T) {
	t.Parallel()
	request, err := appendRequest(nil, 1, put("x"))
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]string{
		"the same stream twice":     string(request) + string(request),
		"a cancel before its time":  "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x02",
		"an answer to no question":  "\x00\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x01\x03\x64\x00",
		"the half of a request":     string(request[:len(request)-1]),
		"a request, then half head": string(request) + "\x00\x00",
	}
	for name, data := range malformed {
		cases[name] = data
	}
	for name, data := range cases {
		near, far := wires(t)
		_, ended := answers(t, far, func(http.ResponseWriter, *http.Request) {})
		if _, err := near.Write([]byte(data)); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(name, "half") {
			if err := near.CloseWrite(); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			t.Errorf("%s: the connection goes on", name)
		}
	}
}

func TestCaller_hangs_up_on_nonsense(t *testing.T) {
	t.Parallel()
	cases := map[string]string{
		"a request":                    "\x00\x00\x00\x05\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x01\x01\x01a\x01/\x00\x00",
		"an answer to what is to come": "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x63\x04",
	}
	for name, data := range malformed {
		cases[name] = data
	}
	for name, data := range cases {
		near, far := wires(t)
		l := calls(t, near)
		go func() {
			_, _ = far.Read(make([]byte, 1)) // the request has come
			_, _ = far.Write([]byte(data))
		}()
		if _, err := l.ask(t.Context(), never, put("x")); err == nil || errors.Is(err, errUnsent) || errors.Is(err, errRefused) {
			t.Errorf("%s: %v", name, err)
		}
		if l.peer.line.Load() != nil {
			t.Errorf("%s: the connection is still used", name)
		}
	}
}

// TestCaller_knows_what_was_not_sent when the connection breaks: requests that did not
// leave are unsent, the outcome of others is unknown.
func TestCaller_knows_what_was_not_sent(t *testing.T) {
	t.Parallel()
	a, b := net.Pipe() // a pipe without a buffer: writes wait for reads
	near, _ := shake(t, a, b)
	l := calls(t, near)
	sent, unsent := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := l.ask(t.Context(), never, put("x"))
		sent <- err
	}()
	batch := func() (uint64, int) {
		l.out.mu.Lock()
		defer l.out.mu.Unlock()
		return l.out.batch, len(l.calls)
	}
	until(t, 5*time.Second, "the first is handed on", func() bool { n, _ := batch(); return n == 1 })
	go func() {
		_, err := l.ask(t.Context(), never, put("x"))
		unsent <- err
	}()
	until(t, 5*time.Second, "the second waits", func() bool { _, n := batch(); return n == 2 })
	l.close(errHungUp)
	if err := <-sent; err == nil || errors.Is(err, errUnsent) {
		t.Errorf("what may have been sent: %v", err)
	}
	if err := <-unsent; !errors.Is(err, errUnsent) {
		t.Errorf("what was not sent: %v", err)
	}
	if _, err := l.ask(t.Context(), never, put("x")); !errors.Is(err, errUnsent) {
		t.Errorf("after the end: %v", err)
	}
}

func TestCaller_loses_what_the_peer_has(t *testing.T) {
	t.Parallel()
	near, far := wires(t)
	begun, ended := make(chan struct{}), make(chan struct{})
	answers(t, far, func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
		close(ended)
	})
	l := calls(t, near)
	go func() {
		<-begun
		_ = far.NetConn().Close()
	}()
	if _, err := l.ask(t.Context(), never, put("x")); err == nil || errors.Is(err, errUnsent) || errors.Is(err, errRefused) {
		t.Error(err)
	}
	<-ended
}

// gatheredWhenFull waits until an outbox is full, and returns its bytes.
func gatheredWhenFull(t *testing.T, o *outbox) int {
	t.Helper()
	gathered := func() int {
		o.mu.Lock()
		defer o.mu.Unlock()
		return len(o.gathered)
	}
	until(t, 5*time.Second, "it is full", func() bool { return gathered() >= maxGathered })
	return gathered()
}

// TestCaller_is_bounded_when_the_peer_never_reads: further requests wait until their
// context ends.
func TestCaller_is_bounded_when_the_peer_never_reads(t *testing.T) {
	t.Parallel()
	a, b := net.Pipe()
	near, _ := shake(t, a, b)
	l := calls(t, near)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	body := strings.Repeat("x", maxBody)
	for range 32 {
		all.Go(func() {
			if _, err := l.ask(ctx, never, put(body)); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	if n := gatheredWhenFull(t, &l.out); n > maxGathered+headSize+maxBlock+maxBody {
		t.Errorf("%d bytes have gathered", n)
	}
	cancel()
	all.Wait()
}

// TestCallee_is_bounded_when_the_peer_never_reads: it stops reading.
func TestCallee_is_bounded_when_the_peer_never_reads(t *testing.T) {
	t.Parallel()
	a, b := net.Pipe()
	near, far := shake(t, a, b)
	c, _ := answers(t, far, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, maxAnswer)) })
	for i := range uint64(32) {
		data, err := appendRequest(nil, i+1, put("x"))
		if err != nil {
			t.Fatal(err)
		}
		if err := near.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := near.Write(data); err != nil {
			break // it has stopped reading
		}
	}
	var e *callee
	until(t, 5*time.Second, "it serves", func() bool {
		c.callees.mu.Lock()
		defer c.callees.mu.Unlock()
		for e = range c.callees.open {
		}
		return e != nil
	})
	if n := gatheredWhenFull(t, &e.out); n > maxGathered+headSize+maxBlock+maxAnswer {
		t.Errorf("%d bytes have gathered", n)
	}
}

// TestCallee_refuses_what_is_too_much, and accepts more once some requests are done. A
// refused request is served by its sender.
func TestCallee_refuses_what_is_too_much(t *testing.T) {
	t.Parallel()
	near, far := wires(t)
	begun, thaw := make(chan struct{}, 100), make(chan struct{})
	answers(t, far, func(http.ResponseWriter, *http.Request) {
		begun <- struct{}{}
		<-thaw
	})
	l := calls(t, near)
	body := strings.Repeat("x", maxBody)
	var all sync.WaitGroup
	for range maxUnderWay / maxBody {
		all.Go(func() {
			if _, err := l.ask(t.Context(), never, put(body)); err != nil {
				t.Error(err)
			}
		})
	}
	for range maxUnderWay / maxBody {
		<-begun
	}
	if _, err := l.ask(t.Context(), never, put("x")); !errors.Is(err, errRefused) {
		t.Errorf("one more: %v", err)
	}
	close(thaw)
	all.Wait()
	if _, err := l.ask(t.Context(), never, put("x")); err != nil {
		t.Errorf("the next: %v", err)
	}
}

func TestCaller_has_a_bound_on_what_is_under_way(t *testing.T) {
	t.Parallel()
	near, far := wires(t)
	thaw := make(chan struct{})
	answers(t, far, func(_ http.ResponseWriter, r *http.Request) {
		if r.ContentLength > 0 {
			<-thaw
		}
	})
	l := calls(t, near)
	var all sync.WaitGroup
	for range streams {
		all.Go(func() {
			if _, err := l.ask(t.Context(), never, put("x")); err != nil {
				t.Error(err)
			}
		})
	}
	until(t, 10*time.Second, "all are under way", func() bool {
		l.out.mu.Lock()
		defer l.out.mu.Unlock()
		return len(l.calls) == streams
	})
	if _, err := l.ask(t.Context(), never, put("x")); !errors.Is(err, errRefused) {
		t.Errorf("one more: %v", err)
	}
	if _, err := l.ask(t.Context(), nil, put("")); err != nil {
		t.Errorf("a ping: %v", err)
	}
	close(thaw)
	all.Wait()
}

// TestCallee_drains: requests in progress finish, later ones do not begin, and then the
// connection ends.
func TestCallee_drains(t *testing.T) {
	t.Parallel()
	near, far := wires(t)
	begun, thaw := make(chan struct{}), make(chan struct{})
	c, ended := answers(t, far, func(w http.ResponseWriter, r *http.Request) {
		close(begun) // panics if called twice
		<-thaw
	})
	l := calls(t, near)
	finished := make(chan error)
	go func() {
		_, err := l.ask(t.Context(), never, put("x"))
		finished <- err
	}()
	<-begun
	c.callees.drain()
	if _, err := l.ask(t.Context(), never, put("x")); !errors.Is(err, errUnsent) {
		t.Errorf("a request after: %v", err)
	}
	if l.peer.line.Load() != nil {
		t.Error("the connection is still used")
	}
	close(thaw)
	if err := <-finished; err != nil {
		t.Errorf("what was under way: %v", err)
	}
	<-ended
}

// TestCallee_drains_though_the_peer_is_frozen: it does not wait for the peer to close.
func TestCallee_drains_though_the_peer_is_frozen(t *testing.T) {
	t.Parallel()
	_, far := wires(t)
	c, ended := answers(t, far, func(http.ResponseWriter, *http.Request) {})
	c.callees.drain()
	select {
	case <-ended:
	case <-time.After(5 * goAwayTime):
		t.Error("the connection goes on")
	}
}

// BenchmarkCaller measures a request and its answer on a connection with many in flight.
func BenchmarkCaller(b *testing.B) {
	for _, askers := range []int{4, 16, 64, 256} {
		b.Run(fmt.Sprint(askers), func(b *testing.B) {
			near, far := wires(b)
			answers(b, far, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 60)) })
			l := calls(b, near)
			body := strings.Repeat("x", 200)
			work := make(chan struct{})
			var all sync.WaitGroup
			for range askers {
				all.Go(func() {
					for range work {
						if _, err := l.ask(b.Context(), never, put(body)); err != nil {
							b.Error(err)
						}
					}
				})
			}
			for b.Loop() {
				work <- struct{}{}
			}
			close(work)
			all.Wait()
		})
	}
}
