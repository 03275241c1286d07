package room_test

import (
	"fmt"
	"sync"
	"testing"

	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
	"stoa/matrix/roomversion"
)

func TestCreate_join_and_send_in_every_version(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		h := newFixture(t, open())
		alice, bob := user(t, "alice"), user(t, "bob")
		for _, rules := range roomversion.All() {
			roomID := h.create(alice, func(r *room.CreateRequest) { r.Version = rules.Version })
			h.join(roomID, bob)
			eventID := h.say(roomID, bob, "hello")
			h.read(func(read *store.Read) error {
				stored, err := roomdb.EventByID(read, eventID.String())
				if err != nil {
					return err
				}
				row, err := roomdb.RoomByID(read, roomID.String())
				if err != nil {
					return err
				}
				if row.Joined != 2 || row.Slot != stored.Place.Slot || len(row.Extremities) != 1 || row.Extremities[0] != stored.Num {
					t.Errorf("version %s: room is %+v after event at %+v", rules.Version, row, stored.Place)
				}
				return nil
			})
		}
	})
}

func TestSend_gives_one_event_for_a_transaction(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		h := newFixture(t, s)
		alice := user(t, "alice")
		roomID := h.create(alice)
		draft := message(roomID, alice, "once")
		draft.Txn = room.Txn{UserID: alice, DeviceID: "D", Path: "send", ID: "1"}
		first, err := h.Send(t.Context(), draft)
		if err != nil {
			t.Fatal(err)
		}
		// A second Rooms on the same store has nothing in memory.
		for _, again := range []*fixture{h, newFixture(t, s)} {
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					if got, err := again.Send(t.Context(), draft); err != nil || got != first {
						t.Errorf("again: %v, %v; want %v", got, err, first)
					}
				})
			}
			wg.Wait()
		}
		h.say(roomID, alice, "and on")
	})
}

func TestSend_refuses(t *testing.T) {
	t.Parallel()
	h := newFixture(t, storetest.SQLite(t))
	alice, bob := user(t, "alice"), user(t, "bob")
	roomID := h.create(alice)
	unknown, err := id.ParseRoomID("!nowhere:stoa.test")
	if err != nil {
		t.Fatal(err)
	}
	empty := ""
	for name, c := range map[string]struct {
		draft room.Draft
		code  string
	}{
		"a stranger's message":      {message(roomID, bob, "hi"), mxerr.CodeForbidden},
		"an unknown room":           {message(unknown, alice, "hi"), mxerr.CodeNotFound},
		"content that is no object": {room.Draft{RoomID: roomID, Sender: alice, Type: "m.x", Content: []byte(`[]`)}, mxerr.CodeBadJSON},
		"a second create event":     {room.Draft{RoomID: roomID, Sender: alice, Type: "m.room.create", StateKey: &empty, Content: []byte(`{}`)}, mxerr.CodeBadJSON},
		"a level that is a string":  {room.Draft{RoomID: roomID, Sender: alice, Type: "m.room.power_levels", StateKey: &empty, Content: []byte(`{"ban":"50"}`)}, mxerr.CodeBadJSON},
		"a float":                   {room.Draft{RoomID: roomID, Sender: alice, Type: "m.x", Content: []byte(`{"a":1.5}`)}, mxerr.CodeBadJSON},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := h.Send(t.Context(), c.draft)
			refusedWith(t, err, c.code)
		})
	}
}

func TestSend_by_many_at_once_makes_one_line(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		h := newFixture(t, open())
		alice := user(t, "alice")
		roomID := h.create(alice)
		const senders, each = 8, 25
		var wg sync.WaitGroup
		for i := range senders {
			sender := user(t, fmt.Sprintf("user%d", i))
			h.join(roomID, sender)
			wg.Go(func() {
				for n := range each {
					h.say(roomID, sender, fmt.Sprint(n))
				}
			})
		}
		wg.Wait()
		h.read(func(read *store.Read) error {
			row, err := roomdb.RoomByID(read, roomID.String())
			if err != nil {
				return err
			}
			events, err := roomdb.Timeline(read, row.Num, roomdb.Place{}, roomdb.End, 1000)
			if err != nil {
				return err
			}
			for i, e := range events {
				if e.Place.Slot != store.Slot(i+1) || i > 0 && (len(e.Edges.Prev) != 1 || e.Edges.Prev[0] != events[i-1].Num) {
					t.Fatalf("event %d is at %+v after %v", i, e.Place, e.Edges.Prev)
				}
			}
			return nil
		})
	})
}
