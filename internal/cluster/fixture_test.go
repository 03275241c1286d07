package cluster

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/httpkit"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
	"stoa/matrix/mxerr"
)

// quick are short intervals, so that tests don't wait long.
var quick = Times{
	Term: 3 * time.Second, Renew: 200 * time.Millisecond,
	Ping: 100 * time.Millisecond, Silence: 500 * time.Millisecond, Again: 50 * time.Millisecond, Dial: 500 * time.Millisecond,
}

// fleet is several instances on one database, in one process.
type fleet struct {
	t    testing.TB
	url  string
	wire wire
	// serve is called by the handlers, if it is set.
	serve func(in *instance, r *http.Request) error
	// barrier is the result of the barriers; nil for no error.
	barrier func(in *instance) error
}

func newFleet(t testing.TB) *fleet {
	f := &fleet{t: t, url: storetest.URL(t, "postgres")}
	f.wire.partitioned = map[string]bool{}
	return f
}

// instance is one of a fleet: a store, a Cluster, and routes that name the serving
// instance.
type instance struct {
	*Cluster
	t     testing.TB
	name  string
	store *store.Store
	mux   *httpkit.Mux
	stop  context.CancelFunc // of Run
	runs  sync.WaitGroup
	tells atomic.Pointer[Report]
	count atomic.Int64 // of requests served
}

func (f *fleet) start(name string, change ...func(*Options)) *instance {
	f.t.Helper()
	s, err := store.Open(f.t.Context(), store.Options{URL: f.url, ServerName: storetest.ServerName})
	if err != nil {
		f.t.Fatal(err)
	}
	in := &instance{t: f.t, name: name, store: s}
	opt := Options{
		Store: s, Name: name, Times: quick, Version: "test",
		Log: slog.New(slog.NewTextHandler(testLog{f.t}, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			return f.wire.dial(ctx, name, address)
		},
	}
	for _, c := range change {
		c(&opt)
	}
	if in.Cluster, err = New(opt); err != nil {
		f.t.Fatal(err)
	}
	in.mux, err = httpkit.NewMux(httpkit.Options{
		Instance: name, Forward: in.Cluster, Log: opt.Log,
		Barrier: func(context.Context) error {
			if f.barrier == nil {
				return nil
			}
			return f.barrier(in)
		},
		AddressLimits: map[httpkit.Limit]*httpkit.Limiter{httpkit.LimitLookup: httpkit.NewLimiter(1, 10, time.Now)},
	}, f.routes(in))
	if err != nil {
		f.t.Fatal(err)
	}
	in.tells.Store(&Report{Position: s.Head(), Bus: true})
	if err := in.Join(f.t.Context(), in.mux, func() Report { return *in.tells.Load() }); err != nil {
		f.t.Fatal(err)
	}
	in.run()
	f.t.Cleanup(func() {
		in.halt()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := in.Leave(ctx); err != nil {
			f.t.Error(err)
		}
		if err := s.Close(); err != nil {
			f.t.Error(err)
		}
	})
	return in
}

// halt ends the renewals, as if the process were frozen. Run continues.
func (in *instance) halt() {
	in.stop()
	in.runs.Wait()
}

func (in *instance) run() {
	ctx, stop := context.WithCancel(context.Background())
	in.stop = stop
	in.runs.Go(func() {
		if err := in.Run(ctx); err != nil {
			in.t.Error(err)
		}
	})
}

// echo is a handler's description of its request.
type echo struct {
	Instance, Address, Path, Query, Body, Type, Secret, Forwarded string
	Peer                                                          bool
}

func (f *fleet) routes(in *instance) []httpkit.Route {
	handler := httpkit.Adapt(func(r *http.Request) (echo, error) {
		in.count.Add(1)
		body, err := httpkit.ReadBody(r, httpkit.MaxBody)
		if err != nil {
			return echo{}, err
		}
		if f.serve != nil {
			if err := f.serve(in, r); err != nil {
				return echo{}, err
			}
		}
		return echo{
			Instance: in.name, Address: r.RemoteAddr, Path: r.PathValue("roomId"), Query: r.URL.RawQuery, Body: string(body),
			Type: r.Header.Get("Content-Type"), Secret: r.Header.Get("Authorization"),
			Forwarded: r.Header.Get("X-Forwarded-For") + r.Header.Get(addressHeader), Peer: httpkit.IsFromPeer(r),
		}, nil
	})
	return []httpkit.Route{
		{Method: "PUT", Pattern: "/rooms/{roomId}/send/{txnId}", Handler: handler, Home: "roomId"},
		{Method: "POST", Pattern: "/rooms/{roomId}/kick", Handler: handler, Home: "roomId"},
		{Method: "POST", Pattern: "/join/{room}", Handler: handler, Home: "room", Limit: httpkit.LimitLookup},
		{Method: "GET", Pattern: "/rooms/{roomId}", Handler: handler},
	}
}

// ask sends a request to an instance as a client would.
func (in *instance) ask(method, target, body string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.RemoteAddr = "192.0.2.7:4711"
	for _, c := range change {
		c(r)
	}
	w := httptest.NewRecorder()
	in.mux.ServeHTTP(w, r)
	return w
}

// send asks an instance to write a room, and returns the name of the instance that did.
func (in *instance) send(roomID string) string {
	in.t.Helper()
	w := in.ask("PUT", "/rooms/"+roomID+"/send/1", `{}`)
	if w.Code != http.StatusOK {
		in.t.Fatalf("%s answers %d %s", in.name, w.Code, w.Body)
	}
	if got := w.Header().Get("X-Stoa-Instance"); got != in.name {
		in.t.Fatalf("X-Stoa-Instance of %s is %s", in.name, got)
	}
	return w.Header().Get("X-Stoa-Home")
}

// roomOf finds a room whose home is an instance, from another instance's point of view.
func (in *instance) roomOf(home *instance) string {
	in.t.Helper()
	for i := range 1000 {
		roomID := fmt.Sprintf("!%d:stoa.test", i)
		if name, _ := in.Home(roomID); name == home.name {
			return roomID
		}
	}
	in.t.Fatalf("%s knows no room of %s", in.name, home.name)
	return ""
}

// until waits for a condition that other goroutines fulfil.
func until(t testing.TB, limit time.Duration, what string, f func() bool) {
	t.Helper()
	end := time.Now().Add(limit)
	for !f() {
		if time.Now().After(end) {
			t.Fatalf("after %s still not: %s", limit, what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// see waits until each of some instances can use the others, and no further ones.
func see(t testing.TB, all ...*instance) {
	t.Helper()
	until(t, 10*time.Second, "all see each other", func() bool {
		for _, in := range all {
			v := in.view.Load()
			if v == nil || len(v.members) != len(all) {
				return false
			}
			for _, p := range v.peers {
				if p.link.Load() == nil {
					return false
				}
			}
		}
		return true
	})
}

// wire is the network between instances. A partitioned instance silently receives
// nothing.
type wire struct {
	mu          sync.Mutex // guards the fields below
	partitioned map[string]bool
	healed      chan struct{}
	refused     bool
}

type wireConn struct {
	net.Conn
	wire     *wire
	from, to string
}

func (w *wire) dial(ctx context.Context, from, address string) (net.Conn, error) {
	w.mu.Lock()
	refused := w.refused
	w.mu.Unlock()
	if refused {
		return nil, fmt.Errorf("dial %s: refused by the test", address)
	}
	if err := w.pass(ctx.Done(), from, address); err != nil {
		return nil, err
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &wireConn{c, w, from, address}, nil
}

// pass waits until traffic between two instances may pass.
func (w *wire) pass(done <-chan struct{}, from, to string) error {
	for {
		w.mu.Lock()
		partitioned, healed := w.partitioned[from] || w.partitioned[to], w.healed
		w.mu.Unlock()
		if !partitioned {
			return nil
		}
		select {
		case <-healed:
		case <-done:
			return context.DeadlineExceeded
		}
	}
}

// partition disconnects an instance from the others.
func (w *wire) partition(in *instance) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.partitioned[in.name], w.partitioned[in.own.Load().Address] = true, true
	w.healed = make(chan struct{})
}

func (w *wire) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.partitioned)
	close(w.healed)
}

func (w *wire) refuse(yes bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refused = yes
}

func (c *wireConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if perr := c.wire.pass(nil, c.from, c.to); perr != nil {
		return 0, perr
	}
	return n, err
}

func (c *wireConn) Write(b []byte) (int, error) {
	if err := c.wire.pass(nil, c.from, c.to); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// testLog writes a log to a test.
type testLog struct{ t testing.TB }

var _ io.Writer = testLog{}

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

var errBusy = mxerr.New(http.StatusServiceUnavailable, mxerr.CodeUnknown, "busy")
