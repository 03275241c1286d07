package cluster

import (
	"net"
	"runtime"
	"sync"
	"time"

	"stoa/internal/httpkit"
)

const (
	// maxGathered is from how many bytes on an outbox takes no more frames before
	// what has gathered is handed to the connection. One frame may be beyond it.
	maxGathered = 4 << 20
	// keptOutbox is the largest buffer that is kept for the next frames.
	keptOutbox = 256 << 10
	// manyUnderWay is from how many requests under way on a connection on its writer
	// lets others append their frames first: with 64 or 256 a request and its answer
	// cost a quarter to a third less (BenchmarkCaller). Of fewer next to none would,
	// and in a busy instance the wait for them is as long as the request itself.
	manyUnderWay = 16
)

// outbox gathers frames. Its writer hands all that has gathered to the connection at
// a time, so that under load many frames share a record of TLS and a system call.
type outbox struct {
	conn net.Conn
	wake chan struct{} // capacity 1: something has gathered
	// underWay counts the requests under way. It is called with the lock held.
	underWay func() int

	mu       sync.Mutex // guards what follows, and what the owner says; nothing is taken after it
	gathered []byte
	spare    []byte
	batch    uint64        // of what has gathered; what was handed on has a smaller one
	room     chan struct{} // is closed when there is room again; nil: nobody waits
	closed   bool
}

func (o *outbox) init(conn net.Conn, underWay func() int) {
	o.conn, o.wake, o.underWay = conn, make(chan struct{}, 1), underWay
}

// lock waits until there is room for a frame, or one of the channels, which may be nil,
// is closed. If the outbox is still open then it is true: the caller has the lock,
// appends to gathered, and calls unlock.
func (o *outbox) lock(quit, gone <-chan struct{}) bool {
	o.mu.Lock()
	for len(o.gathered) >= maxGathered && !o.closed {
		if o.room == nil {
			o.room = make(chan struct{})
		}
		room := o.room
		o.mu.Unlock()
		select {
		case <-room:
		case <-quit:
			return false
		case <-gone:
			return false
		}
		o.mu.Lock()
	}
	if o.closed {
		o.mu.Unlock()
		return false
	}
	return true
}

// unlock has what was appended written.
func (o *outbox) unlock() {
	if !o.closed && len(o.gathered) > 0 {
		select {
		case o.wake <- struct{}{}:
		default: // the writer will look
		}
	}
	o.mu.Unlock()
}

// shut gives up what has gathered, and ends the writer and all who wait. The caller
// has the lock, and closes the connection.
func (o *outbox) shut() {
	o.closed, o.gathered, o.spare = true, nil, nil
	close(o.wake)
	if o.room != nil {
		close(o.room)
		o.room = nil
	}
}

// write hands on what gathers, until the outbox is shut or the connection fails.
func (o *outbox) write() error {
	for range o.wake {
		if o.hasMany() {
			runtime.Gosched() // whoever is about to append a frame has it go with this batch
		}
		batch := o.take()
		if len(batch) == 0 {
			continue
		}
		if err := o.conn.SetWriteDeadline(time.Now().Add(httpkit.DefaultTimes.Answer)); err != nil {
			return err
		}
		if _, err := o.conn.Write(batch); err != nil {
			return err
		}
		o.giveBack(batch)
	}
	return nil
}

func (o *outbox) hasMany() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.underWay() >= manyUnderWay
}

func (o *outbox) take() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	batch := o.gathered
	o.gathered, o.spare = o.spare[:0], nil
	o.batch++
	if o.room != nil {
		close(o.room)
		o.room = nil
	}
	return batch
}

func (o *outbox) giveBack(batch []byte) {
	if cap(batch) > keptOutbox {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed {
		o.spare = batch
	}
}
