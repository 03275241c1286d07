package store_test

import (
	"context"
	"errors"
	"net/url"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
)

func unixZero() time.Time { return time.Unix(0, 0) }

// TestUnsafe: law 1. PostgreSQL that forgets is refused.
func TestUnsafe(t *testing.T) {
	t.Parallel()
	address, err := url.Parse(storetest.URL(t, "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	q := address.Query()
	q.Set("synchronous_commit", "off")
	address.RawQuery = q.Encode()
	opt := store.Options{URL: address.String(), ServerName: "stoa.test"}
	if _, err := store.Open(t.Context(), opt); !errors.Is(err, store.ErrUnsafe) {
		t.Errorf("synchronous_commit off: got %v", err)
	}
	opt.UnsafeDatabase = true
	s, err := store.Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
}

// TestMigrate: instances that start together migrate once.
func TestMigrate(t *testing.T) {
	t.Parallel()
	address := storetest.EmptyURL(t, "postgres")
	var g errgroup.Group
	for range 3 {
		g.Go(func() error {
			s, err := store.Open(t.Context(), store.Options{URL: address, ServerName: "stoa.test"})
			if err != nil {
				return err
			}
			return s.Close()
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// TestSnapshot: a snapshot shows one moment, and dies.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		room, head := newRoom(t, s, "!a:stoa.test")
		r, err := s.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		c, _ := slotChange(t, s, room, head, 1)
		pos, err := s.Commit(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		old, err := roomdb.RoomByNum(r, room)
		if err != nil {
			t.Fatal(err)
		}
		if old.Slot != 0 || r.Head() >= pos {
			t.Errorf("the snapshot moved to slot %d, head %d", old.Slot, r.Head())
		}
		ctx, cancel := context.WithCancel(t.Context())
		r2, err := s.Snapshot(ctx)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := roomdb.RoomByNum(r2, room); !errors.Is(err, context.Canceled) {
			t.Errorf("query after the end of the context: got %v", err)
		}
		r2.Close()
		if err := s.Read(t.Context(), func(r *store.Read) error { _, err := roomdb.RoomByNum(r, room); return err }); err != nil {
			t.Errorf("query after a snapshot was interrupted: %v", err)
		}
	})
}

func TestSnapshotLimit(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open(func(o *store.Options) { o.SnapshotLimit = 200 * time.Millisecond })
		begin := time.Now()
		err := s.Read(t.Context(), func(r *store.Read) error {
			var err error
			for err == nil && time.Since(begin) < 10*time.Second {
				_, err = r.OldestPosition()
			}
			return err
		})
		if !errors.Is(err, store.ErrSnapshotTooOld) {
			t.Errorf("query in a snapshot that is too old: got %v", err)
		}
	})
}

// TestQueue: what waits is bounded, can be withdrawn, and is written at Close.
func TestQueue(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		faults := &store.Faults{}
		s := open(withFaults(faults), func(o *store.Options) { o.QueueLimit = 2 })
		room, head := newRoom(t, s, "!a:stoa.test")
		entered := make(chan struct{}, 1)
		hold := make(chan struct{})
		faults.Arm(store.FaultBeforeCommit, func() error {
			select {
			case entered <- struct{}{}:
			default:
			}
			<-hold
			return nil
		})
		first := s.CommitAsync(store.NewChange())
		<-entered // the queue is empty again
		c, next := slotChange(t, s, room, head, 1)
		withdrawn, _ := slotChange(t, s, room, next, 2)
		kept := s.CommitAsync(c)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Commit(ctx, withdrawn); !errors.Is(err, context.Canceled) {
			t.Errorf("withdrawn change: got %v", err)
		}
		if _, err := s.Commit(t.Context(), store.NewChange()); !errors.Is(err, store.ErrBusy) {
			t.Errorf("third waiting change: got %v", err)
		}
		closed := make(chan error)
		go func() { closed <- s.Close() }()
		close(hold)
		if err := <-closed; err != nil {
			t.Error(err)
		}
		for i, p := range []*store.Pending{first, kept} {
			if _, err := p.Wait(t.Context()); err != nil {
				t.Errorf("change %d that waited at Close: %v", i, err)
			}
		}
		s = open()
		err := s.Read(t.Context(), func(r *store.Read) error {
			now, err := roomdb.RoomByNum(r, room)
			if now.Slot != 1 {
				t.Errorf("room is at slot %d, want 1: one change was kept, one withdrawn", now.Slot)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// TestText: texts come back as they went in, also those that PostgreSQL does not
// know.
func TestText(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		pairs := []store.Pair{
			{Type: "m.room.name"}, {Type: "a\x00b", StateKey: "\x00"}, {Type: "a\uFDD0b", StateKey: "\uFDD00\uFDD01"},
			{Type: "a\uFDD00b"}, {Type: "'; DROP TABLE rooms; --", StateKey: "ä\U0001F600\n\\"}, {Type: "a\x00", StateKey: "b"}, {Type: "a", StateKey: "\x00b"},
		}
		nums, err := s.Intern(t.Context(), pairs)
		if err != nil {
			t.Fatal(err)
		}
		closeStore(t, s)
		s = open() // nothing cached
		seen := map[store.KeyNum]bool{}
		err = s.Read(t.Context(), func(r *store.Read) error {
			got, err := s.Pairs(r, nums)
			for i := range got {
				if got[i] != pairs[i] || seen[nums[i]] {
					t.Errorf("pair %d is %q, want %q", i, got[i], pairs[i])
				}
				seen[nums[i]] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		again, err := s.Intern(t.Context(), pairs)
		if err != nil {
			t.Fatal(err)
		}
		for i := range again {
			if again[i] != nums[i] {
				t.Errorf("pair %d has number %d, had %d", i, again[i], nums[i])
			}
		}
	})
}

// TestTail hands over what was committed, in order and without gaps.
func TestTail(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		tail := s.Subscribe()
		defer tail.Close()
		room, head := newRoom(t, s, "!a:stoa.test")
		last := s.Head()
		const n = 50
		var pending []*store.Pending
		for i := range n {
			var c *store.Change
			c, head = slotChange(t, s, room, head, store.Slot(i+1))
			c.Payload = i
			pending = append(pending, s.CommitAsync(c))
		}
		for _, p := range pending {
			if _, err := p.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		next := 0
		for next < n {
			b, err := tail.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if b.Prev != last || b.Last != b.Rows[len(b.Rows)-1].Pos || b.Rows[0].Pos <= b.Prev {
				t.Errorf("batch from %d to %d with rows %v after %d", b.Prev, b.Last, b.Rows, last)
			}
			last = b.Last
			for _, p := range b.Payloads {
				if p != next {
					t.Errorf("payload %v, want %d", p, next)
				}
				next++
			}
		}
		closeStore(t, s)
		if _, err := tail.Next(t.Context()); !errors.Is(err, store.ErrClosed) {
			t.Errorf("next batch of a closed store: %v", err)
		}
	})
}

// TestTailOtherInstance: a gap made by another instance shows in Prev.
func TestTailOtherInstance(t *testing.T) {
	t.Parallel()
	address := storetest.URL(t, "postgres")
	var stores []*store.Store
	for range 2 {
		s, err := store.Open(t.Context(), store.Options{URL: address, ServerName: "stoa.test"})
		if err != nil {
			t.Fatal(err)
		}
		defer closeStore(t, s)
		stores = append(stores, s)
	}
	room, head := newRoom(t, stores[0], "!a:stoa.test")
	tail := stores[0].Subscribe()
	c, head := slotChange(t, stores[1], room, head, 1)
	between, err := stores[1].Commit(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	c, _ = slotChange(t, stores[0], room, head, 2)
	if _, err := stores[0].Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	b, err := tail.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if b.Prev != between {
		t.Errorf("batch after the other instance's %d has Prev %d", between, b.Prev)
	}
}

// TestMaintain: what is too old goes, the head and what is younger stay.
func TestMaintain(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		room := benchRooms(t, s, 1)[0]
		now := time.Now()
		for i := range 3 {
			c, next := slotChange(t, s, room.room.Num, room.room.Head, room.room.Slot+1)
			room.room.Head, room.room.Slot = next, room.room.Slot+1
			at := now.Add(-time.Duration(i) * 6 * 24 * time.Hour)
			roomdb.AddTxn(c, roomdb.Txn{User: room.user, Device: "D", Path: "send", ID: string(rune('a' + i)), At: at.UnixMilli()})
			if _, err := s.Commit(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		count := func() (rows int, txns string) {
			err := s.Read(t.Context(), func(r *store.Read) error {
				list, err := r.Stream(0, r.Head(), 10)
				rows = len(list)
				for _, id := range []string{"a", "b", "c"} {
					if _, err := roomdb.FindTxn(r, room.user, "D", "send", id); err == nil {
						txns += id
					}
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return rows, txns
		}
		if err := errors.Join(s.TrimStream(t.Context(), 0), roomdb.ExpireTxns(t.Context(), s, 0)); err != nil {
			t.Fatal(err)
		}
		if rows, txns := count(); rows != 3 || txns != "ab" {
			t.Errorf("%d stream rows and transaction IDs %q, want 3 and those of 7 days", rows, txns)
		}
		if err := errors.Join(s.TrimStream(t.Context(), time.Nanosecond), roomdb.ExpireTxns(t.Context(), s, time.Nanosecond)); err != nil {
			t.Fatal(err)
		}
		if rows, txns := count(); rows != 1 || txns != "" {
			t.Errorf("%d stream rows and transaction IDs %q, want only the head", rows, txns)
		}
	})
}

// TestPanic: a caller that panics in a transaction leaves the store usable.
func TestPanic(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		room, head := newRoom(t, s, "!a:stoa.test")
		for name, f := range map[string]func() error{
			"read":  func() error { return s.Read(t.Context(), func(*store.Read) error { panic("caller") }) },
			"write": func() error { return s.Write(t.Context(), func(*store.Tx) error { panic("caller") }) },
			"row": func() error {
				return s.Read(t.Context(), func(r *store.Read) error { return r.PanicInRow() })
			},
		} {
			for range 10 { // more than there are connections
				func() {
					defer func() {
						if recover() == nil {
							t.Errorf("%s: did not panic", name)
						}
					}()
					if err := f(); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}()
			}
		}
		c, _ := slotChange(t, s, room, head, 1)
		if _, err := s.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if err := s.Read(t.Context(), func(r *store.Read) error { _, err := roomdb.RoomByNum(r, room); return err }); err != nil {
			t.Fatal(err)
		}
	})
}
