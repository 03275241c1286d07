package room_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
	"stoa/matrix/roomversion"
)

// content is the content of one entry of a room's state.
func (h *fixture) content(viewer id.UserID, roomID id.RoomID, evType, stateKey string) map[string]any {
	h.t.Helper()
	view, err := h.StateEvent(h.t.Context(), viewer, roomID, evType, stateKey)
	if err != nil {
		h.t.Fatalf("%s of %s: %v", evType, roomID, err)
	}
	var content map[string]any
	if err := json.Unmarshal(view.PDU.Content(), &content); err != nil {
		h.t.Fatal(err)
	}
	return content
}

func TestUpgrade_from_and_to_every_version(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		h := newFixture(t, open())
		alice, bob := user(t, "alice"), user(t, "bob")
		for _, from := range roomversion.All() {
			for _, to := range []string{"1", "6", "10", "11", "12"} {
				t.Run(fmt.Sprintf("%s to %s", from.Version, to), func(t *testing.T) {
					roomID := h.create(alice, func(r *room.CreateRequest) {
						r.Version, r.Name = from.Version, "hall"
						r.CreationContent = json.RawMessage(`{"type":"m.space"}`)
						r.Published = true
					})
					h.join(roomID, bob)
					_, err := h.Upgrade(t.Context(), room.UpgradeRequest{RoomID: roomID, Sender: bob, Version: to})
					refusedWith(t, err, mxerr.CodeForbidden)
					next, err := h.Upgrade(t.Context(), room.UpgradeRequest{
						RoomID: roomID, Sender: alice, Version: to, AdditionalCreators: []id.UserID{bob},
					})
					if err != nil {
						t.Fatal(err)
					}
					if got := h.content(alice, roomID, "m.room.tombstone", "")["replacement_room"]; got != next.String() {
						t.Errorf("tombstone leads to %v, not %s", got, next)
					}
					create := h.content(alice, next, "m.room.create", "")
					if p, _ := create["predecessor"].(map[string]any); p["room_id"] != roomID.String() || create["type"] != "m.space" {
						t.Errorf("create event of the new room is %v", create)
					}
					if got := h.content(alice, next, "m.room.name", "")["name"]; got != "hall" {
						t.Errorf("name is %v", got)
					}
					_, err = h.Send(t.Context(), message(roomID, bob, "still here?"))
					refusedWith(t, err, mxerr.CodeForbidden)
					h.join(next, bob)
					h.say(next, bob, "here")
					h.set(next, alice, "m.room.topic", "", `{"topic":"new"}`)
					if to == "12" {
						h.set(next, bob, "m.room.name", "", `{"name":"bob may, as a creator"}`)
					}
				})
			}
		}
	})
}
