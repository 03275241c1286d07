package reader

import (
	"context"
	"time"

	"stoa/internal/store/readerdb"
)

// Tick sets the polling interval.
func (o *Options) Tick(d time.Duration) { o.tick = d }

// Counts are the counters that tests read.
type Counts struct{ Rows, Failures, Aside, Trimmed, Fenced, Reads uint64 }

// Counts returns the counters of a reader.
func (r *Runner) Counts(name string) Counts {
	for _, f := range r.followers {
		if f.def.Name == name {
			m := &f.metrics
			return Counts{m.rows.Load(), m.failures.Load(), m.aside.Load(), m.trimmed.Load(), m.fenced.Load(), m.reads.Load()}
		}
	}
	return Counts{}
}

// JobCounts are the counters that tests read.
type JobCounts struct{ Done, Failed, Aside, Lost uint64 }

// JobCounts returns the counters of a kind of jobs.
func (r *Runner) JobCounts(kind string) JobCounts {
	k := r.jobs.kinds[kind]
	return JobCounts{k.done.Load(), k.failed.Load(), k.aside.Load(), k.lost.Load()}
}

// ShardOfJob assigns a job to a shard.
func ShardOfJob(kind, key string) int { return readerdb.JobShard(kind, key) }

// Polls counts the reads of due jobs.
func (r *Runner) Polls() int64 { return r.jobs.polls.Load() }

// Attempt runs a job as if it had been found due.
func (r *Runner) Attempt(ctx context.Context, kind, key string) error {
	return r.jobs.attempt(ctx, r.jobs.kinds[kind], readerdb.JobID{Kind: kind, Key: key}, r.lease())
}
