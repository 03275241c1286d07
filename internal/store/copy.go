package store

import (
	"context"
	"errors"
	"fmt"
	"os"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// Copy writes a copy of a SQLite database, as of one moment, into a new file, while the
// server runs. On PostgreSQL it returns errors.ErrUnsupported: use pg_dump.
func (s *Store) Copy(ctx context.Context, path string) error {
	if _, ok := s.engine.(*sqliteEngine); !ok {
		return errors.ErrUnsupported
	}
	// VACUUM accepts an existing empty file. A file that it creates would be readable by
	// everybody.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("copy database: %w", err)
	}
	if err := errors.Join(f.Chmod(0o600), f.Close()); err != nil {
		return fmt.Errorf("copy database: %w", err)
	}
	c, err := sqlite.OpenConn(s.opt.URL, sqlite.OpenReadWrite)
	if err != nil {
		return fmt.Errorf("copy database: %w", err)
	}
	c.SetInterrupt(ctx.Done())
	err = sqlitex.ExecuteTransient(c, "VACUUM INTO ?1", &sqlitex.ExecOptions{Args: []any{path}})
	if err = errors.Join(err, c.Close()); err != nil {
		err = errors.Join(err, os.Remove(path)) // half a copy is useless
		return fmt.Errorf("copy database: %w", err)
	}
	return nil
}
