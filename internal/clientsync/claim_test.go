package clientsync

import (
	"testing"

	"stoa/internal/store/storetest"
	"stoa/internal/timeline"
)

// Of several answers that want the same member, one reads and the others know whom to wait for.
func TestMembers_are_read_by_one(t *testing.T) {
	t.Parallel()
	h := New(Options{Store: storetest.SQLite(t)})
	k := &work{h: h, plan: &plan{}}
	e := &entry{span: span{num: 1}}
	alice, bob := wantedMember{e: e, userID: "@alice:stoa.test"}, wantedMember{e: e, userID: "@bob:stoa.test"}
	look := func(who ...wantedMember) (missing []int, busy <-chan struct{}) {
		return k.keptMembers(who, make([]*timeline.Event, len(who)))
	}
	missing, busy := look(alice)
	if len(missing) != 1 || busy != nil {
		t.Fatalf("before anybody reads: %d missing, busy %v", len(missing), busy != nil)
	}
	done := h.claim([]wantedMember{alice}, missing)
	if _, busy := look(bob); busy != nil {
		t.Error("somebody is said to read a member whom nobody reads")
	}
	missing, busy = look(bob, alice)
	if len(missing) != 2 || busy == nil {
		t.Fatalf("while one is read: %d missing, busy %v", len(missing), busy != nil)
	}
	second := h.claim([]wantedMember{bob, alice}, missing)
	second() // ends its own claim only
	if _, still := look(alice); still == nil {
		t.Error("the end of another read ended the claim")
	}
	done()
	select {
	case <-busy:
	default:
		t.Error("who waits is not told that it has been read")
	}
	if _, busy := look(alice, bob); busy != nil {
		t.Error("a claim is left over")
	}
}
