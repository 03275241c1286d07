package clientsync_test

import (
	"slices"
	"testing"
)

func equal[T comparable](t testing.TB, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestSync(t *testing.T) {
	t.Parallel()
	t.Run("a message arrives at who waits", func(t *testing.T) {
		t.Parallel()
		onBothEngines(t, func(h *house) {
			alice, bob := h.person("alice"), h.person("bob")
			r := alice.create()
			bob.join(r)
			bob.sync("")
			got := make(chan answer)
			go func() {
				a, err := bob.trySync(h.t.Context(), "", waiting)
				if err != nil {
					h.t.Error(err)
				}
				got <- a
			}()
			alice.say(r, "hello")
			a := <-got
			equal(h.t, "timeline", a.Rooms.Join[r.String()].Timeline.bodies(), []string{"hello"})
			if a.Rooms.Join[r.String()].Timeline.Limited {
				h.t.Error("limited")
			}
		})
	})
	t.Run("an initial sync has the newest events and the state before them", func(t *testing.T) {
		t.Parallel()
		onBothEngines(t, func(h *house) {
			alice := h.person("alice")
			r := alice.create()
			alice.set(r, "m.room.topic", "", `{"topic":"old"}`)
			alice.say(r, "one")
			alice.set(r, "m.room.topic", "", `{"topic":"new"}`)
			alice.say(r, "two")
			a := alice.sync(`{"room":{"timeline":{"limit":2}}}`)
			room := a.Rooms.Join[r.String()]
			equal(h.t, "timeline", room.Timeline.names(), []string{"m.room.topic", "m.room.message"})
			if !room.Timeline.Limited {
				h.t.Error("not limited")
			}
			if topic := room.State.find("m.room.topic", ""); topic == nil || topic.Content["topic"] != "old" {
				h.t.Errorf("state has topic %v", topic)
			}
			if room.State.find("m.room.create", "") == nil || room.State.find("m.room.member", alice.UserID.String()) == nil {
				h.t.Errorf("state is %v", room.State.names())
			}
			prev := room.Timeline.Events[0].Unsigned
			if prev.PrevContent["topic"] != "old" || prev.ReplacesState == "" || prev.Membership != "join" {
				h.t.Errorf("unsigned is %+v", prev)
			}
		})
	})
}
