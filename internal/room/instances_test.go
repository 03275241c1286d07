package room_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"stoa/internal/history"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// twoInstances are two servers, each with its own store on one database, without any
// connection between them.
func twoInstances(t *testing.T, change ...func(*room.Options)) (first, second *fixture) {
	t.Helper()
	url := storetest.URL(t, "postgres")
	open := func() *store.Store {
		s, err := store.Open(t.Context(), store.Options{URL: url, ServerName: storetest.ServerName})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	}
	first, second = newFixture(t, open(), change...), newFixture(t, open(), change...)
	second.clock.Add(50_000)
	return first, second
}

// retry calls f again as long as its error asks for it.
func retry(t *testing.T, refused *atomic.Int64, f func() error) bool {
	for try := 0; ; try++ {
		err := f()
		if err == nil {
			return true
		}
		if e, ok := mxerr.As(err); !ok || e.Status != 503 || try > 200 {
			t.Error(err)
			return false
		}
		refused.Add(1)
	}
}

// TestTwo_instances_write_one_room: either both take themselves for its home, or neither
// does. Several senders send at both. Every acknowledged event is stored once, both
// instances return the same order, and nothing has forked.
func TestTwo_instances_write_one_room(t *testing.T) {
	t.Parallel()
	for name, isHome := range map[string]bool{"both are its home": true, "neither is its home": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			writeFromBoth(t, isHome)
		})
	}
}

func writeFromBoth(t *testing.T, isHome bool) {
	const senders, each = 3, 20
	first, second := twoInstances(t, func(o *room.Options) { o.IsHome = func(id.RoomID) bool { return isHome } })
	alice := user(t, "alice")
	roomID := first.create(alice)
	var refused atomic.Int64
	var mu sync.Mutex // guards acknowledged
	acknowledged := map[id.EventID]string{}
	var wg sync.WaitGroup
	for i, h := range []*fixture{first, second} {
		for j := range senders {
			wg.Go(func() {
				for n := range each {
					body := fmt.Sprintf("%d/%d/%d", i, j, n)
					draft := message(roomID, alice, body)
					draft.Txn = room.Txn{UserID: alice, DeviceID: "D", Path: "send", ID: body}
					if n%5 == 0 { // a state event, which all later events refer to
						draft.Type, draft.StateKey, draft.Txn = "org.example.state", &body, room.Txn{}
					}
					var eventID id.EventID
					if !retry(t, &refused, func() (err error) { eventID, err = h.Send(t.Context(), draft); return err }) {
						return
					}
					mu.Lock()
					acknowledged[eventID] = body
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	if len(acknowledged) != 2*senders*each {
		t.Fatalf("%d events have an ID of their own, want %d", len(acknowledged), 2*senders*each)
	}
	one, two := first.pages(alice, roomID, history.Backwards, 50), second.pages(alice, roomID, history.Backwards, 50)
	if fmt.Sprint(one) != fmt.Sprint(two) {
		t.Errorf("the instances tell different orders:\n%v\n%v", one, two)
	}
	times := map[id.EventID]int{}
	for _, eventID := range one {
		times[eventID]++
	}
	for eventID, body := range acknowledged {
		if times[eventID] != 1 {
			t.Errorf("%s (%s) was acknowledged and is there %d times", eventID, body, times[eventID])
		}
	}
	first.read(func(read *store.Read) error {
		row, err := roomdb.RoomByID(read, roomID.String())
		if err == nil && len(row.Extremities) != 1 {
			t.Errorf("forward extremities are %v", row.Extremities)
		}
		return err
	})
	if n := refused.Load(); n > 0 {
		t.Errorf("of %d sends %d were refused, although each could have been built again", len(acknowledged), n)
	}
}

// TestTwo_instances_take_turns: if they write one after the other, neither is ever
// refused. An instance whose room was written by the other loads it and tries again.
func TestTwo_instances_take_turns(t *testing.T) {
	t.Parallel()
	first, second := twoInstances(t)
	alice, bob := user(t, "alice"), user(t, "bob")
	roomID := first.create(alice)
	second.join(roomID, bob)
	for n := range 10 {
		first.say(roomID, alice, fmt.Sprint("a", n))
		second.say(roomID, bob, fmt.Sprint("b", n))
		second.say(roomID, alice, fmt.Sprint("c", n))
	}
	first.set(roomID, alice, "m.room.power_levels", "", `{"users":{},"events_default":50}`)
	if _, err := second.Send(t.Context(), message(roomID, bob, "no")); !mxerr.Is(err, "M_FORBIDDEN") {
		t.Errorf("the other instance does not know the new power levels: %v", err)
	}
	if got := len(second.bodies(alice, roomID)); got != 30 {
		t.Errorf("%d messages are there, want 30", got)
	}
}

// TestTwo_instances_and_one_transaction: the same request at both instances, as after the
// loss of the room's home, creates one event.
func TestTwo_instances_and_one_transaction(t *testing.T) {
	t.Parallel()
	first, second := twoInstances(t)
	alice := user(t, "alice")
	roomID := first.create(alice)
	var refused atomic.Int64
	for n := range 20 {
		draft := message(roomID, alice, fmt.Sprint(n))
		draft.Txn = room.Txn{UserID: alice, DeviceID: "D", Path: "send", ID: fmt.Sprint(n)}
		var got [2]id.EventID
		var wg sync.WaitGroup
		for i, h := range []*fixture{first, second} {
			wg.Go(func() {
				retry(t, &refused, func() (err error) { got[i], err = h.Send(t.Context(), draft); return err })
			})
		}
		wg.Wait()
		if got[0] != got[1] {
			t.Errorf("transaction %d made %s and %s", n, got[0], got[1])
		}
	}
	if got := len(first.bodies(alice, roomID)); got != 20 {
		t.Errorf("%d messages are there, want 20", got)
	}
}
