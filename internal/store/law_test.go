package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
)

// slotChange is a change that takes the next slot of a room, and its new head.
func slotChange(t testing.TB, s *store.Store, room store.RoomNum, head store.Head, slot store.Slot) (*store.Change, store.Head) {
	t.Helper()
	next, err := s.NextHead(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	c := store.NewChange()
	p := c.Room(room, head)
	p.NewHead, p.First, p.Last = next, slot, slot
	return c, next
}

// holdCommitter makes the commit queue stop before its next group until release is
// called, so that a test decides what makes up the group after.
func holdCommitter(f *store.Faults) (release func()) {
	hold := make(chan struct{})
	f.Arm(store.FaultBeforeCommit, func() error { <-hold; return nil })
	return sync.OnceFunc(func() {
		f.Arm(store.FaultBeforeCommit, nil)
		close(hold)
	})
}

func withFaults(f *store.Faults) storetest.Option {
	return func(o *store.Options) { o.Faults = f }
}

// TestStream: law 2. A reader that has seen position p never later finds
// something at or below p.
func TestStream(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		const writers, each = 6, 60
		stores := []*store.Store{open()}
		if stores[0].Shared() {
			stores = append(stores, open(), open())
		}
		ctx, stop := context.WithCancel(t.Context())
		var readers, all errgroup.Group
		for _, s := range stores {
			readers.Go(func() error { return watchStream(ctx, s) })
		}
		for i := range writers {
			s := stores[i%len(stores)]
			room, head := newRoom(t, s, fmt.Sprintf("!%d:stoa.test", i))
			all.Go(func() error {
				for n := range each {
					var c *store.Change
					c, head = slotChange(t, s, room, head, store.Slot(n+1))
					c.ReceiptSlot(room)
					if _, err := s.Commit(ctx, c); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := all.Wait(); err != nil {
			t.Error(err)
		}
		stop()
		if err := readers.Wait(); err != nil {
			t.Error(err)
		}
	})
}

// watchStream reads what is new, and each time compares what lies at or below
// the heads seen before with what it read then.
func watchStream(ctx context.Context, s *store.Store) error {
	var seen []store.StreamRow
	var head store.Position
	for ctx.Err() == nil {
		err := s.Read(context.Background(), func(r *store.Read) error {
			again, err := r.Stream(0, head, 10_000)
			if err != nil {
				return err
			}
			if len(again) != len(seen) {
				return fmt.Errorf("at or below position %d there are %d rows, were %d", head, len(again), len(seen))
			}
			rows, err := r.Stream(head, r.Head(), 10_000)
			if err != nil {
				return err
			}
			for i, row := range rows {
				if row.Pos <= head || i > 0 && row.Pos <= rows[i-1].Pos {
					return fmt.Errorf("position %d after %d", row.Pos, head)
				}
			}
			beyond, err := r.Stream(r.Head(), 1<<62, 1)
			if err != nil || len(beyond) > 0 {
				return fmt.Errorf("rows above the head of the snapshot: %v, %w", beyond, err)
			}
			seen, head = append(seen, rows...), r.Head()
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// TestFence: law 3. Writers that believe the same head can't both win, whatever
// store they write through, and no slot is given twice.
func TestFence(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		stores := []*store.Store{open()}
		if stores[0].Shared() {
			stores = append(stores, open())
		} else {
			stores = append(stores, stores[0])
		}
		room, _ := newRoom(t, stores[0], "!a:stoa.test")
		const each = 40
		var won [2]int
		var g errgroup.Group
		for i, s := range stores {
			g.Go(func() error {
				for won[i] < each {
					var now store.Room
					if err := s.Read(t.Context(), func(r *store.Read) (err error) {
						now, err = roomdb.RoomByNum(r, room)
						return err
					}); err != nil {
						return err
					}
					c, _ := slotChange(t, s, room, now.Head, now.Slot+1)
					switch _, err := s.Commit(t.Context(), c); {
					case err == nil:
						won[i]++
					case !errors.Is(err, store.ErrConflict):
						return err
					}
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		err := stores[0].Read(t.Context(), func(r *store.Read) error {
			now, err := roomdb.RoomByNum(r, room)
			if err != nil {
				return err
			}
			if now.Slot != 2*each {
				t.Errorf("room is at slot %d after %d changes", now.Slot, 2*each)
			}
			rows, err := r.RoomStream(room, 0, r.Head(), 1000)
			next := store.Slot(1)
			for _, row := range rows {
				if row.First != next {
					t.Errorf("stream row begins at slot %d, want %d", row.First, next)
				}
				next = row.Last + 1
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// TestGroup: law 4.
func TestGroup(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		t.Run("drops only the changes that lost their head", func(t *testing.T) {
			faults := &store.Faults{}
			s := open(withFaults(faults))
			defer closeStore(t, s)
			a, headA := newRoom(t, s, "!a:stoa.test")
			b, headB := newRoom(t, s, "!b:stoa.test")
			release := holdCommitter(faults)
			first, afterFirst := slotChange(t, s, a, headA, 1)
			stale, afterStale := slotChange(t, s, a, headA, 1)
			onStale, _ := slotChange(t, s, a, afterStale, 2)
			onFirst, _ := slotChange(t, s, a, afterFirst, 2)
			other, _ := slotChange(t, s, b, headB, 1)
			changes := []*store.Change{first, stale, onStale, onFirst, other}
			want := []error{nil, store.ErrConflict, store.ErrConflict, nil, nil}
			checkOutcomes(t, s, release, changes, want)
		})
		t.Run("drops only the change whose own condition fails", func(t *testing.T) {
			faults := &store.Faults{}
			s := open(withFaults(faults))
			defer closeStore(t, s)
			rooms := benchRooms(t, s, 12)
			user := rooms[0].user
			txn := func(room *benchRoom, id string) *store.Change {
				c, next := slotChange(t, s, room.room.Num, room.room.Head, room.room.Slot+1)
				room.room.Head, room.room.Slot = next, room.room.Slot+1
				roomdb.AddTxn(c, roomdb.Txn{User: user, Device: "D", Path: "send", ID: id, EventID: "$" + id, Room: room.room.Num})
				return c
			}
			if _, err := s.Commit(t.Context(), txn(rooms[0], "used")); err != nil {
				t.Fatal(err)
			}
			release := holdCommitter(faults)
			var changes []*store.Change
			var want []error
			for i, room := range rooms[1:] { // more losers than a group is tried without one
				id, err := fmt.Sprint("fresh", i), error(nil)
				if i%2 == 0 {
					id, err = "used", roomdb.ErrTxnTaken
				}
				changes, want = append(changes, txn(room, id)), append(want, err)
			}
			checkOutcomes(t, s, release, changes, want)
		})
		t.Run("drops the changes built on one whose own condition fails", func(t *testing.T) {
			faults := &store.Faults{}
			s := open(withFaults(faults))
			defer closeStore(t, s)
			room := benchRooms(t, s, 1)[0]
			c1, h1 := slotChange(t, s, room.room.Num, room.room.Head, 1)
			roomdb.AddTxn(c1, roomdb.Txn{User: room.user, Device: "D2", Path: "send", ID: "twice", EventID: "$1", Room: room.room.Num})
			c2, h2 := slotChange(t, s, room.room.Num, h1, 2)
			roomdb.AddTxn(c2, roomdb.Txn{User: room.user, Device: "D2", Path: "send", ID: "twice", EventID: "$2", Room: room.room.Num})
			c3, _ := slotChange(t, s, room.room.Num, h2, 3)
			again, _ := slotChange(t, s, room.room.Num, h1, 2)
			checkOutcomes(t, s, holdCommitter(faults), []*store.Change{c1, c2, c3, again},
				[]error{nil, roomdb.ErrTxnTaken, store.ErrConflict, nil})
		})
		t.Run("loses nothing else when a head is said to have moved", func(t *testing.T) {
			faults := &store.Faults{}
			s := open(withFaults(faults))
			defer closeStore(t, s)
			a, headA := newRoom(t, s, "!c:stoa.test")
			b, headB := newRoom(t, s, "!d:stoa.test")
			release := holdCommitter(faults)
			n := 0
			faults.Arm(store.FaultHeadMoved, func() error {
				if n++; n == 2 { // the first is the change that holds the commit queue
					return errors.New("moved")
				}
				return nil
			})
			c1, _ := slotChange(t, s, a, headA, 1)
			c2, _ := slotChange(t, s, b, headB, 1)
			checkOutcomes(t, s, release, []*store.Change{c1, c2}, []error{store.ErrConflict, nil})
		})
	})
}

// checkOutcomes queues changes as one group behind one that holds the
// commit queue, and compares what becomes of each.
func checkOutcomes(t *testing.T, s *store.Store, release func(), changes []*store.Change, want []error) {
	t.Helper()
	first := s.CommitAsync(store.NewChange())
	pending := make([]*store.Pending, len(changes))
	for i, c := range changes {
		pending[i] = s.CommitAsync(c)
	}
	release()
	if _, err := first.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, p := range pending {
		if _, err := p.Wait(t.Context()); !errors.Is(err, want[i]) {
			t.Errorf("change %d: got %v, want %v", i, err, want[i])
		}
	}
}

func closeStore(t *testing.T, s *store.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestCommitOutcome: law 1 and 4 at the fault points.
func TestCommitOutcome(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		faults := &store.Faults{}
		s := open(withFaults(faults))
		room, _ := newRoom(t, s, "!a:stoa.test")
		boom := errors.New("boom")
		commit := func(point string) error {
			if point != "" {
				faults.Arm(point, func() error { return boom })
				defer faults.Arm(point, nil)
			}
			var now store.Room
			if err := s.Read(t.Context(), func(r *store.Read) (err error) {
				now, err = roomdb.RoomByNum(r, room)
				return err
			}); err != nil {
				return err
			}
			c, _ := slotChange(t, s, room, now.Head, now.Slot+1)
			_, err := s.Commit(t.Context(), c)
			return err
		}
		slot := func() (n store.Slot) {
			t.Helper()
			if err := s.Read(t.Context(), func(r *store.Read) error {
				now, err := roomdb.RoomByNum(r, room)
				n = now.Slot
				return err
			}); err != nil {
				t.Fatal(err)
			}
			return n
		}
		if err := commit(store.FaultBeforeCommit); !errors.Is(err, boom) || errors.Is(err, store.ErrOutcomeUnknown) || slot() != 0 {
			t.Errorf("fault before the commit: got %v at slot %d, want the fault and nothing written", err, slot())
		}
		if err := commit(store.FaultAfterCommit); !errors.Is(err, store.ErrOutcomeUnknown) || slot() != 1 {
			t.Errorf("fault after the commit: got %v at slot %d, want unknown outcome of what was written", err, slot())
		}
		before := slot()
		if err := commit(store.FaultOutcomeUnknown); !errors.Is(err, store.ErrOutcomeUnknown) {
			t.Errorf("fault around the commit: got %v, want unknown outcome", err)
		}
		if now := slot(); now != before && now != before+1 {
			t.Errorf("after an unknown outcome the room is at slot %d, was at %d", now, before)
		}
		if err := commit(""); err != nil {
			t.Errorf("after an unknown outcome: %v", err)
		}
	})
}

// TestSlots: the commit queue takes slots only in their order.
func TestSlots(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		room, head := newRoom(t, s, "!a:stoa.test")
		for _, slot := range []store.Slot{0, 2, -1} {
			c, _ := slotChange(t, s, room, head, slot)
			if slot == 0 {
				c.Room(room, head).Last = 1
			}
			if _, err := s.Commit(t.Context(), c); !errors.Is(err, store.ErrConflict) {
				t.Errorf("slot %d on an empty room: got %v", slot, err)
			}
		}
		users, err := s.InternUsers(t.Context(), func(string) bool { return true }, "@a:stoa.test", "@b:stoa.test")
		if err != nil {
			t.Fatal(err)
		}
		var last [2]store.Slot
		for range 3 {
			c := store.NewChange()
			a, b, a2 := c.UserSlot(users[0], store.KindAccountData), c.UserSlot(users[1], store.KindToDevice), c.UserSlot(users[0], store.KindAccountData)
			pos, err := s.Commit(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if c.Slot(a) != last[0]+1 || c.Slot(a2) != last[0]+2 || c.Slot(b) != last[1]+1 {
				t.Errorf("slots %d %d %d after %v", c.Slot(a), c.Slot(a2), c.Slot(b), last)
			}
			last = [2]store.Slot{c.Slot(a2), c.Slot(b)}
			err = s.Read(t.Context(), func(r *store.Read) error {
				row, err := r.LastUserRow(users[0], store.KindAccountData, pos)
				if row.First != c.Slot(a) || row.Last != c.Slot(a2) {
					t.Errorf("stream row %+v, want slots %d to %d", row, c.Slot(a), c.Slot(a2))
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		c := store.NewChange()
		c.UserSlot(1_000_000, store.KindPresence)
		if _, err := s.Commit(t.Context(), c); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("slot of a user without a row: got %v", err)
		}
	})
}

// TestNumbers: a number is given once in the life of a database.
func TestNumbers(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		seen := map[int64]bool{}
		var mu sync.Mutex
		take := func(s *store.Store) {
			var g errgroup.Group
			for range 4 {
				g.Go(func() error {
					for range 700 { // some blocks of 1000
						n, err := s.Next(t.Context(), "test")
						if err != nil {
							return err
						}
						mu.Lock()
						if seen[n] || n < 1 {
							t.Errorf("number %d was given twice", n)
						}
						seen[n] = true
						mu.Unlock()
					}
					return nil
				})
			}
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 {
			s := open()
			take(s)
			if s.Shared() {
				other := open()
				take(other)
				take(s)
				closeStore(t, other)
			}
			closeStore(t, s)
		}
	})
}

// TestPosition: a restarted store goes on above the last position, also if the
// clock went back.
func TestPosition(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		newRoom(t, s, "!a:stoa.test")
		room, head := newRoom(t, s, "!b:stoa.test")
		c, head := slotChange(t, s, room, head, 1)
		first, err := s.Commit(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		closeStore(t, s)
		s = open(func(o *store.Options) { o.Clock = unixZero })
		if s.Head() != first {
			t.Errorf("head after a restart is %d, was %d", s.Head(), first)
		}
		c, _ = slotChange(t, s, room, head, 2)
		second, err := s.Commit(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if second <= first {
			t.Errorf("position %d after %d", second, first)
		}
	})
}

// TestOpen: a database keeps to its server name and, on SQLite, to one process.
func TestOpen(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			url := storetest.URL(t, engine)
			open := func(name string) (*store.Store, error) {
				return store.Open(t.Context(), store.Options{URL: url, ServerName: name})
			}
			s, err := open("one.test")
			if err != nil {
				t.Fatal(err)
			}
			if engine == "sqlite" {
				if _, err := open("one.test"); !errors.Is(err, store.ErrInUse) {
					t.Errorf("second open of one file: got %v", err)
				}
			}
			closeStore(t, s)
			if _, err := open("two.test"); !errors.Is(err, store.ErrOtherServer) {
				t.Errorf("other server name: got %v", err)
			}
			s, err = open("one.test")
			if err != nil {
				t.Fatalf("open again: %v", err)
			}
			closeStore(t, s)
			if _, err := s.Commit(t.Context(), store.NewChange()); !errors.Is(err, store.ErrClosed) {
				t.Errorf("commit after close: got %v", err)
			}
		})
	}
}
