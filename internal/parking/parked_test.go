package parking_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/httpkit"
	"stoa/internal/parking"
	"stoa/matrix/mxerr"
)

var long = strings.Repeat("x", 3*parking.MaxWrite+17)

// testServer is a running server.
type testServer struct {
	t      *testing.T
	server *httpkit.Server
	ended  chan error
}

func startServer(t *testing.T, mux *httpkit.Mux, times httpkit.Times) testServer {
	t.Helper()
	l, err := httpkit.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	workers := parking.NewWorkerPool()
	t.Cleanup(workers.End)
	s := testServer{t: t, server: httpkit.NewServer(l, mux, httpkit.ServerOptions{Log: slog.New(slog.DiscardHandler), Times: times, Workers: workers}), ended: make(chan error, 1)}
	go func() { s.ended <- s.server.Serve() }()
	return s
}

// pollServer is a server whose /park parks, and whose /now answers at once.
type pollServer struct {
	testServer
	parked chan *parking.Parked
	gone   chan struct{}
	fails  chan error
}

func newPollServer(t *testing.T) *pollServer { return newPollServerWithin(t, httpkit.DefaultTimes) }

func newPollServerWithin(t *testing.T, times httpkit.Times) *pollServer {
	t.Helper()
	p := &pollServer{parked: make(chan *parking.Parked, 8), gone: make(chan struct{}, 256), fails: make(chan error, 1)}
	mux, err := httpkit.NewMux(httpkit.Options{Instance: "here", Times: times}, []httpkit.Route{
		{Method: "GET", Pattern: "/now", Handler: httpkit.Adapt(func(*http.Request) (httpkit.Raw, error) { return httpkit.Raw(`"now"`), nil })},
		{Method: "GET", Pattern: "/waited", Handler: httpkit.Adapt(func(r *http.Request) (httpkit.Raw, error) { return strconv.AppendBool(nil, parking.ParkAtOnce(r)), nil })},
		{Method: "GET", Pattern: "/long", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			parking.Park(w, r, func(line *parking.Parked) { _ = line.Answer([]byte(long)) }) // the test sees what arrives
		})},
		{Method: "GET", Pattern: "/fail", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			parking.Park(w, r, func(line *parking.Parked) { line.Fail(<-p.fails) })
		})},
		{Method: "POST", Pattern: "/post", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil || !parking.Park(w, r, func(line *parking.Parked) {
				p.parked <- line
				line.Wait(func(bool) { _ = line.Answer(body) }) // the test sees what arrives
			}) {
				t.Errorf("could not park: %v", err)
			}
		})},
		{Method: "GET", Pattern: "/park", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ok := parking.Park(w, r, func(line *parking.Parked) {
				p.parked <- line
				line.Wait(func(here bool) {
					if !here {
						line.Close()
						p.gone <- struct{}{}
						return
					}
					_ = line.Answer([]byte(`"later"`)) // the test sees what arrives
				})
			})
			if !ok {
				t.Error("could not park")
			}
		})},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.testServer = startServer(t, mux, times)
	return p
}

func (p testServer) drain() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 10*time.Second)
	defer cancel()
	if err := p.server.Drain(ctx); err != nil {
		p.t.Error(err)
	}
	if err := <-p.ended; err != nil {
		p.t.Error(err)
	}
}

func (p testServer) dial() (net.Conn, *bufio.Reader) {
	p.t.Helper()
	c, err := net.Dial("tcp", p.server.Addr().String())
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = c.Close() })
	return c, bufio.NewReader(c)
}

func (p *pollServer) ask(c net.Conn, path string) {
	p.t.Helper()
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pollServer) want(r *bufio.Reader, body string) *http.Response {
	p.t.Helper()
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	got, err := io.ReadAll(res.Body)
	if err != nil || string(got) != body {
		p.t.Fatalf("got %q and %v, want %q", got, err, body)
	}
	return res
}

func TestPark(t *testing.T) {
	t.Parallel()
	t.Run("a request whose body was read, again and again", func(t *testing.T) {
		t.Parallel()
		p := newPollServer(t)
		c, r := p.dial()
		for i := range 3 {
			body := fmt.Sprintf(`"body %d"`, i)
			if _, err := fmt.Fprintf(c, "POST /post HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
				t.Fatal(err)
			}
			(<-p.parked).Wake()
			p.want(r, body)
		}
		p.ask(c, "/now")
		p.want(r, `"now"`)
	})
	t.Run("the answer is like any other, and the connection serves on", func(t *testing.T) {
		t.Parallel()
		p := newPollServer(t)
		c, r := p.dial()
		for range 3 {
			p.ask(c, "/now")
			plain := p.want(r, `"now"`)
			p.ask(c, "/park")
			(<-p.parked).Wake()
			parked := p.want(r, `"later"`)
			for name := range plain.Header {
				if name != "Date" && name != "Content-Length" && parked.Header.Get(name) != plain.Header.Get(name) {
					t.Errorf("%s is %q, not %q", name, parked.Header.Get(name), plain.Header.Get(name))
				}
			}
			if _, err := http.ParseTime(parked.Header.Get("Date")); err != nil {
				t.Error(err)
			}
		}
		_ = c.Close()
		p.drain()
	})
	t.Run("a client that goes away is noticed", func(t *testing.T) {
		t.Parallel()
		p := newPollServer(t)
		c, _ := p.dial()
		p.ask(c, "/park")
		<-p.parked
		_ = c.Close()
		<-p.gone
		p.drain()
	})
	t.Run("a client that asks for more gets its answer, and then the next one", func(t *testing.T) {
		t.Parallel()
		p := newPollServer(t)
		c, r := p.dial()
		p.ask(c, "/park")
		<-p.parked
		p.ask(c, "/now?"+strings.Repeat("x", 1000))
		p.want(r, `"later"`)
		p.want(r, `"now"`)
		_ = c.Close()
		p.drain()
	})
	t.Run("requests that are sent at once are answered in order, each once", func(t *testing.T) {
		t.Parallel()
		p := newPollServer(t)
		c, r := p.dial()
		ask := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n" }
		for range 5 {
			if _, err := io.WriteString(c, ask("/park")+ask("/park")+ask("/now")+ask("/park")+ask("/now")); err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{`"later"`, `"later"`, `"now"`, `"later"`, `"now"`} {
				p.want(r, want)
			}
			for range 3 {
				<-p.parked
			}
		}
		_ = c.Close()
		p.drain()
	})
	t.Run("half a request waits for its other half", func(t *testing.T) {
		t.Parallel()
		p := newPollServer(t)
		c, r := p.dial()
		p.ask(c, "/park")
		<-p.parked
		if _, err := io.WriteString(c, "G"); err != nil {
			t.Fatal(err)
		}
		p.want(r, `"later"`)
		if _, err := io.WriteString(c, "ET /now HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		p.want(r, `"now"`)
		_ = c.Close()
		p.drain()
	})
	t.Run("an http.Client keeps its connections", func(t *testing.T) {
		t.Parallel()
		p := newPollServer(t)
		var dials atomic.Int32
		var dialer net.Dialer
		transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			dials.Add(1)
			return dialer.DialContext(ctx, network, address)
		}}
		client := http.Client{Transport: transport}
		for range 20 {
			for path, want := range map[string]string{"/park": `"later"`, "/now": `"now"`} {
				if path == "/park" {
					go func() { (<-p.parked).Wake() }()
				}
				res, err := client.Get("http://" + p.server.Addr().String() + path)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(res.Body)
				if err := errors.Join(err, res.Body.Close()); err != nil || string(body) != want {
					t.Fatalf("got %q and %v, want %q", body, err, want)
				}
			}
		}
		if n := dials.Load(); n != 1 {
			t.Errorf("there were %d connections", n)
		}
		transport.CloseIdleConnections()
		p.drain()
	})
	for name, test := range map[string]struct {
		err                error
		status             int
		body, header, text string
	}{
		"a refusal is answered with its errcode": {mxerr.UnknownToken(false), 401, `"soft_logout":false`, "", ""},
		"a limit says when to come back":         {mxerr.LimitExceeded(1500 * time.Millisecond), 429, "M_LIMIT_EXCEEDED", "Retry-After", "2"},
		"a fault is named, and not told":         {errors.New("secret"), 500, "M_UNKNOWN", "X-Request-Id", "here-"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPollServer(t)
			c, r := p.dial()
			p.fails <- test.err
			p.ask(c, "/fail")
			res, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != test.status || !strings.Contains(string(body), test.body) ||
				strings.Contains(string(body), "secret") || !strings.HasPrefix(res.Header.Get(test.header), test.text) {
				t.Errorf("got %d %q %v and %v", res.StatusCode, body, res.Header, err)
			}
			p.ask(c, "/now")
			p.want(r, `"now"`)
			_ = c.Close()
			p.drain()
		})
	}
	t.Run("a connection that comes back may be idle, but no longer than any other", func(t *testing.T) {
		t.Parallel()
		p := newPollServerWithin(t, httpkit.Times{Header: 100 * time.Millisecond, Body: time.Hour, Answer: time.Hour, Idle: 300 * time.Millisecond})
		c, r := p.dial()
		p.ask(c, "/park")
		(<-p.parked).Wake()
		p.want(r, `"later"`)
		began := time.Now()
		if _, err := r.ReadByte(); err != io.EOF || time.Since(began) < 200*time.Millisecond {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		p.drain()
	})
	t.Run("a drain waits for all who are parked", func(t *testing.T) {
		t.Parallel()
		p := newPollServer(t)
		var readers []*bufio.Reader
		var lines []*parking.Parked
		for range 50 {
			c, r := p.dial()
			p.ask(c, "/park")
			readers, lines = append(readers, r), append(lines, <-p.parked)
		}
		drained := make(chan struct{})
		go func() {
			p.drain()
			close(drained)
		}()
		for _, line := range lines {
			select {
			case <-drained:
				t.Error("the drain is over")
			default:
			}
			line.Wake()
		}
		for _, r := range readers {
			p.want(r, `"later"`)
		}
		<-drained
	})
	t.Run("a parked answer is the last on its connection once the server winds down", func(t *testing.T) {
		t.Parallel()
		p := newPollServer(t)
		c, r := p.dial()
		p.ask(c, "/park")
		line := <-p.parked
		p.server.WindDown()
		line.Wake()
		if res := p.want(r, `"later"`); !res.Close {
			t.Error("the connection is kept")
		}
		if _, err := r.ReadByte(); err != io.EOF {
			t.Error(err)
		}
		p.drain()
	})
	t.Run("only a connection that waited for long is known as one", func(t *testing.T) {
		t.Parallel()
		p := newPollServer(t)
		c, r := p.dial()
		p.ask(c, "/waited")
		p.want(r, "false")
		p.ask(c, "/park")
		(<-p.parked).Wake()
		p.want(r, `"later"`)
		p.ask(c, "/waited")
		p.want(r, "false")
		p.ask(c, "/park")
		line := <-p.parked
		line.MakeOlder(time.Minute)
		line.Wake()
		p.want(r, `"later"`)
		p.ask(c, "/waited")
		p.want(r, "true")
		_ = c.Close()
		p.drain()
	})
	t.Run("of a wake and a client that goes away at the same time, one counts", func(t *testing.T) {
		t.Parallel()
		p := newPollServer(t)
		for range 200 {
			c, _ := p.dial()
			p.ask(c, "/park")
			line := <-p.parked
			go line.Wake()
			_ = c.Close()
		}
		p.drain() // panics if a connection is given back twice, waits for ever if never
	})
	t.Run("a long answer arrives whole", func(t *testing.T) {
		t.Parallel()
		p := newPollServer(t)
		c, r := p.dial()
		p.ask(c, "/long")
		p.want(r, long)
		_ = c.Close()
		p.drain()
	})
	t.Run("other servers' requests go on as they are", func(t *testing.T) {
		t.Parallel()
		mux, err := httpkit.NewMux(httpkit.Options{}, []httpkit.Route{{Method: "GET", Pattern: "/", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if parking.Park(w, r, nil) {
				t.Error("parked")
			}
		})}})
		if err != nil {
			t.Fatal(err)
		}
		server := http.Server{Handler: mux}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = server.Serve(l) }()
		res, err := http.Get("http://" + l.Addr().String() + "/")
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		_ = server.Close()
	})
}
