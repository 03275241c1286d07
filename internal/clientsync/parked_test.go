package clientsync_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"stoa/internal/clientsync"
	"stoa/internal/clientsync/synctest"
	"stoa/internal/streamcache"
)

// testConn is a Conn that reports when a wait on it begins.
type testConn struct {
	once  sync.Once
	began chan struct{}
	woken chan bool // false: the client hangs up
}

func newTestConn() *testConn { return &testConn{began: make(chan struct{}), woken: make(chan bool, 8)} }

func (p *testConn) Wait(resume func(bool)) {
	p.once.Do(func() { close(p.began) })
	go func() { resume(<-p.woken) }()
}

func (p *testConn) Context() context.Context { return context.Background() }

func (p *testConn) Wake() { p.woken <- true }

func TestParked(t *testing.T) {
	t.Parallel()
	type result struct {
		timeline []string
		none     bool
	}
	park := func(h *synctest.Server, p *synctest.Client, roomID string, line *testConn) <-chan result {
		got := make(chan result, 1)
		f, err := h.Renderer.Filter(h.T.Context(), p.Device, "")
		p.Must(err)
		x, err := h.Renderer.Begin(h.T.Context(), &clientsync.Request{Device: p.Device, Since: p.Since, Filter: f, Timeout: 30 * time.Second})
		p.Must(err)
		x.Parked(line, func(a *streamcache.Answer, err error) {
			if err != nil || a == nil {
				got <- result{none: err == nil}
				return
			}
			defer a.Release()
			var parsed synctest.Answer
			if err := json.Unmarshal(a.Body(), &parsed); err != nil {
				h.T.Error(err)
			}
			got <- result{timeline: parsed.Rooms.Join[roomID].Timeline.Bodies()}
		})
		<-line.began
		return got
	}
	for name, test := range map[string]func(h *synctest.Server){
		"a message is told": func(h *synctest.Server) {
			alice := h.Client("alice")
			r := alice.Create()
			alice.Sync("")
			got := park(h, alice, r.String(), newTestConn())
			alice.Say(r, "x")
			synctest.Equal(h.T, "timeline", (<-got).timeline, []string{"x"})
		},
		"a client that hangs up gets nothing": func(h *synctest.Server) {
			alice := h.Client("alice")
			alice.Create()
			alice.Sync("")
			line := newTestConn()
			got := park(h, alice, "", line)
			line.woken <- false
			if !(<-got).none {
				h.T.Error("there was an answer")
			}
			h.AwaitWaiting(0)
		},
		"the time is over": func(h *synctest.Server) {
			alice := h.Client("alice")
			alice.Create()
			alice.Sync("")
			got := park(h, alice, "", newTestConn())
			h.AwaitWaiting(1)
			h.Cache.Tick(time.UnixMilli(h.Clock.Load()).Add(31 * time.Second))
			if (<-got).none {
				h.T.Error("there was no answer")
			}
		},
		"a server that stops answers": func(h *synctest.Server) {
			alice := h.Client("alice")
			alice.Create()
			alice.Sync("")
			got := park(h, alice, "", newTestConn())
			h.Stop()
			if (<-got).none {
				h.T.Error("there was no answer")
			}
		},
		"a brief wait ends before the time is over": func(h *synctest.Server) {
			alice := h.Client("alice")
			alice.Create()
			alice.Sync("")
			f, err := h.Renderer.Filter(h.T.Context(), alice.Device, "")
			alice.Must(err)
			x, err := h.Renderer.Begin(h.T.Context(), &clientsync.Request{Device: alice.Device, Since: alice.Since, Filter: f, Timeout: 30 * time.Second})
			alice.Must(err)
			none := make(chan bool)
			go func() {
				a, err := x.WaitBriefly(h.T.Context())
				none <- a == nil && err == nil
			}()
			h.AwaitWaiting(1)
			h.Cache.Tick(time.UnixMilli(h.Clock.Load()).Add(2 * time.Second))
			if !<-none {
				h.T.Error("there was an answer")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.OnBothEngines(t, test)
		})
	}
}
