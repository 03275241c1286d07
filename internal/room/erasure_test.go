package room_test

import (
	"testing"
	"time"

	"stoa/internal/account"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
	"stoa/matrix/id"
)

func TestErasure_hides_events_from_who_was_not_there_and_leaves_all_rooms(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		h := newFixture(t, open())
		accounts := account.New(account.Options{
			Store: h.store, ServerName: h.ServerName(), RoomsWait: time.Minute,
			Hasher: account.NewHasher(account.Cost{MemoryKiB: 64, Passes: 1, Threads: 1}, 1),
		})
		alice, bob, carol := user(t, "alice"), user(t, "bob"), user(t, "carol")
		if _, err := accounts.Register(t.Context(), account.Registration{Username: "alice"}); err != nil {
			t.Fatal(err)
		}
		roomID := h.create(bob)
		h.join(roomID, alice)
		invitedTo := h.create(bob)
		if err := h.Invite(t.Context(), room.MembershipRequest{RoomID: invitedTo, Sender: bob, Target: alice}); err != nil {
			t.Fatal(err)
		}
		eventID := h.say(roomID, alice, "secret")

		h.work(h.Jobs())
		if err := accounts.Deactivate(t.Context(), alice, true, nil); err != nil {
			t.Fatal(err)
		}
		h.join(roomID, carol)

		body := func(viewer id.UserID) string {
			t.Helper()
			view, err := h.Event(t.Context(), viewer, roomID, eventID)
			if err != nil {
				t.Fatal(err)
			}
			return bodyOf(t, view.PDU.Content())
		}
		if got := body(bob); got != "secret" {
			t.Errorf("who had the event sees %q", got)
		}
		if got := body(carol); got != "" {
			t.Errorf("who came after the erasure sees %q", got)
		}
		h.read(func(r *store.Read) error {
			num, err := h.store.UserNum(r, alice.String())
			if err != nil {
				return err
			}
			rows, err := roomdb.Memberships(r, num, 0, 10)
			if len(rows) != 2 {
				t.Errorf("%d memberships", len(rows))
			}
			for _, m := range rows {
				if m.Membership != roomdb.Leave {
					t.Errorf("alice is still %v in a room", m.Membership)
				}
			}
			return err
		})
	})
}
