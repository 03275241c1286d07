package httpkit

import (
	"runtime"
	"sync"
	"time"
)

// turns are given to very many short pieces of work that come at once, as when a message goes to everybody in a room, or when
// hundreds of polls may go on because the instance has become as new as they have to see it. Go's queue of what is ready has no
// ranks, and Go looks at the network when that queue is empty, or every 10 ms: a step of a commit would have its turn after all
// of them. So a few pieces begin at a time, and then the server takes a breath, in which whatever else has become ready is
// found and goes first.
type turns struct {
	breath *breath
	hands  *Hands[func()]
	few    int // how many pieces begin between two breaths

	mu        sync.Mutex // guards what follows; nothing is taken after it
	left      int        // how many more may begin before the next breath
	queue     []turn     // a ring: the first is at begin
	begin     int
	count     int
	breathing bool // somebody takes breaths, and gives turns
}

// turn is a piece of work that waits: one to begin with, or one that goes on when go is closed.
type turn struct {
	piece func()
	goOn  chan struct{}
}

const (
	// fewTurns is how many pieces begin between two breaths for each core: what takes 0.5 ms.
	fewTurns = 8
	// turnTakes is about what a piece takes. If others need longer than that for their turn, more pieces begin after it: what
	// can wait a moment gets half of the time.
	turnTakes = 50 * time.Microsecond
)

func newTurns(hands *Hands[func()]) *turns {
	t := &turns{breath: newBreath(), hands: hands, few: fewTurns * runtime.GOMAXPROCS(0), queue: make([]turn, 64)}
	t.left = t.few
	return t
}

// take has a piece of work done in another goroutine when it has its turn. It does not block.
func (t *turns) take(piece func()) {
	if !t.wait(turn{piece: piece}) {
		t.hands.Take(piece)
	}
}

// await waits for the caller's turn.
func (t *turns) await() {
	w := turn{goOn: make(chan struct{})}
	if t.wait(w) {
		<-w.goOn
	}
}

// wait has a turn wait, unless it can be had now.
func (t *turns) wait(w turn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.left > 0 && t.count == 0 {
		t.left--
		return false
	}
	if t.count == len(t.queue) {
		more := make([]turn, 2*t.count)
		n := copy(more, t.queue[t.begin:])
		copy(more[n:], t.queue[:t.begin])
		t.queue, t.begin = more, 0
	}
	t.queue[(t.begin+t.count)%len(t.queue)] = w
	t.count++
	if !t.breathing {
		t.breathing = true
		go t.give()
	}
	return true
}

// give gives turns until nobody waits.
func (t *turns) give() {
	for {
		began := time.Now()
		t.breath.take()
		few := max(t.few, min(int(time.Since(began)/turnTakes), 8*t.few))
		for ; few > 0; few-- {
			t.mu.Lock()
			if t.count == 0 {
				t.left, t.breathing = min(few, t.few), false
				t.mu.Unlock()
				return
			}
			w := t.queue[t.begin]
			t.queue[t.begin] = turn{}
			t.begin = (t.begin + 1) % len(t.queue)
			t.count--
			t.mu.Unlock()
			if w.goOn != nil {
				close(w.goOn)
			} else {
				t.hands.Take(w.piece)
			}
		}
	}
}
