package clientsync_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"stoa/internal/clientsync"
	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/matrix/id"
)

// show sets a person's presence, with a status. payload says that the change carries it, so that it need not be read.
func (p *person) show(status string, payload bool) {
	row := userdb.Presence{User: p.UserNum, UserID: p.UserID.String(), Presence: "online", StatusMsg: &status, ActiveTS: 1}
	p.commit(func(c *store.Change) {
		userdb.SetPresence(c, row)
		if payload {
			c.Payload = []userdb.Presence{row}
		}
	})
}

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
	onBothEngines(t, func(h *house) {
		alice, bob, away, stranger := h.person("alice"), h.person("bob"), h.person("away"), h.person("stranger")
		r := alice.create()
		bob.join(r)
		away.join(r)
		stranger.create()
		for _, p := range []*person{alice, bob, stranger} { // away is not in memory
			p.sync("")
		}
		before := h.cache.Head()
		for i, p := range []*person{bob, stranger, away, alice} {
			p.show("online", carries(i))
		}
		alice.must(h.cache.Await(t.Context(), h.store.Head()))
		if known := h.cache.KnowsPresence(alice.UserNum, before); known != inMemory {
			t.Errorf("memory knows presence: %v", known)
		}
		var told []string
		for _, ev := range alice.sync("").Presence.Events {
			told = append(told, ev.Sender)
		}
		slices.Sort(told)
		equal(t, "told", told, []string{alice.UserID.String(), away.UserID.String(), bob.UserID.String()})
	}, func(o *options) {
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
	onBothEngines(t, func(h *house) {
		alice, bob, late := h.person("alice"), h.person("member0"), h.person("late")
		h.fill(alice, 1, userdb.PresenceRoom-1)
		told := func(what string, got, want int) {
			t.Helper()
			if got != want {
				t.Errorf("%s: presence of %d, not of %d", what, got, want)
			}
		}
		states := 0
		change := func() {
			states++
			bob.show(fmt.Sprint(states), payload)
		}
		change()
		told("at first", len(alice.sync("").Presence.Events), 1)
		change()
		told("of a change", len(alice.sync("").Presence.Events), 1)

		rooms := alice.sync("", func(r *clientsync.Request) { r.Since = nil }).Rooms.Join
		for name := range rooms {
			r, err := id.ParseRoomID(name)
			alice.must(err)
			late.join(r)
		}
		alice.sync("")
		change()
		told("of a change in a large room", len(alice.sync("").Presence.Events), 0)
		fresh := alice.sync("", func(r *clientsync.Request) { r.Since = nil })
		told("at first in a large room", len(fresh.Presence.Events), 0)
	}, func(o *options) {
		o.Sections = []clientsync.Section{clientsync.PresenceEvents{Clock: time.Now}}
	})
}

// Presence that another instance wrote is in memory like that of this one, and is told once.
func TestPresence_written_elsewhere(t *testing.T) {
	t.Parallel()
	here, there := twoHouses(t, func(o *options) {
		o.Sections = []clientsync.Section{clientsync.PresenceEvents{Clock: time.Now}}
	})
	alice, bob := there.person("alice"), there.person("bob")
	bob.join(alice.create())
	at := alice.in(here)
	at.sync("")
	before := here.cache.Head()
	bob.show("busy", true)
	must(t, here.cache.CatchUp(t.Context()))
	if !here.cache.KnowsPresence(alice.UserNum, before) {
		t.Error("memory does not know it")
	}
	if told := at.sync("").Presence.Events; len(told) != 1 || told[0].Sender != bob.UserID.String() {
		t.Errorf("told %v", told)
	}
}

// Who comes into a room is not told what somebody showed there before, and who has gone since.
func TestPresence_of_those_who_had_left(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *house) {
		alice, bob, gone := h.person("alice"), h.person("bob"), h.person("gone")
		r := bob.create()
		gone.join(r)
		alice.create()
		alice.sync("")
		gone.show("leaving", true) // not in memory
		gone.leave(r)
		alice.join(r)
		for _, ev := range alice.sync("").Presence.Events {
			if ev.Sender == gone.UserID.String() {
				t.Error("told of somebody who never was in a room with the viewer")
			}
		}
	}, func(o *options) {
		o.Sections = []clientsync.Section{clientsync.PresenceEvents{Clock: time.Now}}
	})
}
