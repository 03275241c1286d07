package store

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// A PostgreSQL that the network does not lead to any more is given up this soon,
// whoever waits for an answer of it or for room in the pool: the client then goes
// to an instance that reaches it. One that is only slow is waited for, since its
// machine goes on acknowledging what it was sent.
const (
	pgUnreachable = 3 * time.Second // without a sign of life of the machine
	pgQuiet       = 2 * time.Second // until an idle connection is asked for one
	pgAsk         = time.Second     // and between askings
	pgConnect     = 2 * time.Second // for a new connection
	pgAgain       = time.Second     // after a vain attempt, until the next
)

// pgDialer connects to PostgreSQL. Who comes soon after an attempt that waited in
// vain is told at once: the pool keeps the place of a broken connection until the
// server was asked, over a new one, to forget what that did, so each attempt would
// be waited for by all who need that place.
type pgDialer struct {
	dial func(ctx context.Context, network, addr string) (net.Conn, error)

	mu   sync.Mutex // guards vain; nothing is locked under it
	vain map[string]vainDial
}

type vainDial struct {
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
	return &pgDialer{dial: d.DialContext, vain: map[string]vainDial{}}
}

// DialContext connects to one of the addresses of the database.
func (d *pgDialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	d.mu.Lock()
	last := d.vain[addr]
	d.mu.Unlock()
	if last.err != nil && time.Since(last.at) < pgAgain {
		return nil, last.err
	}
	conn, err := d.dial(ctx, network, addr)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err == nil:
		delete(d.vain, addr)
	case ctx.Err() == nil && isCutOff(err):
		d.vain[addr] = vainDial{time.Now(), err}
	}
	return conn, err
}

// isCutOff says whether an error means that the network does not lead to the
// database, where one that is refused shows that its machine can be reached.
func isCutOff(err error) bool {
	if errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH) {
		return true
	}
	var op *net.OpError
	return errors.As(err, &op) && op.Timeout()
}
