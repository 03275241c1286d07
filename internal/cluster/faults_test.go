package cluster

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"stoa/internal/httpkit"
)

// TestUnreachable_home: a request that can't be sent is served here, with its whole body,
// even without a transaction ID.
func TestUnreachable_home(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.start("a"), f.start("b")
	see(t, a, b)
	roomID := a.roomOf(b)
	f.wire.refuse(true)
	p := a.view.Load().peers[b.Lease()]
	p.hangUp()
	r := a.ask("POST", "/rooms/"+roomID+"/kick", `{"user_id":"@a:b"}`)
	if r.Code != http.StatusOK || r.Header().Get("X-Stoa-Home") != "a" {
		t.Fatalf("%d %s %v", r.Code, r.Body, r.Header())
	}
	if name, _ := a.Home(roomID); name != "a" {
		t.Errorf("the home is still %s", name)
	}
	f.wire.refuse(false)
	until(t, 5*time.Second, "the home is used again", func() bool { return a.send(roomID) == "b" })
}

// TestHome_without_database: a request that the home did not begin, because it can't
// reach the database, is served here, with its whole body, even without a transaction ID.
func TestHome_without_database(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.barrier = func(in *instance) error {
		if in.name == "b" {
			return errors.New("no database")
		}
		return nil
	}
	a, b := f.start("a"), f.start("b")
	see(t, a, b)
	r := a.ask("POST", "/rooms/"+a.roomOf(b)+"/kick", `{"user_id":"@a:b"}`)
	if r.Code != http.StatusOK || r.Header().Get("X-Stoa-Home") != "a" || !strings.Contains(r.Body.String(), "@a:b") {
		t.Errorf("%d %s %v", r.Code, r.Body, r.Header())
	}
	r = b.ask("POST", "/rooms/"+a.roomOf(b)+"/kick", `{}`)
	if r.Code != http.StatusServiceUnavailable || r.Header().Get(httpkit.UnservedHeader) != "" || r.Header().Get("Retry-After") != "1" {
		t.Errorf("to a client: %d %s %v", r.Code, r.Body, r.Header())
	}
}

// silence makes the handlers of an instance hang, as if it were frozen, and reports when
// the first one does.
func silence(f *fleet, name string) (begun, thaw chan struct{}) {
	begun, thaw = make(chan struct{}, 100), make(chan struct{})
	f.serve = func(in *instance, r *http.Request) error {
		if in.name == name {
			begun <- struct{}{}
			<-thaw
		}
		return nil
	}
	return begun, thaw
}

// TestLost_home: if an instance falls silent with a request in progress, this instance
// serves the request if it has a transaction ID, and refuses it otherwise. Once the
// instance answers again, it is used again.
func TestLost_home(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	begun, thaw := silence(f, "b")
	a, b := f.start("a"), f.start("b")
	see(t, a, b)
	roomID := a.roomOf(b)
	send, kick := make(chan *httptest.ResponseRecorder), make(chan *httptest.ResponseRecorder)
	go func() { send <- a.ask("PUT", "/rooms/"+roomID+"/send/1", "{}") }()
	go func() { kick <- a.ask("POST", "/rooms/"+roomID+"/kick", "{}") }()
	<-begun
	<-begun
	f.wire.partition(b)
	if r := <-send; r.Code != http.StatusOK || r.Header().Get("X-Stoa-Home") != "a" {
		t.Errorf("with a transaction ID: %d %s %v", r.Code, r.Body, r.Header())
	}
	if r := <-kick; r.Code != http.StatusServiceUnavailable || !isRetryable(r.Body.String()) {
		t.Errorf("without a transaction ID: %d %s", r.Code, r.Body)
	}
	begin := time.Now()
	if a.IsHome(roomID) || !b.IsHome(roomID) {
		t.Error("a takes itself for the home of what it can't reach the home of")
	}
	if home := a.send(roomID); home != "a" || time.Since(begin) > quick.Silence/2 {
		t.Errorf("while its home is silent a room is served by %s after %s", home, time.Since(begin))
	}
	close(thaw)
	f.wire.heal()
	until(t, 5*time.Second, "the home is used again", func() bool { return a.send(roomID) == "b" })
}

func isRetryable(body string) bool {
	return body == `{"errcode":"M_UNKNOWN","error":"The server could not finish this request; try again","retry_after_ms":1000}`
}

// TestSlow_home: an instance that answers pings is waited for.
func TestSlow_home(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	begun, thaw := silence(f, "b")
	a, b := f.start("a"), f.start("b")
	see(t, a, b)
	roomID := a.roomOf(b)
	done := make(chan *httptest.ResponseRecorder)
	go func() { done <- a.ask("POST", "/rooms/"+roomID+"/kick", "{}") }()
	<-begun
	select {
	case r := <-done:
		t.Errorf("a home that is slow was not waited for: %d %s", r.Code, r.Body)
	case <-time.After(2 * quick.Silence):
	}
	close(thaw)
	if r := <-done; r.Code != http.StatusOK || r.Header().Get("X-Stoa-Home") != "b" {
		t.Errorf("%d %s", r.Code, r.Body)
	}
}

// TestDrain_gives_rooms_away, at once on the draining instance, and on the others with
// their next renewal. It continues to serve.
func TestDrain_gives_rooms_away(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b, c := f.start("a"), f.start("b"), f.start("c")
	see(t, a, b, c)
	roomID, other := a.roomOf(b), a.roomOf(a)
	if err := b.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	home := b.send(roomID)
	if home == "b" {
		t.Error("an instance that drains keeps its rooms")
	}
	until(t, 2*quick.Renew+2*time.Second, "the others know", func() bool { return a.send(roomID) == home && c.send(roomID) == home })
	if got := c.send(other); got != "a" {
		t.Errorf("a room of a moved to %s", got)
	}
	if b.Owner("destination", "x") {
		t.Error("an instance that drains owns work")
	}
	if err := a.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := c.send(other); got != "c" {
		t.Errorf("while all drain, c sends to %s", got)
	}
}

// TestFrozen_instance: an instance that does not renew its lease stops acting before the
// others take its rooms. When it resumes, it gets a new lease and its rooms.
func TestFrozen_instance(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.start("a"), f.start("b")
	see(t, a, b)
	roomID, lease := a.roomOf(b), b.Lease()
	b.halt()
	f.wire.partition(b)
	until(t, 2*quick.Term, "b stops acting", func() bool { return !b.Acting() })
	if b.Owner("destination", "x") || b.Healthy() == nil {
		t.Error("b owns work though its lease is in doubt")
	}
	if name, self := b.Home(a.roomOf(a)); !self {
		t.Errorf("b, which knows nothing certain, sends to %s", name)
	}
	until(t, 2*quick.Term, "b is no member", func() bool { return len(a.view.Load().members) == 1 })
	if got := a.send(roomID); got != "a" {
		t.Errorf("a sends to %s", got)
	}
	f.wire.heal()
	b.run()
	see(t, a, b)
	if b.Lease() <= lease {
		t.Errorf("b has lease %d after %d", b.Lease(), lease)
	}
	if a.send(roomID) != "b" || b.send(roomID) != "b" {
		t.Error("b does not get its room back")
	}
}

// TestInstance_without_database: an instance that can't renew its lease tells the others,
// which route around it before the lease has expired.
func TestInstance_without_database(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.start("a"), f.start("b")
	see(t, a, b)
	roomID := a.roomOf(b)
	b.halt()
	until(t, 2*quick.Term, "a leaves b out", func() bool { return a.send(roomID) == "a" })
	if len(a.view.Load().members) != 2 {
		t.Error("only when its lease had run out")
	}
	b.run()
	until(t, 2*quick.Term, "b is used again", func() bool { return a.send(roomID) == "b" })
}

// TestRestarted_instance: an instance that restarts with the same name takes its rooms at
// once, although its earlier lease is still valid.
func TestRestarted_instance(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.start("a"), f.start("b")
	see(t, a, b)
	roomID := a.roomOf(b)
	b.halt()
	if err := b.listener.Close(); err != nil { // like a killed process
		t.Fatal(err)
	}
	b.callees.close()
	if got := a.send(roomID); got != "a" {
		t.Errorf("the room of an instance that is gone is served by %s", got)
	}
	again := f.start("b")
	until(t, quick.Term, "b is used again", func() bool { return a.send(roomID) == "b" })
	if again.count.Load() == 0 {
		t.Error("it was not the new one")
	}
}

// TestLeave_is_seen_at_once by the forwarding instances, and no request waits.
func TestLeave_is_seen_at_once(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.start("a"), f.start("b")
	see(t, a, b)
	roomID := a.roomOf(b)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := b.Leave(ctx); err != nil {
		t.Fatal(err)
	}
	if got := a.send(roomID); got != "a" {
		t.Errorf("a sends to %s", got)
	}
	until(t, 5*time.Second, "the row is gone", func() bool { return len(a.view.Load().peers) == 0 })
}

// BenchmarkForward measures the cost of forwarding a request. The goal is at most 1 ms at
// the median.
func BenchmarkForward(bm *testing.B) {
	f := newFleet(bm)
	a, b := f.start("a"), f.start("b")
	see(bm, a, b)
	for name, roomID := range map[string]string{"here": a.roomOf(a), "forwarded": a.roomOf(b)} {
		bm.Run(name, func(bm *testing.B) {
			var took []time.Duration
			for bm.Loop() {
				begin := time.Now()
				if r := a.ask("PUT", "/rooms/"+roomID+"/send/1", `{"msgtype":"m.text","body":"hello"}`); r.Code != 200 {
					bm.Fatal(r.Body)
				}
				took = append(took, time.Since(begin))
			}
			slices.Sort(took)
			bm.ReportMetric(float64(took[len(took)/2]), "p50-ns")
			bm.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
		})
	}
}
