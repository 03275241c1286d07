package synctest

import (
	"slices"
	"stoa/internal/store/storetest"
	"stoa/matrix/id"
	"sync"
	"testing"
)

// Replicator keeps what a server hands over until it is delivered.
type Replicator struct {
	mu     sync.Mutex // guards pieces
	pieces [][]byte
	came   chan struct{} // capacity 1
}

func NewReplicator() *Replicator { return &Replicator{came: make(chan struct{}, 1)} }

// From has a server hand its groups to the replicator.
func (c *Replicator) From(o *Options) {
	o.Replicate = func(f func([]byte) []byte) {
		c.mu.Lock()
		c.pieces = append(c.pieces, f(nil))
		c.mu.Unlock()
		select {
		case c.came <- struct{}{}:
		default:
		}
	}
}

// Take waits for a number of groups, and takes them.
func (c *Replicator) Take(t testing.TB, n int) [][]byte {
	t.Helper()
	for {
		c.mu.Lock()
		if len(c.pieces) >= n {
			out := slices.Clone(c.pieces[:n])
			c.pieces = c.pieces[n:]
			c.mu.Unlock()
			return out
		}
		c.mu.Unlock()
		select {
		case <-c.came:
		case <-t.Context().Done():
			t.Fatalf("fewer than %d groups were handed over", n)
		}
	}
}

// Forget drops all that a server has written so far: it is handed over before the server has applied it.
func (c *Replicator) Forget(writer *Server) {
	writer.T.Helper()
	if err := writer.Cache.Await(writer.T.Context(), writer.Store.Head()); err != nil {
		writer.T.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pieces = nil
}

// Take has a server take what another hands over.
func (h *Server) Take(groups []byte) {
	h.T.Helper()
	if _, err := h.Cache.ReceiveGroups(groups); err != nil {
		h.T.Fatal(err)
	}
}

// ThreeServers are instances on one database: what the first writes is handed to the second by the Replicator, and read from the
// store by the third.
func ThreeServers(t *testing.T) (writer, here, cold *Server, c *Replicator) {
	t.Helper()
	url, c := storetest.URL(t, "postgres"), NewReplicator()
	return NewServer(t, storetest.OpenURL(t, url), c.From), NewServer(t, storetest.OpenURL(t, url)), NewServer(t, storetest.OpenURL(t, url)), c
}

// AppliesReceived checks that a server applies the groups that it receives. The test does not wait for polls, but one may find a group first.
func (h *Server) AppliesReceived(c *Replicator, writer *Client, roomID id.RoomID) {
	h.T.Helper()
	for range 50 {
		if h.ReceivedGroups() > 0 {
			return
		}
		writer.Say(roomID, "again")
		h.Take(c.Take(h.T, 1)[0])
		writer.Must(h.Cache.Await(h.T.Context(), writer.Server.Store.Head()))
	}
	h.T.Error("nothing is applied as it was handed over")
}
