package store

import "context"

// Tx is a transaction of its own for rare things. It may read: its Read sees
// its own writes.
type Tx struct {
	Read
}

// Write runs f in a transaction, which commits if f returns nil. It runs between
// groups and touches nothing that has a head or a position. f may run twice if
// the database says that it must be repeated, so it changes nothing outside. It
// calls no other method of the store.
func (s *Store) Write(ctx context.Context, f func(*Tx) error) error {
	return s.write(ctx, false, f)
}

// writeLazily is Write for rows that matter only to what is committed after
// them: interned strings, blocks of numbers. On SQLite they are in the log before
// it, and the process that remembers them dies with the machine, so they need no
// sync of their own.
func writeLazily(ctx context.Context, s *Store, f func(*Tx) error) error {
	return s.write(ctx, true, f)
}

func (s *Store) write(ctx context.Context, lazy bool, f func(*Tx) error) error {
	return s.engine.write(ctx, lazy, func(c conn) error {
		return f(&Tx{Read{ctx: ctx, conn: c}})
	})
}

// Exec runs a write and returns the number of rows it touched.
func (tx *Tx) Exec(s *Stmt, list ...any) (int64, error) {
	a := tx.conn.scratch()
	a.add(s, list)
	return tx.conn.exec(s, a)
}

// ExecOne runs a write that must touch exactly one row, else it gives conflict.
func (tx *Tx) ExecOne(s *Stmt, conflict error, list ...any) error {
	n, err := tx.Exec(s, list...)
	if err == nil && n != 1 {
		err = conflict
	}
	return err
}
