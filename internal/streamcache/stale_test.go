package streamcache_test

import (
	"testing"
	"time"

	"stoa/internal/clientsync"
	"stoa/internal/clientsync/synctest"
	"stoa/internal/streamcache"
)

func TestWhoWaitsIsLetGoWhenTheStoreIsNotHeard(t *testing.T) {
	t.Parallel()
	synctest.OnBothEngines(t, func(h *synctest.Server) {
		alice := h.Client("alice")
		alice.Create()
		alice.Sync("")
		f, err := h.Renderer.Filter(h.T.Context(), alice.Device, "")
		alice.Must(err)
		got := make(chan *streamcache.Answer, 1)
		go func() {
			a, err := h.Renderer.Sync(h.T.Context(), &clientsync.Request{Device: alice.Device, Since: alice.Since, Filter: f, Timeout: 30 * time.Second})
			if err != nil {
				h.T.Error(err)
			}
			got <- a
		}()
		h.AwaitWaiting(1)
		heard := h.Cache.LastPoll()
		h.Cache.Tick(heard.Add(3 * time.Second))
		h.AwaitWaiting(1)
		h.Cache.Tick(h.Cache.LastPoll().Add(5 * time.Second))
		if a := <-got; a != nil {
			a.Release()
		}
		h.AwaitWaiting(0)
	})
}
