package store

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// A PostgreSQL server that the network no longer reaches counts as lost after these
// times, so that clients go to an instance that reaches it. A server that is only slow
// does not: its machine still acknowledges data.
const (
	pgUnreachable = 3 * time.Second // without an acknowledgement from the machine
	pgQuiet       = 2 * time.Second // until an idle connection sends a keep-alive
	pgAsk         = time.Second     // between keep-alives
	pgConnect     = 2 * time.Second // for a new connection
	pgAgain       = time.Second     // between a failed attempt and the next
)

// pgDialer connects to PostgreSQL. For pgAgain after an attempt that timed out it returns
// the same error at once. The pool frees the place of a broken connection only after it
// has sent a cancel request over a new one, so all requests that need the place would
// wait for each attempt.
type pgDialer struct {
	dial func(ctx context.Context, network, addr string) (net.Conn, error)

	mu     sync.Mutex // guards failed; nothing is locked under it
	failed map[string]failedDial
}

type failedDial struct {
	at  time.Time
	err error
}

func newPgDialer() *pgDialer {
	d := net.Dialer{
		Timeout: pgConnect,
		KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: pgQuiet, Interval: pgAsk, Count: int((pgUnreachable - pgQuiet) / pgAsk),
		},
		Control: boundUnacknowledged,
	}
	return &pgDialer{dial: d.DialContext, failed: map[string]failedDial{}}
}

// DialContext connects to one of the addresses of the database.
func (d *pgDialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	d.mu.Lock()
	last := d.failed[addr]
	d.mu.Unlock()
	if last.err != nil && time.Since(last.at) < pgAgain {
		return nil, last.err
	}
	conn, err := d.dial(ctx, network, addr)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err == nil:
		delete(d.failed, addr)
	case ctx.Err() == nil && isNetworkError(err):
		d.failed[addr] = failedDial{time.Now(), err}
	}
	return conn, err
}

// isNetworkError reports whether the network does not reach the database. A refused
// connection does not count: the machine answered.
func isNetworkError(err error) bool {
	if errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH) {
		return true
	}
	var op *net.OpError
	return errors.As(err, &op) && op.Timeout()
}
