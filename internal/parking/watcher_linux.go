package parking

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"
)

// watcher notices when clients do something on parked connections. With package net that would need a goroutine for each, whose
// stack is most of what a parked request costs.
type watcher struct {
	file *os.File        // an epoll instance, itself watched by the runtime
	raw  syscall.RawConn // of file
	fd   int

	mu          sync.Mutex // guards all below; nothing is taken after it
	last        uint64
	connections map[uint64]*connection // by a number that is never used again, as that of a connection is
}

func newWatcher() (*watcher, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll instance: %w", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(fmt.Errorf("watch an epoll instance: %w", err), syscall.Close(fd))
	}
	w := &watcher{file: os.NewFile(uintptr(fd), "epoll"), fd: fd, connections: map[uint64]*connection{}}
	if w.raw, err = w.file.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("watch an epoll instance: %w", err), w.file.Close())
	}
	go w.run()
	return w, nil
}

// run calls onActivity of connections whose clients did something, until close.
func (w *watcher) run() {
	var events [128]syscall.EpollEvent
	for {
		n := 0
		err := w.raw.Read(func(fd uintptr) bool {
			var err error
			n, err = syscall.EpollWait(int(fd), events[:], 0)
			return n > 0 || err != nil && err != syscall.EINTR
		})
		if err != nil || n < 0 {
			return // closed
		}
		for _, e := range events[:n] {
			w.mu.Lock()
			c := w.connections[uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32]
			w.mu.Unlock()
			if c != nil {
				c.onActivity(e.Events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0)
			}
		}
	}
}

// edgeTriggered reports each action of a client once, whether it is read or not: the kernel need not be called each time a
// connection begins or stops waiting.
const edgeTriggered = 1 << 31 // EPOLLET, which syscall has as a negative number

// add watches a connection, until remove or forget. It returns 0 if it can't.
func (w *watcher) add(c *connection) uint64 {
	w.mu.Lock()
	w.last++
	number := w.last
	w.connections[number] = c
	w.mu.Unlock()
	e := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | edgeTriggered, Fd: int32(number), Pad: int32(number >> 32)}
	var failed error
	err := c.raw.Control(func(fd uintptr) { failed = syscall.EpollCtl(w.fd, syscall.EPOLL_CTL_ADD, int(fd), &e) })
	if err != nil || failed != nil {
		w.drop(number)
		return 0
	}
	return number
}

// remove stops watching a connection.
func (w *watcher) remove(c *connection) {
	w.forget(c)
	// An error means that the connection is closed, which removed it.
	_ = c.raw.Control(func(fd uintptr) { _ = syscall.EpollCtl(w.fd, syscall.EPOLL_CTL_DEL, int(fd), nil) })
}

// forget is remove for a connection that is closed next.
func (w *watcher) forget(c *connection) { w.drop(c.number) }

func (w *watcher) drop(number uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.connections, number)
}

// all returns the watched connections.
func (w *watcher) all() []*connection {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Values(w.connections))
}

// close closes the epoll instance. Nothing may be watched after it.
func (w *watcher) close() {
	if w != nil {
		_ = w.file.Close() // it holds nothing that could be lost
	}
}

// readNow reads without waiting. open is false if the client has gone.
func readNow(c syscall.RawConn, into []byte) (n int, open bool) {
	var failed error
	err := c.Read(func(fd uintptr) bool {
		n, failed = syscall.Read(int(fd), into)
		return true
	})
	switch {
	case err == nil && n > 0:
		return n, true
	case err == nil && (failed == syscall.EAGAIN || failed == syscall.EINTR):
		return 0, true
	}
	return 0, false
}

// writeNow writes as much as the kernel takes without waiting.
func writeNow(c syscall.RawConn, text []byte) (n int, err error) {
	failed := c.Write(func(fd uintptr) bool {
		n, err = syscall.Write(int(fd), text)
		return true
	})
	switch {
	case failed != nil:
		return 0, failed
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return 0, nil
	}
	return max(n, 0), err
}
