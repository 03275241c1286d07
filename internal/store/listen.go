package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
)

// Listen calls f with each PostgreSQL notification on some channels, on a connection of
// its own, until ctx ends or the connection is lost. It calls ready once the server
// listens: later notifications are not missed. On SQLite it returns
// errors.ErrUnsupported, since there are no other instances.
func (s *Store) Listen(ctx context.Context, channels []string, ready func(), f func(channel, payload string)) error {
	e, ok := s.engine.(*postgresEngine)
	if !ok {
		return errors.ErrUnsupported
	}
	config := e.config.Config.Copy()
	// An idle connection has no query to cancel; the default handler would wait for the
	// cancellation.
	config.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.DeadlineContextWatcherHandler{Conn: c.Conn()}
	}
	config.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) { f(n.Channel, n.Payload) }
	c, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			e.opt.Log.Debug("close connection", "err", err)
		}
	}()
	for _, channel := range channels {
		if err := c.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()).Close(); err != nil {
			return fmt.Errorf("listen: %w", err)
		}
	}
	ready()
	for {
		if err := c.WaitForNotification(ctx); err != nil {
			return fmt.Errorf("listen: %w", err)
		}
	}
}

var notifyAll = Prepare(`SELECT pg_notify($1, p.v) FROM unnest($2::text[]) AS p(v)`)

// Notifier sends notifications over a connection of its own.
type Notifier struct{ conn reservedConn }

// Notifier returns a Notifier, which connects at the first use. The caller must close it.
// On SQLite it returns errors.ErrUnsupported.
func (s *Store) Notifier() (*Notifier, error) {
	e, ok := s.engine.(*postgresEngine)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	// A notification writes nothing that a crash could lose.
	return &Notifier{conn: reservedConn{engine: e, setup: "SET synchronous_commit = off"}}, nil
}

// Notify sends payloads of at most 7999 bytes each, without NUL, to the listeners of a
// channel. Equal ones may arrive only once.
func (n *Notifier) Notify(ctx context.Context, channel string, payloads []string) error {
	err := n.conn.use(ctx, func(c *pgConn) error {
		a := c.scratch()
		a.add(notifyAll, []any{channel, payloads})
		return c.query(notifyAll, a, nil)
	})
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	return nil
}

// Close closes the connection.
func (n *Notifier) Close() { n.conn.close() }
