package store_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
)

// TestPurge takes old messages away; state and redactions stay, and the check
// knows that they are gone on purpose.
func TestPurge(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		soundRoom(t, s)
		var row store.Room
		var old []store.EventNum
		err := s.Read(t.Context(), func(r *store.Read) (err error) {
			if row, err = roomdb.RoomByID(r, "!sound:stoa.test"); err != nil {
				return err
			}
			old, err = roomdb.PurgeableEvents(r, row.Num, roomdb.Place{Slot: 6}, 100)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(old) != "[5]" {
			t.Errorf("purgeable before slot 6 are %v, want only the message", old)
		}
		c := store.NewChange()
		c.Room(row.Num, row.Head)
		roomdb.PurgeEvents(c, row.Num, 5, old)
		if _, err := s.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if got := findings(t, s); len(got) > 0 {
			t.Errorf("after a purge: %v", got)
		}
	})
}

// TestDeleteRoom leaves nothing but the room's row, in bounded pieces.
func TestDeleteRoom(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		soundRoom(t, s)
		var row store.Room
		read := func() {
			t.Helper()
			if err := s.Read(t.Context(), func(r *store.Read) (err error) {
				row, err = roomdb.RoomByID(r, "!sound:stoa.test")
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		read()
		c := store.NewChange()
		c.Room(row.Num, row.Head)
		row.Resident, row.Extremities, row.Depth = false, nil, 0
		c.SetRoom(row)
		if _, err := s.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if err := roomdb.DeleteRoom(t.Context(), s, row.Num, 2); err != nil {
			t.Fatal(err)
		}
		read()
		if row.Slot != 8 || row.Head == 0 {
			t.Errorf("row of the deleted room is %+v", row)
		}
		err := s.Read(t.Context(), func(r *store.Read) error {
			if _, err := roomdb.NextPiece(r, row.Num); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("a piece is left: %v", err)
			}
			if _, err := roomdb.EventByID(r, "$1"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("an event is left: %v", err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := findings(t, s); len(got) > 0 {
			t.Errorf("after a deletion: %v", got)
		}
	})
}

// TestRedactedEvents finds what is redacted until its bytes are replaced.
func TestRedactedEvents(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		soundRoom(t, s) // event 7 (at slot 7) is redacted by event 8
		find := func() (list []roomdb.Redacted) {
			t.Helper()
			if err := s.Read(t.Context(), func(r *store.Read) (err error) {
				list, err = roomdb.RedactedEvents(r, 0, 1, 10)
				return err
			}); err != nil {
				t.Fatal(err)
			}
			return list
		}
		list := find()
		if len(list) != 1 || list[0].By != list[0].Event+1 {
			t.Fatalf("redacted events are %v", list)
		}
		c := store.NewChange()
		roomdb.ReplaceBytes(c, list[0].Event, []byte(`{"type":"m.room.message"}`))
		if _, err := s.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if list := find(); len(list) > 0 {
			t.Errorf("after the replacement: %v", list)
		}
	})
}

// TestListen hears the positions of groups, and what is notified.
func TestListen(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open(func(o *store.Options) { o.NotifyChannel, o.NotifyName = "stoa_test", "me" })
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ready, heard, ended := make(chan struct{}), make(chan string, 10), make(chan error, 1)
		go func() {
			ended <- s.Listen(ctx, []string{"other", "stoa_test"}, func() { close(ready) }, func(c, p string) { heard <- c + " " + p })
		}()
		if !s.Shared() {
			if err := <-ended; !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("listen on SQLite: %v", err)
			}
			return
		}
		<-ready
		room, head := newRoom(t, s, "!a:stoa.test")
		c, _ := slotChange(t, s, room, head, 1)
		pos, err := s.Commit(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if got := <-heard; got != fmt.Sprintf("stoa_test %d me", pos) {
			t.Errorf("heard %s, want %d", got, pos)
		}
		n, err := s.Notifier()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(n.Close)
		if err := n.Notify(t.Context(), "other", []string{"hello", "world"}); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"other hello", "other world"} {
			if got := <-heard; got != want {
				t.Errorf("heard %s, want %s", got, want)
			}
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("end of listening: %v", err)
		}
	})
}

// TestCopy: a copy made while the store is open is a store.
func TestCopy(t *testing.T) {
	t.Parallel()
	s := storetest.SQLite(t)
	soundRoom(t, s)
	path := filepath.Join(t.TempDir(), "copy.db")
	if err := s.Copy(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	again, err := store.Open(t.Context(), store.Options{URL: path, ServerName: storetest.ServerName})
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, again)
	if got := findings(t, again); len(got) > 0 {
		t.Errorf("the copy has findings: %v", got)
	}
	if again.Head() != s.Head() {
		t.Errorf("head of the copy is %d, want %d", again.Head(), s.Head())
	}
}
