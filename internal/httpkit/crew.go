package httpkit

import (
	"sync"
	"time"
)

// crew are goroutines for very many short pieces of work that come at once, as when a message goes to everybody in a room. A
// goroutine for each would have all of them grow their stacks and wait for the same locks. So a few take one piece after
// another; more come to help while those do not get on, since they wait for something.
type crew struct {
	ended <-chan struct{} // nobody rests any more
	call  chan struct{}   // for each of those who rest and are to work; has room for all

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
	// crewSize is how many goroutines are kept, and take pieces before any help comes.
	crewSize = 16
	// crewPatience is how long nobody may begin with the next piece before others help.
	crewPatience = 2 * time.Millisecond
)

func newCrew(ended <-chan struct{}) *crew {
	return &crew{ended: ended, call: make(chan struct{}, crewSize), pieces: make([]func(), 64)}
}

// take has a piece of work done in another goroutine, in the order in which they come. It does not block.
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
	case c.resting > 0:
		c.resting--
		c.working++
		c.call <- struct{}{}
	case c.working < crewSize:
		c.help(1)
	case !c.watched:
		c.watched = true
		c.watch(c.begun)
	}
}

// help starts goroutines. Called with the lock held.
func (c *crew) help(n int) {
	c.working += n
	for range n {
		go c.work()
	}
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
			c.help(min(c.working, c.count))
		}
		c.watch(c.begun)
	})
}

// work does pieces, and rests when there are none, until it is one too many.
func (c *crew) work() {
	for {
		c.mu.Lock()
		if c.count > 0 {
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
		case <-c.call:
		case <-c.ended:
			if !c.mayGo() {
				<-c.call // it is on the way
				continue
			}
			return
		}
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
