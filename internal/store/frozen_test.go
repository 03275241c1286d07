package store_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/storetest"
)

// TestFrozen_instance: one that is frozen within a group, with the row of a room
// locked, holds up the others for a few seconds at most; when it goes on, its
// change has lost, and nothing of it is there.
func TestFrozen_instance(t *testing.T) {
	t.Parallel()
	address := storetest.URL(t, "postgres")
	faults := &store.Faults{}
	frozen, err := store.Open(t.Context(), store.Options{URL: address, ServerName: storetest.ServerName, Faults: faults})
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, frozen)
	other, err := store.Open(t.Context(), store.Options{URL: address, ServerName: storetest.ServerName})
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, other)
	room, head := newRoom(t, frozen, "!a:stoa.test")

	locked, thaw := make(chan struct{}), make(chan struct{})
	var hits atomic.Int64
	faults.Arm(store.FaultHeadMoved, func() error { // it is hit between the two round trips of a group
		if hits.Add(1) == 1 {
			close(locked)
			<-thaw
		}
		return nil
	})
	late, _ := slotChange(t, frozen, room, head, 1)
	pending := frozen.CommitAsync(late)
	<-locked
	begin := time.Now()
	c, head := slotChange(t, other, room, head, 1)
	if _, err := other.Commit(t.Context(), c); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 8*time.Second {
		t.Errorf("the other instance waited %s", took)
	}
	close(thaw)
	if _, err := pending.Wait(t.Context()); !errors.Is(err, store.ErrConflict) {
		t.Errorf("the change of the frozen instance: %v, want ErrConflict", err)
	}
	c, _ = slotChange(t, frozen, room, head, 2)
	if _, err := frozen.Commit(t.Context(), c); err != nil {
		t.Errorf("it can't go on: %v", err)
	}
}
