package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Listen calls f with the payload of each PostgreSQL notification on a channel,
// on a connection of its own, until ctx ends or the connection is lost. ready is
// called once the server listens: what is notified after it is not missed. On
// SQLite it gives errors.ErrUnsupported: there is nobody else.
func (s *Store) Listen(ctx context.Context, channel string, ready func(), f func(payload string)) error {
	e, ok := s.engine.(*postgresEngine)
	if !ok {
		return errors.ErrUnsupported
	}
	config := e.config.Config.Copy()
	config.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) { f(n.Payload) }
	c, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer c.Close(context.WithoutCancel(ctx))
	if err := c.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()).Close(); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	ready()
	for {
		if err := c.WaitForNotification(ctx); err != nil {
			return fmt.Errorf("listen: %w", err)
		}
	}
}

var notify = stmt(`SELECT pg_notify($1, $2)`)

// Notify sends a payload of at most 8000 bytes to whoever listens on a channel.
// On SQLite it gives errors.ErrUnsupported.
func (s *Store) Notify(ctx context.Context, channel, payload string) error {
	if !s.IsPostgres() {
		return errors.ErrUnsupported
	}
	return s.Write(ctx, func(tx *Tx) error {
		return queryEach(&tx.Read, notify, func(*Row) error { return nil }, channel, payload)
	})
}
