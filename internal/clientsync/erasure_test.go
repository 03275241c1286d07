package clientsync_test

import (
	"testing"

	"stoa/internal/store"
	"stoa/internal/store/userdb"
)

func TestSync_redacts_erased_users_for_who_was_not_there(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *house) {
		alice, bob, carol := h.person("alice"), h.person("bob"), h.person("carol")
		r := bob.create()
		alice.join(r)
		alice.say(r, "secret")
		alice.leave(r)
		c := store.NewChange()
		userdb.Erase(c, alice.UserNum)
		if _, err := h.store.Commit(h.t.Context(), c); err != nil {
			h.t.Fatal(err)
		}
		bob.say(r, "hello")
		carol.join(r)

		equal(h.t, "timeline of who was there", bob.sync("").Rooms.Join[r.String()].Timeline.bodies(), []string{"secret", "hello"})
		events := carol.sync("").Rooms.Join[r.String()].Timeline.Events
		var bodies []any
		for _, e := range events {
			if e.Type == "m.room.message" {
				bodies = append(bodies, e.Content["body"])
			}
		}
		equal(h.t, "timeline of who came later", bodies, []any{nil, "hello"})
	})
}
