package reader

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/readerdb"
)

const (
	jobsName = "jobs" // the name of the shards of jobs for ownerKind
	// duePage is the number of jobs of a shard that one read returns.
	duePage = 32
	// giveBackTime bounds the time to give back jobs when the instance stops.
	giveBackTime = 5 * time.Second
	// keepAside is how long rows and jobs that were set aside are kept.
	keepAside = 90 * 24 * time.Hour
)

// jobRunner runs jobs. One goroutine looks for due jobs; each running job has its own.
type jobRunner struct {
	runner *Runner
	kinds  map[string]*kindState
	wake   chan struct{} // capacity 1: a job was enqueued or has ended

	mu      sync.Mutex // guards running and the counts in kinds; nothing is locked under it
	running map[readerdb.JobID]bool
	all     sync.WaitGroup
	first   int64 // first shard of the next read, so that each is first at some time
	late    atomic.Int64
	polls   atomic.Int64
}

// kindState is a kind and its running jobs on this instance.
type kindState struct {
	Kind
	runs                      int // under jobRunner.mu
	done, failed, aside, lost atomic.Uint64
}

// trimKind is the runner's own periodic job.
const trimKind = "reader.trim"

func newJobRunner(r *Runner, kinds []Kind) (*jobRunner, error) {
	j := &jobRunner{runner: r, kinds: map[string]*kindState{}, wake: make(chan struct{}, 1), running: map[readerdb.JobID]bool{}}
	for _, k := range append(slices.Clone(kinds), Kind{Name: trimKind, Every: 24 * time.Hour, Handle: j.trim}) {
		if j.kinds[k.Name] != nil || k.Name == "" || k.Handle == nil {
			return nil, fmt.Errorf("jobs of kind %q have no name or handler, or are there twice", k.Name)
		}
		j.kinds[k.Name] = &kindState{Kind: k.withDefaults()}
	}
	return j, nil
}

// trim deletes old rows and jobs that were set aside.
func (j *jobRunner) trim(ctx context.Context, _ *Work) error {
	return j.runner.store.Write(ctx, func(tx *store.Tx) error {
		now, err := readerdb.Now(&tx.Read)
		if err != nil {
			return err
		}
		before := now - keepAside.Milliseconds()
		if _, err := readerdb.TrimAside(tx, before); err != nil {
			return err
		}
		_, err = readerdb.TrimJobs(tx, before)
		return err
	})
}

// enqueued receives the payloads of this instance's commits.
func (j *jobRunner) enqueued(payloads []any) {
	own, remote := false, false
	for _, p := range payloads {
		if e, ok := p.(enqueued); ok {
			if j.runner.owns(ownerKind, jobsName, e.shard) {
				own = true
			} else {
				remote = true
			}
		}
	}
	if own {
		signal(j.wake)
	}
	if remote && j.runner.opt.Announce != nil {
		j.runner.opt.Announce()
	}
}

// run runs jobs until ctx ends, and returns after all handlers have.
func (j *jobRunner) run(ctx context.Context) {
	defer j.all.Wait()
	ensured := false
	for {
		if !ensured {
			ensured = j.ensure(ctx)
		}
		pause := j.startDue(ctx)
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-j.wake:
		case <-t.C:
		}
		t.Stop()
	}
}

// ensure creates the jobs of the periodic kinds.
func (j *jobRunner) ensure(ctx context.Context) bool {
	c := store.NewChange()
	for _, name := range slices.Sorted(maps.Keys(j.kinds)) { // in the same order on all instances
		if k := j.kinds[name]; k.Every > 0 {
			readerdb.EnsureJob(c, name, "", readerdb.JobShard(name, ""), k.Every.Milliseconds())
		}
	}
	if _, err := j.runner.store.Commit(ctx, c); err != nil {
		if ctx.Err() == nil {
			j.runner.log.Warn("periodic jobs were not made", "err", err)
		}
		return false
	}
	return true
}

// startDue starts due jobs, and returns the time until the next call.
func (j *jobRunner) startDue(ctx context.Context) time.Duration {
	most := j.runner.opt.tick
	var shards []int64
	for n := range Shards {
		if j.runner.owns(ownerKind, jobsName, n) {
			shards = append(shards, int64(n))
		}
	}
	kinds := j.free()
	if len(shards) == 0 || len(kinds) == 0 {
		return most
	}
	lease := j.runner.lease()
	j.polls.Add(1)
	var due []readerdb.JobID
	next, now := int64(readerdb.Never), int64(0)
	err := j.runner.store.ReadCommitted(ctx, func(read *store.Read) error {
		first, at, err := readerdb.NextDue(read, shards, kinds, lease)
		if err != nil {
			return err
		}
		now = at
		j.first++
		for i := range shards {
			shard := shards[(int64(i)+j.first)%int64(len(shards))]
			next = min(next, first[shard])
			if first[shard] > now {
				continue
			}
			list, err := readerdb.Due(read, shard, kinds, lease, now, duePage)
			if err != nil {
				return err
			}
			due = append(due, list...)
		}
		return nil
	})
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, store.ErrUnreachable) { // the store logs that itself
			j.runner.log.Warn("jobs were not looked for", "err", err)
		}
		return most
	}
	j.late.Store(max(0, now-next))
	started := 0
	for _, id := range due {
		if j.start(ctx, id, lease) {
			started++
		}
	}
	switch {
	case next > now:
		return time.Duration(min(most.Milliseconds(), next-now)) * time.Millisecond // Never in ns is no int64
	case started > 0 && len(due) >= duePage:
		return 0 // there may be more
	}
	return most
}

// free returns the kinds that may start another job.
func (j *jobRunner) free() (names []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for name, k := range j.kinds {
		if k.runs < k.AtOnce {
			names = append(names, name)
		}
	}
	return names
}

// start runs a job in a goroutine, unless it already runs or its kind has reached its
// bound.
func (j *jobRunner) start(ctx context.Context, id readerdb.JobID, lease int64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	k := j.kinds[id.Kind]
	if j.running[id] || k.runs >= k.AtOnce {
		return false
	}
	j.running[id] = true
	k.runs++
	j.all.Go(func() {
		j.one(ctx, k, id, lease)
		j.mu.Lock()
		delete(j.running, id)
		k.runs--
		j.mu.Unlock()
		signal(j.wake)
	})
	return true
}

// one runs a job once. It gives back the row of the job, again and again until that has
// certainly succeeded, since no other instance takes a row with a live lease.
func (j *jobRunner) one(ctx context.Context, k *kindState, id readerdb.JobID, lease int64) {
	err := j.attempt(ctx, k, id, lease)
	if err == nil {
		return
	}
	if isFenced(err) {
		k.lost.Add(1)
	} else if ctx.Err() == nil {
		j.runner.log.Warn("a job is given back", "job", id.Kind, "key", id.Key, "err", err)
	}
	for n := 1; ctx.Err() == nil; n++ {
		if err := j.giveBack(ctx, id, lease); err == nil || errors.Is(err, store.ErrClosed) {
			return
		}
		t := time.NewTimer((Backoff{10 * time.Millisecond, time.Second}).after(n))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackTime)
	defer cancel()
	if err := j.giveBack(ctx, id, lease); err != nil && !errors.Is(err, store.ErrClosed) {
		j.runner.log.Debug("a job was not given back: others wait for the end of the lease", "job", id.Kind, "key", id.Key, "err", err)
	}
}

func (j *jobRunner) giveBack(ctx context.Context, id readerdb.JobID, lease int64) error {
	c := store.NewChange()
	readerdb.ReleaseJob(c, id, lease)
	_, err := j.runner.store.Commit(ctx, c)
	return err
}

// attempt claims a job, runs it, and writes the outcome. An error says that the outcome
// may not be in the table.
func (j *jobRunner) attempt(ctx context.Context, k *kindState, id readerdb.JobID, lease int64) error {
	var row readerdb.Job
	err := j.runner.store.ReadCommitted(ctx, func(read *store.Read) (err error) {
		row, err = readerdb.DueJob(read, id, lease) // it may have run since startDue read it
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	claim := readerdb.Claim{JobID: id, Version: row.Version, Lease: lease}
	c := store.NewChange()
	readerdb.ClaimJob(c, claim, ErrFenced)
	if _, err := j.runner.store.Commit(ctx, c); err != nil {
		return err
	}
	claim.Version++
	w := &Work{
		Kind: id.Kind, Key: id.Key, Payload: row.Payload, Progress: row.Progress, Try: row.Tries + 1,
		Change: store.NewChange(), store: j.runner.store, claim: claim,
	}
	err = j.handle(ctx, k, w)
	if err == nil {
		err = j.end(ctx, k, w)
	}
	switch {
	case err == nil:
		k.done.Add(1)
		return nil
	case isFenced(err), errors.Is(err, store.ErrOutcomeUnknown):
		return err
	case ctx.Err() != nil:
		return j.delay(ctx, w, 0, "", max(0, w.Try-1)) // it did not fail
	case transient(err):
		return j.delay(ctx, w, k.Backoff.First, reason(err), max(0, w.Try-1))
	}
	return j.failed(ctx, k, w, err)
}

func (j *jobRunner) handle(ctx context.Context, k *kindState, w *Work) error {
	ctx, cancel := context.WithTimeout(ctx, k.Limit)
	defer cancel()
	return panicked(func() error { return k.Handle(ctx, w) })
}

// end deletes a job that is done, or records when it is due again.
func (j *jobRunner) end(ctx context.Context, k *kindState, w *Work) error {
	again := w.again
	if again == 0 {
		again = k.Every
	}
	if again > 0 {
		readerdb.RepeatJob(w.Change, w.claim, again.Milliseconds(), ErrFenced)
	} else {
		readerdb.EndJob(w.Change, w.claim, ErrFenced)
	}
	_, err := j.runner.store.Commit(ctx, w.Change)
	return err
}

// failed records a failure: the job is retried or set aside.
func (j *jobRunner) failed(ctx context.Context, k *kindState, w *Work, cause error) error {
	k.failed.Add(1)
	if w.Try < k.Tries || k.Every > 0 {
		j.runner.log.Warn("a job is tried again", "job", w.Kind, "key", w.Key, "attempt", w.Try, "err", cause)
		return j.delay(ctx, w, k.Backoff.after(max(1, w.Try)), reason(cause), w.Try)
	}
	c := store.NewChange()
	readerdb.SetJobAside(c, w.claim, reason(cause), ErrFenced)
	if _, err := j.runner.store.Commit(ctx, c); err != nil {
		return err
	}
	j.runner.log.Error("a job was set aside", "job", w.Kind, "key", w.Key, "attempt", w.Try, "err", cause)
	k.aside.Add(1)
	return nil
}

// delay gives back a job and makes it due again after a time.
func (j *jobRunner) delay(ctx context.Context, w *Work, after time.Duration, text string, tries int) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackTime) // also when the instance stops
	defer cancel()
	c := store.NewChange()
	readerdb.DelayJob(c, w.claim, after.Milliseconds(), text, tries, ErrFenced)
	_, err := j.runner.store.Commit(ctx, c)
	return err
}
