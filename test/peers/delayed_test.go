package peers

import (
	"slices"
	"testing"
	"time"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// TestDelayedEvents has matrix-js-sdk schedule events as a call does: one that is sent by itself, one that is cancelled,
// and a state event that is put off and then sent at once.
func TestDelayedEvents(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	ada, _, _ := newJSUser(t, server, "ada")
	bob := newGoClient(t, server.URL(), "bob", password)
	versions, err := bob.cli.Versions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !versions.UnstableFeatures["org.matrix.msc4140"] {
		t.Skip("not run: the server does not say that it has delayed events, so the library refuses to use them")
	}
	var made struct {
		RoomID string `json:"roomId"`
	}
	ada.call("createRoom", map[string]any{"encrypted": false, "invite": []string{bob.cli.UserID.String()}}, &made)
	room := id.RoomID(made.RoomID)
	bob.until("an invite", func() bool { return bob.invites[room] })
	if _, err := bob.cli.JoinRoomByID(t.Context(), room); err != nil {
		t.Fatal(err)
	}
	later := func(args map[string]any) (delayID string) {
		t.Helper()
		var scheduled struct {
			DelayID string `json:"delayId"`
		}
		args["roomId"] = made.RoomID
		ada.call("sendLater", args, &scheduled)
		return scheduled.DelayID
	}
	do := func(delayID, action string) {
		t.Helper()
		ada.call("later", map[string]any{"delayId": delayID, "action": action}, nil)
	}
	wantScheduled := func(want ...string) {
		t.Helper()
		var got struct {
			DelayIDs []string `json:"delayIds"`
		}
		ada.call("scheduled", nil, &got)
		slices.Sort(got.DelayIDs)
		slices.Sort(want)
		if !slices.Equal(got.DelayIDs, want) {
			t.Fatalf("the server holds %v, want %v", got.DelayIDs, want)
		}
	}
	seen := func(what string, is func(*event.Event) bool) {
		t.Helper()
		bob.until(what, func() bool {
			for _, e := range bob.events {
				if is(e) {
					return true
				}
			}
			return false
		})
	}

	hour := time.Hour.Milliseconds()
	never := later(map[string]any{"type": "m.room.message", "delay": hour, "content": text("never")})
	left := later(map[string]any{"type": "org.example.call.member", "delay": hour, "content": map[string]any{"left": true}, "stateKey": "_ada"})
	wantScheduled(never, left)
	later(map[string]any{"type": "m.room.message", "delay": 100, "content": text("a moment later")})
	seen("the message that was sent later", func(e *event.Event) bool {
		return e.Type == event.EventMessage && e.Content.AsMessage().Body == "a moment later"
	})
	do(never, "cancel")
	do(left, "restart")
	wantScheduled(left)
	do(left, "send")
	seen("the state event", func(e *event.Event) bool {
		return e.Type.Type == "org.example.call.member" && e.GetStateKey() == "_ada" && e.Content.Raw["left"] == true
	})
	wantScheduled()
}
