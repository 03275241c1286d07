// Table jobs. Written by package reader.

package readerdb

import (
	"stoa/internal/stablehash"
	"stoa/internal/store"
)

// Shards is the number of shards of jobs, and of the rows of the stream for a sharded
// reader.
const Shards = 64

// JobShard assigns a job to one of [Shards] shards. Rows contain the result, so it can
// never change.
func JobShard(kind, key string) int {
	return int(stablehash.Mix(stablehash.Add(stablehash.Start, kind+"\x00"+key)) % Shards)
}

// Never is the due time of a job that was set aside.
const Never = 1 << 62

const (
	jobColumns = `j.kind, j.key, j.seq, j.shard, j.due, j.payload, j.progress, j.tries, j.error, j.lease, j.version, j.enqueued_ts, j.aside_ts`
	// claimed is a condition: the instance that runs the job is alive.
	claimed = `EXISTS (SELECT 1 FROM instances i WHERE i.lease = j.lease AND i.expires_ts > {{now}})`
	thisJob = `kind = $1 AND key = $2 AND seq = $3 AND version = $4`
)

var (
	insertJob = store.Prepare(`INSERT INTO jobs (kind, key, seq, shard, due, payload, enqueued_ts)
		VALUES ($1, $2, $3, $4, {{now}} + $5, $6, {{now}})
		ON CONFLICT (kind, key, seq) DO UPDATE SET payload = excluded.payload, enqueued_ts = excluded.enqueued_ts,
			due = CASE WHEN jobs.due < excluded.due THEN jobs.due ELSE excluded.due END,
			progress = NULL, tries = 0, error = '', aside_ts = 0, version = jobs.version + 1`)
	ensureJob = store.Prepare(`INSERT INTO jobs (kind, key, seq, shard, due, enqueued_ts)
		VALUES ($1, $2, 0, $3, {{now}} + $4, {{now}}) ON CONFLICT (kind, key, seq) DO NOTHING`)
	cancelJobs = store.Prepare(`DELETE FROM jobs WHERE kind = $1 AND key = $2`)

	selectNextDue = store.Prepare(`SELECT e.v, COALESCE((SELECT j.due FROM jobs j
			WHERE j.shard = e.v AND j.lease <> $3 AND {{intext j.kind $2}} ORDER BY j.due LIMIT 1), $4), {{now}}
		FROM {{each $1}} e`)
	selectDue = store.Prepare(`SELECT j.kind, j.key, j.seq, j.shard FROM jobs j
		WHERE j.shard = $1 AND j.due <= $4 AND j.lease <> $3 AND {{intext j.kind $2}} AND NOT ` + claimed + `
		ORDER BY j.due LIMIT $5`)
	selectJob  = store.Prepare(`SELECT ` + jobColumns + ` FROM jobs j WHERE j.kind = $1 AND j.key = $2 AND j.seq = $3`)
	selectFree = store.Prepare(`SELECT ` + jobColumns + ` FROM jobs j WHERE j.kind = $1 AND j.key = $2 AND j.seq = $3
		AND j.due <= {{now}} AND j.lease <> $4 AND NOT ` + claimed)
	claimJob = store.Prepare(`UPDATE jobs SET lease = $5, tries = tries + 1, version = version + 1 WHERE ` + thisJob + `
		AND (CAST($5 AS BIGINT) < 0 OR EXISTS (SELECT 1 FROM instances i WHERE i.lease = $5 AND i.expires_ts > {{now}}))`)
	saveJob  = store.Prepare(`UPDATE jobs SET progress = $6, tries = 0, version = version + 1 WHERE ` + thisJob + ` AND lease = $5`)
	endJob   = store.Prepare(`DELETE FROM jobs WHERE ` + thisJob + ` AND lease = $5`)
	delayJob = store.Prepare(`UPDATE jobs SET due = {{now}} + $6, error = $7, tries = $8, lease = 0, version = version + 1
		WHERE ` + thisJob + ` AND lease = $5`)
	againJob = store.Prepare(`UPDATE jobs SET due = {{now}} + $6, progress = NULL, error = '', tries = 0, lease = 0, version = version + 1
		WHERE ` + thisJob + ` AND lease = $5`)
	asideJob = store.Prepare(`UPDATE jobs SET due = $6, error = $7, aside_ts = {{now}}, lease = 0, version = version + 1
		WHERE ` + thisJob + ` AND lease = $5`)
	releaseJob = store.Prepare(`UPDATE jobs SET lease = 0, version = version + 1
		WHERE kind = $1 AND key = $2 AND seq = $3 AND lease = $4`)

	selectWaits = store.Prepare(`SELECT COUNT(*) FROM jobs WHERE kind = $1 AND key = $2 AND aside_ts = 0`)
	retryJobs   = store.Prepare(`UPDATE jobs SET due = {{now}}, tries = 0, aside_ts = 0, version = version + 1
		WHERE kind = $1 AND key = $2 AND aside_ts > 0`)
	discardJobs     = store.Prepare(`DELETE FROM jobs WHERE kind = $1 AND key = $2 AND aside_ts > 0`)
	selectJobsAside = store.Prepare(`SELECT ` + jobColumns + ` FROM jobs j WHERE j.aside_ts > 0 AND j.aside_ts > $1
		ORDER BY j.aside_ts, j.kind, j.key LIMIT $2`)
	trimJobs  = store.Prepare(`DELETE FROM jobs WHERE aside_ts > 0 AND aside_ts < $1`)
	countJobs = store.Prepare(`SELECT j.kind, COUNT(*), COALESCE(SUM(CASE WHEN j.lease <> 0 THEN 1 ELSE 0 END), 0),
		COALESCE(SUM(CASE WHEN j.aside_ts > 0 THEN 1 ELSE 0 END), 0), MIN(j.due)
		FROM jobs j GROUP BY j.kind ORDER BY j.kind LIMIT 1000`)
)

// JobID names one job.
type JobID struct {
	Kind, Key string
	Seq       int64 // 0: no other job has its kind and key
}

// Job is a row of the table.
type Job struct {
	JobID
	Shard      int
	Due        int64 // ms of the database's clock; Never: set aside
	Payload    []byte
	Progress   []byte
	Tries      int
	Error      string
	Lease      int64
	Version    int64
	EnqueuedTS int64 // ms of the database's clock
	AsideTS    int64 // 0: not set aside
}

func scanJob(row *store.Row) (j Job) {
	row.Scan(&j.Kind, &j.Key, &j.Seq, &j.Shard, &j.Due, &j.Payload, &j.Progress, &j.Tries, &j.Error, &j.Lease,
		&j.Version, &j.EnqueuedTS, &j.AsideTS)
	return j
}

// AddJob adds a job that is due some ms after the commit. If a job with its ID exists,
// that one gets the payload and begins anew, at the earlier of both times.
func AddJob(c *store.Change, id JobID, shard int, afterMS int64, payload []byte) {
	c.Exec(insertJob, id.Kind, id.Key, id.Seq, shard, afterMS, payload)
}

// EnsureJob adds a job unless it exists.
func EnsureJob(c *store.Change, kind, key string, shard int, afterMS int64) {
	c.Exec(ensureJob, kind, key, shard, afterMS)
}

// CancelJobs deletes the jobs of a kind and key.
func CancelJobs(c *store.Change, kind, key string) { c.Exec(cancelJobs, kind, key) }

// NextDue returns for each of some shards when its first job of some kinds is due,
// without the jobs that this lease runs; Never for none. It also returns the database's
// time.
func NextDue(r *store.Read, shards []int64, kinds []string, lease int64) (due map[int64]int64, now int64, err error) {
	due = make(map[int64]int64, len(shards))
	err = store.QueryEach(r, selectNextDue, func(row *store.Row) error {
		shard := row.Int()
		due[shard] = row.Int()
		now = row.Int()
		return nil
	}, shards, kinds, lease, int64(Never))
	return due, now, err
}

// Due returns jobs of a shard and some kinds that are due at a time and that no live
// instance runs, longest due first.
func Due(r *store.Read, shard int64, kinds []string, lease, now int64, limit int) ([]JobID, error) {
	return store.Query(r, selectDue, func(row *store.Row) (id JobID) {
		row.Scan(&id.Kind, &id.Key, &id.Seq)
		return id
	}, shard, kinds, lease, now, limit)
}

// JobByID returns a job, or store.ErrNotFound.
func JobByID(r *store.Read, id JobID) (Job, error) {
	return store.QueryOne(r, selectJob, scanJob, id.Kind, id.Key, id.Seq)
}

// DueJob returns a due job that no live instance runs, or store.ErrNotFound.
func DueJob(r *store.Read, id JobID, lease int64) (Job, error) {
	return store.QueryOne(r, selectFree, scanJob, id.Kind, id.Key, id.Seq, lease)
}

// Claim is a job as the instance that runs it last read it. A write with it fails with
// fenced if the job has changed since.
type Claim struct {
	JobID
	Version int64
	Lease   int64
}

// ClaimJob gives a job to the lease in h, which must not have expired, counts a try, and
// increments the version.
func ClaimJob(c *store.Change, h Claim, fenced error) {
	c.ExecOne(claimJob, fenced, h.Kind, h.Key, h.Seq, h.Version, h.Lease)
}

// SaveJob saves the progress of a job and increments the version.
func SaveJob(c *store.Change, h Claim, progress []byte, fenced error) {
	c.ExecOne(saveJob, fenced, h.Kind, h.Key, h.Seq, h.Version, h.Lease, progress)
}

// EndJob deletes a job that is done.
func EndJob(c *store.Change, h Claim, fenced error) {
	c.ExecOne(endJob, fenced, h.Kind, h.Key, h.Seq, h.Version, h.Lease)
}

// DelayJob gives back a job that is to be retried later.
func DelayJob(c *store.Change, h Claim, afterMS int64, reason string, tries int, fenced error) {
	c.ExecOne(delayJob, fenced, h.Kind, h.Key, h.Seq, h.Version, h.Lease, afterMS, reason, tries)
}

// RepeatJob gives back a job that is done for now and due again later.
func RepeatJob(c *store.Change, h Claim, afterMS int64, fenced error) {
	c.ExecOne(againJob, fenced, h.Kind, h.Key, h.Seq, h.Version, h.Lease, afterMS)
}

// SetJobAside sets a job aside.
func SetJobAside(c *store.Change, h Claim, reason string, fenced error) {
	c.ExecOne(asideJob, fenced, h.Kind, h.Key, h.Seq, h.Version, h.Lease, int64(Never), reason)
}

// ReleaseJob gives back a job if the lease still has it.
func ReleaseJob(c *store.Change, id JobID, lease int64) {
	c.Exec(releaseJob, id.Kind, id.Key, id.Seq, lease)
}

// Waiting counts the jobs of a kind and key that are not set aside.
func Waiting(r *store.Read, kind, key string) (int64, error) {
	return store.QueryOne(r, selectWaits, (*store.Row).Int, kind, key)
}

// RetryJobs makes the jobs of a kind and key that were set aside due at once. It returns
// how many there were.
func RetryJobs(tx *store.Tx, kind, key string) (int64, error) { return tx.Exec(retryJobs, kind, key) }

// DiscardJobs deletes the jobs of a kind and key that were set aside. It returns how many
// there were.
func DiscardJobs(tx *store.Tx, kind, key string) (int64, error) {
	return tx.Exec(discardJobs, kind, key)
}

// JobsAside returns jobs that were set aside after a time in ms, oldest first.
func JobsAside(r *store.Read, after int64, limit int) ([]Job, error) {
	return store.Query(r, selectJobsAside, scanJob, after, limit)
}

// TrimJobs deletes jobs that were set aside before a time in ms.
func TrimJobs(tx *store.Tx, before int64) (int64, error) { return tx.Exec(trimJobs, before) }

// JobCount counts the jobs of a kind.
type JobCount struct {
	Kind      string
	Jobs      int64 // all of them
	Runs      int64 // claimed by an instance
	Aside     int64 // set aside
	OldestDue int64 // ms; Never if all are set aside
}

// CountJobs counts all jobs. It reads the whole table, since a status is rarely
// requested.
func CountJobs(r *store.Read) ([]JobCount, error) {
	return store.Query(r, countJobs, func(row *store.Row) (n JobCount) {
		row.Scan(&n.Kind, &n.Jobs, &n.Runs, &n.Aside, &n.OldestDue)
		return n
	})
}
