package clientsync_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"stoa/internal/history"
	"stoa/internal/room"
	"stoa/internal/token"
	"stoa/matrix/id"
)

// bothWays runs a test with answers from memory and from the store, on both engines.
func bothWays(t *testing.T, f func(h *house)) {
	t.Helper()
	for name, change := range map[string]func(*options){
		"from memory":    func(*options) {},
		"from the store": func(o *options) { o.RingRecords = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBothEngines(t, f, change)
		})
	}
}

func (a answer) join(r id.RoomID) roomAnswer { return a.Rooms.Join[r.String()] }

func TestTimeline(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(h *house){
		"a gap is limited, with the state that changed in it and a token that closes it": func(h *house) {
			alice, bob := h.person("alice"), h.person("bob")
			r := alice.create()
			bob.join(r).sync("")
			before := *bob.since
			alice.set(r, "m.room.topic", "", `{"topic":"in the gap"}`)
			alice.set(r, "m.room.name", "", `{"name":"in the gap"}`)
			first := alice.say(r, "one")
			alice.set(r, "m.room.name", "", `{"name":"shown"}`)
			alice.say(r, "two")
			got := bob.sync(`{"room":{"timeline":{"limit":2}}}`).join(r)
			equal(h.t, "timeline", got.Timeline.names(), []string{"m.room.name", "m.room.message"})
			equal(h.t, "state", got.State.names(), []string{"m.room.topic", "m.room.name"})
			if !got.Timeline.Limited || got.State.find("m.room.name", "").Content["name"] != "in the gap" {
				h.t.Errorf("limited %v, state %+v", got.Timeline.Limited, got.State)
			}
			prev, err := token.Parse(got.Timeline.PrevBatch)
			bob.must(err)
			page, err := h.Messages(h.t.Context(), bob.UserID, r, history.HistoryQuery{From: &prev, To: &token.Token{Stream: before}, Limit: 100})
			bob.must(err)
			if n := len(page.Events); n != 3 || page.Events[0].PDU.EventID() != first {
				h.t.Errorf("the gap holds %d events", n)
			}
		},
		"state_after tells the end, even if there is nothing to tell": func(h *house) {
			alice := h.person("alice")
			r := alice.create()
			alice.sync("")
			alice.set(r, "m.room.topic", "", `{"topic":"x"}`)
			got := alice.sync("", stateAfter).join(r)
			if got.StateAfter == nil || len(got.State.Events) > 0 {
				h.t.Fatalf("state %v, state_after %v", got.State, got.StateAfter)
			}
			equal(h.t, "state_after", got.StateAfter.names(), []string{"m.room.topic"})
			alice.say(r, "x")
			if got := alice.sync("", stateAfter).join(r); got.StateAfter == nil || len(got.StateAfter.Events) != 0 {
				h.t.Errorf("state_after is %v", got.StateAfter)
			}
		},
		"state that the filter keeps out of the timeline is told as state": func(h *house) {
			alice := h.person("alice")
			r := alice.create()
			alice.sync("")
			alice.set(r, "m.room.topic", "", `{"topic":"x"}`)
			alice.say(r, "x")
			got := alice.sync(`{"room":{"timeline":{"types":["m.room.message"]}}}`).join(r)
			equal(h.t, "timeline", got.Timeline.names(), []string{"m.room.message"})
			equal(h.t, "state", got.State.names(), []string{"m.room.topic"})
			if got.Timeline.Limited {
				h.t.Error("limited")
			}
		},
		"a limit of 0 gives the state and no timeline": func(h *house) {
			alice := h.person("alice")
			r := alice.create()
			alice.set(r, "m.room.topic", "", `{"topic":"x"}`)
			got := alice.sync(`{"room":{"timeline":{"limit":0}}}`).join(r)
			if len(got.Timeline.Events) > 0 || !got.Timeline.Limited || got.State.find("m.room.topic", "") == nil {
				h.t.Errorf("timeline %v, limited %v, state %v", got.Timeline.names(), got.Timeline.Limited, got.State.names())
			}
		},
		"full_state has all state, and the timeline since the token": func(h *house) {
			alice := h.person("alice")
			r := alice.create()
			alice.say(r, "old")
			alice.sync("")
			alice.say(r, "new")
			got := alice.sync("", fullState).join(r)
			equal(h.t, "timeline", got.Timeline.bodies(), []string{"new"})
			if got.State.find("m.room.create", "") == nil || got.State.find("m.room.member", alice.UserID.String()) == nil {
				h.t.Errorf("state is %v", got.State.names())
			}
			if again := alice.sync("", fullState).join(r); again.State.find("m.room.create", "") == nil {
				h.t.Errorf("a quiet room has the state %v", again.State.names())
			}
		},
		"the transaction ID is for the sending device": func(h *house) {
			alice, bob := h.person("alice"), h.person("bob")
			r := alice.create()
			bob.join(r).sync("")
			alice.sync("")
			phone := *alice
			phone.DeviceID = "PHONE"
			_, err := h.Send(h.t.Context(), room.Draft{RoomID: r, Sender: alice.UserID, Type: "m.room.message", Content: json.RawMessage(`{"body":"x"}`),
				Txn: room.Txn{UserID: alice.UserID, DeviceID: "DEV", Path: "send", ID: "txn1"}})
			alice.must(err)
			for _, p := range []*person{alice, &phone, bob} {
				want := ""
				if p == alice {
					want = "txn1"
				}
				if got := p.sync("").join(r).Timeline.Events[0].Unsigned.TransactionID; got != want {
					h.t.Errorf("%s %s gets transaction ID %q", p.UserID, p.DeviceID, got)
				}
			}
		},
		"a redacted event is shown redacted": func(h *house) {
			alice, bob := h.person("alice"), h.person("bob")
			r := alice.create()
			bob.join(r).sync("")
			target := alice.say(r, "secret")
			_, err := h.Redact(h.t.Context(), room.RedactRequest{RoomID: r, Sender: alice.UserID, EventID: target, Reason: "spam"})
			alice.must(err)
			a := bob.sync("")
			got := a.join(r).Timeline.Events
			if strings.Contains(a.Raw, "secret") || len(got) != 2 || got[0].Unsigned.Because == nil || got[0].Unsigned.Because.Type != "m.room.redaction" {
				h.t.Errorf("got %s", a.Raw)
			}
		},
		"edits and threads are bundled when the timeline is limited": func(h *house) {
			alice := h.person("alice")
			r := alice.create()
			alice.sync("")
			root := alice.say(r, "root")
			alice.send(r, "m.room.message", `{"body":"* edit","msgtype":"m.text","m.new_content":{"body":"edit","msgtype":"m.text"},"m.relates_to":{"rel_type":"m.replace","event_id":"`+root.String()+`"}}`)
			alice.send(r, "m.room.message", `{"body":"reply","msgtype":"m.text","m.relates_to":{"rel_type":"m.thread","event_id":"`+root.String()+`"}}`)
			got := alice.sync(`{"room":{"timeline":{"limit":3}}}`, fromStart).join(r).Timeline.Events
			i := slices.IndexFunc(got, func(e event) bool { return e.EventID == root.String() })
			relations := got[i].Unsigned.Relations
			thread, _ := relations["m.thread"].(map[string]any)
			if relations["m.replace"] == nil || thread["count"] != 1.0 || thread["current_user_participated"] != true {
				h.t.Errorf("bundled: %v", relations)
			}
		},
		"only the wanted fields are sent": func(h *house) {
			alice := h.person("alice")
			r := alice.create()
			alice.sync("")
			alice.say(r, "hello")
			a := alice.sync(`{"event_fields":["content.body","type"]}`)
			if !strings.Contains(a.Raw, `{"content":{"body":"hello"},"type":"m.room.message"}`) {
				h.t.Errorf("got %s", a.Raw)
			}
		},
		"the federation format has what servers exchange": func(h *house) {
			alice := h.person("alice")
			r := alice.create()
			alice.sync("")
			alice.say(r, "hello")
			a := alice.sync(`{"event_format":"federation"}`)
			for _, key := range []string{`"auth_events":`, `"hashes":`, `"prev_events":`, `"event_id":`} {
				if !strings.Contains(a.Raw, key) {
					h.t.Errorf("no %s in %s", key, a.Raw)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bothWays(t, test)
		})
	}
}

func TestMemberships(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(h *house){
		"a room that was joined since has its whole state": func(h *house) {
			alice, bob := h.person("alice"), h.person("bob")
			r := alice.create()
			alice.say(r, "before")
			bob.sync("")
			bob.join(r)
			alice.say(r, "after")
			got := bob.sync(`{"room":{"timeline":{"limit":2}}}`).join(r)
			equal(h.t, "timeline", got.Timeline.names(), []string{"m.room.member/" + bob.UserID.String(), "m.room.message"})
			if !got.Timeline.Limited || got.State.find("m.room.create", "") == nil || got.State.find("m.room.member", alice.UserID.String()) == nil {
				h.t.Errorf("limited %v, state %v", got.Timeline.Limited, got.State.names())
			}
			equal(h.t, "second timeline", bob.sync("").join(r).Timeline.names(), nil)
		},
		"what was said before one joined is hidden where history is for members": func(h *house) {
			alice, bob := h.person("alice"), h.person("bob")
			r := alice.create(func(c *room.CreateRequest) {
				c.InitialState = []room.StateEvent{{Type: "m.room.history_visibility", Content: json.RawMessage(`{"history_visibility":"joined"}`)}}
			})
			alice.say(r, "hidden")
			bob.join(r)
			alice.say(r, "seen")
			got := bob.sync("").join(r)
			equal(h.t, "timeline", got.Timeline.bodies(), []string{"seen"})
			if got.Timeline.find("m.room.member", bob.UserID.String()) == nil {
				h.t.Errorf("the viewer's own join is not in %v", got.Timeline.names())
			}
		},
		"shared history shows the membership that one had": func(h *house) {
			alice, bob := h.person("alice"), h.person("bob")
			r := alice.create()
			alice.say(r, "before")
			bob.join(r)
			want := "leave"
			for _, ev := range bob.sync("").join(r).Timeline.Events {
				if ev.StateKey != nil && *ev.StateKey == bob.UserID.String() {
					want = "join"
				}
				if ev.Unsigned.Membership != want {
					h.t.Errorf("%s has membership %q, not %q", ev.Type, ev.Unsigned.Membership, want)
				}
			}
		},
		"an invite has stripped state until it is answered": func(h *house) {
			alice, bob := h.person("alice"), h.person("bob")
			r := alice.create(func(c *room.CreateRequest) { c.Preset, c.Name = room.PresetPrivateChat, "Party" })
			bob.sync("")
			alice.invite(r, bob)
			for range 2 {
				got := bob.sync("", fromStart).Rooms.Invite[r.String()].State
				if got.find("m.room.create", "") == nil || got.find("m.room.name", "") == nil || got.find("m.room.member", bob.UserID.String()) == nil {
					h.t.Errorf("invite_state is %v", got.names())
				}
			}
			if len(bob.sync("").Rooms.Invite) != 0 {
				h.t.Error("the invite is told twice")
			}
			bob.leave(r)
			a := bob.sync("")
			if _, left := a.Rooms.Leave[r.String()]; !left || len(a.Rooms.Invite) > 0 {
				h.t.Errorf("after the refusal: %s", a.Raw)
			}
		},
		"a room that was left ends with the leave": func(h *house) {
			alice, bob := h.person("alice"), h.person("bob")
			r := alice.create()
			bob.join(r).sync("")
			alice.say(r, "seen")
			bob.leave(r)
			alice.say(r, "not for bob")
			got, left := bob.sync("").Rooms.Leave[r.String()]
			if !left {
				h.t.Fatal("the room is not told as left")
			}
			equal(h.t, "timeline", got.Timeline.names(), []string{"m.room.message", "m.room.member/" + bob.UserID.String()})
			if a := bob.sync(""); len(a.Rooms.Leave) > 0 {
				h.t.Errorf("told again: %s", a.Raw)
			}
			if a := bob.sync("", fromStart); len(a.Rooms.Leave) > 0 {
				h.t.Errorf("an initial sync tells of it unasked: %s", a.Raw)
			}
			archived := bob.sync(`{"room":{"include_leave":true,"timeline":{"limit":1}}}`, fromStart).Rooms.Leave[r.String()]
			equal(h.t, "archived timeline", archived.Timeline.names(), []string{"m.room.member/" + bob.UserID.String()})
			if archived.State.find("m.room.create", "") == nil {
				h.t.Errorf("archived state is %v", archived.State.names())
			}
		},
		"left and joined again is joined": func(h *house) {
			alice, bob := h.person("alice"), h.person("bob")
			r := alice.create()
			bob.sync("")
			bob.join(r)
			bob.leave(r)
			bob.join(r)
			a := bob.sync("")
			if _, left := a.Rooms.Leave[r.String()]; left || len(a.join(r).Timeline.Events) == 0 {
				h.t.Errorf("got %s", a.Raw)
			}
		},
		"a kick is told to the one who was kicked": func(h *house) {
			alice, bob := h.person("alice"), h.person("bob")
			r := alice.create()
			bob.join(r).sync("")
			alice.must(h.Kick(h.t.Context(), room.MembershipRequest{RoomID: r, Sender: alice.UserID, Target: bob.UserID}))
			if _, left := bob.sync("").Rooms.Leave[r.String()]; !left {
				h.t.Error("the room is not told as left")
			}
		},
		"heroes stand for a room without a name": func(h *house) {
			alice, bob, carol := h.person("alice"), h.person("bob"), h.person("carol")
			r := alice.create()
			bob.join(r)
			alice.invite(r, carol)
			got := alice.sync("").join(r).Summary
			equal(h.t, "heroes", got.Heroes, []string{bob.UserID.String(), carol.UserID.String()})
			if *got.Joined != 2 || *got.Invited != 1 {
				h.t.Errorf("%d joined, %d invited", *got.Joined, *got.Invited)
			}
			carol.join(r)
			got = alice.sync("").join(r).Summary
			if got.Joined == nil || *got.Joined != 3 || *got.Invited != 0 {
				h.t.Errorf("after the join: %+v", got)
			}
			alice.set(r, "m.room.name", "", `{"name":"Party"}`)
			if got := alice.sync("", fromStart).join(r).Summary; len(got.Heroes) > 0 {
				h.t.Errorf("a named room has heroes %v", got.Heroes)
			}
		},
		"rooms that the filter excludes are not told": func(h *house) {
			alice := h.person("alice")
			r, other := alice.create(), alice.create()
			filter := `{"room":{"not_rooms":["` + r.String() + `"]}}`
			if a := alice.sync(filter); len(a.Rooms.Join) != 1 {
				h.t.Errorf("got %s", a.Raw)
			}
			alice.say(r, "x")
			alice.say(other, "x")
			if a := alice.sync(filter); len(a.Rooms.Join) != 1 || len(a.join(other).Timeline.Events) != 1 {
				h.t.Errorf("got %s", a.Raw)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bothWays(t, test)
		})
	}
}

const lazily = `{"room":{"state":{"lazy_load_members":true}}}`

func TestLazyMembers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(h *house){
		"an initial sync has the senders and oneself": func(h *house) {
			alice, bob, carol := h.person("alice"), h.person("bob"), h.person("carol")
			r := alice.create(func(c *room.CreateRequest) { c.Name = "Party" })
			bob.join(r)
			carol.join(r)
			bob.say(r, "hello")
			got := alice.sync(`{"room":{"timeline":{"limit":1},"state":{"lazy_load_members":true}}}`).join(r).State
			if got.find("m.room.member", bob.UserID.String()) == nil || got.find("m.room.member", alice.UserID.String()) == nil ||
				got.find("m.room.member", carol.UserID.String()) != nil || got.find("m.room.create", "") == nil {
				h.t.Errorf("state is %v", got.names())
			}
		},
		"a member is sent once": func(h *house) {
			alice, bob := h.person("alice"), h.person("bob")
			r := alice.create(func(c *room.CreateRequest) { c.Name = "Party" }) // no heroes
			bob.join(r).say(r, "x")
			for range 3 {
				alice.say(r, "filler")
			}
			short := `{"room":{"timeline":{"limit":1},"state":{"lazy_load_members":true}}}`
			alice.sync(short)
			member := "m.room.member/" + bob.UserID.String()
			bob.say(r, "one")
			first := *alice.since
			equal(h.t, "first", alice.sync(short).join(r).State.names(), []string{member})
			bob.say(r, "two")
			equal(h.t, "second", alice.sync(short).join(r).State.names(), nil)
			bob.say(r, "three")
			redundant := `{"room":{"timeline":{"limit":1},"state":{"lazy_load_members":true,"include_redundant_members":true}}}`
			equal(h.t, "redundant", alice.sync(redundant).join(r).State.names(), []string{member})
			alice.since = &first
			equal(h.t, "after a lost answer", alice.sync(lazily).join(r).State.names(), []string{member})
			alice.sync(short, fromStart)
			bob.say(r, "four")
			alice.since = nil
			alice.sync(`{"room":{"timeline":{"limit":0},"state":{"lazy_load_members":true}}}`)
			bob.say(r, "five")
			equal(h.t, "after a new start", alice.sync(lazily).join(r).State.names(), []string{member})
		},
		"a member who changes in the timeline is told as before it, and one who comes in it is not told": func(h *house) {
			alice, bob, carol := h.person("alice"), h.person("bob"), h.person("carol")
			r := alice.create(func(c *room.CreateRequest) { c.Name = "Party" })
			bob.join(r)
			bob.set(r, "m.room.member", bob.UserID.String(), `{"membership":"join","displayname":"Robert"}`)
			alice.say(r, "filler")
			bob.set(r, "m.room.member", bob.UserID.String(), `{"membership":"join","displayname":"Rob"}`)
			bob.set(r, "m.room.member", bob.UserID.String(), `{"membership":"join","displayname":"Bob"}`)
			carol.join(r).say(r, "x")
			short := `{"room":{"timeline":{"limit":4},"state":{"lazy_load_members":true}}}`
			for range 2 { // from the store, and with what was kept of it
				state := alice.sync(short, fromStart).join(r).State
				if ev := state.find("m.room.member", bob.UserID.String()); ev == nil || ev.Content["displayname"] != "Robert" {
					h.t.Errorf("bob is %v", ev)
				}
				if ev := state.find("m.room.member", carol.UserID.String()); ev != nil {
					h.t.Errorf("carol is %v", ev)
				}
			}
			after := alice.sync(short, fromStart, stateAfter).join(r).StateAfter
			if ev := after.find("m.room.member", bob.UserID.String()); ev == nil || ev.Content["displayname"] != "Bob" {
				h.t.Errorf("after the timeline bob is %v", ev)
			}
		},
		"members who changed in a gap are told": func(h *house) {
			alice, bob := h.person("alice"), h.person("bob")
			r := alice.create()
			alice.sync(lazily)
			bob.join(r)
			alice.say(r, "one")
			alice.say(r, "two")
			got := alice.sync(`{"room":{"timeline":{"limit":1},"state":{"lazy_load_members":true}}}`).join(r)
			if got.State.find("m.room.member", bob.UserID.String()) == nil {
				h.t.Errorf("state is %v", got.State.names())
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bothWays(t, test)
		})
	}
}

// A token that is older than the stream is answered like an initial sync.
func TestForgottenToken(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *house) {
		alice := h.person("alice")
		r := alice.create()
		alice.sync("")
		old := *alice.since
		for range 5 {
			alice.say(r, "x")
		}
		alice.sync("") // so the hub has seen all of it
		alice.must(h.store.TrimStream(h.t.Context(), 1))
		h.cache.Reset()
		alice.since = &old
		got := alice.sync("").join(r)
		if got.State.find("m.room.create", "") == nil && got.Timeline.Events[0].Type != "m.room.create" {
			h.t.Errorf("timeline %v, state %v", got.Timeline.names(), got.State.names())
		}
	})
}
