package auth

import (
	"strconv"
	"strings"
	"testing"

	"stoa/internal/store"
	"stoa/internal/who"
	"stoa/matrix/id"
)

func TestSessions(t *testing.T) {
	t.Parallel()
	put := func(s *Sessions, token string, user store.UserNum) {
		s.add(s.begin(), HashOf(token), &session{Caller: who.Caller{Device: who.Device{User: who.User{UserNum: user}}}})
	}
	has := func(s *Sessions, token string) bool { return s.find(HashOf(token)) != nil }

	t.Run("remember_until_dropped", func(t *testing.T) {
		t.Parallel()
		s := NewSessions()
		put(s, "a1", 1)
		put(s, "a2", 1)
		put(s, "b1", 2)
		s.Drop(1)
		if has(s, "a1") || has(s, "a2") || !has(s, "b1") {
			t.Fatal("a drop takes a user's sessions, and no others")
		}
		s.DropAll()
		if has(s, "b1") || len(s.byUser) != 0 {
			t.Fatal("something is left")
		}
	})
	t.Run("take_nothing_that_was_read_before_a_drop", func(t *testing.T) {
		t.Parallel()
		s := NewSessions()
		before := s.begin()
		s.Drop(1)
		s.add(before, HashOf("a1"), &session{Caller: who.Caller{Device: who.Device{User: who.User{UserNum: 1}}}})
		if has(s, "a1") {
			t.Fatal("a stale session came in")
		}
	})
	t.Run("follow_the_stream", func(t *testing.T) {
		t.Parallel()
		s := NewSessions()
		put(s, "a1", 1)
		put(s, "b1", 2)
		s.Follow([]store.StreamRow{
			{OwnerKind: store.OwnerUser, Owner: 1, Kind: store.KindAccount},
			{OwnerKind: store.OwnerUser, Owner: 2, Kind: store.KindAccountData},
			{OwnerKind: store.OwnerRoom, Owner: 2, Kind: store.KindTimeline},
		})
		if has(s, "a1") || !has(s, "b1") {
			t.Fatal("the wrong ones were dropped")
		}
	})
	t.Run("are_bounded", func(t *testing.T) {
		t.Parallel()
		s := NewSessions()
		s.maxBytes = 10 * 1350
		for i := range 100 {
			device := id.DeviceID(strings.Repeat("D", 1000))
			s.add(s.begin(), HashOf(strconv.Itoa(i)), &session{Caller: who.Caller{Device: who.Device{User: who.User{UserNum: store.UserNum(i % 7)}, DeviceID: device}}})
		}
		kept := 0
		for _, tokens := range s.byUser {
			kept += len(tokens)
		}
		if len(s.byToken) != 10 || kept != 10 || s.bytes != s.maxBytes {
			t.Fatalf("%d by token, %d by user, %d bytes", len(s.byToken), kept, s.bytes)
		}
		if s.DropAll(); s.bytes != 0 {
			t.Fatalf("an empty cache counts %d bytes", s.bytes)
		}
	})
}
