package peers

import (
	"encoding/pem"
	"fmt"
	"io"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"stoa/test/kit"
)

// adaID is the user of all weechats.
const adaID = "@ada:stoa.test"

// serverBuffer is where weechat-matrix shows and takes what belongs to no room.
const serverBuffer = "python.server.stoa"

// weechat is one WeeChat without a screen and with the plugin weechat-matrix. Commands go through its fifo plugin; what
// it shows is read from the log files that it writes of all its buffers.
type weechat struct {
	t    *testing.T
	name string
	dir  string
	fifo *os.File
}

// tlsProxy serves a server with TLS, the only thing that weechat-matrix connects to, and gives its address and the file
// of its certificate.
func tlsProxy(t *testing.T, server *server) (address, certificate string) {
	t.Helper()
	target, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(target))
	proxy.EnableHTTP2 = true // without it, weechat-matrix asks once a second instead of waiting in /sync
	proxy.StartTLS()
	t.Cleanup(func() {
		proxy.CloseClientConnections()
		proxy.Close()
	})
	certificate = filepath.Join(t.TempDir(), "certificate.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: proxy.Certificate().Raw})
	if err := os.WriteFile(certificate, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return proxy.Listener.Addr().String(), certificate
}

// newWeechat starts a WeeChat and connects it.
func newWeechat(t *testing.T, name, address, certificate string) *weechat {
	t.Helper()
	w := &weechat{t: t, name: name, dir: t.TempDir()}
	host, port, _ := strings.Cut(address, ":")
	fifo := filepath.Join(w.dir, "fifo")
	args := []string{"--dir", w.dir}
	for _, command := range []string{
		"/set logger.file.flush_delay 0",
		"/python load matrix.py",
		"/matrix server add stoa " + host,
		"/set matrix.server.stoa.port " + port,
		"/set matrix.server.stoa.username ada",
		"/set matrix.server.stoa.password " + password,
		"/set matrix.server.stoa.autoconnect off",
		"/set fifo.file.path " + fifo,
		"/matrix connect stoa",
	} {
		args = append(args, "--run-command", command)
	}
	cmd := exec.Command("weechat-headless", args...)
	cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+certificate, "PYTHONDONTWRITEBYTECODE=1")
	var output kit.Output
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start weechat-headless (Debian package weechat-headless): %v", err)
	}
	t.Cleanup(func() {
		if w.fifo != nil {
			w.fifo.Close()
		}
		cmd.Process.Kill() // it may be gone already, which is as good
		cmd.Wait()
		if t.Failed() {
			t.Logf("the output of %s:\n%s\nits logs:\n%s", name, lastOf(output.String(), 4000), lastOf(w.shown(), 20000))
		}
	})
	w.until("its fifo", func() bool {
		var err error
		w.fifo, err = os.OpenFile(fifo, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		return err == nil
	})
	w.sees("matrix: Logged in as " + adaID)
	return w
}

// until waits for test to hold. WeeChat writes files and announces nothing: ask again.
func (w *weechat) until(what string, test func() bool) {
	w.t.Helper()
	deadline := time.After(seeWithin)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !test() {
		select {
		case <-tick.C:
		case <-deadline:
			w.t.Fatalf("%s did not see within %v: %s", w.name, seeWithin, what)
		}
	}
}

// shown is what stands in all buffers.
func (w *weechat) shown() string {
	files, _ := filepath.Glob(filepath.Join(w.dir, "logs", "*"))
	var all strings.Builder
	for _, file := range files {
		text, _ := os.ReadFile(file)
		fmt.Fprintf(&all, "== %s\n%s", filepath.Base(file), text)
	}
	return all.String()
}

func (w *weechat) sees(text string) {
	w.t.Helper()
	w.until(fmt.Sprintf("%q", text), func() bool { return strings.Contains(w.shown(), text) })
}

// in types a line into a buffer.
func (w *weechat) in(buffer, line string) {
	w.t.Helper()
	if _, err := io.WriteString(w.fifo, buffer+" *"+line+"\n"); err != nil {
		w.t.Fatalf("%s types %q: %v", w.name, line, err)
	}
}

// TestWeechat takes weechat-matrix 0.3 through login, an encrypted room, messages both ways, and a second device of the
// same user, which reads and writes like the first.
func TestWeechat(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	bob := newGoClient(t, server.URL(), "bob", password)
	register(t, server, "ada")
	address, certificate := tlsProxy(t, server)
	ada := newWeechat(t, "ada", address, certificate)

	room := bob.createRoom()
	if _, err := bob.cli.InviteUser(t.Context(), id.RoomID(room), &mautrix.ReqInviteUser{UserID: adaID}); err != nil {
		t.Fatal(err)
	}
	ada.sees("You have been invited to")
	ada.in(serverBuffer, "/join "+room)
	bob.until("ada in the room", func() bool { return bob.cli.StateStore.IsInRoom(t.Context(), id.RoomID(room), adaID) })

	bob.say(room, "hello ada")
	ada.sees("hello ada")
	ada.open(room)
	ada.trust(bob.cli.DeviceID)
	ada.say(room, "hello bob")
	bob.hears("hello bob")

	second := newWeechat(t, "ada's second device", address, certificate)
	if ada.device() == second.device() {
		t.Fatalf("both of ada's clients are device %s", ada.device())
	}
	second.sees("has joined #peers")
	second.open(room)
	second.trust(bob.cli.DeviceID)
	second.trust(ada.device())
	second.say(room, "from my second device")
	bob.hears("from my second device")
	ada.sees("from my second device")
	bob.say(room, "to both devices")
	ada.sees("to both devices")
	second.sees("to both devices")
	ada.trust(second.device())
	ada.say(room, "from my first device")
	bob.hears("from my first device")
	second.sees("from my first device")
}

func register(t *testing.T, server *server, username string) {
	t.Helper()
	cli, err := mautrix.NewClient(server.URL(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cli.RegisterDummy(t.Context(), &mautrix.ReqRegister[any]{Username: username, Password: password}); err != nil {
		t.Fatalf("register %s: %v", username, err)
	}
}

// createRoom makes an encrypted room.
func (c *goClient) createRoom() (roomID string) {
	c.t.Helper()
	encryption := &event.Event{Type: event.StateEncryption, Content: event.Content{Parsed: &event.EncryptionEventContent{Algorithm: id.AlgorithmMegolmV1}}}
	made, err := c.cli.CreateRoom(c.t.Context(), &mautrix.ReqCreateRoom{Preset: "private_chat", Name: "peers", InitialState: []*event.Event{encryption}})
	if err != nil {
		c.t.Fatal(err)
	}
	c.untilEncrypted(made.RoomID)
	return made.RoomID.String()
}

// open shows a room, which lets the plugin ask for its members.
func (w *weechat) open(roomID string) { w.in("core.weechat", "/buffer "+roomBuffer(roomID)) }

func roomBuffer(roomID string) string { return "python.matrix.stoa." + roomID }

// say types a message into a room, whose devices must all be trusted, and waits until it is shown there. Before the
// plugin has the members, it refuses to encrypt: type again then.
func (w *weechat) say(roomID, text string) {
	w.t.Helper()
	refusals := func() int { return strings.Count(w.shown(), "nio.exceptions.MembersSyncError") }
	typed := -1 // refusals when it was typed last
	w.until("its own "+text, func() bool {
		if strings.Contains(w.shown(), text) {
			return true
		}
		if n := refusals(); n > typed {
			typed = n
			w.in(roomBuffer(roomID), text)
		}
		return false
	})
}

// trust marks a device as verified as soon as the client knows it, and waits for that.
func (w *weechat) trust(device id.DeviceID) {
	w.t.Helper()
	var asked time.Time
	w.until("device "+device.String(), func() bool {
		if strings.Contains(w.shown(), device.String()) {
			return true
		}
		if time.Since(asked) > 200*time.Millisecond { // an unknown device is only an error message
			w.in(serverBuffer, "/olm verify * "+device.String())
			asked = time.Now()
		}
		return false
	})
}

// device is the ID of the client's own device.
func (w *weechat) device() id.DeviceID {
	w.t.Helper()
	device, err := os.ReadFile(filepath.Join(w.dir, "matrix", "stoa", "ada.device_id"))
	if err != nil {
		w.t.Fatal(err)
	}
	return id.DeviceID(strings.TrimSpace(string(device)))
}

// hears waits for an encrypted message by its text, which is all that is known of a message that WeeChat sent.
func (c *goClient) hears(body string) {
	c.t.Helper()
	c.until(fmt.Sprintf("%q", body), func() bool {
		for _, e := range c.events {
			if e.Type == event.EventMessage && e.Content.AsMessage().Body == body {
				return e.Mautrix.WasEncrypted
			}
		}
		return false
	})
}
