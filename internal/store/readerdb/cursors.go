// Tables reader_cursors and reader_aside. Written by package reader.

package readerdb

import "stoa/internal/store"

// leaseHolds is a condition: the lease $2 has not expired. A single instance has a number
// below 0 instead of a lease.
const leaseHolds = `(CAST($2 AS BIGINT) < 0 OR EXISTS (SELECT 1 FROM instances i WHERE i.lease = $2 AND i.expires_ts > {{now}}))`

var (
	selectHead    = store.Prepare(`SELECT COALESCE(MAX(pos), 0) FROM stream`)
	selectNow     = store.Prepare(`SELECT {{now}}`)
	insertCursors = store.Prepare(`INSERT INTO reader_cursors (name, shard, pos, lease)
		SELECT $1, e.v, $3, 0 FROM {{each $2}} e WHERE true ON CONFLICT (name, shard) DO NOTHING`)
	takeCursors = store.Prepare(`UPDATE reader_cursors SET lease = $2
		WHERE name = $1 AND {{in shard $3}} AND lease <> $2 AND ` + leaseHolds)
	selectCursors = store.Prepare(`SELECT name, shard, pos, lease FROM reader_cursors
		WHERE name = $1 AND lease = $2 AND {{in shard $3}} ORDER BY shard`)
	moveCursor = store.Prepare(`UPDATE reader_cursors SET pos = $5 WHERE name = $1 AND shard = $2 AND pos = $3 AND lease = $4`)
	// selectAllCursors is for a status. unread is the oldest row of the stream after the
	// cursor, 0 if there is none.
	selectAllCursors = store.Prepare(`SELECT c.name, c.shard, c.pos, c.lease,
		COALESCE((SELECT MIN(s.pos) FROM stream s WHERE s.pos > c.pos), 0)
		FROM reader_cursors c ORDER BY c.name, c.shard LIMIT $1`)

	insertAside = store.Prepare(`INSERT INTO reader_aside
		(name, shard, pos, owner_kind, owner, kind, first_slot, last_slot, tries, error, aside_ts)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, {{now}})
		ON CONFLICT (name, shard, pos) DO UPDATE SET tries = excluded.tries, error = excluded.error, retry = 0`)
	deleteAside = store.Prepare(`DELETE FROM reader_aside WHERE name = $1 AND shard = $2 AND pos = $3`)
	retryAside  = store.Prepare(`UPDATE reader_aside SET retry = 1 WHERE name = $1 AND shard = $2 AND pos = $3`)
	failAside   = store.Prepare(`UPDATE reader_aside SET retry = 0, tries = tries + 1, error = $4
		WHERE name = $1 AND shard = $2 AND pos = $3`)
	selectRetries = store.Prepare(`SELECT name, shard, pos, owner_kind, owner, kind, first_slot, last_slot, tries, error, aside_ts, retry
		FROM reader_aside WHERE name = $1 AND {{in shard $2}} AND retry = 1 ORDER BY shard, pos LIMIT $3`)
	selectAside = store.Prepare(`SELECT name, shard, pos, owner_kind, owner, kind, first_slot, last_slot, tries, error, aside_ts, retry
		FROM reader_aside WHERE (name, shard, pos) > ($1, $2, $3) ORDER BY name, shard, pos LIMIT $4`)
	countAside = store.Prepare(`SELECT name, COUNT(*) FROM reader_aside GROUP BY name ORDER BY name LIMIT 1000`)
	trimAside  = store.Prepare(`DELETE FROM reader_aside WHERE aside_ts < $1`)
)

// Cursor is the progress of one shard of a reader.
type Cursor struct {
	Name  string
	Shard int
	Pos   store.Position
	Lease int64 // of the owner
	// Unread is the oldest row of the stream after the cursor; 0 if there is none, or if
	// the query does not return it.
	Unread store.Position
}

func scanCursor(row *store.Row) (c Cursor) {
	row.Scan(&c.Name, &c.Shard, &c.Pos, &c.Lease)
	return c
}

// Now is the database's time in ms since 1970.
func Now(r *store.Read) (int64, error) { return store.QueryOne(r, selectNow, (*store.Row).Int) }

// Head is the newest position of the stream, 0 if there is none.
func Head(r *store.Read) (store.Position, error) {
	return store.QueryOne(r, selectHead, store.Num[store.Position])
}

// TakeCursors makes a lease the owner of some shards of a reader, and returns their
// cursors; none if the lease has expired. It creates missing cursors at the head of the
// stream, or at 0 if fromStart is set.
func TakeCursors(tx *store.Tx, name string, lease int64, shards []int64, fromStart bool) ([]Cursor, error) {
	var start int64
	if !fromStart {
		var err error
		if start, err = store.QueryOne(&tx.Read, selectHead, (*store.Row).Int); err != nil {
			return nil, err
		}
	}
	if _, err := tx.Exec(insertCursors, name, shards, start); err != nil {
		return nil, err
	}
	if _, err := tx.Exec(takeCursors, name, lease, shards); err != nil {
		return nil, err
	}
	return store.Query(&tx.Read, selectCursors, scanCursor, name, lease, shards)
}

// MoveCursor moves a cursor. The change fails with fenced if the cursor has another
// position or lease by now.
func MoveCursor(c *store.Change, cur Cursor, to store.Position, fenced error) {
	c.ExecOne(moveCursor, fenced, cur.Name, cur.Shard, cur.Pos, cur.Lease, to)
}

// Cursors returns all cursors, with Unread.
func Cursors(r *store.Read, limit int) ([]Cursor, error) {
	return store.Query(r, selectAllCursors, func(row *store.Row) Cursor {
		c := scanCursor(row)
		row.Scan(&c.Unread)
		return c
	}, limit)
}

// Aside is a row of the stream that a reader could not process.
type Aside struct {
	Name    string
	Shard   int
	Row     store.StreamRow
	Tries   int
	Error   string
	AsideTS int64 // ms of the database's clock
	Retry   bool  // an operator wants a retry
}

func scanAside(row *store.Row) (a Aside) {
	row.Scan(&a.Name, &a.Shard, &a.Row.Pos, &a.Row.OwnerKind, &a.Row.Owner, &a.Row.Kind, &a.Row.First, &a.Row.Last,
		&a.Tries, &a.Error, &a.AsideTS, &a.Retry)
	return a
}

// AddAside sets a row aside.
func AddAside(c *store.Change, a Aside) {
	c.Exec(insertAside, a.Name, a.Shard, a.Row.Pos, a.Row.OwnerKind, a.Row.Owner, a.Row.Kind, a.Row.First, a.Row.Last, a.Tries, a.Error)
}

// DropAside deletes a row that was set aside. The change fails with gone if it does not
// exist.
func DropAside(c *store.Change, name string, shard int, pos store.Position, gone error) {
	c.ExecOne(deleteAside, gone, name, shard, pos)
}

// RetryAside requests a retry of a row.
func RetryAside(c *store.Change, name string, shard int, pos store.Position, gone error) {
	c.ExecOne(retryAside, gone, name, shard, pos)
}

// FailAside records that a retry of a row failed.
func FailAside(c *store.Change, name string, shard int, pos store.Position, reason string) {
	c.Exec(failAside, name, shard, pos, reason)
}

// Retries returns rows of some shards of a reader that are to be retried.
func Retries(r *store.Read, name string, shards []int64, limit int) ([]Aside, error) {
	return store.Query(r, selectRetries, scanAside, name, shards, limit)
}

// AsideRows returns rows that were set aside, after one of them (the zero value = from
// the first).
func AsideRows(r *store.Read, after Aside, limit int) ([]Aside, error) {
	return store.Query(r, selectAside, scanAside, after.Name, after.Shard, after.Row.Pos, limit)
}

// CountAside counts the rows that each reader has set aside.
func CountAside(r *store.Read) (map[string]int64, error) {
	counts := map[string]int64{}
	err := store.QueryEach(r, countAside, func(row *store.Row) error {
		name := row.Text()
		counts[name] = row.Int()
		return nil
	})
	return counts, err
}

// TrimAside deletes rows that were set aside before a time in ms.
func TrimAside(tx *store.Tx, before int64) (int64, error) { return tx.Exec(trimAside, before) }
