package store_test

import (
	"errors"
	"os"
	"testing"

	"stoa/internal/store"
	"stoa/internal/store/storetest"
)

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
	slotA, slotB := store.Slot(0), store.Slot(0)
	commitA := func() {
		t.Helper()
		slotA++
		var c *store.Change
		c, headA = slotChange(t, a, roomA, headA, slotA)
		if _, err := a.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	commitB := func() {
		t.Helper()
		slotB++
		var c *store.Change
		c, headB = slotChange(t, b, roomB, headB, slotB)
		if _, err := b.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	for range 40 {
		commitA()
		commitB()
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
	stale, _ := slotChange(t, a, roomA, headA-1, slotA+1)
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
	slotA++
	c, next := slotChange(t, a, roomA, headA, slotA)
	pending := a.CommitAsync(c)
	<-locked
	commitB() // while the other holds the turn
	close(thaw)
	if _, err := pending.Wait(t.Context()); err != nil {
		t.Errorf("after a long turn: %v", err)
	}
	headA = next
	nobodyHasTheTurn("after a long turn")

	for range 40 {
		commitA()
	}
	before := a.Turns()
	commitA()
	if a.Turns() != before {
		t.Error("an instance that commits alone waits for its turn")
	}
}
