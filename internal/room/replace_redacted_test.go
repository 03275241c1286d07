package room_test

import (
	"strings"
	"testing"
	"time"

	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
)

func TestReplaceRedacted_drops_the_bytes_when_they_are_due(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		h := newFixture(t, open())
		alice := user(t, "alice")
		roomID := h.create(alice)
		secret := h.say(roomID, alice, "secret")
		if _, err := h.Redact(t.Context(), room.RedactRequest{RoomID: roomID, Sender: alice, EventID: secret}); err != nil {
			t.Fatal(err)
		}
		keepsSecret := func() bool {
			var kept bool
			h.read(func(read *store.Read) error {
				e, err := roomdb.EventByID(read, secret.String())
				kept = strings.Contains(string(e.Bytes), "secret")
				return err
			})
			return kept
		}
		if n, err := h.ReplaceRedacted(t.Context()); n != 0 || err != nil || !keepsSecret() {
			t.Errorf("at once: %d replaced, %v", n, err)
		}
		h.clock.Add((8 * 24 * time.Hour).Milliseconds())
		if n, err := h.ReplaceRedacted(t.Context()); n != 1 || err != nil || keepsSecret() {
			t.Errorf("after 8 days: %d replaced, %v", n, err)
		}
		if n, err := h.ReplaceRedacted(t.Context()); n != 0 || err != nil {
			t.Errorf("again: %d replaced, %v", n, err)
		}
		view, err := h.Event(t.Context(), alice, roomID, secret)
		if err != nil || view.RedactedBy == nil || view.PDU.EventID() != secret {
			t.Errorf("the event is %+v, %v", view, err)
		}
	})
}
