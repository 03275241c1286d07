package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"zombiezen.com/go/sqlite/sqlitex"
)

// Script runs SQL past everything that guards the store, to break it.
func (s *Store) Script(ctx context.Context, sql string) error {
	sql = schemaMarkers[s.engine.dialect()].Replace(sql)
	return s.engine.migrate(ctx, func(m migrator) error { return m.script(sql) })
}

// ResolveLast asks PostgreSQL for the fate of the last group as if its
// connection had been lost, and returns the head before it, its rows and the error.
func (s *Store) ResolveLast() (Position, []StreamRow, error) {
	g := &s.commits.g
	err := s.engine.(*postgresEngine).resolve(g, errors.New("lost"))
	return g.prev, g.stream, err
}

// WriteBare writes the rows of changes in one transaction, without heads, fences
// or a lock for positions: the floor under the commit queue.
func (s *Store) WriteBare(ctx context.Context, changes []*Change, pos Position) error {
	rows := func(write func(s *Stmt, list ...any) error) error {
		for i, c := range changes {
			p := c.rooms[0]
			r := p.row
			err := errors.Join(
				write(updateRoom, r.Num, p.NewHead, p.Last, 0, r.Resident, r.Partial, r.extremities, r.Depth, r.Joined, r.Invited, r.LocalJoined, r.Totals),
				write(insertStream, pos+Position(i), OwnerRoom, r.Num, KindTimeline, p.First, p.Last))
			if err != nil {
				return err
			}
		}
		return nil
	}
	return s.engine.write(ctx, false, func(c conn) error {
		switch c := c.(type) {
		case *liteConn:
			tx := &Tx{Read{ctx: ctx, conn: c}}
			for _, change := range changes {
				for _, o := range change.ops {
					if _, err := c.execWindow(o.stmt, window{&change.args, o.from, o.to}); err != nil {
						return err
					}
				}
			}
			return rows(func(s *Stmt, list ...any) error { _, err := tx.Exec(s, list...); return err })
		case *pgConn:
			for _, o := range changes[0].ops {
				if err := c.prepare(o.stmt, updateRoom, insertStream); err != nil {
					return err
				}
			}
			p := c.pipe()
			for _, change := range changes {
				for _, o := range change.ops {
					p.send(o.stmt, false, window{&change.args, o.from, o.to}, nil)
				}
			}
			_ = rows(func(s *Stmt, list ...any) error { p.call(s, nil, list...); return nil })
			_, err := p.run()
			return err
		}
		return nil
	})
}

// Plans returns SQLite's plan of each statement, by its text.
func (s *Store) Plans(ctx context.Context) (map[string][]string, error) {
	plans := map[string][]string{}
	err := s.engine.(*sqliteEngine).write(ctx, false, func(c conn) error {
		for _, st := range registry {
			if strings.HasPrefix(st.text, "BEGIN") || strings.HasPrefix(st.text, "SET ") || strings.Contains(st.text, "pg_") || strings.Contains(st.text, "::") ||
				strings.Contains(st.text, "FOR UPDATE") || st == commitTx || st == rollback || strings.Contains(st.text, "xmin") {
				continue
			}
			p, err := c.(*liteConn).c.Prepare("EXPLAIN QUERY PLAN " + st.lite)
			if err != nil {
				return fmt.Errorf("%q: %w", st.text, err)
			}
			for {
				more, err := p.Step()
				if err != nil {
					return err
				}
				if !more {
					break
				}
				plans[st.text] = append(plans[st.text], p.ColumnText(3))
			}
			if err := p.Reset(); err != nil {
				return err
			}
		}
		return nil
	})
	return plans, err
}

// PanicInRow panics while an answer is being read.
func (r *Read) PanicInRow() error {
	return QueryEach(r, selectHead, func(*Row) error { panic("caller") })
}

// LimitBarriers sets how long callers wait who share a query. Nobody may wait yet.
func LimitBarriers(s *Store, limit time.Duration) { s.barriers.limit = limit }

// Barriers counts the queries of barriers.
func Barriers(s *Store) uint64 { return s.metrics.barriers.Load() }

// Texts are all statements.
func Texts() []string {
	var texts []string
	for _, s := range registry {
		texts = append(texts, s.text)
	}
	return texts
}

// LimitPages makes a SQLite database full, or gives it room; it writes nothing.
func (s *Store) LimitPages(pages int) error {
	e := s.engine.(*sqliteEngine)
	e.mu.Lock()
	defer e.mu.Unlock()
	return sqlitex.ExecuteTransient(e.writer.c, fmt.Sprintf("PRAGMA max_page_count = %d", pages), nil)
}

// ProbeNow makes the next Healthy look for room on the disk.
func (s *Store) ProbeNow() {
	f := s.engine.(*sqliteEngine).files
	f.mu.Lock()
	defer f.mu.Unlock()
	f.probed = time.Time{}
}
