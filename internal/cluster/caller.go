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

// inbox is how much of what arrives is read at a time, in bytes.
const inbox = 64 << 10

var (
	// errUnsent says that a request was not begun, since its connection is no more,
	// or is to be used no more. It may be sent on another.
	errUnsent = errors.New("the connection has ended before the request was sent")
	// errRefused says that a request was not begun, and should be served here.
	errRefused = errors.New("the instance takes no more requests at present")
	// errBroken says that a request was begun, and has no answer.
	errBroken = errors.New("the instance broke off the request")
	errHungUp = errors.New("the connection was closed")
)

// caller is a connection to a peer, on which this instance asks and the peer answers.
type caller struct {
	peer *peer
	conn *tls.Conn
	raw  io.Closer
	out  outbox

	// What follows is guarded by the outbox's lock.
	calls map[uint64]*call // under way
	last  uint64           // stream
	going bool             // the peer has said that it stops
}

// call is a request on its way. It is used again.
type call struct {
	batch uint64     // of the outbox, in which it is sent
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

// ask sends a request and waits for the answer, until ctx or gone ends. One without
// gone is a ping, which goes also where there are too many requests.
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

// abandon tells the peer that nobody waits for an answer any more. After it nothing
// is sent to the call.
func (l *caller) abandon(stream uint64, c *call) {
	l.out.mu.Lock()
	if l.calls[stream] != c {
		l.out.mu.Unlock()
		<-c.done // it is answered at this moment
		return
	}
	delete(l.calls, stream)
	if !l.out.closed {
		// This waits for no room. There are at most as many as there are requests.
		l.out.gathered = appendHead(l.out.gathered, kindCancel, stream)
	}
	finished := l.going && len(l.calls) == 0
	l.out.unlock()
	if finished {
		l.close(errHungUp)
	}
}

// read takes answers.
func (l *caller) read() error {
	in := bufio.NewReaderSize(l.conn, inbox)
	for {
		f, err := readFrame(in, func() {}) // who waits for the answer decides how long
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

// finish gives a request its answer. It is false for one that was never sent.
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
	if c != nil { // else nobody waits any more
		c.done <- r
	}
	if finished {
		l.close(errHungUp)
	}
	return known
}

// goAway has the next request sent on another connection.
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

// close ends the connection at once. What was not handed to it is unsent, and of
// all else that is under way nobody knows whether it was done.
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
	_ = l.raw.Close() // whether it was open makes no difference
}
