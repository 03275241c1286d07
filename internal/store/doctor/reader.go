// The check of readers and jobs.

package doctor

import (
	"context"
	"fmt"

	"stoa/internal/store"
	"stoa/internal/store/readerdb"
)

var (
	selectBadCursors = store.Prepare(`SELECT name, shard, pos FROM reader_cursors
		WHERE shard < 0 OR shard >= $1 OR pos < 0 OR pos > $2 ORDER BY name, shard LIMIT $3`)
	selectBadAside = store.Prepare(`SELECT a.name, a.shard, a.pos FROM reader_aside a
		WHERE NOT EXISTS (SELECT 1 FROM reader_cursors c WHERE c.name = a.name AND c.shard = a.shard AND c.pos >= a.pos)
		ORDER BY a.name, a.shard, a.pos LIMIT $1`)
	selectJobs = store.Prepare(`SELECT kind, key, seq, shard, due, aside_ts FROM jobs
		WHERE (kind, key, seq) > ($1, $2, $3) ORDER BY kind, key, seq LIMIT $4`)
)

// readers checks that cursors are within the stream, that rows set aside are behind their
// cursor, and that jobs are in the shard in which their owner finds them. It reports a
// bounded number of findings of each kind.
func (c *checker) readers(ctx context.Context) error {
	err := c.snapshot(ctx, func(r *store.Read) error {
		head, err := readerdb.Head(r)
		if err != nil {
			return err
		}
		for _, check := range []struct {
			name, detail string
			query        *store.Stmt
			args         []any
		}{
			{"reader-cursor", "the stream ends at %[4]d, and the cursor of reader %[1]s, shard %[2]d, is at %[3]d", selectBadCursors,
				[]any{readerdb.Shards, head, findingsPerCheck}},
			{"reader-aside", "reader %[1]s, shard %[2]d, has set position %[3]d aside and no cursor has passed it", selectBadAside,
				[]any{findingsPerCheck}},
		} {
			err := store.QueryEach(r, check.query, func(row *store.Row) error {
				return c.found(Finding{Check: check.name, Detail: fmt.Sprintf(check.detail, row.Text(), row.Int(), row.Int(), head)})
			}, check.args...)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.jobs(ctx)
}

func (c *checker) jobs(ctx context.Context) error {
	var last readerdb.JobID
	var done int64
	for {
		n := int64(0)
		err := c.snapshot(ctx, func(r *store.Read) error {
			return store.QueryEach(r, selectJobs, func(row *store.Row) error {
				var shard int
				var due, asideTS int64
				row.Scan(&last.Kind, &last.Key, &last.Seq, &shard, &due, &asideTS)
				n++
				detail := ""
				if want := readerdb.JobShard(last.Kind, last.Key); shard != want {
					detail = fmt.Sprintf("is in shard %d, want %d", shard, want)
				} else if (asideTS > 0) != (due == readerdb.Never) {
					detail = fmt.Sprintf("was set aside at %d and is due at %d", asideTS, due)
				}
				if detail == "" {
					return nil
				}
				return c.found(Finding{Check: "job", Detail: fmt.Sprintf("%s %q %d %s", last.Kind, last.Key, last.Seq, detail)})
			}, last.Kind, last.Key, last.Seq, checkPage)
		})
		if err != nil || n == 0 {
			return err
		}
		done += n
		c.progress("jobs", done, 0)
	}
}
