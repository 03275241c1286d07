package streamcache_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"stoa/internal/clientsync"
	"stoa/internal/clientsync/synctest"
	"stoa/internal/store/userdb"
	"stoa/matrix/id"
)

func TestPresence_of_strangers_is_not_told(t *testing.T) {
	t.Parallel()
	for name, carries := range map[string]func(i int) bool{
		"to be read":  func(int) bool { return false },
		"in memory":   func(int) bool { return true },
		"newer in it": func(i int) bool { return i > 0 },
		"older in it": func(i int) bool { return i == 0 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testStrangers(t, carries, name == "in memory")
		})
	}
}

// testStrangers: some changes carry what they say, so that they need not be read.
func testStrangers(t *testing.T, carries func(i int) bool, inMemory bool) {
	synctest.OnBothEngines(t, func(h *synctest.Server) {
		alice, bob, away, stranger := h.Client("alice"), h.Client("bob"), h.Client("away"), h.Client("stranger")
		r := alice.Create()
		bob.Join(r)
		away.Join(r)
		stranger.Create()
		for _, p := range []*synctest.Client{alice, bob, stranger} { // away is not in memory
			p.Sync("")
		}
		before := h.Cache.Head()
		for i, p := range []*synctest.Client{bob, stranger, away, alice} {
			p.Show("online", carries(i))
		}
		alice.Must(h.Cache.Await(t.Context(), h.Store.Head()))
		if known := h.Cache.KnowsPresence(alice.UserNum, before); known != inMemory {
			t.Errorf("memory knows presence: %v", known)
		}
		var shown []string
		for _, ev := range alice.Sync("").Presence.Events {
			shown = append(shown, ev.Sender)
		}
		slices.Sort(shown)
		synctest.Equal(t, "shown", shown, []string{alice.UserID.String(), away.UserID.String(), bob.UserID.String()})
	}, func(o *synctest.Options) {
		o.Sections = []clientsync.Section{clientsync.PresenceEvents{Clock: time.Now}}
	})
}

func TestPresence_is_told_in_rooms_that_are_not_too_large(t *testing.T) {
	t.Parallel()
	for _, payload := range []bool{false, true} {
		t.Run(fmt.Sprint("payload=", payload), func(t *testing.T) {
			t.Parallel()
			testLargeRooms(t, payload)
		})
	}
}

func testLargeRooms(t *testing.T, payload bool) {
	synctest.OnBothEngines(t, func(h *synctest.Server) {
		alice, bob, late := h.Client("alice"), h.Client("member0"), h.Client("late")
		h.Fill(alice, 1, userdb.PresenceRoom-1)
		shown := func(what string, got, want int) {
			t.Helper()
			if got != want {
				t.Errorf("%s: presence of %d, not of %d", what, got, want)
			}
		}
		states := 0
		change := func() {
			states++
			bob.Show(fmt.Sprint(states), payload)
		}
		change()
		shown("at first", len(alice.Sync("").Presence.Events), 1)
		change()
		shown("of a change", len(alice.Sync("").Presence.Events), 1)

		rooms := alice.Sync("", func(r *clientsync.Request) { r.Since = nil }).Rooms.Join
		for name := range rooms {
			r, err := id.ParseRoomID(name)
			alice.Must(err)
			late.Join(r)
		}
		alice.Sync("")
		change()
		shown("of a change in a large room", len(alice.Sync("").Presence.Events), 0)
		fresh := alice.Sync("", func(r *clientsync.Request) { r.Since = nil })
		shown("at first in a large room", len(fresh.Presence.Events), 0)
	}, func(o *synctest.Options) {
		o.Sections = []clientsync.Section{clientsync.PresenceEvents{Clock: time.Now}}
	})
}

// Presence that another instance wrote is in memory like that of this one, and is told once.
func TestPresence_written_elsewhere(t *testing.T) {
	t.Parallel()
	here, there := synctest.TwoServers(t, func(o *synctest.Options) {
		o.Sections = []clientsync.Section{clientsync.PresenceEvents{Clock: time.Now}}
	})
	alice, bob := there.Client("alice"), there.Client("bob")
	bob.Join(alice.Create())
	at := alice.In(here)
	at.Sync("")
	before := here.Cache.Head()
	bob.Show("busy", true)
	synctest.Must(t, here.Cache.CatchUp(t.Context()))
	if !here.Cache.KnowsPresence(alice.UserNum, before) {
		t.Error("memory does not know it")
	}
	if shown := at.Sync("").Presence.Events; len(shown) != 1 || shown[0].Sender != bob.UserID.String() {
		t.Errorf("shown %v", shown)
	}
}

// Who comes into a room is not told what somebody showed there before, and who has gone since.
func TestPresence_of_those_who_had_left(t *testing.T) {
	t.Parallel()
	synctest.OnBothEngines(t, func(h *synctest.Server) {
		alice, bob, gone := h.Client("alice"), h.Client("bob"), h.Client("gone")
		r := bob.Create()
		gone.Join(r)
		alice.Create()
		alice.Sync("")
		gone.Show("leaving", true) // not in memory
		gone.Leave(r)
		alice.Join(r)
		for _, ev := range alice.Sync("").Presence.Events {
			if ev.Sender == gone.UserID.String() {
				t.Error("told of somebody who never was in a room with the viewer")
			}
		}
	}, func(o *synctest.Options) {
		o.Sections = []clientsync.Section{clientsync.PresenceEvents{Clock: time.Now}}
	})
}
