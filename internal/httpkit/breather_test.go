package httpkit

import (
	"runtime"
	"sync"
	"testing"
)

func newTestBreather(t testing.TB) *breather {
	return newBreather(NewHands(t.Context().Done(), func(f func()) { f() }))
}

// TestBreatherPiecesDontWaitForEachOther: pieces that wait for pieces after them don't wait for ever, however many they are.
func TestBreatherPiecesDontWaitForEachOther(t *testing.T) {
	t.Parallel()
	b := newTestBreather(t)
	pieces := 100 * b.few
	var begun, done sync.WaitGroup
	begun.Add(pieces)
	done.Add(pieces)
	for i := range pieces {
		wait := func() {
			begun.Done()
			begun.Wait()
			done.Done()
		}
		if i%2 == 0 {
			b.take(wait)
			continue
		}
		go func() {
			b.await()
			wait()
		}()
	}
	done.Wait()
}

// TestBreatherEnds: no piece is lost, and when there are none nobody takes breaths.
func TestBreatherEnds(t *testing.T) {
	t.Parallel()
	b := newTestBreather(t)
	for range 20 {
		var done sync.WaitGroup
		done.Add(1000)
		for range 1000 {
			b.take(done.Done)
		}
		done.Wait()
	}
	for {
		b.mu.Lock()
		rests := !b.breathing && b.count == 0 && b.left > 0
		b.mu.Unlock()
		if rests {
			return
		}
		runtime.Gosched()
	}
}
