package reader

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/readerdb"
)

const (
	// MaxPayload bounds the payload and the progress of a job, in bytes.
	MaxPayload = 64 << 10
	// MaxKey bounds the key of a job, in bytes.
	MaxKey = 1024
)

// Job is work that outlives the request that causes it.
type Job struct {
	// Kind names the [Kind] that handles the job. Instances that don't know it ignore the
	// job.
	Kind string
	// Key is what the job is about, such as a user ID. Jobs of one kind and key have one
	// owner.
	Key string
	// Unique replaces an unfinished job of the same kind and key: that job gets this
	// one's payload and begins anew, at the earlier of both times.
	Unique bool
	// After is the time from the commit until the job is due, by the database's clock.
	After   time.Duration
	Payload []byte
}

// enqueued travels with a commit to the runner of the same instance.
type enqueued struct{ shard int }

// Enqueue adds a job to the change that causes it, so that both are committed or neither.
func Enqueue(c *store.Change, j Job) error {
	if len(j.Payload) > MaxPayload || len(j.Key) > MaxKey || j.Kind == "" {
		return fmt.Errorf("a job of kind %q has a key of %d bytes and a payload of %d: too many", j.Kind, len(j.Key), len(j.Payload))
	}
	id := readerdb.JobID{Kind: j.Kind, Key: j.Key}
	if !j.Unique {
		id.Seq = 1 + rand.Int64N(1<<62)
	}
	shard := readerdb.JobShard(j.Kind, j.Key)
	readerdb.AddJob(c, id, shard, j.After.Milliseconds(), j.Payload)
	c.AddPayload(enqueued{shard})
	return nil
}

// Cancel deletes all jobs of a kind and key. A running one continues until it saves its
// progress or ends, and then writes nothing.
func Cancel(c *store.Change, kind, key string) { readerdb.CancelJobs(c, kind, key) }

// Wait waits until no job of the kind and key waits or runs: all are done or set aside.
// It polls the database, since another instance may own them.
func Wait(ctx context.Context, s *store.Store, kind, key string) error {
	for pause := 4 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		var waiting int64
		err := s.ReadCommitted(ctx, func(read *store.Read) (err error) {
			waiting, err = readerdb.Waiting(read, kind, key)
			return err
		})
		if err != nil || waiting == 0 {
			return err
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

// Peek returns what a job with Unique has saved of its progress, and whether it still waits
// or runs; false if it was set aside. store.ErrNotFound says that it is done, or was never
// enqueued.
func Peek(read *store.Read, kind, key string) (progress []byte, waits bool, err error) {
	j, err := readerdb.JobByID(read, readerdb.JobID{Kind: kind, Key: key})
	return j.Progress, j.AsideTS == 0, err
}

// Kind describes how to handle the jobs of a kind.
type Kind struct {
	Name string
	// Handle does a job. It may run more than once for the same job, and continues from
	// w.Progress. The job ends if it returns nil, and is retried after an error or a
	// panic. When ctx ends it must return soon; the job continues elsewhere.
	Handle func(ctx context.Context, w *Work) error
	// AtOnce bounds the jobs of the kind that run concurrently on one instance; 0 = 4.
	AtOnce int
	// Tries is how many runs in a row may fail without progress before the job is set
	// aside; 0 = 12.
	Tries int
	// Backoff is the pause between tries; zero = 1 s to 1 h.
	Backoff Backoff
	// Limit bounds the time of a run; 0 = 10 min. A longer job saves its progress.
	Limit time.Duration
	// Every makes the kind periodic: it has one job, without a key, that exists from the
	// start and is due again this long after each end. It is never set aside.
	Every time.Duration
}

func (k Kind) withDefaults() Kind {
	if k.AtOnce == 0 {
		k.AtOnce = 4
	}
	if k.Tries == 0 {
		k.Tries = 12
	}
	if k.Backoff == (Backoff{}) {
		k.Backoff = Backoff{time.Second, time.Hour}
	}
	if k.Limit == 0 {
		k.Limit = 10 * time.Minute
	}
	if k.Every > 0 {
		k.Backoff.Most = min(k.Backoff.Most, k.Every)
	}
	return k
}

// Work is one run of a job.
type Work struct {
	Kind, Key string
	Payload   []byte
	// Progress is what an earlier run has saved; nil = nothing.
	Progress []byte
	// Try is the number of this run since the last progress, from 1.
	Try int
	// Change is committed together with the end of the job, if it succeeds.
	Change *store.Change

	store *store.Store
	claim readerdb.Claim
	again time.Duration // > 0: due again after this
}

// Save saves the job's progress, so that another run continues from there, in one commit
// with c if that is not nil. After ErrFenced, which says that the job was replaced or
// taken over, the handler must return it.
func (w *Work) Save(ctx context.Context, progress []byte, c *store.Change) error {
	if len(progress) > MaxPayload {
		return fmt.Errorf("the progress of a job of kind %q has %d bytes: too many", w.Kind, len(progress))
	}
	if c == nil {
		c = store.NewChange()
	}
	readerdb.SaveJob(c, w.claim, progress, ErrFenced)
	if _, err := w.store.Commit(ctx, c); err != nil {
		return fmt.Errorf("save the progress of a job: %w", err)
	}
	w.claim.Version++
	w.Progress, w.Try = progress, 0
	return nil
}

// Again makes the job due again after a time, with its payload, in place of its end.
func (w *Work) Again(after time.Duration) { w.again = max(after, time.Millisecond) }

// isFenced reports whether another owner has taken over.
func isFenced(err error) bool { return errors.Is(err, ErrFenced) }
