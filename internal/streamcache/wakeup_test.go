package streamcache_test

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/clientsync/synctest"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
	"stoa/matrix/id"
)

// TestNews_while_a_wait_begins are told, whether they come before the request looks, while it does or after it waits.
func TestNews_while_a_wait_begins(t *testing.T) {
	t.Parallel()
	synctest.OnBothEngines(t, func(h *synctest.Server) {
		alice, bob := h.Client("alice"), h.Client("bob")
		roomID := alice.Create()
		bob.Join(roomID)
		alice.Sync("")
		for n := 0; n < 100 && !t.Failed(); n++ {
			body := fmt.Sprint(n)
			got := alice.WaitWithin(20 * time.Second)
			bob.Say(roomID, body)
			if a := <-got; !t.Failed() && !slices.Equal(a.Join(roomID).Timeline.Bodies(), []string{body}) {
				t.Errorf("got %s, want %q", a.Raw, body)
			}
		}
	})
}

// TestNews_wake_every_device of a user that waits.
func TestNews_wake_every_device(t *testing.T) {
	t.Parallel()
	synctest.OnBothEngines(t, func(h *synctest.Server) {
		alice, bob := h.Client("alice"), h.Client("bob")
		roomID := alice.Create()
		bob.Join(roomID)
		var all []<-chan synctest.Answer
		for n := range 3 {
			device := &synctest.Client{Server: h, Device: alice.Device}
			device.DeviceID = id.DeviceID(fmt.Sprint("DEV", n))
			device.Sync("")
			all = append(all, device.WaitWithin(20*time.Second))
		}
		h.AwaitWaiting(len(all))
		bob.Say(roomID, "x")
		for _, got := range all {
			if a := <-got; !t.Failed() {
				synctest.Equal(h.T, "timeline", a.Join(roomID).Timeline.Bodies(), []string{"x"})
			}
		}
	})
}

// newestNotified is a Follower that keeps the newest position that it was told of.
type newestNotified struct{ newest atomic.Int64 }

func (n *newestNotified) Follow(_ *store.Read, rows []store.StreamRow) error {
	for _, row := range rows {
		n.newest.Store(max(n.newest.Load(), int64(row.Pos)))
	}
	return nil
}

func (n *newestNotified) Forget() {}

// TestBarrier_tells_followers of whatever another instance has acknowledged before the call.
func TestBarrier_tells_followers(t *testing.T) {
	t.Parallel()
	url, follower := storetest.URL(t, "postgres"), &newestNotified{}
	there := synctest.NewServer(t, storetest.OpenURL(t, url))
	here := synctest.NewServer(t, storetest.OpenURL(t, url), func(o *synctest.Options) { o.Followers = append(o.Followers, follower) })
	alice := there.Client("alice")
	roomID := alice.Create()
	for range 50 {
		alice.Say(roomID, "x")
		acknowledged := int64(there.Store.Head())
		synctest.Must(t, here.Cache.Barrier(t.Context()))
		if position := follower.newest.Load(); position < acknowledged {
			t.Fatalf("behind the barrier the follower was told up to %d, %d is acknowledged", position, acknowledged)
		}
	}
}
