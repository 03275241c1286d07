package peers

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"testing"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto/attachment"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// picture is a PNG with a pattern.
func picture(t *testing.T, width, height int) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			img.Set(x, y, color.RGBA{uint8(x), uint8(y), uint8(x * y), 255})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	source := rand.NewChaCha8([32]byte{byte(n)})
	source.Read(b) // never fails
	return b
}

func (c *jsClient) upload(data []byte, name, contentType string) (uri string) {
	c.t.Helper()
	var made struct {
		URI string `json:"uri"`
	}
	c.call("upload", map[string]any{"base64": base64.StdEncoding.EncodeToString(data), "name": name, "type": contentType}, &made)
	return made.URI
}

func (c *jsClient) download(args map[string]any) (data []byte, contentType string) {
	c.t.Helper()
	var got struct {
		Base64 []byte `json:"base64"`
		Type   string `json:"type"`
	}
	c.call("download", args, &got)
	return got.Base64, got.Type
}

// TestMedia sends pictures and files between matrix-js-sdk and mautrix-go: plain, as a thumbnail, uploaded to an
// address made before, and encrypted.
func TestMedia(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.meet()
	ctx, room := t.Context(), id.RoomID(p.room)

	shown := picture(t, 400, 300)
	uri := p.ada.upload(shown, "pattern.png", "image/png")
	sent := p.ada.send(p.room, map[string]any{"msgtype": "m.image", "body": "pattern.png", "url": uri})
	parsed, err := p.bob.see(sent).Content.AsMessage().URL.Parse()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := p.bob.cli.DownloadBytes(ctx, parsed); err != nil || !bytes.Equal(got, shown) {
		t.Fatalf("bob downloads %d bytes (%v), want the %d that ada uploaded", len(got), err, len(shown))
	}
	thumbnail, contentType := p.ada.download(map[string]any{"uri": uri, "width": 100, "height": 100})
	small, format, err := image.DecodeConfig(bytes.NewReader(thumbnail))
	if err != nil || small.Width > 400 || small.Width < 100 || small.Width*3 != small.Height*4 || contentType != "image/"+format {
		t.Fatalf("the thumbnail is %s of %d × %d, sent as %s (%v)", format, small.Width, small.Height, contentType, err)
	}

	// An address first, the bytes after the message.
	late, err := p.bob.cli.CreateMXC(ctx)
	if err != nil {
		t.Fatal(err)
	}
	promise := p.bob.send(room, event.EventMessage, &event.MessageEventContent{MsgType: event.MsgFile, Body: "later.bin", URL: late.ContentURI.CUString()})
	content := p.ada.see(promise, nil).Content
	file := randomBytes(3 << 20)
	if _, err := p.bob.cli.UploadMedia(ctx, mautrix.ReqUploadMedia{ContentBytes: file, ContentType: "application/octet-stream", MXC: late.ContentURI, UnstableUploadURL: late.UnstableUploadURL}); err != nil {
		t.Fatal(err)
	}
	if got, _ := p.ada.download(map[string]any{"uri": content["url"]}); !bytes.Equal(got, file) {
		t.Fatalf("ada downloads %d bytes that differ from the %d that bob uploaded later", len(got), len(file))
	}

	// Encrypted: bob to ada, and to another client of his own kind.
	secret := randomBytes(100_001)
	encrypted, ciphertext := attachment.NewEncryptedFile(), bytes.Clone(secret)
	encrypted.EncryptInPlace(ciphertext)
	uploaded, err := p.bob.cli.UploadBytes(ctx, ciphertext, "application/octet-stream")
	if err != nil {
		t.Fatal(err)
	}
	sent = p.bob.send(room, event.EventMessage, &event.MessageEventContent{MsgType: event.MsgFile, Body: "secret.bin",
		File: &event.EncryptedFileInfo{EncryptedFile: *encrypted, URL: uploaded.ContentURI.CUString()}})
	content = p.ada.see(sent, nil).Content
	if got, _ := p.ada.download(map[string]any{"file": content["file"]}); !bytes.Equal(got, secret) {
		t.Fatalf("ada decrypts %d bytes that differ from the %d that bob encrypted", len(got), len(secret))
	}
	cleo := newGoClient(t, p.server.URL(), "cleo", password)
	if _, err := p.bob.cli.InviteUser(ctx, room, &mautrix.ReqInviteUser{UserID: cleo.cli.UserID}); err != nil {
		t.Fatal(err)
	}
	cleo.join(room)
	p.bob.until("cleo in the room", func() bool { return p.bob.cli.StateStore.IsInRoom(ctx, room, cleo.cli.UserID) })
	again := p.bob.send(room, event.EventMessage, p.bob.see(sent).Content.AsMessage())
	got := cleo.see(again).Content.AsMessage().File
	if parsed, err = got.URL.Parse(); err != nil {
		t.Fatal(err)
	}
	data, err := cleo.cli.DownloadBytes(ctx, parsed)
	if err != nil {
		t.Fatal(err)
	}
	if err = got.DecryptInPlace(data); err != nil || !bytes.Equal(data, secret) {
		t.Fatalf("cleo decrypts %d bytes (%v), want the %d that bob encrypted", len(data), err, len(secret))
	}
}

// TestInvitationWithKeyBundle invites into an encrypted room in which people have talked: matrix-js-sdk uploads the
// keys of that history as an encrypted file first, and the invited client reads all of it.
func TestInvitationWithKeyBundle(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	ada, _, _ := newJSUser(t, server, "ada")
	var made struct {
		RoomID string `json:"roomId"`
	}
	ada.call("createRoom", map[string]any{"name": "history"}, &made)
	said := map[string]string{}
	for _, body := range []string{"before anybody came", "and one more"} {
		said[ada.send(made.RoomID, text(body))] = body
	}
	dora, doraID, _ := newJSUser(t, server, "dora")
	ada.call("invite", map[string]any{"roomId": made.RoomID, "userId": doraID}, nil)
	dora.call("join", map[string]any{"roomId": made.RoomID}, nil)
	var history struct {
		Events []shownEvent `json:"events"`
	}
	dora.call("history", map[string]any{"roomId": made.RoomID}, &history)
	for _, e := range history.Events {
		if body, ok := said[e.EventID]; ok && e.Encrypted && !e.Failed && e.Content["body"] == body {
			delete(said, e.EventID)
		}
	}
	if len(said) > 0 {
		t.Errorf("dora can't read %v in the history that she was invited to: %+v", said, history.Events)
	}
}
