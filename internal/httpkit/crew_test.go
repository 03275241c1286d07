package httpkit

import (
	"runtime"
	"sync"
	"testing"
)

// TestCrewHelps: pieces that wait for pieces after them don't wait for ever, however many they are.
func TestCrewHelps(t *testing.T) {
	t.Parallel()
	c := newCrew(t.Context().Done())
	const pieces = 10 * crewSize
	var begun, done sync.WaitGroup
	begun.Add(pieces)
	done.Add(pieces)
	for range pieces {
		c.take(func() {
			begun.Done()
			begun.Wait()
			done.Done()
		})
	}
	done.Wait()
}

// TestCrewEnds: no piece is lost, also of those that come when nobody rests any more, and nobody stays then.
func TestCrewEnds(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	c := newCrew(ended)
	for round := range 20 {
		if round == 10 {
			close(ended)
		}
		var done sync.WaitGroup
		done.Add(1000)
		for range 1000 {
			c.take(done.Done)
		}
		done.Wait()
	}
	for {
		c.mu.Lock()
		left := c.working + c.resting
		c.mu.Unlock()
		if left == 0 {
			return
		}
		runtime.Gosched()
	}
}
