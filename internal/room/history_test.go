package room_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"stoa/internal/history"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
	"stoa/internal/token"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// pages reads the whole history page by page and returns the event IDs in order.
func (h *fixture) pages(viewer id.UserID, roomID id.RoomID, dir history.Direction, size int) []id.EventID {
	h.t.Helper()
	var all []id.EventID
	q := history.HistoryQuery{Dir: dir, Limit: size}
	for range 10_000 {
		page, err := h.Messages(h.t.Context(), viewer, roomID, q)
		if err != nil {
			h.t.Fatal(err)
		}
		if len(page.Events) > size {
			h.t.Fatalf("page of %d events, asked for %d", len(page.Events), size)
		}
		for _, e := range page.Events {
			all = append(all, e.PDU.EventID())
		}
		if !page.HasEnd {
			return all
		}
		q.From = &token.Token{Timeline: page.End, IsTimeline: true}
	}
	h.t.Fatal("the history does not end")
	return nil
}

func TestMessages_give_each_event_once_at_every_page_size(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		h := newFixture(t, open())
		alice := user(t, "alice")
		roomID := h.create(alice)
		var mu sync.Mutex // guards sent
		sent := map[id.EventID]bool{}
		var wg sync.WaitGroup
		for i := range 8 {
			sender := user(t, fmt.Sprintf("user%d", i))
			h.join(roomID, sender)
			wg.Go(func() {
				for n := range 12 {
					eventID := h.say(roomID, sender, fmt.Sprint(n))
					mu.Lock()
					sent[eventID] = true
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		want := h.pages(alice, roomID, history.Backwards, 1000)
		for eventID := range sent {
			if !slices.Contains(want, eventID) {
				t.Fatalf("%s is lost", eventID)
			}
		}
		for size := 1; size <= len(want)+1; size++ {
			if size > 30 && size%17 != 0 && size < len(want)-1 {
				continue
			}
			back := h.pages(alice, roomID, history.Backwards, size)
			if !slices.Equal(back, want) {
				t.Fatalf("backwards by %d: %d events, want %d", size, len(back), len(want))
			}
			on := h.pages(alice, roomID, history.Forwards, size)
			slices.Reverse(on)
			if !slices.Equal(on, want) {
				t.Fatalf("forwards by %d: %d events, want %d", size, len(on), len(want))
			}
		}
	})
}

// bodies are the bodies of all messages that a viewer can page back to, oldest first.
func (h *fixture) bodies(viewer id.UserID, roomID id.RoomID) []string {
	h.t.Helper()
	page, err := h.Messages(h.t.Context(), viewer, roomID, history.HistoryQuery{Dir: history.Forwards, Limit: 1000})
	if err != nil {
		h.t.Fatal(err)
	}
	var all []string
	for _, e := range page.Events {
		if e.PDU.Type() == "m.room.message" {
			all = append(all, bodyOf(h.t, e.PDU.Content()))
		}
	}
	return all
}

func TestMessages_show_what_the_visibility_of_its_time_allows(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		h := newFixture(t, open())
		alice, bob, carol := user(t, "alice"), user(t, "bob"), user(t, "carol")
		roomID := h.create(alice)
		visibility := func(v string) {
			h.set(roomID, alice, "m.room.history_visibility", "", `{"history_visibility":"`+v+`"}`)
		}
		h.say(roomID, alice, "shared")
		visibility("invited")
		h.say(roomID, alice, "before the invite")
		if err := h.Invite(t.Context(), room.MembershipRequest{RoomID: roomID, Sender: alice, Target: bob}); err != nil {
			t.Fatal(err)
		}
		h.say(roomID, alice, "after the invite")
		visibility("joined")
		h.say(roomID, alice, "before the join")
		h.join(roomID, bob)
		h.say(roomID, alice, "after the join")
		if err := h.Leave(t.Context(), room.MembershipRequest{RoomID: roomID, Sender: bob}); err != nil {
			t.Fatal(err)
		}
		h.say(roomID, alice, "after leaving")

		if got, want := h.bodies(bob, roomID), []string{"shared", "after the invite", "after the join"}; !slices.Equal(got, want) {
			t.Errorf("bob sees %q, want %q", got, want)
		}
		_, err := h.Messages(t.Context(), carol, roomID, history.HistoryQuery{Limit: 10})
		refusedWith(t, err, mxerr.CodeForbidden)

		visibility("world_readable")
		h.say(roomID, alice, "for all")
		if got, want := h.bodies(carol, roomID), []string{"for all"}; !slices.Equal(got, want) {
			t.Errorf("carol sees %q, want %q", got, want)
		}
		if err := h.Forget(t.Context(), roomID, bob); err != nil {
			t.Fatal(err)
		}
		visibility("shared")
		_, err = h.Messages(t.Context(), bob, roomID, history.HistoryQuery{Limit: 10})
		refusedWith(t, err, mxerr.CodeForbidden)
	})
}
