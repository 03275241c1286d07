package store

import (
	"context"
	"errors"
	"fmt"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// Copy writes a copy of a SQLite database, as it is at one moment, into a new
// file, while the server goes on. On PostgreSQL it gives errors.ErrUnsupported:
// use pg_dump.
func (s *Store) Copy(ctx context.Context, path string) error {
	if _, ok := s.engine.(*sqliteEngine); !ok {
		return errors.ErrUnsupported
	}
	c, err := sqlite.OpenConn(s.opt.URL, sqlite.OpenReadWrite)
	if err != nil {
		return fmt.Errorf("copy database: %w", err)
	}
	c.SetInterrupt(ctx.Done())
	err = sqlitex.ExecuteTransient(c, "VACUUM INTO ?1", &sqlitex.ExecOptions{Args: []any{path}})
	if err = errors.Join(err, c.Close()); err != nil {
		return fmt.Errorf("copy database: %w", err)
	}
	return nil
}
