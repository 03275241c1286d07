package store

import (
	"net"
	"time"
)

// A PostgreSQL that the network does not lead to any more is given up this soon,
// whoever waits for an answer of it or for room in the pool: the client then goes
// to an instance that reaches it. One that is only slow is waited for, since its
// machine goes on acknowledging what it was sent.
const (
	pgUnreachable = 4 * time.Second // without a sign of life of the machine
	pgQuiet       = 2 * time.Second // until an idle connection is asked for one
	pgAsk         = time.Second     // and between askings
)

// pgDialer connects to PostgreSQL.
func pgDialer() *net.Dialer {
	return &net.Dialer{
		Timeout: pgUnreachable,
		KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: pgQuiet, Interval: pgAsk, Count: int((pgUnreachable - pgQuiet) / pgAsk),
		},
		Control: boundUnacknowledged,
	}
}
