package reader_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/reader"
	"stoa/internal/store"
	"stoa/internal/store/readerdb"
	"stoa/internal/store/storetest"
)

// one is a Runner's only reader, which records its rows.
func one(rec *record, change ...func(*reader.Reader)) func(*reader.Options) {
	return func(o *reader.Options) {
		def := reader.Reader{Name: "test", Handle: rec.handle, Tries: 3, Backoff: fast}
		for _, f := range change {
			f(&def)
		}
		o.Readers = []reader.Reader{def}
	}
}

func fromStart(r *reader.Reader) { r.FromStart = true }
func sharded(r *reader.Reader)   { r.Shards = reader.Shards }

func TestReader_gets_every_row_in_order_once(t *testing.T) {
	each(t, func(w *fixture, _ func(...storetest.Option) *store.Store) {
		before := w.changes(3)
		rec := newRecord()
		w.run(one(rec, fromStart))
		after := w.changes(600) // more than a batch
		all := append(before, after...)
		w.until("all came", func() bool { return rec.has(all...) })
		if got := rec.positions(); !slices.Equal(got, all) {
			w.Errorf("got %d rows %v…, want %d %v…", len(got), got[:3], len(all), all[:3])
		}
		w.until("the cursor is at the end", func() bool { return w.cursor("test").Pos == all[len(all)-1] })
	})
}

func TestReader_that_is_new_begins_at_the_head(t *testing.T) {
	each(t, func(w *fixture, _ func(...storetest.Option) *store.Store) {
		before := w.changes(2)
		rec := newRecord()
		w.run(one(rec))
		w.until("the cursor is there", func() bool { return w.cursor("test").Pos == before[1] })
		after := w.changes(1)
		w.until("what came then came", func() bool { return rec.has(after...) })
		if rec.has(before[0]) || rec.has(before[1]) {
			w.Error("what was there before came too")
		}
	})
}

func TestReader_passes_rows_that_it_does_not_want(t *testing.T) {
	each(t, func(w *fixture, _ func(...storetest.Option) *store.Store) {
		rec := newRecord()
		w.run(one(rec, fromStart, func(r *reader.Reader) {
			r.Wants = func(row store.StreamRow) bool { return row.User() == w.users[1] }
		}))
		w.changes(5)
		wanted := w.change(w.users[1])
		w.until("what it wants came", func() bool { return rec.has(wanted...) })
		if got := rec.positions(); len(got) != 1 {
			w.Errorf("got %v", got)
		}
	})
}

func TestReader_takes_fewer_rows_than_it_is_handed(t *testing.T) {
	each(t, func(w *fixture, _ func(...storetest.Option) *store.Store) {
		all := w.changes(5)
		rec := newRecord()
		w.run(one(rec, fromStart, func(r *reader.Reader) {
			r.Handle = func(ctx context.Context, read *store.Read, b *reader.Batch) (func(context.Context) error, error) {
				part := *b
				part.Rows = b.Rows[:1]
				b.Take(1)
				return rec.handle(ctx, read, &part)
			}
		}))
		w.until("all came", func() bool { return rec.has(all...) })
		if got := rec.positions(); !slices.Equal(got, all) {
			w.Errorf("got %v, want %v", got, all)
		}
	})
}

func TestReader_deals_rows_to_shards_that_share_a_read(t *testing.T) {
	each(t, func(w *fixture, _ func(...storetest.Option) *store.Store) {
		var all []store.Position
		for range 4 {
			all = append(all, w.change(w.users...)...)
		}
		rec := newRecord()
		var wrong atomic.Int64
		in := w.run(one(rec, fromStart, sharded, func(r *reader.Reader) {
			r.Handle = func(ctx context.Context, read *store.Read, b *reader.Batch) (func(context.Context) error, error) {
				for _, row := range b.Rows {
					if reader.ShardOf(row) != b.Shard {
						wrong.Add(1)
					}
				}
				return rec.handle(ctx, read, b)
			}
		}))
		w.until("all came", func() bool { return rec.has(all...) })
		if n := len(rec.positions()); n != len(all) || wrong.Load() != 0 {
			w.Errorf("%d rows came, want %d; %d in another shard", n, len(all), wrong.Load())
		}
		last := map[int64]store.Position{}
		for _, row := range rec.seen {
			if row.Pos < last[row.Owner] {
				w.Errorf("user %d: %d after %d", row.Owner, row.Pos, last[row.Owner])
			}
			last[row.Owner] = row.Pos
		}
		if n := in.Counts("test").Reads; n > 8 {
			w.Errorf("%d reads of the stream for 64 shards", n)
		}
	})
}

// A handler's additions to the change are committed exactly once, although rows are
// delivered twice.
func TestReader_goes_on_after_a_crash(t *testing.T) {
	t.Parallel()
	for _, engine := range engines(t) {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			url := storetest.URL(t, engine)
			var faults store.Faults
			s, err := store.Open(t.Context(), store.Options{URL: url, ServerName: storetest.ServerName, Faults: &faults})
			if err != nil {
				t.Fatal(err)
			}
			w := newFixture(t, s)
			all := w.changes(6)
			rec := newRecord()
			enqueueing := func(r *reader.Reader) {
				r.FromStart = true
				r.Handle = func(ctx context.Context, read *store.Read, b *reader.Batch) (func(context.Context) error, error) {
					b.Take(2)
					for _, row := range b.Rows[:min(2, len(b.Rows))] {
						if err := reader.Enqueue(b.Change, reader.Job{Kind: "seen", Key: fmt.Sprint(row.Pos)}); err != nil {
							return nil, err
						}
					}
					part := *b
					part.Rows = b.Rows[:min(2, len(b.Rows))]
					return rec.handle(ctx, read, &part)
				}
			}
			in := w.make(-1, one(rec, enqueueing))
			commits := 0
			faults.Arm(store.FaultBeforeCommit, func() error { // from the third commit on: the machine is down
				if commits++; commits > 2 {
					return store.ErrUnreachable
				}
				return nil
			})
			in.start()
			// The batch differs, because the creation of the periodic jobs is also a
			// commit.
			w.until("a batch came twice", func() bool {
				return slices.ContainsFunc(all, func(pos store.Position) bool { return rec.times(pos) > 1 })
			})
			in.stop()
			w.check(s.Close())
			w.store, err = store.Open(t.Context(), store.Options{URL: url, ServerName: storetest.ServerName})
			w.check(err)
			t.Cleanup(func() { w.check(w.store.Close()) })
			in = w.make(-2, one(rec, enqueueing))
			in.start()
			w.until("the cursor is at the end", func() bool { return w.cursor("test").Pos == all[5] })
			w.read(func(r *store.Read) error {
				counts, err := readerdb.CountJobs(r)
				for _, n := range counts {
					if n.Kind == "seen" && n.Jobs != 6 {
						w.Errorf("%d jobs were added for 6 rows", n.Jobs)
					}
				}
				return err
			})
		})
	}
}

func engines(t *testing.T) []string {
	t.Helper()
	var list []string
	for _, e := range []string{"sqlite", "postgres"} {
		if want := testEngine(); want == "" || want == e {
			list = append(list, e)
		}
	}
	return list
}

func TestReader_goes_on_after_a_restart(t *testing.T) {
	each(t, func(w *fixture, _ func(...storetest.Option) *store.Store) {
		before := w.changes(3)
		rec := newRecord()
		in := w.run(one(rec, fromStart))
		w.until("the cursor is at the end", func() bool { return w.cursor("test").Pos == before[2] })
		in.stop()
		after := w.changes(2)
		next := newRecord()
		w.run(one(next, fromStart))
		w.until("the rest came", func() bool { return next.has(after...) })
		if got := next.positions(); !slices.Equal(got, after) {
			w.Errorf("after the restart came %v, want %v", got, after)
		}
	})
}

func TestReader_is_taken_over(t *testing.T) {
	each(t, func(w *fixture, _ func(...storetest.Option) *store.Store) {
		first, second := newRecord(), newRecord()
		a := w.run(one(first, fromStart, sharded))
		lease, _ := w.newLease()
		b := w.make(lease, one(second, fromStart, sharded))
		b.owns.Store(false)
		b.start()
		move := func(from, to *instance) {
			from.owns.Store(false)
			to.owns.Store(true)
			w.until("the shards have moved", func() bool {
				return metricOf(w, from, "stoa_reader_shards", "test") == 0 && metricOf(w, to, "stoa_reader_shards", "test") == reader.Shards
			})
		}
		// Rows whose cursor has not moved yet would come again.
		durable := func(rows []store.Position) {
			w.until("the cursors have moved", func() bool {
				passed := 0
				w.read(func(r *store.Read) error {
					cursors, err := readerdb.Cursors(r, 1000)
					for i, u := range w.users {
						shard := reader.ShardOf(store.StreamRow{OwnerKind: store.OwnerUser, Owner: int64(u)})
						if len(cursors) == reader.Shards && cursors[shard].Pos >= rows[i] {
							passed++
						}
					}
					return err
				})
				return passed == len(w.users)
			})
		}
		before := w.change(w.users...)
		w.until("the first owner gets all", func() bool { return first.has(before...) })
		durable(before)
		move(a, b)
		after := w.change(w.users...)
		w.until("the second owner gets the rest", func() bool { return second.has(after...) })
		durable(after)
		move(b, a)
		last := w.change(w.users...)
		w.until("and the first again", func() bool { return first.has(last...) })
		if first.has(after[0]) || second.has(last[0]) {
			w.Error("rows came to who does not own them")
		}
	})
}

// An owner that is paused while another one takes over does not move the cursor when it
// resumes, and continues as an instance that owns nothing.
func TestReader_that_was_paused_does_not_move_the_cursor(t *testing.T) {
	each(t, func(w *fixture, _ func(...storetest.Option) *store.Store) {
		paused, resume := make(chan struct{}), make(chan struct{})
		first, second := newRecord(), newRecord()
		a := w.run(one(first, fromStart, func(r *reader.Reader) {
			r.Handle = func(ctx context.Context, read *store.Read, b *reader.Batch) (func(context.Context) error, error) {
				_, err := first.handle(ctx, read, b)
				return func(context.Context) error { close(paused); <-resume; return nil }, err
			}
		}))
		row := w.changes(1)
		<-paused
		a.owns.Store(false)
		w.run(one(second, fromStart))
		w.until("the other has done it", func() bool { return second.has(row...) && w.cursor("test").Pos == row[0] })
		more := w.changes(2)
		w.until("and what came then", func() bool { return w.cursor("test").Pos == more[1] })
		was := w.cursor("test")
		close(resume)
		w.until("the first owner is fenced", func() bool { return a.Counts("test").Fenced == 1 })
		if now := w.cursor("test"); now != was {
			w.Errorf("the cursor was %+v and is %+v", was, now)
		}
		last := w.changes(1)
		w.until("the other goes on", func() bool { return second.has(last...) })
	})
}

// An instance whose lease has expired takes no cursor, whatever it believes.
func TestReader_without_a_lease_takes_nothing(t *testing.T) {
	t.Parallel()
	if e := testEngine(); e != "" && e != "postgres" {
		return // SQLite has one instance, and no leases
	}
	w := newFixture(t, storetest.Open(t, "postgres"))
	lease, end := w.newLease()
	end()
	rec := newRecord()
	in := w.make(lease, one(rec, fromStart))
	in.start()
	row := w.changes(1)
	other := newRecord()
	w.run(one(other, fromStart))
	w.until("the one with a lease gets it", func() bool { return other.has(row...) })
	more := w.changes(5)
	w.until("and all", func() bool { return other.has(more...) })
	if n := len(rec.positions()); n != 0 {
		t.Errorf("the one without got %d rows", n)
	}
}

// A shard with a slow handler delays no other shard, and shows in the lag.
func TestReader_that_is_slow_in_one_shard_goes_on_in_the_others(t *testing.T) {
	each(t, func(w *fixture, _ func(...storetest.Option) *store.Store) {
		slow := w.users[0]
		release := make(chan struct{})
		rec := newRecord()
		in := w.run(one(rec, fromStart, sharded, func(r *reader.Reader) {
			r.Handle = func(ctx context.Context, read *store.Read, b *reader.Batch) (func(context.Context) error, error) {
				if b.Rows[0].User() != slow {
					return rec.handle(ctx, read, b)
				}
				return func(ctx context.Context) error {
					<-release
					_, err := rec.handle(ctx, nil, b)
					return err
				}, nil
			}
		}))
		stuck := w.change(slow)
		var rest []store.Position
		for range 3 {
			rest = append(rest, w.change(w.users[1:]...)...)
			stuck = append(stuck, w.change(slow)...)
		}
		sameShard := func(pos store.Position) bool { return rec.has(pos) }
		moved := 0
		w.until("others go on", func() bool {
			moved = 0
			for _, pos := range rest {
				if sameShard(pos) {
					moved++
				}
			}
			return moved >= len(rest)*3/4 // some users may share the slow shard
		})
		if rec.has(stuck[0]) {
			w.Fatal("the slow shard is not slow")
		}
		if lag := lagOf(w, in, "test"); lag <= 0 {
			w.Errorf("lag is %g", lag)
		}
		close(release)
		w.until("the slow shard catches up", func() bool { return rec.has(stuck...) && rec.has(rest...) })
		w.until("there is no lag", func() bool { return lagOf(w, in, "test") == 0 })
	})
}

func lagOf(w *fixture, in *instance, name string) float64 {
	w.Helper()
	return metricOf(w, in, "stoa_reader_lag_seconds", name)
}

// A reader whose next rows were deleted begins at the oldest row, and reports that.
func TestReader_behind_the_stream_begins_at_its_oldest_row(t *testing.T) {
	each(t, func(w *fixture, open func(...storetest.Option) *store.Store) {
		rec := newRecord()
		in := w.run(one(rec, fromStart))
		before := w.changes(1)
		w.until("the cursor is there", func() bool { return w.cursor("test").Pos == before[0] })
		in.stop()
		lost := w.changes(3)
		w.trim()
		after := w.changes(2)
		next := newRecord()
		in = w.run(one(next))
		w.until("what is left came", func() bool { return next.has(after...) })
		if next.has(lost[0]) || next.has(lost[1]) {
			w.Error("rows came that are not in the stream")
		}
		if n := in.Counts("test").Trimmed; n != 1 {
			w.Errorf("rows were missed %d times", n)
		}
		if !strings.Contains(in.log.String(), "no longer in the stream") {
			w.Error("the log does not say so")
		}
	})
}

// trim deletes all rows of the stream but the newest.
func (w *fixture) trim() {
	w.Helper()
	w.check(w.store.TrimStream(w.Context(), -time.Hour))
}

// A row that always fails is set aside, and the reader continues. An operator can retry
// it.
func TestReader_sets_a_poison_row_aside(t *testing.T) {
	for name, fail := range map[string]func() error{
		"that_fails":  func() error { return errors.New("can't digest \x00\xff this") },
		"that_panics": func() error { panic("no") },
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(w *fixture, _ func(...storetest.Option) *store.Store) {
				all := w.changes(7)
				poison := all[3]
				rec := newRecord()
				var cured atomic.Bool
				var tries atomic.Int64
				rec.fail = func(row store.StreamRow) error {
					if row.Pos != poison || cured.Load() {
						return nil
					}
					tries.Add(1)
					return fail()
				}
				in := w.run(one(rec, fromStart))
				w.until("the rest came", func() bool { return rec.has(all[0], all[1], all[2], all[4], all[5], all[6]) })
				if rec.has(poison) {
					w.Error("the poison row was handled")
				}
				for _, pos := range all {
					if pos != poison && rec.times(pos) != 1 {
						w.Errorf("row %d came %d times", pos, rec.times(pos))
					}
				}
				w.until("it is counted", func() bool { return in.Counts("test").Aside == 1 })
				c := in.Counts("test")
				if c.Aside != 1 || tries.Load() != 4 { // once in a batch, three times alone
					w.Errorf("%+v, %d tries", c, tries.Load())
				}
				list, err := reader.ListAside(w.Context(), w.store)
				w.check(err)
				if len(list) != 1 || list[0].Pos != int64(poison) || list[0].Reader != "test" || list[0].Tries != 3 || list[0].Error == "" {
					w.Fatalf("set aside: %+v", list)
				}
				if !strings.Contains(in.log.String(), "was set aside") {
					w.Error("the log does not say so")
				}
				status, err := reader.ReadStatus(w.Context(), w.store)
				w.check(err)
				if len(status.Readers) != 1 || status.Readers[0].Aside != 1 {
					w.Errorf("status: %+v", status)
				}
				w.check(reader.Retry(w.Context(), w.store, list[0]))
				w.until("it fails again", func() bool {
					again, err := reader.ListAside(w.Context(), w.store)
					w.check(err)
					return len(again) == 1 && again[0].Tries == 4 && !again[0].Retry
				})
				cured.Store(true)
				w.check(reader.Retry(w.Context(), w.store, list[0]))
				w.until("it is handled", func() bool { return rec.has(poison) })
				w.until("it is forgotten", func() bool {
					again, err := reader.ListAside(w.Context(), w.store)
					w.check(err)
					return len(again) == 0
				})
				if err := reader.Retry(w.Context(), w.store, list[0]); !errors.Is(err, reader.ErrNotFound) {
					w.Errorf("retry of nothing: %v", err)
				}
			})
		})
	}
}

// An error that the row did not cause does not count.
func TestReader_does_not_count_failures_of_the_database(t *testing.T) {
	each(t, func(w *fixture, _ func(...storetest.Option) *store.Store) {
		all := w.changes(1)
		rec := newRecord()
		n := 0
		rec.fail = func(store.StreamRow) error {
			if n++; n <= 10 {
				return store.ErrBusy
			}
			return nil
		}
		in := w.run(one(rec, fromStart))
		w.until("it came", func() bool { return rec.has(all...) })
		if c := in.Counts("test"); c.Aside != 0 || c.Failures != 0 {
			w.Errorf("%+v", c)
		}
	})
}

// The clock of an instance may be wrong by a month: readers don't use it.
func TestReader_does_not_ask_the_clock_of_its_instance(t *testing.T) {
	t.Parallel()
	if e := testEngine(); e != "" && e != "postgres" {
		return // on SQLite the clock of the instance is the database's
	}
	url := storetest.URL(t, "postgres")
	for _, off := range []time.Duration{-31 * 24 * time.Hour, -time.Hour, time.Hour, 31 * 24 * time.Hour} {
		w := newFixture(t, storetest.OpenURL(t, url, clockOff(off)))
		rec := newRecord()
		in := w.run(one(rec, func(r *reader.Reader) { r.Name = "test" + off.String() }))
		w.until("the cursor is there", func() bool { return w.cursor("test"+off.String()).Name != "" })
		rows := w.changes(3)
		w.until("all came", func() bool { return rec.has(rows...) })
		w.until("there is no lag", func() bool { return lagOf(w, in, "test"+off.String()) == 0 })
		status, err := reader.ReadStatus(t.Context(), w.store)
		w.check(err)
		for _, r := range status.Readers {
			if r.LagMS < 0 || r.LagMS > time.Hour.Milliseconds()/2 {
				t.Errorf("with a clock that is %s off the lag of %s is %d ms", off, r.Name, r.LagMS)
			}
		}
	}
}

func clockOff(off time.Duration) storetest.Option {
	return func(o *store.Options) { o.Clock = func() time.Time { return time.Now().Add(off) } }
}

// Another instance's rows arrive when they are announced, and also without an
// announcement.
func TestReader_wakes_by_announcements_and_without(t *testing.T) {
	t.Parallel()
	if e := testEngine(); e != "" && e != "postgres" {
		return // SQLite has one instance
	}
	url := storetest.URL(t, "postgres")
	w := newFixture(t, storetest.OpenURL(t, url))
	other := newFixture(t, storetest.OpenURL(t, url))
	rec := newRecord()
	in := w.run(func(o *reader.Options) { one(rec, fromStart)(o); o.Tick(time.Hour) })
	w.until("it runs", func() bool { return w.cursor("test").Name != "" })
	rows := other.changes(1)
	in.Wake(rows[0])
	w.until("what was announced came", func() bool { return rec.has(rows...) })
	in.stop()
	w.run(one(rec, fromStart))
	rows = other.changes(1)
	w.until("what was not announced came", func() bool { return rec.has(rows...) })
}

// The database contains the numbers of shards.
func TestShards_are_fixed(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]int{
		"room 1": reader.ShardOf(store.StreamRow{OwnerKind: store.OwnerRoom, Owner: 1}),
		"user 1": reader.ShardOf(store.StreamRow{OwnerKind: store.OwnerUser, Owner: 1}),
		"text":   reader.ShardOfText("example.org"),
		"job":    reader.ShardOfJob("leave_rooms", "@alice:stoa.test"),
	} {
		if known := map[string]int{"room 1": 14, "user 1": 45, "text": 35, "job": 48}[want]; got != known {
			t.Errorf("%s is in shard %d, was in %d", want, got, known)
		}
	}
}

func metricOf(w *fixture, in *instance, metric, label string) float64 {
	w.Helper()
	families, err := gather(in)
	w.check(err)
	for _, f := range families {
		if f.GetName() != metric {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetValue() == label {
					return m.GetGauge().GetValue() + m.GetCounter().GetValue()
				}
			}
		}
	}
	w.Fatalf("there is no metric %s of %s", metric, label)
	return 0
}

// A runner without a cluster owns everything.
func TestRunner_that_is_alone(t *testing.T) {
	each(t, func(w *fixture, _ func(...storetest.Option) *store.Store) {
		rec := newRecord()
		var d done
		w.run(func(o *reader.Options) {
			one(rec, fromStart, sharded)(o)
			kind(d.handle)(o)
			o.Cluster = nil
		})
		rows := w.changes(2)
		w.until("the rows came", func() bool { return rec.has(rows...) })
		w.enqueue(reader.Job{Kind: "test", Key: "a", Unique: true})
		w.gone("test", "a")
	})
}
