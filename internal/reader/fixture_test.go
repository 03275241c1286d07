package reader_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"stoa/internal/reader"
	"stoa/internal/store"
	"stoa/internal/store/readerdb"
	"stoa/internal/store/storetest"
)

// testTimeout bounds the wait for an expected event.
const testTimeout = 30 * time.Second

// fast are short pauses, so that tests don't wait long.
var fast = reader.Backoff{First: time.Millisecond, Most: 4 * time.Millisecond}

// fixture is a store with some users, whose account data changes.
type fixture struct {
	*testing.T
	store *store.Store
	users []store.UserNum
}

func newFixture(t *testing.T, s *store.Store) *fixture {
	t.Helper()
	w := &fixture{T: t, store: s}
	var names []string
	for i := range 16 {
		names = append(names, fmt.Sprintf("@user%d:%s", i, storetest.ServerName))
	}
	var err error
	w.users, err = s.InternUsers(t.Context(), func(string) bool { return true }, names...)
	w.check(err)
	return w
}

func (w *fixture) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// each runs a test on both engines.
func each(t *testing.T, f func(w *fixture, open func(...storetest.Option) *store.Store)) {
	t.Helper()
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) { f(newFixture(t, open()), open) })
}

// change commits one row of the stream for each user, one after the other, and
// returns their positions.
func (w *fixture) change(users ...store.UserNum) (at []store.Position) {
	w.Helper()
	for _, u := range users {
		c := store.NewChange()
		c.UserSlot(u, store.KindAccountData)
		pos, err := w.store.Commit(w.Context(), c)
		w.check(err)
		at = append(at, pos)
	}
	return at
}

// changes commits n rows of one user.
func (w *fixture) changes(n int) []store.Position {
	w.Helper()
	list := make([]store.UserNum, n)
	for i := range list {
		list[i] = w.users[0]
	}
	return w.change(list...)
}

func (w *fixture) read(f func(*store.Read) error) {
	w.Helper()
	w.check(w.store.Read(w.Context(), f))
}

// cursor is the cursor of a reader's only shard.
func (w *fixture) cursor(name string) (found readerdb.Cursor) {
	w.Helper()
	w.read(func(r *store.Read) error {
		all, err := readerdb.Cursors(r, 1000)
		for _, c := range all {
			if c.Name == name {
				found = c
			}
		}
		return err
	})
	return found
}

// job is a job without a number, or the zero value.
func (w *fixture) job(kind, key string) (j readerdb.Job) {
	w.Helper()
	w.read(func(r *store.Read) (err error) {
		j, err = readerdb.JobByID(r, readerdb.JobID{Kind: kind, Key: key})
		if errors.Is(err, store.ErrNotFound) {
			err = nil
		}
		return err
	})
	return j
}

func (w *fixture) enqueue(j reader.Job) {
	w.Helper()
	c := store.NewChange()
	w.check(reader.Enqueue(c, j))
	_, err := w.store.Commit(w.Context(), c)
	w.check(err)
}

// until waits for a condition that other goroutines fulfil.
func (w *fixture) until(what string, f func() bool) {
	w.Helper()
	end := time.Now().Add(testTimeout)
	for !f() {
		if time.Now().After(end) {
			w.Fatalf("after %s still not: %s", testTimeout, what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// instance is a running Runner with its place in the cluster.
type instance struct {
	*reader.Runner
	w    *fixture
	log  *logBuffer
	stop func()

	lease atomic.Int64
	owns  atomic.Bool
	// refused counts the shards that it asked for and does not own.
	refused atomic.Int64
}

func (in *instance) Owner(string, string) bool {
	if in.owns.Load() {
		return true
	}
	in.refused.Add(1)
	return false
}
func (in *instance) Lease() int64 { return in.lease.Load() }

// newLease is the lease of another instance: on PostgreSQL a row of the table instances;
// on SQLite, where two instances exist only in tests, a number like that of a single
// instance.
func (w *fixture) newLease() (lease int64, end func()) {
	w.Helper()
	leases, err := w.store.Leases()
	if errors.Is(err, errors.ErrUnsupported) {
		return -madeUp.Add(1), func() {}
	}
	w.check(err)
	w.Cleanup(leases.Close)
	lease, err = leases.Take(w.Context(), store.Instance{Name: fmt.Sprint("i", madeUp.Add(1)), Schema: 9999}, time.Hour)
	w.check(err)
	return lease, func() { w.check(leases.End(w.Context(), lease)) }
}

var madeUp atomic.Int64

// run starts a Runner that owns everything, and stops it when the test ends.
func (w *fixture) run(change func(*reader.Options)) *instance {
	w.Helper()
	lease, _ := w.newLease()
	in := w.make(lease, change)
	in.start()
	return in
}

// make makes a Runner without starting it.
func (w *fixture) make(lease int64, change func(*reader.Options)) *instance {
	w.Helper()
	in := &instance{w: w, log: &logBuffer{}}
	in.lease.Store(lease)
	in.owns.Store(true)
	opt := reader.Options{
		Store: w.store, Cluster: in, Log: slog.New(slog.NewTextHandler(in.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	opt.Tick(20 * time.Millisecond)
	change(&opt)
	var err error
	in.Runner, err = reader.New(opt)
	w.check(err)
	return in
}

func (in *instance) start() {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := in.Run(ctx); err != nil {
			in.w.Errorf("run: %v", err)
		}
	})
	in.stop = sync.OnceFunc(func() { cancel(); done.Wait() })
	in.w.Cleanup(in.stop)
}

type logBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// record is a handler that records its rows.
type record struct {
	mu   sync.Mutex // guards the fields below
	seen []store.StreamRow
	at   map[store.Position]int // how often each row came
	// fail is called for each row.
	fail func(store.StreamRow) error
}

func newRecord() *record { return &record{at: map[store.Position]int{}} }

func (r *record) handle(_ context.Context, _ *store.Read, b *reader.Batch) (func(context.Context) error, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, row := range b.Rows {
		if r.fail != nil {
			if err := r.fail(row); err != nil {
				return nil, err
			}
		}
	}
	for _, row := range b.Rows {
		r.seen = append(r.seen, row)
		r.at[row.Pos]++
	}
	return nil, nil
}

func (r *record) positions() (list []store.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, row := range r.seen {
		list = append(list, row.Pos)
	}
	return list
}

// has reports whether all of the positions have come.
func (r *record) has(all ...store.Position) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, pos := range all {
		if r.at[pos] == 0 {
			return false
		}
	}
	return true
}

func (r *record) times(pos store.Position) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at[pos]
}

// testEngine is the only engine of the run, "" = both.
func testEngine() string { return os.Getenv("ENGINE") }

func gather(in *instance) ([]*dto.MetricFamily, error) {
	registry := prometheus.NewRegistry()
	if err := registry.Register(in.Runner); err != nil {
		return nil, err
	}
	return registry.Gather()
}
