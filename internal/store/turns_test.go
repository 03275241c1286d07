package store_test

import (
	"errors"
	"os"
	"testing"

	"stoa/internal/store"
	"stoa/internal/store/storetest"
)

// line is a room to which one store writes one event after the other.
type line struct {
	t     *testing.T
	store *store.Store
	room  store.RoomNum
	head  store.Head
	slot  store.Slot
}

func (l *line) next() (c *store.Change) {
	l.t.Helper()
	l.slot++
	c, l.head = slotChange(l.t, l.store, l.room, l.head, l.slot)
	return c
}

func (l *line) commit() {
	l.t.Helper()
	if _, err := l.store.Commit(l.t.Context(), l.next()); err != nil {
		l.t.Fatal(err)
	}
}

// TestTurns: instances that commit in turn wait for one another before they cut a
// group; the turn is given back whatever becomes of the group, and nobody relies on
// it.
func TestTurns(t *testing.T) {
	t.Parallel()
	if os.Getenv("ENGINE") == "sqlite" {
		return
	}
	address := storetest.URL(t, "postgres")
	faults := &store.Faults{}
	a, err := store.Open(t.Context(), store.Options{URL: address, ServerName: storetest.ServerName, Faults: faults})
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, a)
	b := storetest.OpenURL(t, address)
	roomA, headA := newRoom(t, a, "!a:stoa.test")
	roomB, headB := newRoom(t, b, "!b:stoa.test")
	lineA, lineB := &line{t: t, store: a, room: roomA, head: headA}, &line{t: t, store: b, room: roomB, head: headB}
	for range 40 {
		lineA.commit()
		lineB.commit()
	}
	if a.Turns() == 0 || b.Turns() == 0 {
		t.Errorf("%d and %d groups waited for their turn", a.Turns(), b.Turns())
	}

	nobodyHasTheTurn := func(when string) {
		t.Helper()
		err := b.Script(t.Context(), `DO $$ BEGIN
			IF EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
				WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.classid = 22282 AND l.objid = 3)
			THEN RAISE EXCEPTION 'the turn is taken'; END IF; END $$`)
		if err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	nobodyHasTheTurn("after groups")
	stale, _ := slotChange(t, a, roomA, lineA.head-1, lineA.slot+1)
	if _, err := a.Commit(t.Context(), stale); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a stale change gives %v", err)
	}
	nobodyHasTheTurn("after a group of losers")

	locked, thaw := make(chan struct{}), make(chan struct{})
	faults.Arm(store.FaultHeadMoved, func() error { // it is hit between the two round trips of a group
		faults.Arm(store.FaultHeadMoved, nil)
		close(locked)
		<-thaw
		return nil
	})
	pending := a.CommitAsync(lineA.next())
	<-locked
	lineB.commit() // while the other holds the turn
	close(thaw)
	if _, err := pending.Wait(t.Context()); err != nil {
		t.Errorf("after a long turn: %v", err)
	}
	nobodyHasTheTurn("after a long turn")
	before := a.Turns() + b.Turns()
	for range 7 {
		lineA.commit()
		lineB.commit()
	}
	if a.Turns()+b.Turns() != before {
		t.Error("instances wait for their turns though those last long")
	}

	for range 40 {
		lineA.commit()
	}
	before = a.Turns()
	lineA.commit()
	if a.Turns() != before {
		t.Error("an instance that commits alone waits for its turn")
	}
}
