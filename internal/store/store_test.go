package store_test

import (
	"errors"
	"testing"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
)

func newRoom(t *testing.T, s *store.Store, roomID string) (store.RoomNum, store.Head) {
	t.Helper()
	num, err := s.NextRoom(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := store.NewChange()
	p := c.NewRoom(store.Room{Num: num, RoomID: roomID, Version: "12", Resident: true})
	if _, err := s.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return num, p.NewHead
}

func TestCommit(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		room, head := newRoom(t, s, "!a:stoa.test")

		c := store.NewChange()
		part := c.Room(room, head)
		part.First, part.Last = 1, 1
		pos, err := s.Commit(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		stale := store.NewChange()
		stale.Room(room, head)
		if _, err := s.Commit(t.Context(), stale); !errors.Is(err, store.ErrConflict) {
			t.Fatalf("stale head: got %v", err)
		}
		err = s.Read(t.Context(), func(r *store.Read) error {
			if r.Head() != pos {
				t.Errorf("head of the snapshot is %d, committed was %d", r.Head(), pos)
			}
			got, err := roomdb.RoomByID(r, "!a:stoa.test")
			if err != nil {
				return err
			}
			if got.Head != part.NewHead || got.Slot != 1 {
				t.Errorf("room has head %d slot %d, want %d and 1", got.Head, got.Slot, part.NewHead)
			}
			row, err := r.LastRoomRow(room, store.KindTimeline, pos)
			if err != nil {
				return err
			}
			if row.First != 1 || row.Last != 1 || row.Pos != pos {
				t.Errorf("stream row %+v", row)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// line is a room to which one store writes one event after the other.
type writer struct {
	t     *testing.T
	store *store.Store
	room  store.RoomNum
	head  store.Head
	slot  store.Slot
}

func (l *writer) next() (c *store.Change) {
	l.t.Helper()
	l.slot++
	c, l.head = slotChange(l.t, l.store, l.room, l.head, l.slot)
	return c
}

func (l *writer) commit() {
	l.t.Helper()
	if _, err := l.store.Commit(l.t.Context(), l.next()); err != nil {
		l.t.Fatal(err)
	}
}

// TestLowPriorityChanges: a low-priority change waits for others after a group, and goes with the
// next change that may not wait, or when the gap is over.
func TestLowPriorityChanges(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		roomA, headA := newRoom(t, s, "!a:stoa.test")
		roomB, headB := newRoom(t, s, "!b:stoa.test")
		lineA, lineB := &writer{t: t, store: s, room: roomA, head: headA}, &writer{t: t, store: s, room: roomB, head: headB}
		low := func() *store.Pending {
			c := lineA.next()
			c.LowPriority = true
			return s.CommitAsync(c)
		}
		begin := time.Now() // the group of the next line is begun later
		lineB.commit()
		alone, err := low().Wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took < store.LowPriorityGap {
			t.Errorf("a low-priority change was durable %v after the group before", took)
		}

		begin = time.Now()
		lineB.commit()
		waits := low()
		hurries := s.CommitAsync(lineB.next())
		soon := time.Since(begin) < store.LowPriorityGap
		first, err1 := waits.Wait(t.Context())
		second, err2 := hurries.Wait(t.Context())
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if first <= alone || soon && first != second {
			t.Errorf("groups ended at %d, %d and %d", alone, first, second)
		}
	})
}

// TestLowPriorityChangesAtClose: a low-priority change that waits is written when the store is closed.
func TestLowPriorityChangesAtClose(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		room, head := newRoom(t, s, "!a:stoa.test")
		l := &writer{t: t, store: s, room: room, head: head}
		l.commit()
		c := l.next()
		c.LowPriority = true
		p := s.CommitAsync(c)
		closeStore(t, s)
		if _, err := p.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
