package push_test

import (
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/server"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
)

// hang makes a gateway read requests and answer none until the returned function is called.
func (g *gateway) hang() (release func()) {
	free := make(chan struct{})
	g.answers(func(_ http.ResponseWriter, _ object) { <-free })
	return func() {
		g.answers(nil)
		close(free)
	}
}

// ofKey returns the event IDs of the notifications of a pushkey.
func ofKey(all []object, pushkey string) (ids []string) {
	for _, n := range all {
		eventID, _ := n["event_id"].(string)
		if n["devices"].([]any)[0].(object)["pushkey"] == pushkey && eventID != "" {
			ids = append(ids, eventID)
		}
	}
	return ids
}

// inOrder checks that all wanted events came, in order, if those are left out that came again.
func inOrder(t *testing.T, got, want []string) {
	t.Helper()
	var first []string
	for _, x := range got {
		if !slices.Contains(first, x) {
			first = append(first, x)
		}
	}
	equal(t, "the events", first, want)
}

// TestAGatewayThatHangs for an hour delays nobody else, and loses nothing.
func TestAGatewayThatHangs(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64 // of the database's clock
	well, hung := newGateway(t), newGateway(t)
	release := hung.hang()
	st := storetest.SQLite(t, func(o *store.Options) {
		o.Clock = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	w := startWith(t, st, func(o *server.Options) { o.GatewayTimeout = 2 * time.Second }, nil, well, hung)
	alice, bob, carol := w.signUp("alice"), w.signUp("bob"), w.signUp("carol")
	roomID := w.room(alice, bob, carol)
	w.push(bob, hung, "bob")
	w.push(carol, well, "carol")
	var want []string
	for range 6 {
		want = append(want, w.say(alice, roomID, "hello"), w.say(alice, roomID, "hello again"))
		start := time.Now()
		well.events(len(want))
		if took := time.Since(start); took > testTimeout/3 {
			t.Errorf("others waited %v", took)
		}
		ahead.Add(int64(10 * time.Minute))
	}
	equal(t, "carol's events", well.events(len(want)), want)
	w.until("the failure is noted", func() bool { x := w.pushers(bob)[0]; return x.Tries > 0 && x.Queued && x.FailingTS > 0 })
	release()
	ahead.Add(int64(2 * time.Hour))
	got := hung.await("all events", func(all []object) bool { return slices.Contains(ofKey(all, "bob"), want[len(want)-1]) })
	inOrder(t, ofKey(got, "bob"), want)
	w.until("the pusher is well", func() bool { x := w.pushers(bob)[0]; return x.Tries == 0 && !x.Queued })
}

// TestASlowGateway gets each event once, though no batch waits for its answers.
func TestASlowGateway(t *testing.T) {
	each(t, func(w *fixture, g *gateway) {
		alice, bob := w.signUp("alice"), w.signUp("bob")
		roomID := w.room(alice, bob)
		w.push(bob, g, "bob")
		var want []string
		for range 3 {
			release := g.hang()
			for range 2 {
				want = append(want, w.say(alice, roomID, "hello"))
			}
			w.until("the queue has them", func() bool { return w.pushers(bob)[0].Queued })
			release()
		}
		g.await("all events", func(all []object) bool { return len(ofKey(all, "bob")) >= len(want) })
		w.until("the queue is empty", func() bool { return !w.pushers(bob)[0].Queued })
		equal(t, "the events", ofKey(g.all(), "bob"), want)
	})
}

// TestRestart: what waits survives the server, and what was taken does not come again.
func TestRestart(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		g := newGateway(t)
		st := open()
		w := start(t, st, nil, g)
		alice, bob := w.signUp("alice"), w.signUp("bob")
		roomID := w.room(alice, bob)
		w.push(bob, g, "bob")
		want := []string{w.say(alice, roomID, "taken")}
		g.events(1)
		g.status(503, "later")
		want = append(want, w.say(alice, roomID, "refused"))
		w.until("the queue has it", func() bool { return w.pushers(bob)[0].Queued })
		want = append(want, w.say(alice, roomID, "perhaps not seen yet"))
		w.Stop(t)
		g.answers(nil)
		g.mu.Lock()
		g.got = g.got[:1]
		g.mu.Unlock()
		w = start(t, st, nil, g)
		g.await("all events", func(all []object) bool { return len(ofKey(all, "bob")) >= len(want) })
		w.until("the queue is empty", func() bool { return !w.pushers(bob)[0].Queued })
		equal(t, "the events", ofKey(g.all(), "bob"), want)
	})
}

// TestStopping: a server that stops waits for the answer to what it has sent, so that it is not sent again.
func TestStopping(t *testing.T) {
	t.Parallel()
	st, g := storetest.SQLite(t), newGateway(t)
	w := start(t, st, nil, g)
	alice, bob := w.signUp("alice"), w.signUp("bob")
	roomID := w.room(alice, bob)
	w.push(bob, g, "bob")
	release := g.hang()
	want := []string{w.say(alice, roomID, "hello")}
	w.until("the gateway is asked", func() bool { return g.asked.Load() == 1 })
	stopped := make(chan struct{})
	go func() { defer close(stopped); w.Stop(t) }()
	release()
	<-stopped
	w = start(t, st, nil, g)
	want = append(want, w.say(alice, roomID, "after the restart"))
	g.await("both events", func(all []object) bool { return len(ofKey(all, "bob")) >= 2 })
	equal(t, "the events", ofKey(g.all(), "bob"), want)
}

// TestACommitThatFails is tried again, and the gateway is not told twice.
func TestACommitThatFails(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		g, faults := newGateway(t), &store.Faults{}
		w := start(t, open(func(o *store.Options) { o.Faults = faults }), nil, g)
		alice, bob := w.signUp("alice"), w.signUp("bob")
		roomID := w.room(alice, bob)
		w.push(bob, g, "bob")
		failed := &atomic.Int64{}
		g.answers(func(http.ResponseWriter, object) { // the next commits are those of the batch
			faults.Arm(store.FaultBeforeCommit, func() error {
				if failed.Add(1) <= 3 {
					return store.ErrUnreachable
				}
				return nil
			})
		})
		want := []string{w.say(alice, roomID, "one")}
		g.events(1)
		w.until("commits have failed", func() bool { return failed.Load() > 3 })
		g.answers(nil)
		want = append(want, w.say(alice, roomID, "two"))
		g.await("both events", func(all []object) bool { return slices.Contains(ofKey(all, "bob"), want[1]) })
		equal(t, "the events", ofKey(g.all(), "bob"), want)
	})
}

// TestTakeOver: an instance that owns pushers loses its database, as one does that is killed. The other one goes on.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t, "postgres")
	g := newGateway(t)
	proxy := storetest.NewProxy(t, url)
	b := start(t, storetest.OpenURL(t, url), nil, g)
	start(t, storetest.OpenURL(t, proxy.URL), nil, g)
	defer proxy.Mend()
	alice, bob := b.signUp("alice"), b.signUp("bob")
	b.push(bob, g, "bob")
	rooms := make([]string, 12) // of several shards
	for i := range rooms {
		rooms[i] = b.room(alice, bob)
	}
	b.until("both own some shards", func() bool {
		leases := map[int64]bool{}
		for _, c := range b.cursorRows() {
			leases[c.Lease] = true
		}
		return len(leases) == 2
	})
	g.status(503, "later")
	var want []string
	for _, roomID := range rooms {
		want = append(want, b.say(alice, roomID, "before"))
	}
	g.await("a failure", func(all []object) bool { return len(all) > 0 })
	proxy.Break()
	for _, roomID := range rooms {
		want = append(want, b.say(alice, roomID, "after"))
	}
	g.answers(nil)
	g.mu.Lock()
	g.got = nil
	g.mu.Unlock()
	all := func(got []object) bool {
		ids := ofKey(got, "bob")
		return !slices.ContainsFunc(want, func(x string) bool { return !slices.Contains(ids, x) })
	}
	g.await("all events", all)
}

// all are the notifications so far.
func (g *gateway) all() []object { return g.await("", func([]object) bool { return true }) }
