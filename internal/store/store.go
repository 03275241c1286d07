package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
)

// Numbers of the store. They are given out in blocks, never reused, have no
// meaning in their order and never leave the server.
type (
	RoomNum    int64 // a room; 0 = none
	UserNum    int64 // a user, local or remote; 0 = none
	EventNum   int64 // an event; 0 = none
	KeyNum     int64 // an interned (type, state key) pair; 0 = not a state event
	VersionNum int64 // an immutable state version of a room; 0 = none
	Head       int64 // the last change of a room or user; 0 = its row is not there yet
)

// Slot counts the changes of one room (or of one user), from 1.
type Slot int64

// Position is a place in the one stream of the whole deployment. It is at
// least the microseconds since 1970 at which it was given.
type Position int64

// NoFence as expected head means: this part of a change only appends, it
// neither depends on the owner's head nor moves it.
const NoFence Head = -1

var (
	// ErrNotFound says that the asked-for row is not there.
	ErrNotFound = errors.New("store: not found")
	// ErrDeactivated says that the account of a user for whom a change was made has
	// been deactivated (see [Change.ActiveUser]).
	ErrDeactivated = errors.New("store: account is deactivated")
	// ErrConflict says that a head moved: reload, rebuild the change, try again.
	ErrConflict = errors.New("store: conflict")
	// ErrDuplicate says that a row with the same unique key is there already.
	ErrDuplicate = errors.New("store: duplicate")
	// ErrBusy says that too much is waiting to be committed.
	ErrBusy = errors.New("store: busy")
	// ErrOutcomeUnknown says that the connection was lost around a commit: the
	// change may be durable or not.
	ErrOutcomeUnknown = errors.New("store: outcome unknown")
	// ErrClosed says that the store is closed or being closed.
	ErrClosed = errors.New("store: closed")
	// ErrOtherServer says that the database belongs to another server name.
	ErrOtherServer = errors.New("store: database belongs to another server")
	// ErrInUse says that another process has the SQLite database open.
	ErrInUse = errors.New("store: database is in use by another process")
	// ErrUnsafe says that PostgreSQL runs without fsync or synchronous_commit.
	ErrUnsafe = errors.New("store: database does not keep what it acknowledges")
)

// Options say which database to open and how.
type Options struct {
	// URL is a path of a SQLite file or a postgres:// URL.
	URL string
	// ServerName is written into a new database and compared in an old one.
	ServerName string
	// Clock is the clock of this machine, and so that of SQLite; that of
	// PostgreSQL is the database's. nil = time.Now.
	Clock func() time.Time
	// Log is where the store warns; nil = nowhere.
	Log *slog.Logger
	// Faults are the armed fault points of crash and chaos tests; nil = none.
	Faults *Faults
	// UnsafeDatabase accepts a PostgreSQL without fsync or synchronous_commit.
	UnsafeDatabase bool
	// Readers is the number of reading connections; 0 = as many as cores, at
	// least 4 and at most 8 (SQLite), or four a core, 8 to 32 (PostgreSQL, where
	// they also serve Write), if the URL has no pool_max_conns.
	Readers int
	// QueueLimit bounds the changes that wait for their commit; 0 = 8192.
	QueueLimit int
	// SnapshotLimit is the longest life of a snapshot; 0 = 10 s.
	SnapshotLimit time.Duration
	// NotifyChannel, if set, gets one PostgreSQL notification for each group,
	// its payload the group's last position in decimal, a space, and NotifyName,
	// by which an instance knows its own. SQLite ignores both.
	NotifyChannel, NotifyName string
	// Migrations are files migrations/NNNN_subject.sql; nil = those of this
	// program. Tests play other releases with it.
	Migrations fs.FS
}

// Store is an open database. All its methods may be called at the same time.
type Store struct {
	opt           Options
	engine        engine
	clock         databaseClock
	numbers       numbers
	interned      interned
	commits       commitQueue
	subscriptions subscriptions
	barriers      barriers
	head          atomic.Int64 // newest position known to this instance
	committed     atomic.Int64 // newest position that this instance has written
	metrics       storeMetrics
}

// engine is what the two databases do differently.
type engine interface {
	// reader borrows a connection with a snapshot open; its first query was
	// the head of the stream. release ends the snapshot and gives it back.
	reader(ctx context.Context) (c conn, head Position, release func(), err error)
	// write runs f in a transaction of its own, which commits if f returns nil. If
	// lazy, it may become durable only with the next group.
	write(ctx context.Context, lazy bool, f func(conn) error) error
	// begin starts a group: it opens a transaction and loads the owners, rows
	// locked, in the order given (ascending by number).
	begin(users, rooms []*owner) error
	// finish runs what the group wrote and commits. A failing operation gives
	// an *opError; a lost connection around the commit ErrOutcomeUnknown.
	// On any error nothing of the transaction remains (except outcome unknown).
	finish(g *group) error
	// abort ends a begun group without writing.
	abort()
	// migrate runs f with a connection on which no other process migrates.
	migrate(ctx context.Context, f func(migrator) error) error
	close() error
	dialect() dialect
}

// conn is one connection inside a transaction.
type conn interface {
	exec(s *Stmt, a *args) (rows int64, err error)
	query(s *Stmt, a *args, row func(*Row) error) error
	scratch() *args
}

// Open opens the database, brings its schema up to date and checks that it
// belongs to the server name.
func Open(ctx context.Context, opt Options) (*Store, error) {
	if opt.Clock == nil {
		opt.Clock = time.Now
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if opt.QueueLimit == 0 {
		opt.QueueLimit = 8192
	}
	if opt.SnapshotLimit == 0 {
		opt.SnapshotLimit = 10 * time.Second
	}
	if opt.Migrations == nil {
		opt.Migrations = migrationFiles
	}
	s := &Store{opt: opt}
	s.clock.local, s.clock.log = opt.Clock, opt.Log
	var err error
	if isPostgres(opt.URL) {
		s.engine, err = openPostgres(ctx, &s.opt)
	} else {
		s.engine, err = openSQLite(ctx, &s.opt)
	}
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := start(ctx, s); err != nil {
		return nil, errors.Join(fmt.Errorf("open database: %w", err), s.engine.close())
	}
	return s, nil
}

func start(ctx context.Context, s *Store) error {
	if err := migrate(ctx, s); err != nil {
		return err
	}
	if err := checkServerName(ctx, s); err != nil {
		return err
	}
	err := s.Read(ctx, func(r *Read) error { s.sawHead(r.Head()); return nil })
	if err != nil {
		return err
	}
	if s.Shared() {
		if err := s.Read(ctx, s.clock.ask); err != nil {
			return err
		}
	}
	if lite, ok := s.engine.(*sqliteEngine); ok {
		lite.last = s.Head()
	}
	s.interned.init()
	s.barriers.store, s.barriers.limit = s, barrierWait
	s.commits.start(s)
	return nil
}

// Close commits what is waiting, then closes the database. Later calls of
// other methods give ErrClosed.
func (s *Store) Close() error {
	s.barriers.close()
	s.commits.stop()
	s.subscriptions.close()
	return s.engine.close()
}

// Head returns the newest position that this instance has committed or read.
// With one instance that is the head of the stream.
func (s *Store) Head() Position { return Position(s.head.Load()) }

// Committed returns the newest position that this instance has written, 0 for
// none. Subscribers get those changes without a query.
func (s *Store) Committed() Position { return Position(s.committed.Load()) }

// sawHead moves the known head forward.
func (s *Store) sawHead(p Position) {
	for {
		old := s.head.Load()
		if old >= int64(p) || s.head.CompareAndSwap(old, int64(p)) {
			return
		}
	}
}

// Shared reports whether other instances may write to the database too: it is a
// PostgreSQL server.
func (s *Store) Shared() bool { return s.engine.dialect().shared() }

// Lock takes the lock of a name until the transaction ends, on all instances. Reads
// after it see what earlier holders wrote.
func (tx *Tx) Lock(name string) error {
	_, err := tx.Exec(lockMeta, "alone:"+name)
	return err
}

var (
	lockMeta   = Prepare(`INSERT INTO meta (name, value) VALUES ($1, '') ON CONFLICT (name) DO UPDATE SET value = excluded.value`)
	selectMeta = Prepare(`SELECT value FROM meta WHERE name = $1`)
	insertMeta = Prepare(`INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING`)
)

func checkServerName(ctx context.Context, s *Store) error {
	return s.Write(ctx, func(tx *Tx) error {
		if _, err := tx.Exec(insertMeta, "server_name", s.opt.ServerName); err != nil {
			return err
		}
		is, err := QueryOne(&tx.Read, selectMeta, (*Row).Text, "server_name")
		if err != nil {
			return err
		}
		if !strings.EqualFold(is, s.opt.ServerName) {
			return fmt.Errorf("%w: %s, not %s", ErrOtherServer, is, s.opt.ServerName)
		}
		return nil
	})
}
