package reader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"stoa/internal/store"
)

// Shards is how many shards a sharded reader has, and jobs. It is fixed for ever:
// the instances of two releases must deal alike.
const Shards = 64

// Bounds of a batch.
const (
	// BatchRows is how many rows are read at a time.
	BatchRows = 512
	// BatchBytes is what a handler should load for a batch at most. A handler whose
	// rows refer to more takes fewer (Batch.Take).
	BatchBytes = 4 << 20
)

var (
	// ErrFenced says that a cursor or a job has another owner by now, or was
	// replaced. Whoever gets it stops: nothing was written.
	ErrFenced = errors.New("reader: another owner has taken over")
	// ErrNotFound says that nothing of that name was set aside.
	ErrNotFound = errors.New("reader: there is nothing of that name")
)

// Cluster says what this instance owns.
type Cluster interface {
	// Owner says whether this instance is the owner of a key. Two instances may
	// believe so for a moment.
	Owner(kind, key string) bool
	// Lease is the number of this instance's lease; 0 if it is alone.
	Lease() int64
}

// Backoff is how long the pause after a failure is: First, then twice as long each
// time, up to Most.
type Backoff struct{ First, Most time.Duration }

// after is the pause after the n-th failure in a row, from 1.
func (b Backoff) after(n int) time.Duration {
	pause := b.First
	for ; n > 1 && pause < b.Most; n-- {
		pause *= 2
	}
	return min(pause, b.Most)
}

// Handler deals with rows of the stream. It runs in the snapshot in which they were
// read, so it is quick and calls nothing but read. What it has to write it adds to
// b.Change, which is committed together with the cursor: that happens exactly once.
// What takes time, or calls the store, it leaves to the function that it returns,
// which runs when the snapshot is closed and before the commit; nil = nothing.
//
// The same rows may come again, to this instance or another, as long as the cursor
// has not moved. A row whose target is gone is skipped. A panic is an error.
type Handler func(ctx context.Context, read *store.Read, b *Batch) (then func(context.Context) error, err error)

// Reader is one reader of the stream.
type Reader struct {
	// Name is the name of its cursors, for ever.
	Name string
	// Shards is 1 (or 0) or [Shards], for ever. Each shard has a cursor and an owner
	// of its own; rows of one shard are handled in order.
	Shards int
	// Shard deals a row to a shard; nil = by the room or user.
	Shard func(store.StreamRow) int
	// Wants says which rows are handled; nil = all. The others are passed.
	Wants func(store.StreamRow) bool
	// FromStart makes the reader begin with what is in the stream when it first runs;
	// otherwise it begins with what comes then.
	FromStart bool
	Handle    Handler
	// Tries is how often a row is tried before it is set aside; 0 = 8.
	Tries int
	// Backoff is the pause between tries; zero = 1 s to 1 min.
	Backoff Backoff
}

// Batch is what a handler gets.
type Batch struct {
	Shard int
	Rows  []store.StreamRow // at least one, in the order of their positions
	Head  store.Position    // of the snapshot in which they were read
	// Change is committed with the move of the cursor. It has low priority.
	Change *store.Change

	take int
}

// Take says that the handler deals with the first n rows alone, at least one: the
// others come with the next batch.
func (b *Batch) Take(n int) { b.take = max(1, min(n, len(b.Rows))) }

// Options are what a Runner is made of.
type Options struct {
	Store *store.Store
	// Cluster chooses owners; nil = this process is alone.
	Cluster Cluster
	Readers []Reader
	Kinds   []Kind
	// Announce is called after a commit of this instance with a job that another
	// works off; that one's WakeJobs is to be called. nil = it notices within a
	// second.
	Announce func()
	Log      *slog.Logger // nil = none

	// tick is how often a runner looks by itself; 0 = 1 s. Tests change it.
	tick time.Duration
}

// Runner runs readers and jobs on this instance.
type Runner struct {
	opt       Options
	store     *store.Store
	log       *slog.Logger
	alone     int64 // the lease of an instance that is alone: a number below 0
	head      atomic.Int64
	followers []*follower
	jobs      *jobRunner
}

// New makes a Runner. It does nothing before Run.
func New(opt Options) (*Runner, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.tick == 0 {
		opt.tick = time.Second
	}
	r := &Runner{opt: opt, store: opt.Store, log: opt.Log, alone: -1 - rand.Int64N(1<<62)}
	names := map[string]bool{}
	for _, def := range opt.Readers {
		if names[def.Name] || def.Name == "" || def.Handle == nil {
			return nil, fmt.Errorf("reader %q has no name or handler, or is there twice", def.Name)
		}
		names[def.Name] = true
		f, err := newFollower(r, def)
		if err != nil {
			return nil, err
		}
		r.followers = append(r.followers, f)
	}
	var err error
	r.jobs, err = newJobRunner(r, opt.Kinds)
	return r, err
}

// lease is the number that fences what this instance owns.
func (r *Runner) lease() int64 {
	if r.opt.Cluster != nil {
		if l := r.opt.Cluster.Lease(); l != 0 {
			return l
		}
	}
	return r.alone
}

// owns says whether a shard is this instance's.
func (r *Runner) owns(kind, name string, shard int) bool {
	return r.opt.Cluster == nil || r.opt.Cluster.Owner(kind, name+"/"+strconv.Itoa(shard))
}

// Run reads and works until ctx ends, and returns when all handlers have.
func (r *Runner) Run(ctx context.Context) error {
	tail := r.store.Subscribe()
	defer tail.Close()
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, f := range r.followers {
		all.Go(func() { f.run(ctx) })
	}
	all.Go(func() { r.jobs.run(ctx) })
	if len(r.followers) > 0 {
		all.Go(func() { r.lookForHead(ctx) })
	}
	for {
		b, err := tail.Next(ctx)
		if ctx.Err() != nil || errors.Is(err, store.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("follow own commits: %w", err)
		}
		r.Wake(b.Last)
		r.jobs.enqueued(b.Payloads)
	}
}

// Wake says that the stream goes up to a position: another instance has announced
// it.
func (r *Runner) Wake(head store.Position) {
	for {
		old := r.head.Load()
		if old >= int64(head) {
			return
		}
		if r.head.CompareAndSwap(old, int64(head)) {
			break
		}
	}
	for _, f := range r.followers {
		signal(f.wake)
	}
}

// WakeJobs says that another instance has enqueued a job.
func (r *Runner) WakeJobs() { signal(r.jobs.wake) }

// lookForHead reads the head of the stream now and then, for all readers, in case
// an announcement was lost.
func (r *Runner) lookForHead(ctx context.Context) {
	tick := time.NewTicker(r.opt.tick)
	defer tick.Stop()
	for {
		var head store.Position
		err := r.store.Read(ctx, func(read *store.Read) error { head = read.Head(); return nil })
		if err == nil {
			r.Wake(head)
		} else if ctx.Err() == nil {
			r.log.Debug("the head of the stream was not read", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func signal(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// transient says that an error is not the fault of what was handled: the database
// can't be reached, is busy, or this instance stops. It is tried again without
// counting.
func transient(err error) bool {
	for _, e := range []error{store.ErrUnreachable, store.ErrClosed, store.ErrBusy, store.ErrSnapshotTooOld, store.ErrConflict,
		context.Canceled} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// panicked turns a panic of a handler into an error.
func panicked(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the handler panicked: %v\n%s", p, stack())
		}
	}()
	return f()
}
