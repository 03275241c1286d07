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

// Numbers of the store. They are assigned in blocks and never reused. Their order has no
// meaning, and they never leave the server.
type (
	RoomNum    int64 // a room; 0 = none
	UserNum    int64 // a user, local or remote; 0 = none
	EventNum   int64 // an event; 0 = none
	KeyNum     int64 // an interned (type, state key) pair; 0 = not a state event
	VersionNum int64 // an immutable state version of a room; 0 = none
	Head       int64 // the last change of a room or user; 0 = it has no row yet
)

// Slot counts the changes of one room (or of one user), from 1.
type Slot int64

// Position is a place in the one stream of the whole deployment. It is at least the time
// of its assignment, in microseconds since 1970.
type Position int64

// NoFence as expected head means that this part of a change only appends: it neither
// depends on the owner's head nor changes it.
const NoFence Head = -1

var (
	// ErrNotFound says that the requested row does not exist.
	ErrNotFound = errors.New("store: not found")
	// ErrDeactivated says that a user's account was deactivated before the commit (see
	// [Change.ActiveUser]).
	ErrDeactivated = errors.New("store: account is deactivated")
	// ErrConflict says that a head has moved. The caller should reload, rebuild the
	// change, and retry.
	ErrConflict = errors.New("store: conflict")
	// ErrDuplicate says that a row with the same unique key exists.
	ErrDuplicate = errors.New("store: duplicate")
	// ErrBusy says that the commit queue is full.
	ErrBusy = errors.New("store: busy")
	// ErrOutcomeUnknown says that the connection was lost during a commit: the change may
	// be durable or not.
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

// Options configure a store.
type Options struct {
	// URL is a path of a SQLite file or a postgres:// URL.
	URL string
	// ServerName is written to a new database and compared with that of an existing one.
	ServerName string
	// Clock is the clock of this machine, and with SQLite of the database; nil =
	// time.Now. PostgreSQL has its own.
	Clock func() time.Time
	// Log is for warnings; nil = none.
	Log *slog.Logger
	// Faults are the armed fault points of crash and chaos tests; nil = none.
	Faults *Faults
	// UnsafeDatabase accepts a PostgreSQL without fsync or synchronous_commit.
	UnsafeDatabase bool
	// Readers is the number of reading connections if the URL has no pool_max_conns; 0 =
	// the number of cores, from 4 to 8 (SQLite), or four a core, from 8 to 32
	// (PostgreSQL, where they also serve Write).
	Readers int
	// CacheBytes bounds the page caches of all SQLite connections together; 0 = 192 MiB. The
	// writing connection has a third.
	CacheBytes int64
	// QueueLimit bounds the changes that wait for their commit; 0 = 8192.
	QueueLimit int
	// SnapshotLimit is the longest life of a snapshot; 0 = 10 s.
	SnapshotLimit time.Duration
	// NotifyChannel, if set, gets one PostgreSQL notification for each group. Its payload
	// is the group's last position in decimal, a space, and NotifyName, by which an
	// instance recognises its own. SQLite ignores both.
	NotifyChannel, NotifyName string
	// Migrations are files migrations/NNNN_subject.sql; nil = those of this program.
	// Tests simulate other releases with it.
	Migrations fs.FS
}

// Store is an open database. Its methods may be called concurrently.
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

// engine is the part that differs between the two databases.
type engine interface {
	// reader takes a connection with an open snapshot, whose first query was the head of
	// the stream. release ends the snapshot and returns the connection.
	reader(ctx context.Context) (c conn, head Position, release func(), err error)
	// write runs f in a transaction of its own, which commits if f returns nil. If lazy,
	// it may become durable only with the next group.
	write(ctx context.Context, lazy bool, f func(conn) error) error
	// begin starts a group: it opens a transaction, and reads and locks the owners' rows,
	// in the given order (ascending by number).
	begin(users, rooms []*owner) error
	// finish makes the group's writes and commits. A failing operation gives an *opError,
	// a lost connection during the commit ErrOutcomeUnknown. On any other error nothing
	// of the transaction remains.
	finish(g *group) error
	// abort ends a begun group without writing.
	abort()
	// migrate runs f with a connection while no other process migrates.
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

// Open opens the database, applies migrations, and checks that it belongs to the server
// name.
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

// Close commits all waiting changes, then closes the database. Later calls of other
// methods return ErrClosed.
func (s *Store) Close() error {
	s.barriers.close()
	s.commits.stop()
	s.subscriptions.close()
	return s.engine.close()
}

// Head returns the newest position that this instance has committed or read.
// With one instance that is the head of the stream.
func (s *Store) Head() Position { return Position(s.head.Load()) }

// Committed returns the newest position that this instance has written, 0 for none.
// Subscribers get these changes without a query.
func (s *Store) Committed() Position { return Position(s.committed.Load()) }

// sawHead raises the known head.
func (s *Store) sawHead(p Position) {
	for {
		old := s.head.Load()
		if old >= int64(p) || s.head.CompareAndSwap(old, int64(p)) {
			return
		}
	}
}

// Shared reports whether other instances may write to the database too, which is so with
// PostgreSQL.
func (s *Store) Shared() bool { return s.engine.dialect().shared() }

// Lock takes the lock of a name until the transaction ends, over all instances. Later
// reads see the writes of earlier holders.
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
