package store

import "context"

// Tx is a transaction for rare writes. Its Read sees its own writes.
type Tx struct {
	Read
}

// Write runs f in a transaction, which commits if f returns nil. It runs between groups
// and must not touch anything with a head or a position. f may run twice if the database
// requires it, so it must have no other effects, and it must not call the store.
func (s *Store) Write(ctx context.Context, f func(*Tx) error) error {
	return s.write(ctx, false, f)
}

// writeLazily is Write for rows that only later commits refer to: interned strings,
// blocks of numbers. On SQLite they precede those commits in the log, and if the machine
// dies the process that remembers them dies too, so they need no sync of their own.
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

// ExecOne runs a write that must touch exactly one row; otherwise it returns conflict.
func (tx *Tx) ExecOne(s *Stmt, conflict error, list ...any) error {
	n, err := tx.Exec(s, list...)
	if err == nil && n != 1 {
		err = conflict
	}
	return err
}
