package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrUnreachable says that the database could not be asked: it does not run, is
// cut off, or takes no connections now. The same is worth another try later, or by
// another instance. Nothing was read; of a Write the outcome is unknown, of a
// Commit nothing was written.
var ErrUnreachable = errors.New("store: the database can't be reached")

// unreachable adds ErrUnreachable to errors that mean it. Whoever gave up waiting
// knows only that.
func unreachable(err error) error {
	if err == nil || errors.Is(err, ErrUnreachable) || !isUnreachable(err) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

func isUnreachable(err error) bool {
	var refused *pgconn.ConnectError
	var answer *pgconn.PgError
	var network *net.OpError
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return false
	case errors.As(err, &refused):
		return true
	case errors.As(err, &answer):
		// connection exceptions, and a server that stops or starts, has too many
		// connections, ended this one, or only reads since another took its place
		return strings.HasPrefix(answer.Code, "08") || strings.HasPrefix(answer.Code, "57P0") ||
			answer.Code == "53300" || answer.Code == "25P03" || answer.Code == "25006"
	case errors.Is(err, context.DeadlineExceeded):
		return false
	}
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		pgconn.SafeToRetry(err) // the connection was lost before anything was sent
}

// outage logs when the database can't be reached, and when it is back: once each, however many requests notice.
type outage struct {
	log   *slog.Logger
	lasts atomic.Bool
	mu    sync.Mutex // guards since; nothing is taken under it
	since time.Time
}

// see takes the outcome of something that the database was asked.
func (o *outage) see(err error) error {
	switch {
	case err == nil:
		if o.lasts.Load() && o.lasts.Swap(false) {
			o.mu.Lock()
			took := time.Since(o.since)
			o.mu.Unlock()
			o.log.Info("the database is back", "took_ms", took.Milliseconds())
		}
	case errors.Is(err, ErrUnreachable) && !o.lasts.Swap(true):
		o.mu.Lock()
		o.since = time.Now()
		o.mu.Unlock()
		o.log.Warn("the database can't be reached; requests are refused (503) until it can. Does PostgreSQL run, and is the setting database right?", "err", err)
	}
	return err
}
