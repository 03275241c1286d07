package cluster

import (
	"net"
	"runtime"
	"sync"
	"time"

	"stoa/internal/httpkit"
)

const (
	// maxGathered is the size from which an outbox takes no more frames until the
	// buffer is written to the connection. One frame may exceed it.
	maxGathered = 4 << 20
	// keptOutbox is the largest buffer that is kept for reuse.
	keptOutbox = 256 << 10
	// manyUnderWay is the number of requests in flight from which the writer yields
	// once before a write, so that more frames join it: with 64 or 256 requests, one
	// costs a quarter to a third less CPU (BenchmarkCaller). With fewer requests hardly
	// a frame would join, and on a busy instance the yield takes as long as a request.
	manyUnderWay = 16
)

// outbox buffers frames. Its writer sends the whole buffer at a time, so that under
// load many frames share a TLS record and a system call.
type outbox struct {
	conn net.Conn
	wake chan struct{} // capacity 1: the buffer is not empty
	// underWay counts the requests under way. It is called with the lock held.
	underWay func() int

	mu       sync.Mutex // guards the fields below, and fields of the owner whose comments say so; nothing is locked after it
	gathered []byte
	spare    []byte
	batch    uint64        // number of the batch in gathered; written batches have smaller numbers
	room     chan struct{} // closed when there is room again; nil: no frame waits
	closed   bool
}

func (o *outbox) init(conn net.Conn, underWay func() int) {
	o.conn, o.wake, o.underWay = conn, make(chan struct{}, 1), underWay
}

// lock waits until there is room for a frame, or one of the channels, which may be nil,
// is closed. It returns true if the outbox is open: the caller then holds the lock,
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

// unlock releases the lock and wakes the writer.
func (o *outbox) unlock() {
	if !o.closed && len(o.gathered) > 0 {
		select {
		case o.wake <- struct{}{}:
		default: // the writer is already awake
		}
	}
	o.mu.Unlock()
}

// shut drops the buffer, and ends the writer and all waits for room. The caller
// holds the lock, and closes the connection.
func (o *outbox) shut() {
	o.closed, o.gathered, o.spare = true, nil, nil
	close(o.wake)
	if o.room != nil {
		close(o.room)
		o.room = nil
	}
}

// write sends the buffered frames until the outbox is shut or the connection fails.
func (o *outbox) write() error {
	for range o.wake {
		if o.hasMany() {
			runtime.Gosched() // frames that are about to be appended join this batch
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
