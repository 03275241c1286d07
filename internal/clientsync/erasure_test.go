package clientsync_test

import (
	"testing"

	"stoa/internal/clientsync/synctest"
	"stoa/internal/store"
	"stoa/internal/store/userdb"
)

func TestSync_redacts_erased_users_for_who_was_not_there(t *testing.T) {
	t.Parallel()
	synctest.OnBothEngines(t, func(h *synctest.Server) {
		alice, bob, carol := h.Client("alice"), h.Client("bob"), h.Client("carol")
		r := bob.Create()
		alice.Join(r)
		alice.Say(r, "secret")
		alice.Leave(r)
		c := store.NewChange()
		userdb.Erase(c, alice.UserNum)
		if _, err := h.Store.Commit(h.T.Context(), c); err != nil {
			h.T.Fatal(err)
		}
		bob.Say(r, "hello")
		carol.Join(r)

		synctest.Equal(h.T, "timeline of who was there", bob.Sync("").Rooms.Join[r.String()].Timeline.Bodies(), []string{"secret", "hello"})
		events := carol.Sync("").Rooms.Join[r.String()].Timeline.Events
		var bodies []any
		for _, e := range events {
			if e.Type == "m.room.message" {
				bodies = append(bodies, e.Content["body"])
			}
		}
		synctest.Equal(h.T, "timeline of who came later", bodies, []any{nil, "hello"})
	})
}
