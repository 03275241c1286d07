package peers

import (
	"fmt"
	"testing"
)

// TestSlidingSync holds the whole conversation with a matrix-js-sdk that uses its own sliding sync, through a kill of the
// server, and then looks at a list that is shorter than the account's rooms.
func TestSlidingSync(t *testing.T) {
	t.Parallel()
	p := newPairSyncing(t, 20)
	p.meet()
	said := p.talk("before")
	p.verify() // after a first message: before, the library has not asked for the other's keys and ignores the request
	p.server.Kill()
	p.server.start()
	for eventID, body := range p.talk("after") {
		said[eventID] = body
	}
	p.readOnFreshDevice(said)

	// Two rooms of six are in the list of another device; then four; and one of the last two by a subscription.
	rooms := []string{p.room}
	for i := range 5 {
		var made struct {
			RoomID string `json:"roomId"`
		}
		p.ada.call("createRoom", map[string]any{"name": fmt.Sprint("room ", i), "encrypted": false}, &made)
		rooms = append(rooms, made.RoomID)
	}
	window := newJSClient(t, "ada's window")
	var s session
	window.call("login", map[string]any{"baseUrl": p.server.URL(), "username": "ada", "password": password}, &s)
	window.startSyncing(p.server.URL(), s, "", 2)
	var shown struct {
		Rooms []string `json:"rooms"`
	}
	window.call("rooms", map[string]any{"count": len(rooms)}, &shown)
	if len(shown.Rooms) != 2 {
		t.Errorf("a list of two rooms shows %v", shown.Rooms)
	}
	window.call("window", map[string]any{"ranges": [][2]int{{0, 3}}, "known": 4}, nil)
	window.call("subscribe", map[string]any{"roomId": p.room}, nil)
	window.call("rooms", map[string]any{"count": len(rooms)}, &shown)
	if len(shown.Rooms) != 5 {
		t.Errorf("a list of four rooms and a subscription show %v", shown.Rooms)
	}
}
