package clientsync_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/storetest"
	"stoa/matrix/id"
)

// waitWithin waits for news, which have to come without any tick of the clock.
func (p *person) waitWithin(limit time.Duration) <-chan answer {
	got := make(chan answer, 1)
	go func() {
		ctx, cancel := context.WithTimeout(p.h.t.Context(), limit)
		defer cancel()
		a, err := p.trySync(ctx, "", waiting)
		if err != nil {
			p.h.t.Errorf("a sync that waits is not told: %v", err)
		}
		got <- a
	}()
	return got
}

// TestNews_while_a_wait_begins are told, whether they come before the request looks, while it does or after it waits.
func TestNews_while_a_wait_begins(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *house) {
		alice, bob := h.person("alice"), h.person("bob")
		roomID := alice.create()
		bob.join(roomID)
		alice.sync("")
		for n := 0; n < 100 && !t.Failed(); n++ {
			body := fmt.Sprint(n)
			got := alice.waitWithin(20 * time.Second)
			bob.say(roomID, body)
			if a := <-got; !t.Failed() && !slices.Equal(a.join(roomID).Timeline.bodies(), []string{body}) {
				t.Errorf("got %s, want %q", a.Raw, body)
			}
		}
	})
}

// TestNews_wake_every_device of a user that waits.
func TestNews_wake_every_device(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *house) {
		alice, bob := h.person("alice"), h.person("bob")
		roomID := alice.create()
		bob.join(roomID)
		var all []<-chan answer
		for n := range 3 {
			device := &person{h: h, Device: alice.Device}
			device.DeviceID = id.DeviceID(fmt.Sprint("DEV", n))
			device.sync("")
			all = append(all, device.waitWithin(20*time.Second))
		}
		h.cache.AwaitWaiting(h.t, len(all))
		bob.say(roomID, "x")
		for _, got := range all {
			if a := <-got; !t.Failed() {
				equal(h.t, "timeline", a.join(roomID).Timeline.bodies(), []string{"x"})
			}
		}
	})
}

// newestTold is a Follower that keeps the newest position that it was told of.
type newestTold struct{ newest atomic.Int64 }

func (n *newestTold) Follow(_ *store.Read, rows []store.StreamRow) error {
	for _, row := range rows {
		n.newest.Store(max(n.newest.Load(), int64(row.Pos)))
	}
	return nil
}

func (n *newestTold) Forget() {}

// TestBarrier_tells_followers of whatever another instance has acknowledged before the call.
func TestBarrier_tells_followers(t *testing.T) {
	t.Parallel()
	url, follower := storetest.URL(t, "postgres"), &newestTold{}
	there := newHouse(t, storetest.OpenURL(t, url))
	here := newHouse(t, storetest.OpenURL(t, url), func(o *options) { o.Followers = append(o.Followers, follower) })
	alice := there.person("alice")
	roomID := alice.create()
	for range 50 {
		alice.say(roomID, "x")
		acknowledged := int64(there.store.Head())
		must(t, here.cache.Barrier(t.Context()))
		if told := follower.newest.Load(); told < acknowledged {
			t.Fatalf("behind the barrier the follower was told up to %d, %d is acknowledged", told, acknowledged)
		}
	}
}
