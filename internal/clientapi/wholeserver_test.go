package clientapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"testing"
	"time"

	"stoa/internal/account"
	"stoa/internal/clientsync"
	"stoa/internal/directory"
	"stoa/internal/e2ee"
	"stoa/internal/ephemeral"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
	"stoa/internal/userdata"
	"stoa/matrix/id"
	"stoa/matrix/signing"
)

// whole gives a server everything that the API serves, over one store.
func whole(t *testing.T, st *store.Store) *server {
	t.Helper()
	keyID, err := id.ParseKeyID("ed25519:1")
	if err != nil {
		t.Fatal(err)
	}
	key, err := signing.NewKey(keyID, bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	name, err := id.ParseServerName(storetest.ServerName)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	clock := newTestClock()
	tick := func() time.Time { // no two events at the same time
		clock.advance(time.Millisecond)
		return clock.now()
	}
	var rooms *room.Rooms
	data := userdata.New(userdata.Options{
		Store:        st,
		RulesChanged: func(user id.UserID) { rooms.PushRulesChanged(user) },
	})
	rooms, err = room.New(room.Options{
		Store: st, Signer: signing.NewSigner(name, key), Clock: tick,
		Profiles: account.Directory{Store: st}, PushRules: userdata.ForRooms{Data: data},
	})
	if err != nil {
		t.Fatal(err)
	}
	keys := e2ee.New(e2ee.Options{Store: st, ServerName: name, Clock: clock.now, Log: log})
	var hub *clientsync.Hub
	typing := ephemeral.NewTyping(st, clock.now, func(num store.RoomNum, began bool) { hub.WakeTyping(num, began) }, nil)
	presence := ephemeral.NewPresence(st, clock.now, log, nil)
	hub = clientsync.New(clientsync.Options{
		Store: st, Clock: clock.now,
		Sections: []clientsync.Section{
			clientsync.DeviceLists{}, clientsync.KeyCounts{}, clientsync.FallbackTypes{}, clientsync.PresenceEvents{Clock: clock.now},
		},
		ToDevice: keysForSync{keys}, Typing: typing, AccountData: dataForSync{data}, Filters: dataForSync{data},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := hub.Run(ctx); err != nil {
			t.Errorf("hub: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
	s := newServer(t, st, func(set *settings) {
		set.Rooms, set.Data, set.Keys, set.Hub, set.Typing, set.Presence = rooms, data, keys, hub, typing, presence
		set.Directory = directory.New(directory.Options{Store: st, Rooms: rooms, Clock: clock.now})
		set.Receipts = ephemeral.NewReceipts(st, rooms, dataForSync{data}, clock.now)
		set.Clock = clock.now
	})
	s.clock = clock
	return s
}

// wholeOn is a whole server, for what does not depend on the engine.
func wholeOn(t *testing.T) *server {
	t.Helper()
	t.Parallel()
	return whole(t, storetest.SQLite(t))
}

// wholeOnEach runs a test on both engines with a whole server.
func wholeOnEach(t *testing.T, f func(*testing.T, *server)) {
	t.Helper()
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) { f(t, whole(t, open())) })
}

// in is the same server for a part of a test.
func (s *server) in(t *testing.T) *server {
	part := *s
	part.t = t
	return &part
}

// keysForSync and dataForSync give keys and account data the form that package
// clientsync asks for, as package ops does.
type keysForSync struct{ keys *e2ee.Keys }

func (k keysForSync) device(v clientsync.Viewer) e2ee.Device {
	return e2ee.Device{UserID: v.UserID, User: v.UserNum, DeviceID: v.DeviceID}
}

func (k keysForSync) Append(dst []byte, r *store.Read, v clientsync.Viewer, after store.Slot, limit int) ([]byte, store.Slot, bool, error) {
	messages, last, more, err := k.keys.ToDevice(r, k.device(v), after, limit)
	for i, m := range messages {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, m...)
	}
	return dst, last, more, err
}

func (k keysForSync) Acknowledge(ctx context.Context, v clientsync.Viewer, upTo store.Slot) error {
	return k.keys.Acknowledge(ctx, k.device(v), upTo)
}

type dataForSync struct{ data *userdata.Data }

func (d dataForSync) owner(v clientsync.Viewer) userdata.User {
	return userdata.User{ID: v.UserID, Num: v.UserNum}
}

func (d dataForSync) Changed(r *store.Read, v clientsync.Viewer, after store.Slot) (out []clientsync.Datum, err error) {
	var entries []userdata.Entry
	if after == 0 {
		entries, err = d.data.All(r, d.owner(v))
	} else {
		entries, err = d.data.After(r, d.owner(v), after)
	}
	for _, e := range entries {
		out = append(out, clientsync.Datum{RoomID: e.RoomID, Type: e.Type, Content: e.Content})
	}
	return out, err
}

func (d dataForSync) Ignored(r *store.Read, v clientsync.Viewer) ([]id.UserID, error) {
	return d.data.Ignored(r, v.UserNum)
}

func (d dataForSync) Filter(ctx context.Context, v clientsync.Viewer, filterID string) ([]byte, error) {
	filter, err := d.data.Filter(ctx, d.owner(v), filterID)
	return filter, err
}

func (d dataForSync) SetFullyRead(ctx context.Context, user ephemeral.User, roomID id.RoomID, eventID id.EventID) error {
	return d.data.SetFullyRead(ctx, userdata.User{ID: user.ID, Num: user.Num}, roomID, eventID)
}

// sync asks what is new since a token; "" is the first time.
func (s *server) sync(l login, since string) answer {
	s.t.Helper()
	path := v3 + "/sync"
	if since != "" {
		path += "?since=" + since
	}
	return s.do("GET", path, l.Token, nil).want(200, "")
}

// eventOf finds the event of a type in a list of events below keys; nil for none.
func (a answer) eventOf(evType string, keys ...string) object {
	a.t.Helper()
	list, _ := dig(a.Body, keys...).([]any)
	for _, v := range list {
		if e, ok := v.(object); ok && e["type"] == evType {
			return e
		}
	}
	return nil
}

// equal compares a value of an answer with one that is written as Go text.
func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	text := func(v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var plain any
		if err := json.Unmarshal(raw, &plain); err != nil {
			t.Fatal(err)
		}
		raw, err = json.Marshal(plain)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	if g, w := text(got), text(want); g != w {
		t.Fatalf("%s\n got %s\nwant %s", what, g, w)
	}
}
