package parking

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
)

// connection is a parked connection, outside of net/http. Its request waits there for an answer, and then it waits for the client's
// next request. Most clients poll again: that request is served without returning to net/http, whose handling of connections would
// be a third of all work for an answer.
type connection struct {
	conn     net.Conn
	raw      syscall.RawConn
	listener *Listener
	path     string          // of the requests that are served here
	address  string          // of the peer
	context  context.Context // of requests that are served here
	number   uint64          // by which the watcher knows it, 0 = it can't be watched
	waited   bool            // the last request waited for long; used by the goroutine that serves it

	mu         sync.Mutex // guards all below; nothing is taken after it
	state      connectionState
	unread     bool    // the client did something after the last read
	peerClosed bool    // the last event was that it closed its side
	waiter     *Parked // in state waiting
	idleSince  time.Time
}

// connectionState is what happens next on a connection.
type connectionState uint8

const (
	serving connectionState = iota // a goroutine serves its request, or a worker will
	waiting                        // its request waits to be woken, or for the client to do something
	idle                           // it waits for its next request
)

// newConnection parks a connection with a request, which Listener.requests counts already. A connection that can't be watched
// returns to net/http after its answer; a hang-up is noticed only then.
func newConnection(p *Listener, conn net.Conn, raw syscall.RawConn, path string) *connection {
	c := &connection{
		conn: conn, raw: raw, listener: p, path: path,
		address: conn.RemoteAddr().String(), context: p.opt.ConnContext(p.requestContext, conn),
	}
	c.number = p.watcher.add(c)
	return c
}

// wait makes the connection wait with its request. It returns false if the client did something already; the caller continues then.
func (c *connection) wait(p *Parked) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unread {
		return false
	}
	c.state, c.waiter = waiting, p
	return true
}

// endWait ends the wait of the connection's request.
func (c *connection) endWait() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state, c.waiter = serving, nil
}

// takeIdle claims a connection that has been idle for some time, to close it.
func (c *connection) takeIdle(least time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != idle || time.Since(c.idleSince) < least {
		return false
	}
	c.state = serving
	return true
}

// onActivity is called when the client did something. peerClosed: it has closed its side.
func (c *connection) onActivity(peerClosed bool) {
	c.mu.Lock()
	state, p := c.state, c.waiter
	c.unread = true
	c.peerClosed = c.peerClosed || peerClosed
	c.state, c.waiter = serving, nil
	if state == idle {
		c.listener.requests.Add(1)
	}
	c.mu.Unlock()
	switch state {
	case waiting:
		c.listener.workers.Submit(p.onActivity)
	case idle:
		c.listener.workers.Submit(c.serve)
	}
}

// read reads data without waiting. open is false if the client has disconnected.
func (c *connection) read(into []byte) (n int, open bool) {
	c.mu.Lock()
	c.unread = c.peerClosed // before this read; the end is not reported again
	c.mu.Unlock()
	n, open = readNow(c.raw, into)
	if n == len(into) { // there may be more, which is not reported again either
		c.mu.Lock()
		c.unread = true
		c.mu.Unlock()
	}
	return n, open
}

// maxOneWrite is the most that is written with its head in one buffer: the kernel mostly takes that much at once.
const maxOneWrite = 64 << 10

var writeBuffers = sync.Pool{New: func() any { return new([]byte) }}

// write writes an answer, or the next part of one, with a deadline for each MaxWrite bytes, as net/http does. A worker that waits
// for the client lets another work.
//
// A deadline is set only if the kernel does not take everything at once: deadlines on thousands of connections, none of which is
// ever reached, would cost more than a system call.
func (c *connection) write(ctx context.Context, head, body []byte) (err error) {
	if len(head)+len(body) <= maxOneWrite {
		piece := writeBuffers.Get().(*[]byte)
		defer writeBuffers.Put(piece)
		*piece = append(append((*piece)[:0], head...), body...)
		n, err := writeNow(c.raw, *piece)
		if err != nil || n == len(*piece) {
			return err
		}
		head, body = (*piece)[n:], nil
	}
	Blocking(ctx, func() { err = c.writeBlocking(head, body) })
	return err
}

// writeBlocking writes what the kernel does not take at once.
func (c *connection) writeBlocking(head, body []byte) error {
	parts := net.Buffers{head}
	for len(body) > MaxWrite {
		parts = append(parts, body[:MaxWrite])
		body = body[MaxWrite:]
	}
	parts = append(parts, body)
	for len(parts) > 0 {
		err := c.conn.SetWriteDeadline(time.Now().Add(c.listener.opt.Answer))
		next := parts[:min(2, len(parts))]
		parts = parts[len(next):]
		if err == nil {
			_, err = next.WriteTo(socketOf(c.conn))
		}
		if err != nil {
			return err
		}
	}
	return c.conn.SetWriteDeadline(time.Time{})
}

// awaitNext ends a request: the connection waits for the next, of which early was read already.
func (c *connection) awaitNext(early []byte) {
	if len(early) > 0 || c.number == 0 {
		c.returnToServer(early)
		return
	}
	c.mu.Lock()
	isIdle := false
	switch {
	case c.listener.closeIdle.Load():
		c.mu.Unlock()
		c.close()
		return
	case !c.unread:
		isIdle = true
		c.state, c.idleSince = idle, time.Now()
	}
	c.mu.Unlock()
	if isIdle {
		c.listener.requests.Done()
	} else {
		c.listener.workers.Submit(c.serve)
	}
}

// returnToServer ends a request, and returns the connection to net/http.
func (c *connection) returnToServer(early []byte) {
	defer c.listener.requests.Done()
	c.listener.watcher.remove(c)
	back := &returnedConn{Conn: c.conn, opt: &c.listener.opt, readAhead: early, idle: len(early) == 0, waited: c.waited}
	select {
	case c.listener.returned <- back:
	case <-c.listener.dropped:
		_ = c.conn.Close() // whether it was open makes no difference
	}
}

// close ends a request and its connection.
func (c *connection) close() {
	defer c.listener.requests.Done()
	c.drop()
}

// drop closes a connection without a request.
func (c *connection) drop() {
	c.listener.watcher.forget(c)
	_ = c.conn.Close() // whether it was open makes no difference
}

// serve serves the next request, or returns the connection to net/http.
func (c *connection) serve() {
	reader := requestParsers.Get().(*requestParser)
	n, open := c.read(reader.raw[:])
	if !open {
		requestParsers.Put(reader)
		c.close()
		return
	}
	if n == 0 {
		requestParsers.Put(reader)
		c.awaitNext(nil)
		return
	}
	r := reader.parse(reader.raw[:n], c.path)
	if r == nil {
		early := bytes.Clone(reader.raw[:n])
		requestParsers.Put(reader)
		c.returnToServer(early)
		return
	}
	requestParsers.Put(reader)
	r = r.WithContext(c.context)
	r.RemoteAddr = c.address
	answer := response{conn: c, header: make(http.Header, 8)}
	ok := c.handle(&answer, r)
	switch {
	case answer.parked:
	case !ok || answer.finish() != nil || answer.isLast:
		c.close()
	default:
		c.waited = false
		c.awaitNext(nil)
	}
}

// handle calls the handler. It returns false if there is no answer.
func (c *connection) handle(w *response, r *http.Request) (ok bool) {
	defer func() {
		if fault := recover(); fault != nil && fault != http.ErrAbortHandler {
			c.listener.opt.Log.Error("panic in a handler", "err", fault, "stack", string(debug.Stack()))
		}
	}()
	c.listener.handler.ServeHTTP(w, r)
	return true
}
