package peers

import (
	"os/exec"
	"testing"
)

// jsClient is one matrix-js-sdk client.
type jsClient struct{ *driver }

func newJSClient(t *testing.T, name string) *jsClient {
	t.Helper()
	cmd := exec.Command(node, "driver.mjs")
	cmd.Dir = nodeDir
	return &jsClient{newDriver(t, name, cmd)}
}

// session is what a login or a registration gives.
type session struct {
	UserID      string `json:"userId"`
	DeviceID    string `json:"deviceId"`
	AccessToken string `json:"accessToken"`
}

// newJSUser registers a user whose client has cross-signing, secret storage and a key backup.
func newJSUser(t *testing.T, server *server, username string) (c *jsClient, userID, recoveryKey string) {
	t.Helper()
	return newJSUserSyncing(t, server, username, 0)
}

// newJSUserSyncing has the user's client use sliding sync with a list of so many rooms, unless that is 0.
func newJSUserSyncing(t *testing.T, server *server, username string, sliding int) (c *jsClient, userID, recoveryKey string) {
	t.Helper()
	c = newJSClient(t, username)
	var s session
	c.call("register", map[string]any{"baseUrl": server.URL(), "username": username, "password": password}, &s)
	c.startSyncing(server.URL(), s, "", sliding)
	var keys struct {
		RecoveryKey string `json:"recoveryKey"`
		Ready       bool   `json:"ready"`
	}
	c.call("bootstrap", map[string]any{"username": username, "password": password}, &keys)
	if !keys.Ready {
		t.Fatalf("the cross-signing of %s is not ready after its set-up", username)
	}
	return c, s.UserID, keys.RecoveryKey
}

func (c *jsClient) start(url string, s session, recovery string) {
	c.t.Helper()
	c.startSyncing(url, s, recovery, 0)
}

func (c *jsClient) startSyncing(url string, s session, recovery string, sliding int) {
	c.t.Helper()
	c.call("start", map[string]any{"baseUrl": url, "userId": s.UserID, "deviceId": s.DeviceID, "accessToken": s.AccessToken, "recovery": recovery, "sliding": sliding}, nil)
}

func (c *jsClient) send(roomID string, content map[string]any) string {
	c.t.Helper()
	return c.sendType(roomID, "m.room.message", content)
}

func (c *jsClient) sendType(roomID, eventType string, content map[string]any) string {
	c.t.Helper()
	var sent struct {
		EventID string `json:"eventId"`
	}
	c.call("send", map[string]any{"roomId": roomID, "type": eventType, "content": content}, &sent)
	return sent.EventID
}

// shownEvent is an event as the library shows it to a person.
type shownEvent struct {
	EventID   string         `json:"event_id"`
	Sender    string         `json:"sender"`
	Type      string         `json:"type"`
	Encrypted bool           `json:"encrypted"`
	Failed    bool           `json:"failed"`
	Redacted  bool           `json:"redacted"`
	Content   map[string]any `json:"content"`
	Edited    map[string]any `json:"edited"`
}

func (c *jsClient) see(eventID string, want map[string]any) shownEvent {
	c.t.Helper()
	args := map[string]any{"eventId": eventID}
	for k, v := range want {
		args[k] = v
	}
	var shown shownEvent
	c.call("see", args, &shown)
	return shown
}
