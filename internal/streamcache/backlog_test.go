package streamcache_test

import (
	"context"
	"fmt"
	"testing"

	"stoa/internal/clientsync/synctest"
	"stoa/internal/store/storetest"
	"stoa/internal/streamcache"
	"stoa/matrix/id"
)

// Sends to a large room wait while too many of its messages are undelivered; sends to other rooms do not.
func TestBacklog_slows_its_senders(t *testing.T) {
	t.Parallel()
	h := synctest.NewServer(t, storetest.SQLite(t))
	h.Cache.SetFanOut(500, 2, 1000)
	alice := h.Client("alice")
	large, small := alice.Create(), alice.Create()
	members := make([]*synctest.Client, 6)
	for i := range members {
		members[i] = h.Client(fmt.Sprint("member", i)).Join(large)
		members[i].Sync("")
	}
	say := func(r id.RoomID, times int) {
		t.Helper()
		for range times {
			alice.Say(r, "x")
		}
		alice.Must(h.Cache.Await(t.Context(), h.Store.Head()))
	}
	admitted := func(r id.RoomID) bool {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // a send that has to wait returns at once
		before := h.Metric("stoa_clientsync_held_sends_total", "")
		h.Cache.AwaitDeliveries(ctx, r)
		return h.Metric("stoa_clientsync_held_sends_total", "") == before
	}
	poll := func() (all []<-chan synctest.Answer) {
		for _, p := range members {
			p.Sync("")
			all = append(all, p.Wait())
		}
		h.AwaitWaiting(len(members))
		return all
	}
	got := poll()
	say(small, 2*streamcache.BacklogWindow)
	if !admitted(small) {
		t.Error("a send to a small room waits")
	}
	say(large, 1)
	if n := h.Cache.Backlog(large); n != 0 {
		t.Fatalf("%d messages after the first one", n)
	}
	say(large, streamcache.BacklogWindow-1)
	if !admitted(large) {
		t.Error("a send waits below the window")
	}
	say(large, 1)
	if admitted(large) {
		t.Error("a send does not wait above the window")
	}
	if !admitted(small) {
		t.Error("a send to another room waits")
	}
	for _, a := range got {
		<-a
	}
	members[0].Sync("")
	if admitted(large) {
		t.Error("a send does not wait after one of six devices polled")
	}
	poll()
	if !admitted(large) {
		t.Error("a send waits after all devices polled")
	}
	h.Cache.Stop()
}

// Devices that have gone do not count.
func TestBacklog_ignores_gone_devices(t *testing.T) {
	t.Parallel()
	h := synctest.NewServer(t, storetest.SQLite(t))
	h.Cache.SetFanOut(500, 2, 1000)
	alice := h.Client("alice")
	r := alice.Create()
	for i := range 4 {
		h.Client(fmt.Sprint("member", i)).Join(r).Sync("")
	}
	for range 30 { // more than a second
		h.Cache.NextTick()
	}
	for range 2 * streamcache.BacklogWindow {
		alice.Say(r, "x")
	}
	alice.Must(h.Cache.Await(t.Context(), h.Store.Head()))
	if n := h.Cache.Backlog(r); n != -1 {
		t.Errorf("a backlog of %d messages for devices that have gone", n)
	}
}
