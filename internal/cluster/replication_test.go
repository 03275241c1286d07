package cluster

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// receiver records what an instance receives.
type receiver struct {
	mu   sync.Mutex // guards text
	text strings.Builder
	// enough is the number of bytes from which it needs no more, 0 = never.
	enough int
}

func (h *receiver) take(batch []byte) (more bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text.Write(batch)
	return h.enough == 0 || h.text.Len() < h.enough, nil
}

func (h *receiver) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.String()
}

// words are the received words, sorted, since batches may overtake each other.
func (h *receiver) words() []string {
	words := strings.Fields(h.String())
	slices.Sort(words)
	return words
}

// TestReplicate: each batch comes to every peer once, and none is sent to a peer that does not answer.
func TestReplicate(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b, c := f.start("a"), f.start("b"), f.start("c")
	see(t, a, b, c)
	var atB, atC receiver
	b.OnReplicated(atB.take)
	c.OnReplicated(atC.take)
	var want []string
	for i := range 500 {
		word := strconv.Itoa(i)
		want = append(want, word)
		a.Replicate(func(dst []byte) []byte { return append(append(dst, word...), ' ') })
	}
	slices.Sort(want)
	until(t, 5*time.Second, "b and c have got all", func() bool { return slices.Equal(atB.words(), want) && slices.Equal(atC.words(), want) })

	f.wire.partition(b)
	f.wire.partition(c)
	until(t, 5*time.Second, "a takes them for silent", func() bool {
		for _, p := range a.view.Load().peers {
			if p.link.Load() != nil {
				return false
			}
		}
		return true
	})
	a.Replicate(func(dst []byte) []byte { t.Error("a batch for nobody"); return dst })
	f.wire.heal()
}

// TestReplicate_backlog: some batches are in flight at once, and the backlog of a peer that takes none is bounded.
func TestReplicate_backlog(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	// The batches in flight must outlast the test, and it may be slow.
	patient := func(o *Options) { o.Times.Silence = 30 * time.Second }
	a, b := f.start("a", patient), f.start("b", patient)
	see(t, a, b)
	begun, goOn := make(chan struct{}), make(chan struct{})
	b.OnReplicated(func([]byte) (more bool, err error) {
		select {
		case begun <- struct{}{}:
		case <-goOn:
		}
		<-goOn
		return true, nil
	})
	batch := make([]byte, 100<<10)
	for range replicationsAtOnce { // they don't wait for each other
		a.Replicate(func(dst []byte) []byte { return append(dst, batch...) })
		<-begun
	}
	const batches, most = 100, replicationBacklog
	for range batches {
		a.Replicate(func(dst []byte) []byte { return append(dst, batch...) })
	}
	close(goOn)
	if lost := a.metrics.replicationLost.Load(); lost < batches*uint64(len(batch))-most {
		t.Errorf("%d bytes are lost, want what is beyond %d", lost, most)
	}
}

// TestReplicate_pause: nothing is sent for a while to a peer without waiting syncs.
func TestReplicate_pause(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.start("a"), f.start("b")
	see(t, a, b)
	at := receiver{enough: 1}
	b.OnReplicated(at.take)
	a.Replicate(func(dst []byte) []byte { return append(dst, "one"...) })
	until(t, 5*time.Second, "b is paused", func() bool {
		for _, p := range a.view.Load().peers {
			return p.queue.pausedUntil.Load() > 0
		}
		return false
	})
	a.Replicate(func(dst []byte) []byte { t.Error("a batch for nobody"); return dst })
	until(t, 5*time.Second, "b gets batches again", func() bool {
		a.Replicate(func(dst []byte) []byte { return append(dst, " two"...) })
		return strings.HasPrefix(at.String(), "one two")
	})
}
