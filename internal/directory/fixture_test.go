package directory_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/directory"
	"stoa/internal/history"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
	"stoa/internal/store/userdb"
	"stoa/internal/textsearch"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
	"stoa/matrix/signing"
)

// fixture is a server with rooms and a directory of them.
type fixture struct {
	*directory.Directory
	t       *testing.T
	store   *store.Store
	rooms   *room.Rooms
	history *history.Reader
	clock   atomic.Int64 // ms; each look moves it by one
}

// onBothEngines runs a test on both engines.
func onBothEngines(t *testing.T, f func(h *fixture)) {
	t.Helper()
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) { f(newFixture(t, open())) })
}

// onSQLite is onBothEngines for what does not depend on the engine.
func onSQLite(t *testing.T) *fixture {
	t.Helper()
	t.Parallel()
	return newFixture(t, storetest.SQLite(t))
}

func newFixture(t *testing.T, s *store.Store) *fixture {
	t.Helper()
	h := &fixture{t: t, store: s}
	h.clock.Store(1_700_000_000_000)
	now := func() time.Time { return time.UnixMilli(h.clock.Add(1)) }
	keyID, err := id.ParseKeyID("ed25519:1")
	h.must(err)
	key, err := signing.NewKey(keyID, bytes.Repeat([]byte{7}, 32))
	h.must(err)
	name, err := id.ParseServerName(storetest.ServerName)
	h.must(err)
	h.rooms, err = room.New(room.Options{Store: s, Signer: signing.NewSigner(name, key), Clock: now})
	h.must(err)
	h.history = history.New(s, h.rooms)
	h.Directory = directory.New(directory.Options{Store: s, Rooms: h.rooms, History: h.history, Clock: now})
	return h
}

func (h *fixture) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// refused checks that an error has an errcode.
func (h *fixture) refused(err error, errcode string) {
	h.t.Helper()
	if refusal, ok := mxerr.As(err); !ok || refusal.Code != errcode {
		h.t.Fatalf("got %v, want %s", err, errcode)
	}
}

// person makes a user with an account.
func (h *fixture) person(localpart string) id.UserID {
	h.t.Helper()
	user, err := id.ParseUserID("@" + localpart + ":" + storetest.ServerName)
	h.must(err)
	nums, err := h.store.InternUsers(h.t.Context(), func(string) bool { return true }, user.String())
	h.must(err)
	c := store.NewChange()
	userdb.AddAccount(c, nums[0], "", false, h.clock.Add(1))
	userdb.SetWords(c, nums[0], textsearch.Suffixes(localpart))
	h.commit(c)
	return user
}

// call gives a user a display name.
func (h *fixture) call(user id.UserID, name string) {
	h.t.Helper()
	text, err := json.Marshal(name)
	h.must(err)
	c := store.NewChange()
	userdb.SetProfileField(c, h.num(user), "displayname", string(text))
	userdb.SetWords(c, h.num(user), textsearch.Suffixes(user.Localpart(), name))
	h.commit(c)
}

func (h *fixture) num(user id.UserID) (num store.UserNum) {
	h.t.Helper()
	h.must(h.store.Read(h.t.Context(), func(r *store.Read) (err error) {
		num, err = h.store.UserNum(r, user.String())
		return err
	}))
	return num
}

func (h *fixture) roomNum(roomID id.RoomID) (num store.RoomNum) {
	h.t.Helper()
	h.must(h.store.Read(h.t.Context(), func(r *store.Read) (err error) {
		num, err = roomdb.RoomNum(r, roomID.String())
		return err
	}))
	return num
}

func (h *fixture) commit(c *store.Change) {
	h.t.Helper()
	_, err := h.store.Commit(h.t.Context(), c)
	h.must(err)
}

// create makes a room that anybody may join, unless it is changed.
func (h *fixture) create(creator id.UserID, change ...func(*room.CreateRequest)) id.RoomID {
	h.t.Helper()
	req := room.CreateRequest{Creator: creator, Preset: room.PresetPublicChat}
	for _, f := range change {
		f(&req)
	}
	roomID, err := h.CreateRoom(h.t.Context(), req)
	h.must(err)
	return roomID
}

// Changes of rooms that are made.
func listed(req *room.CreateRequest)  { req.Published = true }
func private(req *room.CreateRequest) { req.Preset = room.PresetPrivateChat }
func space(req *room.CreateRequest)   { req.CreationContent = json.RawMessage(`{"type":"m.space"}`) }

func named(name string) func(*room.CreateRequest) {
	return func(req *room.CreateRequest) { req.Name = name }
}

func (h *fixture) called(alias string) func(*room.CreateRequest) {
	return func(req *room.CreateRequest) { req.Alias = h.alias(alias) }
}

func (h *fixture) join(roomID id.RoomID, users ...id.UserID) {
	h.t.Helper()
	for _, user := range users {
		h.must(h.rooms.Join(h.t.Context(), room.MembershipRequest{RoomID: roomID, Sender: user}))
	}
}

func (h *fixture) leave(roomID id.RoomID, user id.UserID) {
	h.t.Helper()
	h.must(h.rooms.Leave(h.t.Context(), room.MembershipRequest{RoomID: roomID, Sender: user}))
}

func (h *fixture) set(user id.UserID, roomID id.RoomID, evType, stateKey, content string) {
	h.t.Helper()
	_, err := h.rooms.Send(h.t.Context(), room.Draft{RoomID: roomID, Sender: user, Type: evType, StateKey: &stateKey, Content: json.RawMessage(content)})
	h.must(err)
}

// alias is an alias of this server, or of the one that it names.
func (h *fixture) alias(text string) id.RoomAlias {
	h.t.Helper()
	if !strings.Contains(text, ":") {
		text += ":" + storetest.ServerName
	}
	alias, err := id.ParseRoomAlias("#" + text)
	h.must(err)
	return alias
}

func (h *fixture) roomID(text string) id.RoomID {
	h.t.Helper()
	roomID, err := id.ParseRoomID(text)
	h.must(err)
	return roomID
}

// same checks that two lists are equal.
func same[T ~string | id.RoomID | id.UserID](t *testing.T, what string, got, want []T) {
	t.Helper()
	if len(got) == 0 && len(want) == 0 {
		return
	}
	g, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	w, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(g, w) {
		t.Fatalf("%s\n got %s\nwant %s", what, g, w)
	}
}
