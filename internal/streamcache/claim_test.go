package streamcache

import (
	"testing"

	"stoa/internal/store/storetest"
)

// Of several answers that want the same member, one reads and the others know whom to wait for.
func TestMembers_are_read_by_one(t *testing.T) {
	t.Parallel()
	h := New(Options{Store: storetest.SQLite(t)})
	alice, bob := MemberAt{Room: 1, UserID: "@alice:stoa.test"}, MemberAt{Room: 1, UserID: "@bob:stoa.test"}
	look := func(who ...MemberAt) (missing []int, busy <-chan struct{}) {
		_, missing, busy = h.Kept().Members(who, 0)
		return missing, busy
	}
	missing, busy := look(alice)
	if len(missing) != 1 || busy != nil {
		t.Fatalf("before anybody reads: %d missing, busy %v", len(missing), busy != nil)
	}
	done := h.Kept().ClaimMembers([]MemberAt{alice}, missing)
	if _, busy := look(bob); busy != nil {
		t.Error("somebody is said to read a member whom nobody reads")
	}
	missing, busy = look(bob, alice)
	if len(missing) != 2 || busy == nil {
		t.Fatalf("while one is read: %d missing, busy %v", len(missing), busy != nil)
	}
	second := h.Kept().ClaimMembers([]MemberAt{bob, alice}, missing)
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
