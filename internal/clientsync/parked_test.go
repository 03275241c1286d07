package clientsync_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"stoa/internal/clientsync"
)

// phone is a Line. It says when somebody begins to wait on it.
type phone struct {
	once  sync.Once
	began chan struct{}
	woken chan bool // false: the client hangs up
}

func newPhone() *phone { return &phone{began: make(chan struct{}), woken: make(chan bool, 8)} }

func (p *phone) Wait(resume func(bool)) {
	p.once.Do(func() { close(p.began) })
	go func() { resume(<-p.woken) }()
}

func (p *phone) Context() context.Context { return context.Background() }

func (p *phone) Wake() { p.woken <- true }

func TestParked(t *testing.T) {
	t.Parallel()
	type result struct {
		timeline []string
		none     bool
	}
	park := func(h *house, p *person, roomID string, line *phone) <-chan result {
		got := make(chan result, 1)
		f, err := h.renderer.Filter(h.t.Context(), p.Device, "")
		p.must(err)
		x, err := h.renderer.Begin(h.t.Context(), &clientsync.Request{Device: p.Device, Since: p.since, Filter: f, Timeout: 30 * time.Second})
		p.must(err)
		x.Parked(line, func(a *clientsync.Answer, err error) {
			if err != nil || a == nil {
				got <- result{none: err == nil}
				return
			}
			defer a.Release()
			var parsed answer
			if err := json.Unmarshal(a.Body(), &parsed); err != nil {
				h.t.Error(err)
			}
			got <- result{timeline: parsed.Rooms.Join[roomID].Timeline.bodies()}
		})
		<-line.began
		return got
	}
	for name, test := range map[string]func(h *house){
		"a message is told": func(h *house) {
			alice := h.person("alice")
			r := alice.create()
			alice.sync("")
			got := park(h, alice, r.String(), newPhone())
			alice.say(r, "x")
			equal(h.t, "timeline", (<-got).timeline, []string{"x"})
		},
		"a client that hangs up gets nothing": func(h *house) {
			alice := h.person("alice")
			alice.create()
			alice.sync("")
			line := newPhone()
			got := park(h, alice, "", line)
			line.woken <- false
			if !(<-got).none {
				h.t.Error("there was an answer")
			}
			h.cache.AwaitWaiting(h.t, 0)
		},
		"the time is over": func(h *house) {
			alice := h.person("alice")
			alice.create()
			alice.sync("")
			got := park(h, alice, "", newPhone())
			h.cache.AwaitWaiting(h.t, 1)
			h.cache.Tick(time.UnixMilli(h.clock.Load()).Add(31 * time.Second))
			if (<-got).none {
				h.t.Error("there was no answer")
			}
		},
		"a server that stops answers": func(h *house) {
			alice := h.person("alice")
			alice.create()
			alice.sync("")
			got := park(h, alice, "", newPhone())
			h.stop()
			if (<-got).none {
				h.t.Error("there was no answer")
			}
		},
		"impatience ends before the time is over": func(h *house) {
			alice := h.person("alice")
			alice.create()
			alice.sync("")
			f, err := h.renderer.Filter(h.t.Context(), alice.Device, "")
			alice.must(err)
			x, err := h.renderer.Begin(h.t.Context(), &clientsync.Request{Device: alice.Device, Since: alice.since, Filter: f, Timeout: 30 * time.Second})
			alice.must(err)
			none := make(chan bool)
			go func() {
				a, err := x.Impatiently(h.t.Context())
				none <- a == nil && err == nil
			}()
			h.cache.AwaitWaiting(h.t, 1)
			h.cache.Tick(time.UnixMilli(h.clock.Load()).Add(2 * time.Second))
			if !<-none {
				h.t.Error("there was an answer")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBothEngines(t, test)
		})
	}
}
