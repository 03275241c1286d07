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

// ErrUnreachable says that the database can't be reached: it is down, disconnected, or
// accepts no connections now. A retry, or another instance, may succeed. Nothing was
// read; a Commit has written nothing; the outcome of a Write is unknown.
var ErrUnreachable = errors.New("store: the database can't be reached")

// unreachable adds ErrUnreachable to errors that mean it. A timeout alone does not.
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
		// connections, ended this one, or is read-only after a failover
		return strings.HasPrefix(answer.Code, "08") || strings.HasPrefix(answer.Code, "57P0") ||
			answer.Code == "53300" || answer.Code == "25P03" || answer.Code == "25006"
	case errors.Is(err, context.DeadlineExceeded):
		return false
	}
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		pgconn.SafeToRetry(err) // the connection was lost before anything was sent
}

// outage logs once when the database can't be reached, and once when it is back, however
// many requests notice.
type outage struct {
	log   *slog.Logger
	lasts atomic.Bool
	mu    sync.Mutex // guards since; nothing is locked under it
	since time.Time
}

// see processes the outcome of a request to the database.
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
