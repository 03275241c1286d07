package peers

import (
	"os/exec"
	"path/filepath"
	"testing"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// debianPython has matrix-nio of the Debian package python3-matrix-nio; a python3 that stands before it in PATH may not.
const debianPython = "/usr/bin/python3"

// nioClient is one matrix-nio client.
type nioClient struct{ *driver }

func newNioClient(t *testing.T, name string) *nioClient {
	t.Helper()
	return &nioClient{newDriver(t, name, exec.Command(debianPython, filepath.Join("nio", "driver.py")))}
}

func (c *nioClient) login(url, user string) {
	c.t.Helper()
	c.call("login", map[string]any{"base_url": url, "user": user, "password": password}, nil)
	c.call("ready", nil, nil)
}

func (c *nioClient) send(roomID, body string) string {
	c.t.Helper()
	var sent struct {
		EventID string `json:"eventId"`
	}
	c.call("send", map[string]any{"roomId": roomID, "body": body}, &sent)
	return sent.EventID
}

// reads waits for a message and checks that it was encrypted and says body.
func (c *nioClient) reads(eventID, body string) {
	c.t.Helper()
	var shown shownEvent
	c.call("see", map[string]any{"eventId": eventID}, &shown)
	if !shown.Encrypted || shown.Failed || shown.Content["body"] != body {
		c.t.Fatalf("%s reads %+v, want %q encrypted", c.name, shown, body)
	}
}

// reads waits for a message and checks that it was encrypted and says body.
func (c *goClient) reads(eventID, body string) {
	c.t.Helper()
	if got := c.see(eventID); got.Content.AsMessage().Body != body || !got.Mautrix.WasEncrypted {
		c.t.Fatalf("%s reads %q (encrypted: %v), want %q encrypted", c.cli.UserID, got.Content.AsMessage().Body, got.Mautrix.WasEncrypted, body)
	}
}

func (c *goClient) say(roomID, body string) string {
	c.t.Helper()
	return c.send(id.RoomID(roomID), event.EventMessage, &event.MessageEventContent{MsgType: event.MsgText, Body: body})
}

// TestNio takes matrix-nio 0.20 through registration, login, an encrypted room, messages both ways, and a second device,
// which reads what is new by itself and the history with the keys of the first.
func TestNio(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	bob := newGoClient(t, server.URL(), "bob", password)
	ada := newNioClient(t, "ada")
	var session session
	ada.call("register", map[string]any{"base_url": server.URL(), "username": "ada", "password": password}, &session)
	ada.call("ready", nil, nil)

	var made struct {
		RoomID string `json:"roomId"`
	}
	ada.call("createRoom", map[string]any{"invite": []string{bob.cli.UserID.String()}}, &made)
	room := made.RoomID
	bob.join(id.RoomID(room))
	ada.call("member", map[string]any{"roomId": room, "userId": bob.cli.UserID.String()}, nil)

	said := map[string]string{}
	first := ada.send(room, "hello bob")
	said[first] = "hello bob"
	bob.reads(first, "hello bob")
	answer := bob.say(room, "hello ada")
	said[answer] = "hello ada"
	ada.reads(answer, "hello ada")

	second := newNioClient(t, "ada's second device")
	second.login(server.URL(), "ada")
	fromSecond := second.send(room, "from my second device")
	bob.reads(fromSecond, "from my second device")
	ada.reads(fromSecond, "from my second device")
	toBoth := bob.say(room, "to both devices")
	ada.reads(toBoth, "to both devices")
	second.reads(toBoth, "to both devices")
	fromFirst := ada.send(room, "from my first device")
	second.reads(fromFirst, "from my first device")
	bob.reads(fromFirst, "from my first device")

	keys := map[string]any{"file": filepath.Join(t.TempDir(), "keys"), "passphrase": "open sesame"}
	ada.call("exportKeys", keys, nil)
	second.call("importKeys", keys, nil)
	var history struct {
		Events []shownEvent `json:"events"`
	}
	second.call("history", map[string]any{"roomId": room}, &history)
	for _, e := range history.Events {
		if body, ok := said[e.EventID]; ok && e.Encrypted && !e.Failed && e.Content["body"] == body {
			delete(said, e.EventID)
		}
	}
	if len(said) > 0 {
		t.Errorf("the second device can't read %v in its history: %+v", said, history.Events)
	}
}
