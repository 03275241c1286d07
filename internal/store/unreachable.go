package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

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
	case errors.Is(err, context.Canceled):
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
