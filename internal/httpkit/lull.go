package httpkit

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Lull is when requests of leisurely routes begin: at once while the instance keeps up with what it has to do; else when it does
// again, a few at a time and in the order in which they came. None waits for longer than lullMost, and of very many some don't
// wait.
//
// Whoever knows tells it with Tick, some times a second. As long as nobody does, nothing waits.
type Lull struct {
	mu      sync.Mutex // guards what follows
	busy    bool
	ended   bool
	waiting []chan struct{} // closed when it is their turn
}

const (
	// lullMost is as long as others wait who see receipts, at most: see [Route.Leisurely].
	lullMost = 5 * time.Second
	// lullCrowd bounds those who wait. It is well below what may be in flight.
	lullCrowd = 1024
	// lullPart is how many begin with each Tick.
	lullPart = 20
)

// Tick says whether the instance keeps up, and lets some begin if it does.
func (l *Lull) Tick(keepsUp bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy = !keepsUp && !l.ended; l.busy {
		return
	}
	part := l.waiting[:min(lullPart, len(l.waiting))]
	for _, turn := range part {
		close(turn)
	}
	l.waiting = slices.Delete(l.waiting, 0, len(part))
}

// End lets all begin: the server stops.
func (l *Lull) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended, l.busy = true, false
	for _, turn := range l.waiting {
		close(turn)
	}
	l.waiting = nil
}

// wait waits for the turn.
func (l *Lull) wait(ctx context.Context) {
	turn := l.enter()
	if turn == nil {
		return
	}
	late := time.NewTimer(lullMost)
	defer late.Stop()
	select {
	case <-turn:
		return
	case <-late.C:
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.waiting, turn); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
}

// enter gives the turn to wait for; nil if there is nothing to wait for.
func (l *Lull) enter() chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.busy && len(l.waiting) == 0 || len(l.waiting) >= lullCrowd {
		return nil
	}
	turn := make(chan struct{})
	l.waiting = append(l.waiting, turn)
	return turn
}
