package httpkit

import (
	"sync"
	"sync/atomic"
)

// Hands are goroutines for short pieces of work. Some are kept for the next piece: their stacks have grown, which takes about as
// long as all else about a request.
type Hands[T any] struct {
	do    func(T)
	work  chan T
	ended <-chan struct{}
	idle  atomic.Int32
	all   sync.WaitGroup
}

// idleHands is how many goroutines wait for work at most.
const idleHands = 64

// NewHands makes them: do does a piece of work. When ended is closed none is kept any more.
func NewHands[T any](ended <-chan struct{}, do func(T)) *Hands[T] {
	return &Hands[T]{do: do, work: make(chan T), ended: ended}
}

// Take has a piece of work done in another goroutine. It does not block.
func (h *Hands[T]) Take(piece T) {
	select {
	case h.work <- piece:
	default: // nobody waits
		h.all.Go(func() { h.run(piece) })
	}
}

func (h *Hands[T]) run(piece T) {
	for {
		h.do(piece)
		if h.idle.Add(1) > idleHands {
			h.idle.Add(-1)
			return
		}
		select {
		case piece = <-h.work:
			h.idle.Add(-1)
		case <-h.ended:
			h.idle.Add(-1)
			return
		}
	}
}

// Wait waits until all work is done, after ended. Take is not called any more.
func (h *Hands[T]) Wait() { h.all.Wait() }
