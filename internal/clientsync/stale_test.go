package clientsync_test

import (
	"testing"
	"time"

	"stoa/internal/clientsync"
)

func TestWhoWaitsIsLetGoWhenTheStoreIsNotHeard(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *house) {
		alice := h.person("alice")
		alice.create()
		alice.sync("")
		f, err := h.renderer.Filter(h.t.Context(), alice.Device, "")
		alice.must(err)
		got := make(chan *clientsync.Answer, 1)
		go func() {
			a, err := h.renderer.Sync(h.t.Context(), &clientsync.Request{Device: alice.Device, Since: alice.since, Filter: f, Timeout: 30 * time.Second})
			if err != nil {
				h.t.Error(err)
			}
			got <- a
		}()
		h.cache.AwaitWaiting(h.t, 1)
		heard := h.cache.HeardLast()
		h.cache.Tick(heard.Add(3 * time.Second))
		h.cache.AwaitWaiting(h.t, 1)
		h.cache.Tick(h.cache.HeardLast().Add(5 * time.Second))
		if a := <-got; a != nil {
			a.Release()
		}
		h.cache.AwaitWaiting(h.t, 0)
	})
}
