package peers

import (
	"testing"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// TestPushRules changes the rules of a matrix-js-sdk client and compares the server's verdicts, which are the counts of
// unread messages, with the library's.
func TestPushRules(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	ada, adaID, _ := newJSUser(t, server, "ada")
	bob := newGoClient(t, server.URL(), "bob", password)
	var made struct {
		RoomID string `json:"roomId"`
	}
	ada.call("createRoom", map[string]any{"encrypted": false, "invite": []string{bob.cli.UserID.String()}}, &made)
	room := id.RoomID(made.RoomID)
	bob.until("an invite", func() bool { return bob.invites[room] })
	if _, err := bob.cli.JoinRoomByID(t.Context(), room); err != nil {
		t.Fatal(err)
	}
	ada.call("members", map[string]any{"roomId": made.RoomID, "userId": bob.cli.UserID.String()}, nil)

	count := map[bool]int{true: 1}
	says := func(content *event.MessageEventContent, notify, highlight bool) {
		t.Helper()
		eventID := bob.send(room, event.EventMessage, content)
		ada.see(eventID, nil)
		var verdict struct{ Notify, Highlight bool }
		ada.call("pushVerdict", map[string]any{"eventId": eventID}, &verdict)
		if verdict.Notify != notify || verdict.Highlight != highlight {
			t.Fatalf("the library's verdict on %q is %+v, want notify %v, highlight %v", content.Body, verdict, notify, highlight)
		}
		ada.call("counts", map[string]any{"roomId": made.RoomID, "total": count[notify], "highlight": count[highlight]}, nil)
		ada.call("read", map[string]any{"eventId": eventID}, nil)
		ada.call("counts", map[string]any{"roomId": made.RoomID, "total": 0, "highlight": 0}, nil)
	}
	plain := func(body string) *event.MessageEventContent {
		return &event.MessageEventContent{MsgType: event.MsgText, Body: body}
	}
	says(plain("good morning"), true, false)
	says(plain("there is cake"), true, false)
	ada.call("addPushRule", map[string]any{"kind": "content", "ruleId": "cake", "pattern": "cake", "actions": []any{"notify", map[string]any{"set_tweak": "highlight"}}}, nil)
	says(plain("there is more cake"), true, true)
	ada.call("enablePushRule", map[string]any{"kind": "content", "ruleId": "cake", "enabled": false}, nil)
	says(plain("no cake is left"), true, false)
	ada.call("addPushRule", map[string]any{"kind": "room", "ruleId": made.RoomID, "actions": []any{}}, nil)
	says(plain("nobody hears this"), false, false)
	mention := plain("ada?")
	mention.Mentions = &event.Mentions{UserIDs: []id.UserID{id.UserID(adaID)}}
	says(mention, true, true)

	var kept struct {
		Rule struct {
			Pattern string `json:"pattern"`
			Enabled bool   `json:"enabled"`
		} `json:"rule"`
	}
	ada.call("pushRule", map[string]any{"ruleId": "cake"}, &kept)
	if kept.Rule.Pattern != "cake" || kept.Rule.Enabled {
		t.Errorf("the server keeps %+v, want the disabled rule for cake", kept.Rule)
	}
}
