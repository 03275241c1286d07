package clientsync_test

import (
	"stoa/internal/clientsync/synctest"
	"testing"
)

func TestSync(t *testing.T) {
	t.Parallel()
	t.Run("a message arrives at who waits", func(t *testing.T) {
		t.Parallel()
		synctest.OnBothEngines(t, func(h *synctest.Server) {
			alice, bob := h.Client("alice"), h.Client("bob")
			r := alice.Create()
			bob.Join(r)
			bob.Sync("")
			got := make(chan synctest.Answer)
			go func() {
				a, err := bob.TrySync(h.T.Context(), "", synctest.Waiting)
				if err != nil {
					h.T.Error(err)
				}
				got <- a
			}()
			alice.Say(r, "hello")
			a := <-got
			synctest.Equal(h.T, "timeline", a.Rooms.Join[r.String()].Timeline.Bodies(), []string{"hello"})
			if a.Rooms.Join[r.String()].Timeline.Limited {
				h.T.Error("limited")
			}
		})
	})
	t.Run("an initial sync has the newest events and the state before them", func(t *testing.T) {
		t.Parallel()
		synctest.OnBothEngines(t, func(h *synctest.Server) {
			alice := h.Client("alice")
			r := alice.Create()
			alice.Set(r, "m.room.topic", "", `{"topic":"old"}`)
			alice.Say(r, "one")
			alice.Set(r, "m.room.topic", "", `{"topic":"new"}`)
			alice.Say(r, "two")
			a := alice.Sync(`{"room":{"timeline":{"limit":2}}}`)
			room := a.Rooms.Join[r.String()]
			synctest.Equal(h.T, "timeline", room.Timeline.Names(), []string{"m.room.topic", "m.room.message"})
			if !room.Timeline.Limited {
				h.T.Error("not limited")
			}
			if topic := room.State.Find("m.room.topic", ""); topic == nil || topic.Content["topic"] != "old" {
				h.T.Errorf("state has topic %v", topic)
			}
			if room.State.Find("m.room.create", "") == nil || room.State.Find("m.room.member", alice.UserID.String()) == nil {
				h.T.Errorf("state is %v", room.State.Names())
			}
			prev := room.Timeline.Events[0].Unsigned
			if prev.PrevContent["topic"] != "old" || prev.ReplacesState == "" || prev.Membership != "join" {
				h.T.Errorf("unsigned is %+v", prev)
			}
		})
	})
}
