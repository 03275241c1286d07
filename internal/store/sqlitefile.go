package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"zombiezen.com/go/sqlite"
)

var (
	// ErrFull says that the disk of the SQLite database is full. Nothing of the change was written.
	ErrFull = errors.New("store: the disk is full")
	// ErrDamaged says that the SQLite database can't be trusted any more: its files were truncated, replaced or deleted under
	// the server, or hold something else. Nothing is written until a restart.
	ErrDamaged = errors.New("store: the database file is damaged")
)

// probeInterval is the time between attempts to find room on a full disk, apart from
// requests that write.
const probeInterval = time.Second

// sqliteFiles watches the files of a SQLite database. They never become smaller or other
// files while the server has them open.
type sqliteFiles struct {
	opt *Options

	mu      sync.Mutex // guards what follows; nothing is locked under it
	files   [2]fileSeen
	damaged error
	full    bool
	probed  time.Time
}

// fileSeen is a file as it was last seen; is is nil until it exists.
type fileSeen struct {
	path string
	is   os.FileInfo
}

func newSQLiteFiles(opt *Options) *sqliteFiles {
	return &sqliteFiles{opt: opt, files: [2]fileSeen{{path: opt.URL}, {path: opt.URL + "-wal"}}}
}

// check returns ErrDamaged if a file has become smaller or another one. SQLite itself
// notices only when it reads a page that is gone.
func (f *sqliteFiles) check() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.files {
		seen := &f.files[i]
		now, err := os.Stat(seen.path)
		switch {
		case seen.is == nil && err != nil: // there is no log yet
		case err != nil:
			f.damage(err)
		case seen.is != nil && !os.SameFile(seen.is, now):
			f.damage(fmt.Errorf("%s is another file than before", seen.path))
		case seen.is != nil && now.Size() < seen.is.Size():
			f.damage(fmt.Errorf("%s has shrunk from %d to %d bytes", seen.path, seen.is.Size(), now.Size()))
		default:
			seen.is = now
		}
	}
	return f.damaged
}

// damage notes the first sign of damage. The caller holds mu.
func (f *sqliteFiles) damage(err error) {
	if f.damaged == nil {
		f.damaged = fmt.Errorf("%w: %w", ErrDamaged, err)
		f.opt.Log.Error("the database file is damaged; requests are refused (503). Stop the server and restore a backup", "err", err)
	}
}

// see turns errors of SQLite about the disk into errors of the store, and remembers them.
func (f *sqliteFiles) see(err error) error {
	if err == nil {
		return nil
	}
	code := sqlite.ErrCode(err)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case code.ToPrimary() == sqlite.ResultFull:
		if !f.full {
			f.full, f.probed = true, time.Now()
			f.opt.Log.Error("the disk of the database is full; requests that write are refused (507). Make room on it", "err", err)
		}
		return fmt.Errorf("%w: %w", ErrFull, err)
	case code.ToPrimary() == sqlite.ResultCorrupt, code == sqlite.ResultNotADB, code == sqlite.ResultIOErrShortRead:
		f.damage(err)
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// foundRoom notes that the disk has room: for what a request writes, or for a probe. What the
// server writes by itself, such as the move of a cursor, is small and says nothing.
func (f *sqliteFiles) foundRoom() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.full {
		f.full = false
		f.opt.Log.Info("the disk of the database has room again")
	}
}

// isFull says whether the last commit found no room; probe says that it is time to try
// again.
func (f *sqliteFiles) isFull() (full, probe bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if probe = f.full && time.Since(f.probed) >= probeInterval; probe {
		f.probed = time.Now()
	}
	return f.full, probe
}

// probeFull writes 128 KiB and deletes it again, in one transaction.
const probeFull = `CREATE TABLE probe_full (x BLOB); INSERT INTO probe_full VALUES (zeroblob(131072)); DROP TABLE probe_full;`

// healthy returns ErrDamaged, or ErrFull while there is no room.
func (e *sqliteEngine) healthy(ctx context.Context) error {
	if err := e.files.check(); err != nil {
		return err
	}
	full, probe := e.files.isFull()
	if probe {
		err := e.write(ctx, false, func(conn) error { return liteMigrator{e.writer}.script(probeFull) })
		if err == nil {
			e.files.foundRoom()
		}
		return err
	}
	if full {
		return ErrFull
	}
	return nil
}

// Healthy returns why the database can't take writes: ErrFull or ErrDamaged. Of
// PostgreSQL it says nothing; that is ErrUnreachable when it is asked.
func Healthy(ctx context.Context, s *Store) error {
	if e, ok := s.engine.(*sqliteEngine); ok {
		return e.healthy(ctx)
	}
	return nil
}
