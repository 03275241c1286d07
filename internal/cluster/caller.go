package cluster

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"sync"
)

// inbox is the size of a read, in bytes.
const inbox = 64 << 10

var (
	// errUnsent says that a request did not begin, because its connection has ended or is
	// about to. It may be sent on another one.
	errUnsent = errors.New("the connection has ended before the request was sent")
	// errRefused says that a peer refused a request before it began. This instance should
	// serve it.
	errRefused = errors.New("the instance takes no more requests at present")
	// errBroken says that a request has begun, but has no answer.
	errBroken = errors.New("the instance broke off the request")
	errHungUp = errors.New("the connection was closed")
)

// caller is a connection on which this instance sends requests and a peer answers.
type caller struct {
	peer *peer
	conn *tls.Conn
	raw  io.Closer
	out  outbox

	// The following fields are guarded by the outbox's lock.
	calls map[uint64]*call // in progress
	last  uint64           // the last stream that began
	going bool             // the peer has sent a go-away frame
}

// call is a request in progress. It is reused.
type call struct {
	batch uint64     // the batch of the outbox that has the request
	done  chan reply // capacity 1
}

type reply struct {
	answer *answer
	err    error
}

var idleCalls = sync.Pool{New: func() any { return &call{done: make(chan reply, 1)} }}

func newCaller(p *peer, conn *tls.Conn, raw io.Closer) *caller {
	l := &caller{peer: p, conn: conn, raw: raw, calls: map[uint64]*call{}}
	l.out.init(conn, func() int { return len(l.calls) })
	return l
}

// run serves the connection until it ends.
func (l *caller) run() {
	var writes sync.WaitGroup
	writes.Go(func() {
		if err := l.out.write(); err != nil {
			l.close(err)
		}
	})
	l.close(l.read())
	writes.Wait()
}

// ask sends a request and waits for the answer, until ctx or gone ends. A request without
// gone is a ping, which the bound on requests does not stop.
func (l *caller) ask(ctx context.Context, gone <-chan struct{}, q *question) (*answer, error) {
	if !l.out.lock(ctx.Done(), gone) {
		if ended(gone) {
			return nil, errRefused
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, errUnsent
	}
	if l.going {
		l.out.unlock()
		return nil, errUnsent
	}
	if gone != nil && len(l.calls) >= streams {
		l.out.unlock()
		return nil, errRefused
	}
	gathered, err := appendRequest(l.out.gathered, l.last+1, q)
	l.out.gathered = gathered
	if err != nil {
		l.out.unlock()
		return nil, errors.Join(errRefused, err)
	}
	l.last++
	stream, c := l.last, idleCalls.Get().(*call)
	c.batch = l.out.batch
	l.calls[stream] = c
	l.out.unlock()

	var r reply
	select {
	case r = <-c.done:
	case <-ctx.Done():
		r.err = ctx.Err()
		l.abandon(stream, c)
	case <-gone:
		r.err = errSilent
		l.abandon(stream, c)
	}
	idleCalls.Put(c)
	return r.answer, r.err
}

func ended(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// abandon cancels a request. Nothing is sent to the call afterwards.
func (l *caller) abandon(stream uint64, c *call) {
	l.out.mu.Lock()
	if l.calls[stream] != c {
		l.out.mu.Unlock()
		<-c.done // the answer is arriving right now
		return
	}
	delete(l.calls, stream)
	if !l.out.closed {
		// This does not wait for room. There are at most as many cancel frames as
		// requests.
		l.out.gathered = appendHead(l.out.gathered, kindCancel, stream)
	}
	finished := l.going && len(l.calls) == 0
	l.out.unlock()
	if finished {
		l.close(errHungUp)
	}
}

// read reads answers.
func (l *caller) read() error {
	in := bufio.NewReaderSize(l.conn, inbox)
	for {
		f, err := readFrame(in, func() {}) // the callers have their own timeouts
		if err != nil {
			return err
		}
		var r reply
		switch f.kind {
		case kindAnswer:
			if r.answer, err = parseAnswer(f); err != nil {
				return err
			}
		case kindRefused:
			r.err = errRefused
		case kindBroken:
			r.err = errBroken
		case kindGoAway:
			l.goAway()
			continue
		default:
			return errMalformed
		}
		if !l.finish(f.stream, r) {
			return errMalformed
		}
	}
}

// finish delivers the answer to a request. It returns false for a stream that never
// began.
func (l *caller) finish(stream uint64, r reply) bool {
	l.out.mu.Lock()
	c, known := l.calls[stream], stream <= l.last
	delete(l.calls, stream)
	going := l.going
	finished := going && len(l.calls) == 0
	l.out.mu.Unlock()
	if going && r.err == errRefused {
		r.err = errUnsent
	}
	if c != nil { // else the request was abandoned
		c.done <- r
	}
	if finished {
		l.close(errHungUp)
	}
	return known
}

// goAway makes the next request use another connection.
func (l *caller) goAway() {
	l.retire()
	l.out.mu.Lock()
	l.going = true
	finished := len(l.calls) == 0
	l.out.mu.Unlock()
	if finished {
		l.close(errHungUp)
	}
}

func (l *caller) retire() { l.peer.line.CompareAndSwap(l, nil) }

// close closes the connection. Requests that were not written to it are unsent; the
// outcome of all others is unknown.
func (l *caller) close(err error) {
	l.retire()
	l.out.mu.Lock()
	if l.out.closed {
		l.out.mu.Unlock()
		return
	}
	calls, batch := l.calls, l.out.batch
	l.calls = map[uint64]*call{}
	l.out.shut()
	l.out.mu.Unlock()
	lost := fmt.Errorf("the connection was lost: %w", err)
	for _, c := range calls {
		if c.batch == batch {
			c.done <- reply{err: errUnsent}
		} else {
			c.done <- reply{err: lost}
		}
	}
	_ = l.raw.Close() // it may be closed already
}
