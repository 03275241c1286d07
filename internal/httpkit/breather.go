package httpkit

import (
	"runtime"
	"sync"
	"time"
)

// breather has very many short pieces of work done that come at once, as when a message goes to everybody in a room, or when
// hundreds of polls may go on because the instance has become as new as they have to see it. Go's queue of what is ready has no
// ranks, and Go looks at the network when that queue is empty, or every 10 ms: a step of a commit would come after all
// of them. So a few pieces begin at a time, and then the server takes a breath, in which whatever else has become ready is
// found and goes first.
type breather struct {
	breath *breath
	hands  *Hands[func()]
	few    int // how many pieces begin between two breaths, by the cores there were at the start

	mu        sync.Mutex // guards what follows; nothing is taken after it
	left      int        // how many more may begin before the next breath
	queue     []piece    // a ring: the first is at begin
	begin     int
	count     int
	breathing bool // somebody takes breaths, and lets pieces begin
}

// piece is a piece of work that waits: one to begin with, or one that goes on when goOn is closed.
type piece struct {
	do   func()
	goOn chan struct{}
}

const (
	// fewPieces is how many pieces begin between two breaths for each core: what takes some 0.5 ms. The pieces before it are
	// done within a breath.
	fewPieces = 8
	// longBreath is from when on a breath is a long one, in which others kept the machine busy: then as many times more pieces
	// follow, but no more than mostTimes, so that they do not wait for ever.
	longBreath, mostTimes = 5 * time.Millisecond, 8
)

func newBreather(hands *Hands[func()]) *breather {
	few := fewPieces * runtime.GOMAXPROCS(0)
	return &breather{breath: newBreath(), hands: hands, few: few, left: few, queue: make([]piece, 64)}
}

// take has a piece of work done in another goroutine when it may begin. It does not block.
func (b *breather) take(do func()) {
	if !b.queued(piece{do: do}) {
		b.hands.Take(do)
	}
}

// await waits until the caller, who is a piece of work, may begin.
func (b *breather) await() {
	p := piece{goOn: make(chan struct{})}
	if b.queued(p) {
		<-p.goOn
	}
}

// queued puts a piece into the queue, and returns false if it may begin now instead.
func (b *breather) queued(p piece) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left > 0 && b.count == 0 {
		b.left--
		return false
	}
	if b.count == len(b.queue) {
		more := make([]piece, 2*b.count)
		n := copy(more, b.queue[b.begin:])
		copy(more[n:], b.queue[:b.begin])
		b.queue, b.begin = more, 0
	}
	b.queue[(b.begin+b.count)%len(b.queue)] = p
	b.count++
	if !b.breathing {
		b.breathing = true
		go b.run()
	}
	return true
}

// run takes breaths and lets pieces begin until none waits.
func (b *breather) run() {
	for {
		began := time.Now()
		b.breath.take()
		few := b.few * min(1+int(time.Since(began)/longBreath), mostTimes)
		for ; few > 0; few-- {
			p, ok := b.next(few)
			switch {
			case !ok:
				return
			case p.goOn != nil:
				close(p.goOn)
			default:
				b.hands.Take(p.do)
			}
		}
	}
}

// next is the piece that begins next. If none waits the run is over, and left says how many more may begin before a breath.
func (b *breather) next(left int) (p piece, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.count == 0 {
		b.left, b.breathing = min(left, b.few), false
		return piece{}, false
	}
	p = b.queue[b.begin]
	b.queue[b.begin] = piece{}
	b.begin = (b.begin + 1) % len(b.queue)
	b.count--
	return p, true
}
