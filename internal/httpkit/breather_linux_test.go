package httpkit

import (
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestBreatherLetsOthersGoFirst: what comes from the network while thousands of pieces wait comes soon, and not when Go looks at
// the network anyway.
func TestBreatherLetsOthersGoFirst(t *testing.T) {
	t.Parallel()
	here, there, err := pairOfConnections(t)
	if err != nil {
		t.Fatal(err)
	}
	b := newTestBreather(t)
	const pings = 30
	pieces := pings * 30 * b.few
	var done atomic.Int64
	sent, waited := make(chan int64, pings), make([]int64, pings)
	read := make(chan error, 1)
	go func() {
		for i := range waited {
			if _, err := here.Read(make([]byte, 1)); err != nil {
				read <- err
				return
			}
			waited[i] = done.Load() - <-sent
		}
		read <- nil
	}()
	var all sync.WaitGroup
	all.Add(pieces)
	for i := range pieces {
		b.take(func() {
			if i%(pieces/pings) == 0 {
				sent <- done.Load()
				if _, err := there.Write([]byte("x")); err != nil {
					t.Error(err)
				}
			}
			for begin := time.Now(); time.Since(begin) < 50*time.Microsecond; { // work
			}
			done.Add(1)
			all.Done()
		})
	}
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	all.Wait()
	slices.Sort(waited)
	// Without a look at the network there are 10 ms of pieces before it.
	if median := waited[pings/2]; median > int64(4*b.few) {
		t.Errorf("%d pieces were done before half of what came was read, by %d", median, b.few)
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
