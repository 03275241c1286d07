package room_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

func TestCreate_bounds_one_request(t *testing.T) {
	t.Parallel()
	h := newFixture(t, storetest.SQLite(t))
	alice := user(t, "alice")
	people := func(n int) (list []id.UserID) {
		for i := range n {
			list = append(list, user(t, fmt.Sprintf("u%d", i)))
		}
		return list
	}
	creators := func(n int) json.RawMessage {
		var list []string
		for _, u := range people(n) {
			list = append(list, `"`+u.String()+`"`)
		}
		return json.RawMessage(`{"additional_creators":[` + strings.Join(list, ",") + `]}`)
	}
	state := func(n int) (list []room.StateEvent) {
		for i := range n {
			list = append(list, room.StateEvent{Type: "org.example", StateKey: fmt.Sprint(i), Content: json.RawMessage(`{}`)})
		}
		return list
	}
	for name, req := range map[string]room.CreateRequest{
		"invitations":      {Invite: people(501)},
		"initial_state":    {InitialState: state(101)},
		"creators":         {Version: "12", CreationContent: creators(51)},
		"trusted_creators": {Version: "12", Preset: room.PresetTrustedPrivateChat, Invite: people(51)},
	} {
		req.Creator = alice
		_, err := h.Create(t.Context(), req)
		if !mxerr.Is(err, mxerr.CodeInvalidParam) {
			t.Errorf("too many %s: %v", name, err)
		}
	}
	h.create(alice, func(r *room.CreateRequest) { r.Version, r.CreationContent = "12", creators(50) })
}

// The largest allowed request succeeds, and costs no more for each event than a small
// room.
func TestCreate_with_all_that_one_request_may_ask_for(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		h := newFixture(t, open())
		alice := user(t, "alice")
		roomID := h.create(alice, func(r *room.CreateRequest) {
			levels := map[string]int{}
			for i := range 1000 {
				levels[user(t, fmt.Sprintf("power%d", i)).String()] = 10
			}
			var err error
			if r.PowerLevels, err = json.Marshal(map[string]any{"users": levels}); err != nil {
				t.Fatal(err)
			}
			for i := range 500 {
				r.Invite = append(r.Invite, user(t, fmt.Sprintf("u%d", i)), user(t, fmt.Sprintf("u%d", i)))
			}
			r.Invite = r.Invite[:500]
			for i := range 100 {
				content := json.RawMessage(`{"x":"` + strings.Repeat("x", 5000) + `"}`)
				r.InitialState = append(r.InitialState, room.StateEvent{Type: "org.example", StateKey: fmt.Sprint(i), Content: content})
			}
		})
		h.say(roomID, alice, "hello")
	})
}
