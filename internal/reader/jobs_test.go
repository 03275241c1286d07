package reader_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/reader"
	"stoa/internal/store"
	"stoa/internal/store/readerdb"
	"stoa/internal/store/storetest"
)

// kind is a Runner's only kind of jobs.
func kind(handle func(context.Context, *reader.Work) error, change ...func(*reader.Kind)) func(*reader.Options) {
	return func(o *reader.Options) {
		k := reader.Kind{Name: "test", Handle: handle, Tries: 3, Backoff: fast}
		for _, f := range change {
			f(&k)
		}
		o.Kinds = []reader.Kind{k}
	}
}

// done records payloads of jobs.
type done struct {
	mu   sync.Mutex // guards list
	list []string
}

func (d *done) handle(_ context.Context, w *reader.Work) error {
	d.add(string(w.Payload))
	return nil
}

func (d *done) add(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = append(d.list, text)
}

func (d *done) all() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.list)
}

// gone waits until a job is done.
func (w *fixture) gone(kind, key string) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), testTimeout)
	defer cancel()
	if err := reader.Wait(ctx, w.store, kind, key); err != nil {
		w.Fatalf("job %s %s: %v", kind, key, err)
	}
}

func TestJob_is_there_if_its_change_is(t *testing.T) {
	each(t, func(w *fixture, _ func(...storetest.Option) *store.Store) {
		c := store.NewChange()
		w.check(reader.Enqueue(c, reader.Job{Kind: "test", Key: "a", Unique: true}))
		c.User(w.users[0], 4711) // not its head
		if _, err := w.store.Commit(w.Context(), c); !errors.Is(err, store.ErrConflict) {
			w.Fatal(err)
		}
		if j := w.job("test", "a"); j.Kind != "" {
			w.Errorf("%+v", j)
		}
		w.enqueue(reader.Job{Kind: "test", Key: "a", Unique: true, Payload: []byte("p")})
		if j := w.job("test", "a"); string(j.Payload) != "p" || j.Shard != reader.ShardOfJob("test", "a") {
			w.Errorf("%+v", j)
		}
		var d done
		w.run(kind(d.handle))
		w.gone("test", "a")
		if got := d.all(); !slices.Equal(got, []string{"p"}) {
			w.Errorf("done: %v", got)
		}
	})
}

func TestJob_that_is_too_large_is_refused(t *testing.T) {
	t.Parallel()
	for _, j := range []reader.Job{
		{Kind: "test", Payload: make([]byte, reader.MaxPayload+1)},
		{Kind: "test", Key: strings.Repeat("k", reader.MaxKey+1)},
		{},
	} {
		if err := reader.Enqueue(store.NewChange(), j); err == nil {
			t.Errorf("a key of %d bytes and a payload of %d", len(j.Key), len(j.Payload))
		}
	}
}

// All enqueued jobs are done, each once, also those with the same key, and their
// handlers' additions to the change are committed once.
func TestJobs_are_all_done(t *testing.T) {
	each(t, func(w *fixture, _ func(...storetest.Option) *store.Store) {
		const many = 120 // more than one read returns
		var d done
		var running, most atomic.Int64
		w.run(kind(func(ctx context.Context, work *reader.Work) error {
			n := running.Add(1)
			defer running.Add(-1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			return d.handle(ctx, work)
		}, func(k *reader.Kind) { k.AtOnce = 3 }))
		for i := range many {
			w.enqueue(reader.Job{Kind: "test", Key: "k" + strconv.Itoa(i%5), Payload: []byte(strconv.Itoa(i))})
		}
		for i := range 5 {
			w.gone("test", "k"+strconv.Itoa(i))
		}
		got := d.all()
		slices.Sort(got)
		if n := len(slices.Compact(slices.Clone(got))); n != many || len(got) != many {
			w.Errorf("%d jobs were done %d times", n, len(got))
		}
		if most.Load() > 3 {
			w.Errorf("%d ran at once", most.Load())
		}
	})
}

// The database's clock decides when a job is due, not an instance's.
func TestJob_is_due_by_the_clock_of_the_database(t *testing.T) {
	t.Parallel()
	for _, engine := range engines(t) {
		for _, off := range []time.Duration{-time.Hour, 31 * 24 * time.Hour} {
			t.Run(engine+off.String(), func(t *testing.T) {
				t.Parallel()
				// On SQLite the store's clock is the database's; on PostgreSQL nothing
				// uses it.
				var clock atomic.Int64
				clock.Store(time.Now().Add(off).UnixMilli())
				w := newFixture(t, storetest.Open(t, engine, func(o *store.Options) {
					o.Clock = func() time.Time { return time.UnixMilli(clock.Load()) }
				}))
				var started atomic.Int64
				in := w.run(kind(func(context.Context, *reader.Work) error {
					now := w.databaseTime()
					started.Store(now)
					return nil
				}))
				pause := 24 * time.Hour
				if w.store.Shared() {
					pause = 150 * time.Millisecond
				}
				w.enqueue(reader.Job{Kind: "test", Key: "a", Unique: true, After: pause})
				j := w.job("test", "a")
				// Which one it is shows in the time between two reads of the clock.
				if off := j.EnqueuedTS + pause.Milliseconds() - j.Due; off < 0 || off > 1000 {
					w.Errorf("enqueued at %d, due at %d", j.EnqueuedTS, j.Due)
				}
				if !w.store.Shared() {
					in.WakeJobs()
					clock.Add(pause.Milliseconds() - 1)
					in.WakeJobs()
					w.enqueue(reader.Job{Kind: "test", Key: "now", Unique: true})
					w.gone("test", "now") // so a poll has taken place
					if w.job("test", "a").Kind == "" {
						w.Error("done before it was due")
					}
					clock.Add(1)
				}
				w.gone("test", "a")
				if got := started.Load(); got < j.Due {
					w.Errorf("begun at %d, due at %d", got, j.Due)
				}
			})
		}
	}
}

func (w *fixture) databaseTime() (now int64) {
	w.Helper()
	err := w.store.Read(context.Background(), func(r *store.Read) (err error) {
		now, err = readerdb.Now(r)
		return err
	})
	if err != nil {
		w.Error(err)
	}
	return now
}

// Of several waiting unique jobs the newest payload is done, once, at the earliest due
// time.
func TestJob_takes_the_place_of_one_that_waits(t *testing.T) {
	each(t, func(w *fixture, _ func(...storetest.Option) *store.Store) {
		for i, after := range []time.Duration{time.Hour, 0, time.Hour} {
			w.enqueue(reader.Job{Kind: "test", Key: "a", Unique: true, After: after, Payload: []byte(strconv.Itoa(i))})
		}
		var d done
		w.run(kind(d.handle))
		w.gone("test", "a")
		if got := d.all(); !slices.Equal(got, []string{"2"}) {
			w.Errorf("done: %v", got)
		}
	})
}

// A job that is replaced while it runs ends at its next step, and is done again.
func TestJob_takes_the_place_of_one_that_runs(t *testing.T) {
	each(t, func(w *fixture, _ func(...storetest.Option) *store.Store) {
		var d done
		running, replaced := make(chan struct{}), make(chan struct{})
		var first sync.Once
		in := w.run(kind(func(ctx context.Context, work *reader.Work) error {
			if work.Progress != nil {
				d.add("progress of another")
			}
			first.Do(func() { close(running); <-replaced })
			if err := work.Save(ctx, []byte("half"), nil); err != nil {
				return err
			}
			return d.handle(ctx, work)
		}))
		w.enqueue(reader.Job{Kind: "test", Key: "a", Unique: true, Payload: []byte("old")})
		<-running
		w.enqueue(reader.Job{Kind: "test", Key: "a", Unique: true, Payload: []byte("new")})
		close(replaced)
		w.gone("test", "a")
		if got := d.all(); !slices.Equal(got, []string{"new"}) {
			w.Errorf("done: %v", got)
		}
		w.until("it is counted", func() bool { return in.JobCounts("test") == reader.JobCounts{Done: 1, Lost: 1} })
	})
}

func TestJob_that_was_cancelled_is_not_done(t *testing.T) {
	each(t, func(w *fixture, _ func(...storetest.Option) *store.Store) {
		w.enqueue(reader.Job{Kind: "test", Key: "a", Unique: true, Payload: []byte("a")})
		w.enqueue(reader.Job{Kind: "test", Key: "b", Unique: true, Payload: []byte("b")})
		c := store.NewChange()
		reader.Cancel(c, "test", "a")
		_, err := w.store.Commit(w.Context(), c)
		w.check(err)
		var d done
		w.run(kind(d.handle))
		w.gone("test", "b")
		if got := d.all(); !slices.Equal(got, []string{"b"}) {
			w.Errorf("done: %v", got)
		}
	})
}

// A failing job is retried, and finally set aside. An operator can retry or discard it,
// and a new job of its key replaces it.
func TestJob_that_fails_is_set_aside(t *testing.T) {
	for name, fail := range map[string]func() error{
		"with_an_error": func() error { return errors.New("can't do \x00\xff this") },
		"with_a_panic":  func() error { panic("no") },
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(w *fixture, _ func(...storetest.Option) *store.Store) {
				var cured atomic.Bool
				var tries atomic.Int64
				var d done
				in := w.run(kind(func(ctx context.Context, work *reader.Work) error {
					tries.Add(1)
					if !cured.Load() {
						return fail()
					}
					return d.handle(ctx, work)
				}))
				setAside := func(want int64) reader.Aside {
					w.Helper()
					w.gone("test", "a")
					list, err := reader.ListAside(w.Context(), w.store)
					w.check(err)
					if len(list) != 1 || list[0].Kind != "test" || list[0].Key != "a" || list[0].Tries != 3 || list[0].Error == "" || tries.Load() != want {
						w.Fatalf("after %d tries: %+v\n%s", tries.Load(), list, in.log.String())
					}
					return list[0]
				}
				w.enqueue(reader.Job{Kind: "test", Key: "a", Unique: true, Payload: []byte("1")})
				a := setAside(3)
				w.until("it is counted", func() bool { return in.JobCounts("test") == reader.JobCounts{Failed: 3, Aside: 1} })
				if !strings.Contains(in.log.String(), "a job was set aside") {
					w.Error("the log does not say so")
				}
				w.check(reader.Retry(w.Context(), w.store, a))
				setAside(6)
				w.enqueue(reader.Job{Kind: "test", Key: "a", Unique: true, Payload: []byte("2")})
				a = setAside(9)
				w.check(reader.Discard(w.Context(), w.store, a))
				if err := reader.Discard(w.Context(), w.store, a); !errors.Is(err, reader.ErrNotFound) {
					w.Errorf("discard nothing: %v", err)
				}
				cured.Store(true)
				w.enqueue(reader.Job{Kind: "test", Key: "a", Unique: true, Payload: []byte("3")})
				w.gone("test", "a")
				if got := d.all(); !slices.Equal(got, []string{"3"}) {
					w.Errorf("done: %v", got)
				}
			})
		})
	}
}

// steps does a job of ten steps, and records each before it saves the next.
func steps(d *done, stop func(ctx context.Context, step int) error) func(context.Context, *reader.Work) error {
	return func(ctx context.Context, work *reader.Work) error {
		from := 0
		if work.Progress != nil {
			var err error
			if from, err = strconv.Atoi(string(work.Progress)); err != nil {
				return err
			}
		}
		for i := from; i < 10; i++ {
			if err := stop(ctx, i); err != nil {
				return err
			}
			d.add(strconv.Itoa(i))
			if err := work.Save(ctx, []byte(strconv.Itoa(i+1)), nil); err != nil {
				return err
			}
		}
		return nil
	}
}

// Failures with progress in between do not add up, and the job continues where it was.
func TestJob_goes_on_where_it_failed(t *testing.T) {
	each(t, func(w *fixture, _ func(...storetest.Option) *store.Store) {
		var d done
		failed := map[int]bool{}
		w.run(kind(steps(&d, func(_ context.Context, step int) error {
			if !failed[step] {
				failed[step] = true
				return errors.New("once at each step")
			}
			return nil
		})))
		w.enqueue(reader.Job{Kind: "test", Key: "a", Unique: true})
		w.gone("test", "a")
		if got := strings.Join(d.all(), ""); got != "0123456789" {
			w.Errorf("steps: %s", got)
		}
	})
}

// After a crash at any commit a job continues at the saved step.
func TestJob_goes_on_after_a_crash(t *testing.T) {
	t.Parallel()
	for _, engine := range engines(t) {
		for _, point := range []string{store.FaultBeforeCommit, store.FaultAfterCommit, store.FaultOutcomeUnknown} {
			for at := range 4 {
				t.Run(fmt.Sprintf("%s %s %d", engine, point, at), func(t *testing.T) {
					t.Parallel()
					url := storetest.URL(t, engine)
					var faults store.Faults
					s, err := store.Open(t.Context(), store.Options{URL: url, ServerName: storetest.ServerName, Faults: &faults})
					if err != nil {
						t.Fatal(err)
					}
					w := newFixture(t, s)
					w.enqueue(reader.Job{Kind: "test", Key: "a", Unique: true})
					var d done
					crash := make(chan struct{})
					crashed := sync.OnceFunc(func() { close(crash) })
					n := 0
					faults.Arm(point, func() error { // later commits fail
						if n++; n > at+1 { // the first creates the periodic job
							crashed()
							faults.Arm(store.FaultBeforeCommit, func() error { return store.ErrUnreachable })
							return store.ErrUnreachable
						}
						return nil
					})
					in := w.make(-1, kind(steps(&d, func(context.Context, int) error { return nil })))
					in.start()
					<-crash
					in.stop()
					w.check(s.Close())
					saved := len(d.all())
					w.store, err = store.Open(t.Context(), store.Options{URL: url, ServerName: storetest.ServerName})
					w.check(err)
					t.Cleanup(func() { w.check(w.store.Close()) })
					in = w.make(-2, kind(steps(&d, func(context.Context, int) error { return nil })))
					in.start()
					w.gone("test", "a")
					got := strings.Join(d.all(), "")
					// The step in progress is done at most twice, the others once.
					clean := "0123456789"
					twice := clean[:saved] + clean[max(0, saved-1):]
					if got != clean && got != twice {
						t.Errorf("steps: %s, %d of them before the crash", got, saved)
					}
				})
			}
		}
	}
}

// A stop is not a failure: the job is given back and continues on the next instance.
func TestJob_goes_on_after_a_restart(t *testing.T) {
	each(t, func(w *fixture, _ func(...storetest.Option) *store.Store) {
		var d done
		half := make(chan struct{})
		in := w.run(kind(steps(&d, func(ctx context.Context, step int) error {
			if step < 5 {
				return nil
			}
			close(half)
			<-ctx.Done()
			return ctx.Err()
		})))
		w.enqueue(reader.Job{Kind: "test", Key: "a", Unique: true})
		<-half
		in.stop()
		if j := w.job("test", "a"); j.Tries != 0 || j.Lease != 0 || string(j.Progress) != "5" || j.Error != "" {
			w.Errorf("%+v", j)
		}
		w.run(kind(steps(&d, func(context.Context, int) error { return nil })))
		w.gone("test", "a")
		if got := strings.Join(d.all(), ""); got != "0123456789" {
			w.Errorf("steps: %s", got)
		}
	})
}

// An instance that owns a shard ignores a job that another live instance has begun. Once
// that instance's lease has ended, it continues the job, and the other instance changes
// nothing when it resumes.
func TestJob_of_a_paused_owner_is_taken_over(t *testing.T) {
	t.Parallel()
	if e := testEngine(); e != "" && e != "postgres" {
		return // SQLite has one instance
	}
	w := newFixture(t, storetest.Open(t, "postgres"))
	var first, second done
	paused, resume := make(chan struct{}), make(chan struct{})
	lease, end := w.newLease()
	a := w.make(lease, kind(steps(&first, func(_ context.Context, step int) error {
		if step == 4 {
			close(paused)
			<-resume
		}
		return nil
	})))
	a.start()
	w.enqueue(reader.Job{Kind: "test", Key: "a", Unique: true})
	<-paused
	a.owns.Store(false)
	// A poll that began as the owner may still find jobs: it has ended when another one begins.
	w.until("the first has looked as one that owns nothing", func() bool { return a.refused.Load() > 2*reader.Shards })
	w.run(kind(steps(&second, func(context.Context, int) error { return nil })))
	w.enqueue(reader.Job{Kind: "test", Key: "b", Unique: true})
	w.gone("test", "b") // so the second instance has polled
	if j := w.job("test", "a"); j.Lease != lease || string(j.Progress) != "4" {
		t.Errorf("%+v", j)
	}
	end()
	w.gone("test", "a")
	close(resume)
	w.until("the first owner is fenced", func() bool { return a.JobCounts("test").Lost > 0 && len(first.all()) == 5 })
	a.stop()
	if got := strings.Join(first.all(), ""); got != "01234" {
		t.Errorf("steps of the first: %s", got)
	}
	// The second instance has done the other job, and this one from the saved step.
	if got := strings.Join(second.all(), ""); got != "0123456789456789" {
		t.Errorf("steps of the second: %s", got)
	}
	if j := w.job("test", "a"); j.Kind != "" {
		t.Errorf("the job is back: %+v", j)
	}
}

// An instance whose lease has expired begins no job.
func TestJob_is_not_begun_without_a_lease(t *testing.T) {
	t.Parallel()
	if e := testEngine(); e != "" && e != "postgres" {
		return // SQLite has one instance
	}
	w := newFixture(t, storetest.Open(t, "postgres"))
	lease, end := w.newLease()
	end()
	var d, other done
	in := w.make(lease, kind(d.handle))
	in.start()
	w.enqueue(reader.Job{Kind: "test", Key: "a", Unique: true, Payload: []byte("a")})
	w.until("it has tried", func() bool { return in.JobCounts("test").Lost > 0 })
	w.run(kind(other.handle))
	w.gone("test", "a")
	if len(d.all()) != 0 || len(other.all()) != 1 {
		t.Errorf("done by the one without a lease: %v, with: %v", d.all(), other.all())
	}
}

// Jobs of a kind that one instance does not know wait for another instance.
func TestJob_of_an_unknown_kind_is_left_alone(t *testing.T) {
	each(t, func(w *fixture, _ func(...storetest.Option) *store.Store) {
		var d done
		old := w.run(kind(d.handle))
		for i := range 40 {
			w.enqueue(reader.Job{Kind: "newer", Key: "a", Payload: []byte(strconv.Itoa(i))})
		}
		w.enqueue(reader.Job{Kind: "newer", Key: "one", Unique: true})
		was := w.job("newer", "one")
		w.enqueue(reader.Job{Kind: "test", Key: "a", Payload: []byte("known")})
		w.gone("test", "a")
		if now := w.job("newer", "one"); now.Version != was.Version || now.Tries != 0 {
			w.Errorf("%+v", now)
		}
		if got := d.all(); !slices.Equal(got, []string{"known"}) {
			w.Errorf("done: %v", got)
		}
		old.stop()
		var next done
		w.run(kind(next.handle, func(k *reader.Kind) { k.Name = "newer" }))
		w.gone("newer", "a")
		w.gone("newer", "one")
		if n := len(next.all()); n != 41 {
			w.Errorf("%d done", n)
		}
	})
}

// A periodic job exists once, whatever the number of instances. It is repeated for ever,
// and never set aside.
func TestJob_that_is_periodic(t *testing.T) {
	each(t, func(w *fixture, _ func(...storetest.Option) *store.Store) {
		var runs atomic.Int64
		k := kind(func(context.Context, *reader.Work) error {
			if runs.Add(1) <= 5 {
				return errors.New("more often than the limit")
			}
			return nil
		}, func(k *reader.Kind) { k.Every = 5 * time.Millisecond })
		in := w.run(k)
		lease, _ := w.newLease()
		other := w.make(lease, k)
		other.owns.Store(false)
		other.start()
		w.until("it has been done some times", func() bool { return runs.Load() > 9 })
		w.read(func(r *store.Read) error {
			counts, err := readerdb.CountJobs(r)
			for _, n := range counts {
				if n.Jobs != 1 {
					w.Errorf("%+v", n)
				}
			}
			return err
		})
		if c := in.JobCounts("test"); c.Aside != 0 || c.Failed != 5 {
			w.Errorf("%+v", c)
		}
	})
}

// A handler can have its job repeated later, with the same payload.
func TestJob_that_asks_to_be_done_again(t *testing.T) {
	each(t, func(w *fixture, _ func(...storetest.Option) *store.Store) {
		var d done
		w.run(kind(func(ctx context.Context, work *reader.Work) error {
			if len(d.all()) < 2 {
				work.Again(time.Millisecond)
			}
			return d.handle(ctx, work)
		}))
		w.enqueue(reader.Job{Kind: "test", Key: "a", Unique: true, Payload: []byte("p")})
		w.gone("test", "a")
		if got := d.all(); !slices.Equal(got, []string{"p", "p", "p"}) {
			w.Errorf("done: %v", got)
		}
	})
}

// An instance that enqueues a job for another instance tells it.
func TestJob_of_another_instance_is_announced(t *testing.T) {
	each(t, func(w *fixture, _ func(...storetest.Option) *store.Store) {
		var d done
		owner := w.run(func(o *reader.Options) { kind(d.handle)(o); o.Tick(time.Hour) })
		lease, _ := w.newLease()
		announced := make(chan struct{}, 1)
		in := w.make(lease, func(o *reader.Options) {
			kind(func(context.Context, *reader.Work) error { return errors.New("not mine") })(o)
			o.Announce = func() {
				owner.WakeJobs()
				select {
				case announced <- struct{}{}:
				default:
				}
			}
		})
		in.owns.Store(false)
		in.start()
		w.until("it follows", func() bool {
			w.enqueue(reader.Job{Kind: "test", Key: "a", Unique: true, Payload: []byte("p")})
			select {
			case <-announced:
				return true
			default:
				return false
			}
		})
		w.gone("test", "a")
		if len(d.all()) == 0 {
			w.Error("not done by its owner")
		}
	})
}

func TestStatus_counts_jobs(t *testing.T) {
	each(t, func(w *fixture, _ func(...storetest.Option) *store.Store) {
		hold := make(chan struct{})
		began := make(chan struct{})
		in := w.run(kind(func(context.Context, *reader.Work) error { close(began); <-hold; return nil }, func(k *reader.Kind) { k.AtOnce = 1 }))
		defer in.stop()
		defer close(hold)
		w.enqueue(reader.Job{Kind: "test", Key: "a"})
		<-began
		w.enqueue(reader.Job{Kind: "test", Key: "b", After: time.Hour})
		status, err := reader.ReadStatus(w.Context(), w.store)
		w.check(err)
		i := slices.IndexFunc(status.Jobs, func(k reader.KindStatus) bool { return k.Kind == "test" })
		if i < 0 || status.Jobs[i].Waiting != 1 || status.Jobs[i].Running != 1 || status.Jobs[i].Aside != 0 {
			w.Errorf("%+v", status)
		}
	})
}

// Without jobs in the table, a runner polls only when it is woken or once a tick.
func TestJobs_are_not_polled_without_pause(t *testing.T) {
	each(t, func(w *fixture, _ func(...storetest.Option) *store.Store) {
		in := w.run(func(o *reader.Options) { o.Tick(time.Hour) })
		w.until("it has made its own job", func() bool { return w.job("reader.trim", "").Kind != "" })
		c := store.NewChange()
		reader.Cancel(c, "reader.trim", "")
		_, err := w.store.Commit(w.Context(), c)
		w.check(err)
		for range 3 {
			before := in.Polls()
			in.WakeJobs()
			w.until("it polls", func() bool { return in.Polls() > before })
		}
		before := in.Polls()
		w.changes(50) // far longer than a poll takes
		if n := in.Polls() - before; n > 1 {
			w.Errorf("polled %d times while nothing happened", n)
		}
	})
}

// A job that was found due may have run, failed and been delayed before it is
// started: then it is not run again.
func TestJob_that_is_not_due_any_more_is_left_alone(t *testing.T) {
	each(t, func(w *fixture, _ func(...storetest.Option) *store.Store) {
		lease, _ := w.newLease()
		var d done
		in := w.make(lease, kind(d.handle))
		w.enqueue(reader.Job{Kind: "test", Key: "a", Unique: true, After: time.Hour, Payload: []byte("a")})
		w.check(in.Attempt(w.Context(), "test", "a"))
		if got := d.all(); len(got) != 0 {
			w.Errorf("done: %v", got)
		}
		if j := w.job("test", "a"); j.Version != 1 {
			w.Errorf("the job was claimed: %+v", j)
		}
	})
}
