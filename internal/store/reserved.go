package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// reservedConn is a connection to PostgreSQL for one purpose, outside the pool, so that
// it is available even when requests use all connections of the pool. It connects at the
// first use, and again after an error.
type reservedConn struct {
	engine *postgresEngine
	// setup is SQL that runs on each new connection; "" = none.
	setup string

	mu     sync.Mutex // guards conn and closed; held while conn is used
	conn   *pgConn
	closed bool
}

// use runs f with the connection. After an error the connection is closed.
func (a *reservedConn) use(ctx context.Context, f func(*pgConn) error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return ErrClosed
	}
	if a.conn == nil || a.conn.pc.IsClosed() {
		c, err := pgconn.ConnectConfig(ctx, &a.engine.config.Config)
		if err != nil {
			return a.engine.outage.see(unreachable(err))
		}
		a.conn = newPgConn(c)
		if a.setup != "" {
			if err := c.Exec(ctx, a.setup).Close(); err != nil {
				a.drop()
				return err
			}
		}
	}
	a.conn.ctx = ctx
	err := f(a.conn)
	if a.engine.outage.see(err) != nil {
		a.drop()
	}
	return err
}

func (a *reservedConn) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	a.drop()
}

func (a *reservedConn) drop() {
	if a.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := a.conn.pc.Close(ctx); err != nil {
		a.engine.opt.Log.Debug("close connection", "err", err)
	}
	a.conn = nil
}

// ReadReserved is Read for the goroutine that follows the stream. On PostgreSQL it uses a
// reserved connection, since requests that wait for that goroutine may hold all
// connections of the pool. Calls run one after another.
func (s *Store) ReadReserved(ctx context.Context, f func(*Read) error) error {
	e, ok := s.engine.(*postgresEngine)
	if !ok {
		return s.Read(ctx, f)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.opt.SnapshotLimit, ErrSnapshotTooOld)
	defer cancel()
	var failed error // an error of f, which is not one of the connection
	err := e.followerConn.use(ctx, func(c *pgConn) error {
		head, err := c.beginSnapshot()
		if err != nil {
			return err
		}
		s.sawHead(head)
		failed = f(&Read{ctx: ctx, conn: c, head: head})
		_, err = c.exec(rollback, c.scratch())
		return err
	})
	if failed != nil {
		return failed
	}
	if err != nil {
		return fmt.Errorf("read on the reserved connection: %w", err)
	}
	return nil
}
