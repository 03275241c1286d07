package peers

import (
	"testing"

	"maunium.net/go/mautrix/id"
)

// TestDehydratedDevice has a message sent while its recipient is logged out everywhere: only the dehydrated device that
// matrix-js-sdk left on the server can receive its key.
func TestDehydratedDevice(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.meet()
	ctx := t.Context()
	var dry struct {
		DeviceID id.DeviceID `json:"deviceId"`
	}
	p.ada.call("dehydrate", nil, &dry)
	p.ada.call("logout", nil, nil)
	devices, err := p.bob.cry.Machine().FetchKeys(ctx, []id.UserID{id.UserID(p.adaID)}, true)
	if err != nil {
		t.Fatal(err)
	}
	if got := devices[id.UserID(p.adaID)]; len(got) != 1 || got[dry.DeviceID] == nil {
		t.Fatalf("bob sees the devices %v of ada, want the dehydrated %s alone", got, dry.DeviceID)
	}
	sent := p.bob.say(p.room, "while you were out")

	again := newJSClient(t, "ada's next device")
	var s session
	again.call("login", map[string]any{"baseUrl": p.server.URL(), "username": "ada", "password": password}, &s)
	again.start(p.server.URL(), s, p.recovery)
	again.call("recover", map[string]any{"username": "ada", "password": password}, nil)
	var woken struct {
		Keys     int  `json:"keys"`
		Replaced bool `json:"replaced"`
	}
	again.call("rehydrate", nil, &woken)
	if woken.Keys != 1 || !woken.Replaced {
		t.Errorf("the dehydrated device received %d keys (replaced afterwards: %v), want 1", woken.Keys, woken.Replaced)
	}
	again.see(sent, map[string]any{"body": "while you were out"})
}
