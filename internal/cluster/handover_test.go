package cluster

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// heard is what an instance was handed.
type heard struct {
	mu   sync.Mutex // guards text
	text strings.Builder
	// enough is from how many bytes on it wants no more, 0 = never.
	enough int
}

func (h *heard) take(piece []byte) (more bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text.Write(piece)
	return h.enough == 0 || h.text.Len() < h.enough, nil
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.String()
}

// words are what it was handed, sorted: pieces overtake each other.
func (h *heard) words() []string {
	words := strings.Fields(h.String())
	slices.Sort(words)
	return words
}

// TestHand: what an instance hands over comes to all others, each once, and to nobody that does not answer.
func TestHand(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b, c := f.start("a"), f.start("b"), f.start("c")
	see(t, a, b, c)
	var atB, atC heard
	b.OnHanded(atB.take)
	c.OnHanded(atC.take)
	var want []string
	for i := range 500 {
		word := strconv.Itoa(i)
		want = append(want, word)
		a.Hand(func(dst []byte) []byte { return append(append(dst, word...), ' ') })
	}
	slices.Sort(want)
	until(t, 5*time.Second, "b and c have got all", func() bool { return slices.Equal(atB.words(), want) && slices.Equal(atC.words(), want) })

	f.wire.cutOff(b)
	f.wire.cutOff(c)
	until(t, 5*time.Second, "a takes them for silent", func() bool {
		for _, p := range a.view.Load().peers {
			if p.link.Load() != nil {
				return false
			}
		}
		return true
	})
	a.Hand(func(dst []byte) []byte { t.Error("asked for what nobody gets"); return dst })
	f.wire.heal()
}

// TestHand_tooMuch: some pieces go at once, and while a peer takes nothing, what waits for it is bounded.
func TestHand_tooMuch(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.start("a"), f.start("b")
	see(t, a, b)
	begun, goOn := make(chan struct{}), make(chan struct{})
	b.OnHanded(func([]byte) (more bool, err error) {
		select {
		case begun <- struct{}{}:
		case <-goOn:
		}
		<-goOn
		return true, nil
	})
	piece := make([]byte, 100<<10)
	for range handsAtOnce { // one does not wait for the one before
		a.Hand(func(dst []byte) []byte { return append(dst, piece...) })
		<-begun
	}
	const pieces, most = 100, handLimit
	for range pieces {
		a.Hand(func(dst []byte) []byte { return append(dst, piece...) })
	}
	close(goOn)
	if lost := a.metrics.handLost.Load(); lost < pieces*uint64(len(piece))-most {
		t.Errorf("%d bytes are lost, want what is beyond %d", lost, most)
	}
}

// TestHand_enough: who has nobody that waits is handed nothing for a while.
func TestHand_enough(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.start("a"), f.start("b")
	see(t, a, b)
	at := heard{enough: 1}
	b.OnHanded(at.take)
	a.Hand(func(dst []byte) []byte { return append(dst, "one"...) })
	until(t, 5*time.Second, "b rests", func() bool {
		for _, p := range a.view.Load().peers {
			return p.outgo.rests.Load() > 0
		}
		return false
	})
	a.Hand(func(dst []byte) []byte { t.Error("asked for what nobody wants"); return dst })
	until(t, 5*time.Second, "b is handed something again", func() bool {
		a.Hand(func(dst []byte) []byte { return append(dst, " two"...) })
		return strings.HasPrefix(at.String(), "one two")
	})
}
