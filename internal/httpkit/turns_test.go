package httpkit

import (
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"
)

func newTestTurns(t testing.TB) *turns {
	return newTurns(NewHands(t.Context().Done(), func(f func()) { f() }))
}

// TestTurnsDontWaitForEachOther: pieces that wait for pieces after them don't wait for ever, however many they are.
func TestTurnsDontWaitForEachOther(t *testing.T) {
	t.Parallel()
	turns := newTestTurns(t)
	pieces := 100 * turns.few
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
			turns.take(wait)
			continue
		}
		go func() {
			turns.await()
			wait()
		}()
	}
	done.Wait()
}

// TestTurnsEnd: no piece is lost, and when there are none nobody takes breaths.
func TestTurnsEnd(t *testing.T) {
	t.Parallel()
	turns := newTestTurns(t)
	for range 20 {
		var done sync.WaitGroup
		done.Add(1000)
		for range 1000 {
			turns.take(done.Done)
		}
		done.Wait()
	}
	for {
		turns.mu.Lock()
		rests := !turns.breathing && turns.count == 0 && turns.left > 0
		turns.mu.Unlock()
		if rests {
			return
		}
		runtime.Gosched()
	}
}

// TestTurnsLetOthersGoFirst: what comes from the network while thousands of pieces wait does not wait for them all.
func TestTurnsLetOthersGoFirst(t *testing.T) {
	t.Parallel()
	here, there, err := pairOfConnections(t)
	if err != nil {
		t.Fatal(err)
	}
	turns := newTestTurns(t)
	pieces := 1000 * turns.few
	var mu sync.Mutex
	done, before := 0, -1
	read := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(here, make([]byte, 1))
		mu.Lock()
		before = done
		mu.Unlock()
		read <- err
	}()
	var all sync.WaitGroup
	all.Add(pieces)
	for i := range pieces {
		turns.take(func() {
			if i == 0 {
				if _, err := there.Write([]byte("x")); err != nil {
					t.Error(err)
				}
			}
			for begin := time.Now(); time.Since(begin) < turnTakes; { // work
			}
			mu.Lock()
			done++
			mu.Unlock()
			all.Done()
		})
	}
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	all.Wait()
	if before > pieces/2 {
		t.Errorf("%d of %d pieces were done before what came with the first was read", before, pieces)
	}
}

func pairOfConnections(t *testing.T) (here, there net.Conn, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	if there, err = net.Dial("tcp", l.Addr().String()); err != nil {
		return nil, nil, err
	}
	t.Cleanup(func() { _ = there.Close() })
	if here, err = l.Accept(); err != nil {
		return nil, nil, err
	}
	t.Cleanup(func() { _ = here.Close() })
	return here, there, nil
}
