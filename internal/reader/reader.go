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
	"stoa/internal/store/readerdb"
)

// Shards is the number of shards of a sharded reader, and of jobs. It can never change:
// instances of two releases must assign rows alike.
const Shards = readerdb.Shards

// Bounds of a batch.
const (
	// BatchRows is the number of rows in one read.
	BatchRows = 512
	// BatchBytes bounds the data that a handler should load for a batch. If its rows
	// refer to more, the handler takes fewer rows (Batch.Take).
	BatchBytes = 4 << 20
)

var (
	// ErrFenced says that a cursor or a job has another owner by now, or was replaced.
	// Nothing was written, and the caller must stop.
	ErrFenced = errors.New("reader: another owner has taken over")
	// ErrNotFound says that no such row or job is set aside.
	ErrNotFound = errors.New("reader: there is nothing of that name")
)

// Cluster knows what this instance owns.
type Cluster interface {
	// Owner reports whether this instance owns a key. For a moment two instances may both
	// believe so.
	Owner(kind, key string) bool
	// Lease is the number of this instance's lease; 0 if it is alone.
	Lease() int64
}

// Backoff is the length of the pauses between attempts: First, then twice as long each
// time, up to Most.
type Backoff struct{ First, Most time.Duration }

// after returns the pause after the n-th failure in a row, from 1.
func (b Backoff) after(n int) time.Duration {
	pause := b.First
	for ; n > 1 && pause < b.Most; n-- {
		pause *= 2
	}
	return min(pause, b.Most)
}

// Handler processes rows of the stream. It runs in the snapshot in which they were read,
// so it must be quick and call nothing but read. It adds its writes to b.Change, which is
// committed exactly once, together with the cursor. It returns a function for slow work
// and for calls of the store, which runs after the snapshot is closed and before the
// commit; nil = nothing.
//
// Until the cursor has moved, the same rows may come again, to this instance or another.
// A handler skips a row whose target no longer exists. A panic is an error.
type Handler func(ctx context.Context, read *store.Read, b *Batch) (then func(context.Context) error, err error)

// Reader is one reader of the stream.
type Reader struct {
	// Name is the name of its cursors. It can never change.
	Name string
	// Shards is 1 (or 0) or [Shards], and can never change. Each shard has its own cursor
	// and owner; rows of one shard are processed in order.
	Shards int
	// Shard assigns a row to a shard; nil = by the room or user.
	Shard func(store.StreamRow) int
	// Wants selects the rows to process; nil = all.
	Wants func(store.StreamRow) bool
	// FromStart makes a new reader begin with the oldest row in the stream; otherwise it
	// begins with rows committed after its first start.
	FromStart bool
	Handle    Handler
	// Tries is the number of attempts before a row is set aside; 0 = 8.
	Tries int
	// Backoff is the pause between tries; zero = 1 s to 1 min.
	Backoff Backoff
}

// Batch is the input of a handler.
type Batch struct {
	Shard int
	Rows  []store.StreamRow // at least one, in the order of their positions
	Head  store.Position    // of the snapshot in which they were read
	// Change is committed with the move of the cursor. It has low priority.
	Change *store.Change

	take int
}

// Take says that the handler processes only the first n rows, at least one. The others
// come again with the next batch.
func (b *Batch) Take(n int) { b.take = max(1, min(n, len(b.Rows))) }

// Options configure a Runner.
type Options struct {
	Store *store.Store
	// Cluster chooses owners; nil = there is one instance.
	Cluster Cluster
	Readers []Reader
	Kinds   []Kind
	// Announce is called after this instance has committed a job that another one owns,
	// to have WakeJobs called there; nil = the owner notices within a second.
	Announce func()
	Log      *slog.Logger // nil = none

	// tick is the polling interval; 0 = 1 s. Tests change it.
	tick time.Duration
}

// Runner runs readers and jobs on this instance.
type Runner struct {
	opt       Options
	store     *store.Store
	log       *slog.Logger
	alone     int64 // the lease of a single instance: a number below 0
	head      atomic.Int64
	followers []*follower
	jobs      *jobRunner
}

// New returns a Runner. It does nothing before Run.
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

// lease is the fencing number of this instance's shards.
func (r *Runner) lease() int64 {
	if r.opt.Cluster != nil {
		if l := r.opt.Cluster.Lease(); l != 0 {
			return l
		}
	}
	return r.alone
}

// owns reports whether this instance owns a shard.
func (r *Runner) owns(kind, name string, shard int) bool {
	return r.opt.Cluster == nil || r.opt.Cluster.Owner(kind, name+"/"+strconv.Itoa(shard))
}

// Run runs readers and jobs until ctx ends, and returns after all handlers have.
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
		all.Go(func() { r.pollHead(ctx) })
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

// Wake reports that the stream extends to a position, which another instance has
// announced.
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

// WakeJobs reports that another instance has enqueued a job.
func (r *Runner) WakeJobs() { signal(r.jobs.wake) }

// pollHead reads the head of the stream from time to time, for all readers, in case an
// announcement was lost.
func (r *Runner) pollHead(ctx context.Context) {
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

// transient reports whether an error has another cause than the processed row or job: the
// database is unreachable or busy, or this instance stops. Such attempts do not count.
func transient(err error) bool {
	for _, e := range []error{store.ErrUnreachable, store.ErrClosed, store.ErrBusy, store.ErrSnapshotTooOld, store.ErrConflict,
		context.Canceled} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// panicked calls f and turns a panic into an error.
func panicked(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the handler panicked: %v\n%s", p, stack())
		}
	}()
	return f()
}
