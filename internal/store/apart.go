package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// apart is a connection to PostgreSQL for one purpose, beside the pool: however
// many requests hold the pool's connections, this one is free. It is made when it
// is first used, and again after it broke.
type apart struct {
	engine *postgresEngine
	// setup is run on each new connection; "" = nothing.
	setup string

	mu     sync.Mutex // guards c and closed, and is held while c is used
	c      *pgConn
	closed bool
}

// use runs f with the connection. After an error the connection is closed.
func (a *apart) use(ctx context.Context, f func(*pgConn) error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return ErrClosed
	}
	if a.c == nil || a.c.pc.IsClosed() {
		c, err := pgconn.ConnectConfig(ctx, &a.engine.config.Config)
		if err != nil {
			return a.engine.outage.see(unreachable(err))
		}
		a.c = newPgConn(c)
		if a.setup != "" {
			if err := c.Exec(ctx, a.setup).Close(); err != nil {
				a.drop()
				return err
			}
		}
	}
	a.c.ctx = ctx
	err := f(a.c)
	if a.engine.outage.see(err) != nil {
		a.drop()
	}
	return err
}

func (a *apart) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	a.drop()
}

func (a *apart) drop() {
	if a.c == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := a.c.pc.Close(ctx); err != nil {
		a.engine.opt.Log.Debug("close connection", "err", err)
	}
	a.c = nil
}

// ReadApart is Read for the one who follows the stream: on PostgreSQL it has a
// connection of its own, so that it gets on however many requests hold snapshots
// and wait for it. Calls run one after another.
func (s *Store) ReadApart(ctx context.Context, f func(*Read) error) error {
	e, ok := s.engine.(*postgresEngine)
	if !ok {
		return s.Read(ctx, f)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.opt.SnapshotLimit, ErrSnapshotTooOld)
	defer cancel()
	var failed error // of f, which says nothing about the connection
	err := e.following.use(ctx, func(c *pgConn) error {
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
		return fmt.Errorf("read apart: %w", err)
	}
	return nil
}
