package store_test

import (
	"errors"
	"testing"

	"stoa/internal/store"
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
			got, err := r.Room("!a:stoa.test")
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
