package httpkit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
)

// watcher notices when clients do something on connections that nobody reads. net would need a goroutine for each, whose
// stack is most of what a parked request takes.
type watcher struct {
	file *os.File        // an epoll instance, itself watched by the runtime
	raw  syscall.RawConn // of file
	fd   int

	mu      sync.Mutex // guards all below; nothing is taken after it
	last    uint64
	waiting map[uint64]*Parked // by a number that is never used again, as that of a connection is
}

func newWatcher() (*watcher, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll instance: %w", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(fmt.Errorf("watch an epoll instance: %w", err), syscall.Close(fd))
	}
	w := &watcher{file: os.NewFile(uintptr(fd), "epoll"), fd: fd, waiting: map[uint64]*Parked{}}
	if w.raw, err = w.file.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("watch an epoll instance: %w", err), w.file.Close())
	}
	go w.run()
	return w, nil
}

// run wakes those whose clients did something, until close.
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
			p := w.waiting[uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32]
			w.mu.Unlock()
			if p != nil {
				p.stirred()
			}
		}
	}
}

// add watches a connection, until something happens on it or remove. It returns 0 if it can't.
func (w *watcher) add(p *Parked) uint64 {
	w.mu.Lock()
	w.last++
	number := w.last
	w.waiting[number] = p
	w.mu.Unlock()
	e := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT, Fd: int32(number), Pad: int32(number >> 32)}
	var failed error
	err := p.raw.Control(func(fd uintptr) { failed = syscall.EpollCtl(w.fd, syscall.EPOLL_CTL_ADD, int(fd), &e) })
	if err != nil || failed != nil {
		w.forget(number)
		return 0
	}
	return number
}

// read reads from a connection on which something happened, without waiting: nothing and false if the client has gone.
func (w *watcher) read(p *Parked) (sent []byte, open bool) {
	var b [256]byte
	n, failed := 0, error(nil)
	err := p.raw.Read(func(fd uintptr) bool {
		n, failed = syscall.Read(int(fd), b[:])
		return true
	})
	switch {
	case err == nil && n > 0:
		return bytes.Clone(b[:n]), true
	case err == nil && (failed == syscall.EAGAIN || failed == syscall.EINTR):
		return nil, true
	}
	return nil, false
}

// remove ends what add began.
func (w *watcher) remove(p *Parked) {
	w.forget(p.watch)
	// An error means that the connection is closed, which removed it.
	_ = p.raw.Control(func(fd uintptr) { _ = syscall.EpollCtl(w.fd, syscall.EPOLL_CTL_DEL, int(fd), nil) })
}

func (w *watcher) forget(number uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.waiting, number)
}

// close ends it. Nothing may be watched any more.
func (w *watcher) close() {
	if w != nil {
		_ = w.file.Close() // it holds nothing that could be lost
	}
}
