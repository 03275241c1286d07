package store

// A table package reads its tables by functions on *Read, made of three helpers:
//
//	var selectTags = store.Prepare(`SELECT room, tag FROM tags WHERE user_num = $1 ORDER BY room, tag LIMIT $2`)
//
//	// Tags returns the tags of a user's rooms.
//	func Tags(r *store.Read, user store.UserNum, limit int) ([]Tag, error) {
//		return store.Query(r, selectTags, scanTag, user, limit)
//	}
//
//	func scanTag(row *store.Row) (t Tag) {
//		row.Scan(&t.Room, &t.Name) // or row.Int(), row.Text(), row.Bytes(), store.Num[store.RoomNum](row)
//		return t
//	}
//
// QueryOne gives the first row or ErrNotFound; QueryEach calls a function for
// each row, without keeping them; QueryKeys asks once for each key of a list. A
// method expression does for one column:
// store.QueryOne(r, selectName, (*store.Row).Text, user). A *Tx is a Read too:
// &tx.Read. A scanning function reports a broken column with row.Fail.

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Read is one snapshot of the database on one connection. One goroutine uses it. It never
// opens a second one, and ends after Options.SnapshotLimit.
type Read struct {
	ctx     context.Context
	conn    conn
	head    Position
	release func()
}

// Snapshot opens a snapshot, which the caller must close. A request never holds two.
func (s *Store) Snapshot(ctx context.Context) (*Read, error) {
	return s.LongSnapshot(ctx, s.opt.SnapshotLimit)
}

// LongSnapshot is Snapshot with another limit than Options.SnapshotLimit. Long snapshots
// keep the database from cleaning up: they are for commands, not for requests.
func (s *Store) LongSnapshot(ctx context.Context, limit time.Duration) (*Read, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, ErrSnapshotTooOld)
	c, head, release, err := s.engine.reader(ctx)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		cancel()
		return nil, err
	}
	s.sawHead(head)
	s.metrics.snapshots.Add(1)
	return &Read{ctx: ctx, conn: c, head: head, release: func() {
		release()
		cancel()
		s.metrics.snapshots.Add(-1)
	}}, nil
}

// ErrSnapshotTooOld says that a snapshot has outlived Options.SnapshotLimit.
var ErrSnapshotTooOld = errors.New("store: snapshot is too old")

// Read calls f with a snapshot. f must not call the store again.
func (s *Store) Read(ctx context.Context, f func(*Read) error) error {
	r, err := s.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	return f(r)
}

// ReadCommitted is Read without a snapshot: each query of f sees everything that is
// committed when it runs. It saves the round trips of a snapshot, so it is for single
// queries. The Read has no Head.
func (s *Store) ReadCommitted(ctx context.Context, f func(*Read) error) error {
	e, ok := s.engine.(*postgresEngine)
	if !ok {
		return s.Read(ctx, f)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.opt.SnapshotLimit, ErrSnapshotTooOld)
	defer cancel()
	c, give, err := e.acquire(ctx)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return err
	}
	defer give()
	return f(&Read{ctx: ctx, conn: c})
}

// Head is the head of the stream in this snapshot, which has everything at or below it,
// and nothing above.
func (r *Read) Head() Position { return r.head }

// Close ends the snapshot.
func (r *Read) Close() {
	if r.release != nil {
		r.release()
		r.release = nil
	}
}

// QueryEach runs a query and calls f for each row as it arrives. f must not run another
// query: the connection is busy.
func QueryEach(r *Read, s *Stmt, f func(*Row) error, list ...any) error {
	if r.ctx.Err() != nil {
		return context.Cause(r.ctx)
	}
	a := r.conn.scratch()
	a.add(s, list)
	err := r.conn.query(s, a, f)
	if err != nil && r.ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", context.Cause(r.ctx), err) // the context interrupted it
	}
	return err
}

// Query runs a query and returns all its rows.
func Query[T any](r *Read, s *Stmt, scan func(*Row) T, list ...any) ([]T, error) {
	var out []T
	err := QueryEach(r, s, func(row *Row) error {
		out = append(out, scan(row))
		return nil
	}, list...)
	return out, err
}

// QueryOne runs a query and returns its first row, or ErrNotFound.
func QueryOne[T any](r *Read, s *Stmt, scan func(*Row) T, list ...any) (T, error) {
	var out T
	found := false
	err := QueryEach(r, s, func(row *Row) error {
		if !found {
			out, found = scan(row), true
		}
		return nil
	}, list...)
	if err == nil && !found {
		err = ErrNotFound
	}
	return out, err
}

// pipedKeys bounds the queries that QueryKeys sends at once: their texts fit the buffers
// of a socket, so that neither side waits for the other to read.
const pipedKeys = 256

// QueryKeys runs a query once for each key, and calls f for each row with the index of
// its key. With PostgreSQL, which may be on another machine, it does not wait for answers
// in between.
func QueryKeys[K any](r *Read, s *Stmt, keys []K, f func(i int, row *Row) error) error {
	c, piped := r.conn.(*pgConn)
	if !piped || len(keys) < 2 {
		for i, k := range keys {
			if err := QueryEach(r, s, func(row *Row) error { return f(i, row) }, k); err != nil {
				return err
			}
		}
		return nil
	}
	if err := c.prepare(s); err != nil {
		return err
	}
	for from := 0; from < len(keys); from += pipedKeys {
		if r.ctx.Err() != nil {
			return context.Cause(r.ctx)
		}
		p := c.pipe()
		for i := from; i < min(from+pipedKeys, len(keys)); i++ {
			p.call(s, func(row *Row) error { return f(i, row) }, keys[i])
		}
		if _, err := p.run(); err != nil {
			if r.ctx.Err() != nil {
				err = fmt.Errorf("%w: %w", context.Cause(r.ctx), err) // the context interrupted it
			}
			return err
		}
	}
	return nil
}
