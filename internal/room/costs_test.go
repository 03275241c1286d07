package room

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/signing"
)

func testRooms(t testing.TB, s *store.Store) *Rooms {
	t.Helper()
	keyID, err := id.ParseKeyID("ed25519:1")
	if err != nil {
		t.Fatal(err)
	}
	key, err := signing.NewKey(keyID, bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	server, err := id.ParseServerName(storetest.ServerName)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := New(Options{Store: s, Signer: signing.NewSigner(server, key)})
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

func testUser(t testing.TB, localpart string) id.UserID {
	t.Helper()
	server, err := id.ParseServerName(storetest.ServerName)
	if err != nil {
		t.Fatal(err)
	}
	user, err := id.NewUserID(localpart, server)
	if err != nil {
		t.Fatal(err)
	}
	return user
}

// fullRoom makes a room with members user0, user1 … beside its creator alice, in
// large groups.
func fullRoom(t testing.TB, rs *Rooms, members int) id.RoomID {
	t.Helper()
	alice := testUser(t, "alice")
	roomID, err := rs.Create(t.Context(), CreateRequest{Creator: alice, Preset: PresetPublicChat})
	if err != nil {
		t.Fatal(err)
	}
	drafts := make([]Draft, members)
	for i := range drafts {
		user := testUser(t, fmt.Sprintf("user%d", i))
		stateKey := user.String()
		drafts[i] = Draft{
			RoomID: roomID, Sender: user, Type: event.TypeMember, StateKey: &stateKey,
			Content: json.RawMessage(`{"membership":"join"}`),
		}
	}
	if _, err := rs.SendMany(t.Context(), roomID, drafts); err != nil {
		t.Fatal(err)
	}
	return roomID
}

// writes counts the rows that sending a draft writes.
func writes(t testing.TB, rs *Rooms, d Draft) int {
	t.Helper()
	if err := rs.intern(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	r := rs.resident.acquire(d.RoomID)
	defer rs.resident.release(r)
	departed, err := r.take(t.Context(), d.needs, func(turn *turn) error {
		_, err := turn.send(d)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := departed.wait(); err != nil {
		t.Fatal(err)
	}
	return departed.turns[0].change.Writes()
}

func TestSend_writes_as_many_rows_in_a_large_room_as_in_a_small_one(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		rs := testRooms(t, open())
		alice := testUser(t, "alice")
		small, large := fullRoom(t, rs, 9), fullRoom(t, rs, 9_999)
		for name, content := range map[string]string{
			"a message":      `{"msgtype":"m.text","body":"hello"}`,
			"a mention":      `{"msgtype":"m.text","body":"hello","m.mentions":{"user_ids":["@user1:stoa.test"]}}`,
			"a room mention": `{"msgtype":"m.text","body":"@room","m.mentions":{"room":true}}`,
		} {
			count := func(roomID id.RoomID) int {
				d := Draft{RoomID: roomID, Sender: alice, Type: "m.room.message", Content: json.RawMessage(content)}
				d.Txn = Txn{UserID: alice, DeviceID: "D", Path: roomID.String(), ID: name}
				return writes(t, rs, d)
			}
			few, many := count(small), count(large)
			if few != many || few > 7 {
				t.Errorf("%s writes %d rows in the small room, %d in the large one", name, few, many)
			}
		}
		join := func(roomID id.RoomID, name string) int {
			user := testUser(t, name)
			stateKey := user.String()
			return writes(t, rs, Draft{
				RoomID: roomID, Sender: user, Type: event.TypeMember, StateKey: &stateKey,
				Content: json.RawMessage(`{"membership":"join"}`),
			})
		}
		if few, many := join(small, "late"), join(large, "later"); few != many {
			t.Errorf("a join writes %d rows in the small room, %d in the large one", few, many)
		}
	})
}

// TestState_of_a_large_room_stays_small measures the whole database: the state of a room
// of 10,000 members, with all that refers to it, its events and its users, takes at most
// three times the bytes of the state events.
func TestState_of_a_large_room_stays_small(t *testing.T) {
	t.Parallel()
	path := storetest.URL(t, "sqlite")
	s, err := store.Open(t.Context(), store.Options{URL: path, ServerName: storetest.ServerName})
	if err != nil {
		t.Fatal(err)
	}
	roomID := fullRoom(t, testRooms(t, s), 9_999)
	events := 0
	err = s.Read(t.Context(), func(read *store.Read) error {
		row, err := roomdb.RoomByID(read, roomID.String())
		if err != nil {
			return err
		}
		for from := (roomdb.Place{}); ; {
			page, err := roomdb.Timeline(read, row.Num, from, roomdb.End, 1000)
			if err != nil || len(page) == 0 {
				return err
			}
			for _, e := range page {
				events += len(e.Bytes)
			}
			from = page[len(page)-1].Place
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if file.Size() > 3*int64(events) {
		t.Errorf("the database has %d bytes, the state events %d", file.Size(), events)
	}
}

func TestSend_needs_no_more_of_a_large_room_than_who_acts(t *testing.T) {
	t.Parallel()
	s := storetest.SQLite(t)
	roomID := fullRoom(t, testRooms(t, s), 5_000)
	rs := testRooms(t, s) // an empty cache
	for i := range 3 {
		d := Draft{
			RoomID: roomID, Sender: testUser(t, fmt.Sprintf("user%d", i)), Type: "m.room.message",
			Content: json.RawMessage(`{"body":"hello"}`),
		}
		if _, err := rs.Send(context.Background(), d); err != nil {
			t.Fatal(err)
		}
	}
	r := rs.resident.acquire(roomID)
	defer rs.resident.release(r)
	// create event, power levels, and the three who spoke
	if len(r.state) > 5 {
		t.Errorf("%d entries of the state are in memory", len(r.state))
	}
}

func TestResidents_lets_go_of_rooms_that_nobody_uses(t *testing.T) {
	t.Parallel()
	rs := testRooms(t, storetest.SQLite(t))
	rs.resident.limit = 3
	alice := testUser(t, "alice")
	for range 10 {
		roomID, err := rs.Create(t.Context(), CreateRequest{Creator: alice})
		if err != nil {
			t.Fatal(err)
		}
		d := Draft{RoomID: roomID, Sender: alice, Type: "m.room.message", Content: json.RawMessage(`{"body":"hello"}`)}
		if _, err := rs.Send(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	if n := rs.resident.order.Len(); n > 3 {
		t.Errorf("%d rooms are in memory, at most 3 are allowed", n)
	}
	unknown, err := id.ParseRoomID("!unknown:" + storetest.ServerName)
	if err != nil {
		t.Fatal(err)
	}
	d := Draft{RoomID: unknown, Sender: alice, Type: "m.room.message", Content: json.RawMessage(`{}`)}
	if _, err := rs.Send(t.Context(), d); err == nil {
		t.Error("an unknown room takes messages")
	}
	if _, kept := rs.resident.byID[unknown]; kept {
		t.Error("an unknown room is kept in memory")
	}
}
