package httpkit

import (
	"runtime"
	"sync"
	"time"
)

// crew are goroutines for very many short pieces of work that come at once, as when a message goes to everybody in a room. A
// goroutine for each would have all of them grow their stacks and wait for the same locks, and all else that the server does,
// such as the commit of the next message, would have its turn after them. So a few take one piece after another, and leave a
// core to all else. Others help while those do not get on because they wait for something.
type crew struct {
	few   int             // who take pieces before any help comes
	ended <-chan struct{} // nobody rests any more
	call  chan int        // for each of those who rest and are to work: how many pieces, 0 = any number; has room for all

	mu      sync.Mutex // guards what follows
	pieces  []func()   // a ring: the first is at begin
	begin   int
	count   int
	working int // goroutines that have a piece, or look for one
	resting int
	begun   uint64 // pieces
	watched bool   // a timer looks whether they get on
}

const (
	// crewSize is how many goroutines are kept.
	crewSize = 16
	// crewPatience is how long nobody may begin with the next piece before others help, each with helpings pieces.
	crewPatience, helpings = 500 * time.Microsecond, 8
)

func newCrew(ended <-chan struct{}) *crew {
	return &crew{few: max(1, runtime.GOMAXPROCS(0)-1), ended: ended, call: make(chan int, crewSize), pieces: make([]func(), 64)}
}

// take has a piece of work done in another goroutine. It does not block.
func (c *crew) take(piece func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count == len(c.pieces) {
		more := make([]func(), 2*c.count)
		n := copy(more, c.pieces[c.begin:])
		copy(more[n:], c.pieces[:c.begin])
		c.pieces, c.begin = more, 0
	}
	c.pieces[(c.begin+c.count)%len(c.pieces)] = piece
	c.count++
	switch {
	case c.working < c.few:
		c.start(0)
	case !c.watched:
		c.watched = true
		c.watch(c.begun)
	}
}

// start has one more goroutine work. Called with the lock held.
func (c *crew) start(most int) {
	c.working++
	if c.resting > 0 {
		c.resting--
		c.call <- most
		return
	}
	go c.work(most)
}

// watch has others help if no piece is begun in a while. Called with the lock held.
func (c *crew) watch(begun uint64) {
	time.AfterFunc(crewPatience, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.count == 0 {
			c.watched = false
			return
		}
		if c.begun == begun {
			for range min(c.working, c.count) {
				c.start(helpings)
			}
		}
		c.watch(c.begun)
	})
}

// work does pieces, and rests when there are none or it has done enough, until it is one too many.
func (c *crew) work(most int) {
	for n := 1; ; n++ {
		c.mu.Lock()
		if c.count > 0 && (most == 0 || n <= most || c.working <= c.few) {
			piece := c.pieces[c.begin]
			c.pieces[c.begin] = nil
			c.begin = (c.begin + 1) % len(c.pieces)
			c.count--
			c.begun++
			c.mu.Unlock()
			piece()
			continue
		}
		c.working--
		if c.working+c.resting >= crewSize {
			c.mu.Unlock()
			return
		}
		c.resting++
		c.mu.Unlock()
		select {
		case most = <-c.call:
		case <-c.ended:
			if c.mayGo() {
				return
			}
			most = <-c.call // it is on the way
		}
		n = 0
	}
}

// mayGo lets one who rests go, unless all of those are called.
func (c *crew) mayGo() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.resting == 0 {
		return false
	}
	c.resting--
	return true
}
