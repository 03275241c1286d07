package room_test

import (
	"bytes"
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/history"
	"stoa/internal/reader"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/doctor"
	"stoa/internal/store/storetest"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
	"stoa/matrix/signing"
)

// fixture is a server that only has rooms.
type fixture struct {
	*room.Rooms
	*history.Reader
	t     testing.TB
	store *store.Store
	clock atomic.Int64 // ms; each read advances it by one

	mu    sync.Mutex // guards names
	names map[id.UserID]room.Profile

	works sync.Once // see do
}

// do enqueues a job and waits until it is done.
func (h *fixture) do(j reader.Job) error {
	h.t.Helper()
	h.works.Do(func() { h.work(h.Jobs()) })
	c := store.NewChange()
	if err := reader.Enqueue(c, j); err != nil {
		return err
	}
	if _, err := h.store.Commit(h.t.Context(), c); err != nil {
		return err
	}
	return reader.Wait(h.t.Context(), h.store, j.Kind, j.Key)
}

// work processes jobs until the test ends or stop is called.
func (h *fixture) work(kinds []reader.Kind) (stop func()) {
	h.t.Helper()
	runner, err := reader.New(reader.Options{Store: h.store, Kinds: kinds})
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := runner.Run(ctx); err != nil {
			h.t.Error(err)
		}
	})
	stop = func() { cancel(); done.Wait() }
	h.t.Cleanup(stop)
	return stop
}

func newFixture(t testing.TB, s *store.Store, change ...func(*room.Options)) *fixture {
	t.Helper()
	h := &fixture{t: t, store: s, names: map[id.UserID]room.Profile{}}
	h.clock.Store(1_700_000_000_000)
	opt := room.Options{
		Store: s, Signer: signer(t, storetest.ServerName), Profiles: h,
		Clock: func() time.Time { return time.UnixMilli(h.clock.Add(1)) },
	}
	for _, f := range change {
		f(&opt)
	}
	rooms, err := room.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	h.Rooms, h.Reader = rooms, history.New(s, rooms)
	if _, again := checked.LoadOrStore(s, true); !again {
		t.Cleanup(func() { h.examine() })
	}
	return h
}

// checked are the stores that are checked when their test ends.
var checked sync.Map

// examine checks the invariants of the store.
func (h *fixture) examine() {
	if h.t.Failed() {
		return
	}
	findings, err := doctor.Findings(context.Background(), h.store, doctor.Options{Totals: room.CheckTotals}, 20)
	if err != nil {
		h.t.Error(err)
	}
	for _, f := range findings {
		h.t.Errorf("the store is not in order: %s", f)
	}
}

func (h *fixture) Profile(_ context.Context, user id.UserID) (room.Profile, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.names[user], nil
}

func signer(t testing.TB, server string) *signing.Signer {
	t.Helper()
	keyID, err := id.ParseKeyID("ed25519:1")
	if err != nil {
		t.Fatal(err)
	}
	key, err := signing.NewKey(keyID, bytes.Repeat([]byte{byte(len(server))}, 32))
	if err != nil {
		t.Fatal(err)
	}
	name, err := id.ParseServerName(server)
	if err != nil {
		t.Fatal(err)
	}
	return signing.NewSigner(name, key)
}

// user returns a user of this server.
func user(t testing.TB, localpart string) id.UserID {
	t.Helper()
	return userOf(t, localpart, storetest.ServerName)
}

func userOf(t testing.TB, localpart, server string) id.UserID {
	t.Helper()
	u, err := id.ParseUserID("@" + localpart + ":" + server)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func (h *fixture) create(creator id.UserID, change ...func(*room.CreateRequest)) id.RoomID {
	h.t.Helper()
	req := room.CreateRequest{Creator: creator, Preset: room.PresetPublicChat}
	for _, f := range change {
		f(&req)
	}
	roomID, err := h.Create(h.t.Context(), req)
	if err != nil {
		h.t.Fatalf("create: %v", err)
	}
	return roomID
}

func (h *fixture) join(roomID id.RoomID, users ...id.UserID) {
	h.t.Helper()
	for _, u := range users {
		if err := h.Join(h.t.Context(), room.MembershipRequest{RoomID: roomID, Sender: u}); err != nil {
			h.t.Fatalf("%s joins: %v", u, err)
		}
	}
}

func (h *fixture) say(roomID id.RoomID, sender id.UserID, body string) id.EventID {
	h.t.Helper()
	eventID, err := h.Send(h.t.Context(), message(roomID, sender, body))
	if err != nil {
		h.t.Fatalf("%s says %q: %v", sender, body, err)
	}
	return eventID
}

func (h *fixture) set(roomID id.RoomID, sender id.UserID, evType, stateKey, content string) id.EventID {
	h.t.Helper()
	eventID, err := h.Send(h.t.Context(), room.Draft{
		RoomID: roomID, Sender: sender, Type: evType, StateKey: &stateKey, Content: json.RawMessage(content),
	})
	if err != nil {
		h.t.Fatalf("%s sets %s: %v", sender, evType, err)
	}
	return eventID
}

func message(roomID id.RoomID, sender id.UserID, body string) room.Draft {
	content, _ := json.Marshal(map[string]string{"msgtype": "m.text", "body": body}) // strings always marshal
	return room.Draft{RoomID: roomID, Sender: sender, Type: "m.room.message", Content: content}
}

// refusedWith checks that an error is a refusal with the errcode.
func refusedWith(t testing.TB, err error, code string) {
	t.Helper()
	if !mxerr.Is(err, code) {
		t.Fatalf("got %v, want %s", err, code)
	}
}

func (h *fixture) read(f func(*store.Read) error) {
	h.t.Helper()
	if err := h.store.Read(h.t.Context(), f); err != nil {
		h.t.Fatal(err)
	}
}

func bodyOf(t testing.TB, content []byte) string {
	t.Helper()
	var c struct {
		Body string `json:"body"`
	}
	if err := json.Unmarshal(content, &c); err != nil {
		t.Fatal(err)
	}
	return c.Body
}
