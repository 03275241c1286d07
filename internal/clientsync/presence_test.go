package clientsync_test

import (
	"fmt"
	"testing"
	"time"

	"stoa/internal/clientsync"
	"stoa/internal/store"
	"stoa/matrix/id"
)

func TestPresence_is_told_in_rooms_that_are_not_too_large(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *house) {
		alice, bob, late := h.person("alice"), h.person("member0"), h.person("late")
		h.fill(alice, 1, store.PresenceRoom-1)
		told := func(what string, got, want int) {
			t.Helper()
			if got != want {
				t.Errorf("%s: presence of %d, not of %d", what, got, want)
			}
		}
		states := 0
		change := func() {
			states++
			status := fmt.Sprint(states)
			bob.commit(func(c *store.Change) {
				c.SetPresence(store.Presence{User: bob.UserNum, UserID: bob.UserID.String(), Presence: "online", StatusMsg: &status, ActiveTS: 1})
			})
		}
		change()
		told("at first", len(alice.sync("").Presence.Events), 1)
		change()
		told("of a change", len(alice.sync("").Presence.Events), 1)

		rooms := alice.sync("", func(r *clientsync.Request) { r.Since = nil }).Rooms.Join
		for name := range rooms {
			r, err := id.ParseRoomID(name)
			alice.must(err)
			late.join(r)
		}
		alice.sync("")
		change()
		told("of a change in a large room", len(alice.sync("").Presence.Events), 0)
		fresh := alice.sync("", func(r *clientsync.Request) { r.Since = nil })
		told("at first in a large room", len(fresh.Presence.Events), 0)
	}, func(o *clientsync.Options) {
		o.Sections = []clientsync.Section{clientsync.PresenceEvents{Clock: time.Now}}
	})
}
