package clientsync_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"stoa/internal/clientsync"
	"stoa/internal/clientsync/synctest"
	"stoa/internal/history"
	"stoa/internal/room"
	"stoa/internal/token"
	"stoa/matrix/id"
)

func TestTimeline(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(h *synctest.Server){
		"a gap is limited, with the state that changed in it and a token that closes it": func(h *synctest.Server) {
			alice, bob := h.Client("alice"), h.Client("bob")
			r := alice.Create()
			bob.Join(r).Sync("")
			before := *bob.Since
			alice.Set(r, "m.room.topic", "", `{"topic":"in the gap"}`)
			alice.Set(r, "m.room.name", "", `{"name":"in the gap"}`)
			first := alice.Say(r, "one")
			alice.Set(r, "m.room.name", "", `{"name":"shown"}`)
			alice.Say(r, "two")
			got := bob.Sync(`{"room":{"timeline":{"limit":2}}}`).Join(r)
			synctest.Equal(h.T, "timeline", got.Timeline.Names(), []string{"m.room.name", "m.room.message"})
			synctest.Equal(h.T, "state", got.State.Names(), []string{"m.room.topic", "m.room.name"})
			if !got.Timeline.Limited || got.State.Find("m.room.name", "").Content["name"] != "in the gap" {
				h.T.Errorf("limited %v, state %+v", got.Timeline.Limited, got.State)
			}
			prev, err := token.Parse(got.Timeline.PrevBatch)
			bob.Must(err)
			page, err := h.Messages(h.T.Context(), bob.UserID, r, history.HistoryQuery{From: &prev, To: &token.Token{Stream: before}, Limit: 100})
			bob.Must(err)
			if n := len(page.Events); n != 3 || page.Events[0].PDU.EventID() != first {
				h.T.Errorf("the gap holds %d events", n)
			}
		},
		"state_after tells the end, even if there is nothing to tell": func(h *synctest.Server) {
			alice := h.Client("alice")
			r := alice.Create()
			alice.Sync("")
			alice.Set(r, "m.room.topic", "", `{"topic":"x"}`)
			got := alice.Sync("", synctest.StateAfter).Join(r)
			if got.StateAfter == nil || len(got.State.Events) > 0 {
				h.T.Fatalf("state %v, state_after %v", got.State, got.StateAfter)
			}
			synctest.Equal(h.T, "state_after", got.StateAfter.Names(), []string{"m.room.topic"})
			alice.Say(r, "x")
			if got := alice.Sync("", synctest.StateAfter).Join(r); got.StateAfter == nil || len(got.StateAfter.Events) != 0 {
				h.T.Errorf("state_after is %v", got.StateAfter)
			}
		},
		"state that the filter keeps out of the timeline is told as state": func(h *synctest.Server) {
			alice := h.Client("alice")
			r := alice.Create()
			alice.Sync("")
			alice.Set(r, "m.room.topic", "", `{"topic":"x"}`)
			alice.Say(r, "x")
			got := alice.Sync(`{"room":{"timeline":{"types":["m.room.message"]}}}`).Join(r)
			synctest.Equal(h.T, "timeline", got.Timeline.Names(), []string{"m.room.message"})
			synctest.Equal(h.T, "state", got.State.Names(), []string{"m.room.topic"})
			if got.Timeline.Limited {
				h.T.Error("limited")
			}
		},
		"a state event that a hidden one has replaced is not shown after the newer state": func(h *synctest.Server) {
			alice, bob := h.Client("alice"), h.Client("bob")
			r := alice.Create(func(c *room.CreateRequest) { c.Preset = "public_chat" })
			alice.Set(r, "m.room.topic", "", `{"topic":"old"}`)
			alice.Set(r, "m.room.history_visibility", "", `{"history_visibility":"joined"}`)
			alice.Set(r, "m.room.topic", "", `{"topic":"new"}`)
			bob.Join(r)
			for _, start := range []func(*clientsync.Request){func(*clientsync.Request) {}, synctest.FromStart} {
				got := bob.Sync("", start).Join(r)
				if got.Timeline.Find("m.room.topic", "") != nil || !got.Timeline.Limited || got.State.Find("m.room.topic", "").Content["topic"] != "new" {
					h.T.Errorf("timeline %v, limited %v, state %v", got.Timeline.Names(), got.Timeline.Limited, got.State.Names())
				}
			}
		},
		"a state event that the filter's senders have replaced is not shown after the newer state": func(h *synctest.Server) {
			alice, bob := h.Client("alice"), h.Client("bob")
			r := alice.Create()
			bob.Join(r)
			alice.Set(r, "m.room.power_levels", "", fmt.Sprintf(`{"state_default":0,"users_default":0,"users":{"%s":50}}`, bob.UserID))
			alice.Sync("")
			alice.Set(r, "m.room.topic", "", `{"topic":"old"}`)
			bob.Set(r, "m.room.topic", "", `{"topic":"new"}`)
			alice.Say(r, "x")
			got := alice.Sync(fmt.Sprintf(`{"room":{"timeline":{"not_senders":["%s"]}}}`, bob.UserID)).Join(r)
			synctest.Equal(h.T, "timeline", got.Timeline.Names(), []string{"m.room.message"})
			if !got.Timeline.Limited || got.State.Find("m.room.topic", "").Content["topic"] != "new" {
				h.T.Errorf("limited %v, state %v", got.Timeline.Limited, got.State.Names())
			}
		},
		"a limit of 0 gives the state and no timeline": func(h *synctest.Server) {
			alice := h.Client("alice")
			r := alice.Create()
			alice.Set(r, "m.room.topic", "", `{"topic":"x"}`)
			got := alice.Sync(`{"room":{"timeline":{"limit":0}}}`).Join(r)
			if len(got.Timeline.Events) > 0 || !got.Timeline.Limited || got.State.Find("m.room.topic", "") == nil {
				h.T.Errorf("timeline %v, limited %v, state %v", got.Timeline.Names(), got.Timeline.Limited, got.State.Names())
			}
		},
		"full_state has all state, and the timeline since the token": func(h *synctest.Server) {
			alice := h.Client("alice")
			r := alice.Create()
			alice.Say(r, "old")
			alice.Sync("")
			alice.Say(r, "new")
			got := alice.Sync("", synctest.FullState).Join(r)
			synctest.Equal(h.T, "timeline", got.Timeline.Bodies(), []string{"new"})
			if got.State.Find("m.room.create", "") == nil || got.State.Find("m.room.member", alice.UserID.String()) == nil {
				h.T.Errorf("state is %v", got.State.Names())
			}
			if again := alice.Sync("", synctest.FullState).Join(r); again.State.Find("m.room.create", "") == nil {
				h.T.Errorf("a quiet room has the state %v", again.State.Names())
			}
		},
		"the transaction ID is for the sending device": func(h *synctest.Server) {
			alice, bob := h.Client("alice"), h.Client("bob")
			r := alice.Create()
			bob.Join(r).Sync("")
			alice.Sync("")
			phone := *alice
			phone.DeviceID = "PHONE"
			_, err := h.Send(h.T.Context(), room.Draft{RoomID: r, Sender: alice.UserID, Type: "m.room.message", Content: json.RawMessage(`{"body":"x"}`),
				Txn: room.Txn{UserID: alice.UserID, DeviceID: "DEV", Path: "send", ID: "txn1"}})
			alice.Must(err)
			for _, p := range []*synctest.Client{alice, &phone, bob} {
				want := ""
				if p == alice {
					want = "txn1"
				}
				if got := p.Sync("").Join(r).Timeline.Events[0].Unsigned.TransactionID; got != want {
					h.T.Errorf("%s %s gets transaction ID %q", p.UserID, p.DeviceID, got)
				}
			}
		},
		"a redacted event is shown redacted": func(h *synctest.Server) {
			alice, bob := h.Client("alice"), h.Client("bob")
			r := alice.Create()
			bob.Join(r).Sync("")
			target := alice.Say(r, "secret")
			_, err := h.Redact(h.T.Context(), room.RedactRequest{RoomID: r, Sender: alice.UserID, EventID: target, Reason: "spam"})
			alice.Must(err)
			a := bob.Sync("")
			got := a.Join(r).Timeline.Events
			if strings.Contains(a.Raw, "secret") || len(got) != 2 || got[0].Unsigned.Because == nil || got[0].Unsigned.Because.Type != "m.room.redaction" {
				h.T.Errorf("got %s", a.Raw)
			}
		},
		"edits and threads are bundled when the timeline is limited": func(h *synctest.Server) {
			alice := h.Client("alice")
			r := alice.Create()
			alice.Sync("")
			root := alice.Say(r, "root")
			alice.Send(r, "m.room.message", `{"body":"* edit","msgtype":"m.text","m.new_content":{"body":"edit","msgtype":"m.text"},"m.relates_to":{"rel_type":"m.replace","event_id":"`+root.String()+`"}}`)
			alice.Send(r, "m.room.message", `{"body":"reply","msgtype":"m.text","m.relates_to":{"rel_type":"m.thread","event_id":"`+root.String()+`"}}`)
			got := alice.Sync(`{"room":{"timeline":{"limit":3}}}`, synctest.FromStart).Join(r).Timeline.Events
			i := slices.IndexFunc(got, func(e synctest.Event) bool { return e.EventID == root.String() })
			relations := got[i].Unsigned.Relations
			thread, _ := relations["m.thread"].(map[string]any)
			if relations["m.replace"] == nil || thread["count"] != 1.0 || thread["current_user_participated"] != true {
				h.T.Errorf("bundled: %v", relations)
			}
		},
		"only the wanted fields are sent": func(h *synctest.Server) {
			alice := h.Client("alice")
			r := alice.Create()
			alice.Sync("")
			alice.Say(r, "hello")
			a := alice.Sync(`{"event_fields":["content.body","type"]}`)
			if !strings.Contains(a.Raw, `{"content":{"body":"hello"},"type":"m.room.message"}`) {
				h.T.Errorf("got %s", a.Raw)
			}
		},
		"the federation format has what servers exchange": func(h *synctest.Server) {
			alice := h.Client("alice")
			r := alice.Create()
			alice.Sync("")
			alice.Say(r, "hello")
			a := alice.Sync(`{"event_format":"federation"}`)
			for _, key := range []string{`"auth_events":`, `"hashes":`, `"prev_events":`, `"event_id":`} {
				if !strings.Contains(a.Raw, key) {
					h.T.Errorf("no %s in %s", key, a.Raw)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.BothWays(t, test)
		})
	}
}

func TestMemberships(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(h *synctest.Server){
		"a room that was joined since has its whole state": func(h *synctest.Server) {
			alice, bob := h.Client("alice"), h.Client("bob")
			r := alice.Create()
			alice.Say(r, "before")
			bob.Sync("")
			bob.Join(r)
			alice.Say(r, "after")
			got := bob.Sync(`{"room":{"timeline":{"limit":2}}}`).Join(r)
			synctest.Equal(h.T, "timeline", got.Timeline.Names(), []string{"m.room.member/" + bob.UserID.String(), "m.room.message"})
			if !got.Timeline.Limited || got.State.Find("m.room.create", "") == nil || got.State.Find("m.room.member", alice.UserID.String()) == nil {
				h.T.Errorf("limited %v, state %v", got.Timeline.Limited, got.State.Names())
			}
			synctest.Equal(h.T, "second timeline", bob.Sync("").Join(r).Timeline.Names(), nil)
		},
		"what was said before one joined is hidden where history is for members": func(h *synctest.Server) {
			alice, bob := h.Client("alice"), h.Client("bob")
			r := alice.Create(func(c *room.CreateRequest) {
				c.InitialState = []room.StateEvent{{Type: "m.room.history_visibility", Content: json.RawMessage(`{"history_visibility":"joined"}`)}}
			})
			alice.Say(r, "hidden")
			bob.Join(r)
			alice.Say(r, "seen")
			got := bob.Sync("").Join(r)
			synctest.Equal(h.T, "timeline", got.Timeline.Bodies(), []string{"seen"})
			if got.Timeline.Find("m.room.member", bob.UserID.String()) == nil {
				h.T.Errorf("the viewer's own join is not in %v", got.Timeline.Names())
			}
		},
		"shared history shows the membership that one had": func(h *synctest.Server) {
			alice, bob := h.Client("alice"), h.Client("bob")
			r := alice.Create()
			alice.Say(r, "before")
			bob.Join(r)
			want := "leave"
			for _, ev := range bob.Sync("").Join(r).Timeline.Events {
				if ev.StateKey != nil && *ev.StateKey == bob.UserID.String() {
					want = "join"
				}
				if ev.Unsigned.Membership != want {
					h.T.Errorf("%s has membership %q, not %q", ev.Type, ev.Unsigned.Membership, want)
				}
			}
		},
		"an invite has stripped state until it is answered": func(h *synctest.Server) {
			alice, bob := h.Client("alice"), h.Client("bob")
			r := alice.Create(func(c *room.CreateRequest) { c.Preset, c.Name = room.PresetPrivateChat, "Party" })
			bob.Sync("")
			alice.Invite(r, bob)
			for range 2 {
				got := bob.Sync("", synctest.FromStart).Rooms.Invite[r.String()].State
				if got.Find("m.room.create", "") == nil || got.Find("m.room.name", "") == nil || got.Find("m.room.member", bob.UserID.String()) == nil {
					h.T.Errorf("invite_state is %v", got.Names())
				}
			}
			if len(bob.Sync("").Rooms.Invite) != 0 {
				h.T.Error("the invite is told twice")
			}
			bob.Leave(r)
			a := bob.Sync("")
			if _, left := a.Rooms.Leave[r.String()]; !left || len(a.Rooms.Invite) > 0 {
				h.T.Errorf("after the refusal: %s", a.Raw)
			}
		},
		"a room that was left ends with the leave": func(h *synctest.Server) {
			alice, bob := h.Client("alice"), h.Client("bob")
			r := alice.Create()
			bob.Join(r).Sync("")
			alice.Say(r, "seen")
			bob.Leave(r)
			alice.Say(r, "not for bob")
			got, left := bob.Sync("").Rooms.Leave[r.String()]
			if !left {
				h.T.Fatal("the room is not told as left")
			}
			synctest.Equal(h.T, "timeline", got.Timeline.Names(), []string{"m.room.message", "m.room.member/" + bob.UserID.String()})
			if a := bob.Sync(""); len(a.Rooms.Leave) > 0 {
				h.T.Errorf("told again: %s", a.Raw)
			}
			if a := bob.Sync("", synctest.FromStart); len(a.Rooms.Leave) > 0 {
				h.T.Errorf("an initial sync tells of it unasked: %s", a.Raw)
			}
			archived := bob.Sync(`{"room":{"include_leave":true,"timeline":{"limit":1}}}`, synctest.FromStart).Rooms.Leave[r.String()]
			synctest.Equal(h.T, "archived timeline", archived.Timeline.Names(), []string{"m.room.member/" + bob.UserID.String()})
			if archived.State.Find("m.room.create", "") == nil {
				h.T.Errorf("archived state is %v", archived.State.Names())
			}
		},
		"a ban, or its end, tells nothing but itself to those who were not in the room": func(h *synctest.Server) {
			alice := h.Client("alice")
			own := func(p *synctest.Client) string { return "m.room.member/" + p.UserID.String() }
			change := func(f func(context.Context, room.MembershipRequest) error, r id.RoomID, target *synctest.Client) {
				alice.Must(f(h.T.Context(), room.MembershipRequest{RoomID: r, Sender: alice.UserID, Target: target.UserID}))
			}
			for i, filter := range []string{"", `{"room":{"timeline":{"limit":0}}}`, `{"room":{"timeline":{"types":["m.room.message"]}}}`,
				`{"room":{"timeline":{"limit":1},"state":{"lazy_load_members":true}}}`} {
				for n, options := range [][]func(*clientsync.Request){nil, {synctest.StateAfter}, {synctest.FullState}, {synctest.FullState, synctest.StateAfter}} {
					member, stranger := h.Client(fmt.Sprint("member", i, n)), h.Client(fmt.Sprint("stranger", i, n))
					r := alice.Create(func(c *room.CreateRequest) { c.Name = "seen" })
					member.Join(r).Sync(filter)
					stranger.Sync(filter)
					change(h.Kick, r, member)
					member.Sync(filter)
					alice.Set(r, "m.room.name", "", `{"name":"secret"}`)
					for step, f := range []func(context.Context, room.MembershipRequest) error{h.Ban, h.Unban} {
						for _, p := range []*synctest.Client{member, stranger} {
							change(f, r, p)
							alice.Set(r, "m.room.topic", "", fmt.Sprintf(`{"topic":"secret %d"}`, step))
							a := p.Sync(filter, options...)
							got, listed := a.Rooms.Leave[r.String()]
							names := append(got.Timeline.Names(), got.State.Names()...)
							if got.StateAfter != nil {
								names = append(names, got.StateAfter.Names()...)
							}
							if !listed || !slices.Contains(names, own(p)) || strings.Contains(a.Raw, "secret") {
								h.T.Errorf("filter %q, options %d, step %d, %s: %s", filter, n, step, p.UserID, a.Raw)
							}
							if isWhole := p == member && n >= 2; !isWhole && slices.ContainsFunc(names, func(name string) bool { return name != own(p) && name != own(alice) }) {
								h.T.Errorf("filter %q, options %d, step %d, %s: told of %v", filter, n, step, p.UserID, names)
							}
						}
					}
				}
			}
		},
		"who declines an invitation does not get the state of the room": func(h *synctest.Server) {
			alice, bob := h.Client("alice"), h.Client("bob")
			r := alice.Create(func(c *room.CreateRequest) { c.Preset, c.Topic = room.PresetPrivateChat, "secret" })
			bob.Sync("")
			alice.Invite(r, bob)
			bob.Sync("")
			bob.Leave(r)
			since := *bob.Since
			const archive = `{"room":{"include_leave":true}}`
			for _, options := range [][]func(*clientsync.Request){nil, {synctest.StateAfter}, {synctest.FullState}, {synctest.FromStart}, {synctest.FromStart, synctest.StateAfter}} {
				bob.Since = &since
				a := bob.Sync(archive, options...)
				if _, listed := a.Rooms.Leave[r.String()]; !listed || strings.Contains(a.Raw, "secret") {
					h.T.Errorf("got %s", a.Raw)
				}
			}
		},
		"left and joined again is joined": func(h *synctest.Server) {
			alice, bob := h.Client("alice"), h.Client("bob")
			r := alice.Create()
			bob.Sync("")
			bob.Join(r)
			bob.Leave(r)
			bob.Join(r)
			a := bob.Sync("")
			if _, left := a.Rooms.Leave[r.String()]; left || len(a.Join(r).Timeline.Events) == 0 {
				h.T.Errorf("got %s", a.Raw)
			}
		},
		"a kick is told to the one who was kicked": func(h *synctest.Server) {
			alice, bob := h.Client("alice"), h.Client("bob")
			r := alice.Create()
			bob.Join(r).Sync("")
			alice.Must(h.Kick(h.T.Context(), room.MembershipRequest{RoomID: r, Sender: alice.UserID, Target: bob.UserID}))
			if _, left := bob.Sync("").Rooms.Leave[r.String()]; !left {
				h.T.Error("the room is not told as left")
			}
		},
		"heroes stand for a room without a name": func(h *synctest.Server) {
			alice, bob, carol := h.Client("alice"), h.Client("bob"), h.Client("carol")
			r := alice.Create()
			bob.Join(r)
			alice.Invite(r, carol)
			got := alice.Sync("").Join(r).Summary
			synctest.Equal(h.T, "heroes", got.Heroes, []string{bob.UserID.String(), carol.UserID.String()})
			if *got.Joined != 2 || *got.Invited != 1 {
				h.T.Errorf("%d joined, %d invited", *got.Joined, *got.Invited)
			}
			carol.Join(r)
			got = alice.Sync("").Join(r).Summary
			if got.Joined == nil || *got.Joined != 3 || *got.Invited != 0 {
				h.T.Errorf("after the join: %+v", got)
			}
			alice.Set(r, "m.room.name", "", `{"name":"Party"}`)
			if got := alice.Sync("", synctest.FromStart).Join(r).Summary; len(got.Heroes) > 0 {
				h.T.Errorf("a named room has heroes %v", got.Heroes)
			}
		},
		"heroes are told when a room loses its name": func(h *synctest.Server) {
			alice, bob := h.Client("alice"), h.Client("bob")
			r := alice.Create()
			bob.Join(r)
			redact := func(eventID id.EventID) {
				_, err := h.Redact(h.T.Context(), room.RedactRequest{RoomID: r, Sender: alice.UserID, EventID: eventID})
				alice.Must(err)
			}
			losses := map[string]func(evType string, named id.EventID){
				"empty":    func(evType string, _ id.EventID) { alice.Set(r, evType, "", `{"name":"","alias":""}`) },
				"gone":     func(evType string, _ id.EventID) { alice.Set(r, evType, "", `{}`) },
				"redacted": func(_ string, named id.EventID) { redact(named) },
				"redacted, and then much was said": func(_ string, named id.EventID) {
					redact(named)
					for range 15 {
						alice.Say(r, "x")
					}
				},
			}
			for evType, content := range map[string]string{"m.room.name": `{"name":"Party"}`, "m.room.canonical_alias": `{"alias":"#party:stoa.test"}`} {
				for loss, lose := range losses {
					named := alice.Set(r, evType, "", content)
					alice.Say(r, "x")
					filters := []string{`{"room":{"timeline":{"limit":1},"state":{"lazy_load_members":true}}}`, ``, `{"room":{"timeline":{"limit":0}}}`}
					tokens := make([]*token.Stream, len(filters))
					for i, filter := range filters {
						if got := alice.Sync(filter, synctest.FromStart).Join(r).Summary; len(got.Heroes) > 0 {
							h.T.Errorf("%s: a named room has heroes %v", evType, got.Heroes)
						}
						tokens[i] = alice.Since
					}
					lose(evType, named)
					for i, filter := range filters {
						what := fmt.Sprintf("%s %s, filter %q", evType, loss, filter)
						alice.Since = tokens[i]
						got := alice.Sync(filter).Join(r)
						synctest.Equal(h.T, what, got.Summary.Heroes, []string{bob.UserID.String()})
						if i == 0 && got.State.Find("m.room.member", bob.UserID.String()) == nil {
							h.T.Errorf("%s: the hero's member event is missing: %v", what, got.State.Names())
						}
						alice.Say(r, "x")
						if got := alice.Sync(filter).Join(r).Summary; got.Joined != nil {
							h.T.Errorf("%s: told twice: %+v", what, got)
						}
						synctest.Equal(h.T, what+", from the start", alice.Sync(filter, synctest.FromStart).Join(r).Summary.Heroes, []string{bob.UserID.String()})
					}
				}
			}
		},
		"rooms that the filter excludes are not told": func(h *synctest.Server) {
			alice := h.Client("alice")
			r, other := alice.Create(), alice.Create()
			filter := `{"room":{"not_rooms":["` + r.String() + `"]}}`
			if a := alice.Sync(filter); len(a.Rooms.Join) != 1 {
				h.T.Errorf("got %s", a.Raw)
			}
			alice.Say(r, "x")
			alice.Say(other, "x")
			if a := alice.Sync(filter); len(a.Rooms.Join) != 1 || len(a.Join(other).Timeline.Events) != 1 {
				h.T.Errorf("got %s", a.Raw)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.BothWays(t, test)
		})
	}
}

func TestLazyMembers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(h *synctest.Server){
		"an initial sync has the senders and oneself": func(h *synctest.Server) {
			alice, bob, carol := h.Client("alice"), h.Client("bob"), h.Client("carol")
			r := alice.Create(func(c *room.CreateRequest) { c.Name = "Party" })
			bob.Join(r)
			carol.Join(r)
			bob.Say(r, "hello")
			got := alice.Sync(`{"room":{"timeline":{"limit":1},"state":{"lazy_load_members":true}}}`).Join(r).State
			if got.Find("m.room.member", bob.UserID.String()) == nil || got.Find("m.room.member", alice.UserID.String()) == nil ||
				got.Find("m.room.member", carol.UserID.String()) != nil || got.Find("m.room.create", "") == nil {
				h.T.Errorf("state is %v", got.Names())
			}
		},
		"a member is sent once": func(h *synctest.Server) {
			alice, bob := h.Client("alice"), h.Client("bob")
			r := alice.Create(func(c *room.CreateRequest) { c.Name = "Party" }) // no heroes
			bob.Join(r).Say(r, "x")
			for range 3 {
				alice.Say(r, "filler")
			}
			short := `{"room":{"timeline":{"limit":1},"state":{"lazy_load_members":true}}}`
			alice.Sync(short)
			member := "m.room.member/" + bob.UserID.String()
			bob.Say(r, "one")
			first := *alice.Since
			synctest.Equal(h.T, "first", alice.Sync(short).Join(r).State.Names(), []string{member})
			bob.Say(r, "two")
			synctest.Equal(h.T, "second", alice.Sync(short).Join(r).State.Names(), nil)
			bob.Say(r, "three")
			redundant := `{"room":{"timeline":{"limit":1},"state":{"lazy_load_members":true,"include_redundant_members":true}}}`
			synctest.Equal(h.T, "redundant", alice.Sync(redundant).Join(r).State.Names(), []string{member})
			alice.Since = &first
			synctest.Equal(h.T, "after a lost answer", alice.Sync(synctest.Lazily).Join(r).State.Names(), []string{member})
			alice.Sync(short, synctest.FromStart)
			bob.Say(r, "four")
			alice.Since = nil
			alice.Sync(`{"room":{"timeline":{"limit":0},"state":{"lazy_load_members":true}}}`)
			bob.Say(r, "five")
			synctest.Equal(h.T, "after a new start", alice.Sync(synctest.Lazily).Join(r).State.Names(), []string{member})
		},
		"a member who changes in the timeline is told as before it, and one who comes in it is not told": func(h *synctest.Server) {
			alice, bob, carol := h.Client("alice"), h.Client("bob"), h.Client("carol")
			r := alice.Create(func(c *room.CreateRequest) { c.Name = "Party" })
			bob.Join(r)
			bob.Set(r, "m.room.member", bob.UserID.String(), `{"membership":"join","displayname":"Robert"}`)
			alice.Say(r, "filler")
			bob.Set(r, "m.room.member", bob.UserID.String(), `{"membership":"join","displayname":"Rob"}`)
			bob.Set(r, "m.room.member", bob.UserID.String(), `{"membership":"join","displayname":"Bob"}`)
			carol.Join(r).Say(r, "x")
			short := `{"room":{"timeline":{"limit":4},"state":{"lazy_load_members":true}}}`
			for range 2 { // from the store, and with what was kept of it
				state := alice.Sync(short, synctest.FromStart).Join(r).State
				if ev := state.Find("m.room.member", bob.UserID.String()); ev == nil || ev.Content["displayname"] != "Robert" {
					h.T.Errorf("bob is %v", ev)
				}
				if ev := state.Find("m.room.member", carol.UserID.String()); ev != nil {
					h.T.Errorf("carol is %v", ev)
				}
			}
			after := alice.Sync(short, synctest.FromStart, synctest.StateAfter).Join(r).StateAfter
			if ev := after.Find("m.room.member", bob.UserID.String()); ev == nil || ev.Content["displayname"] != "Bob" {
				h.T.Errorf("after the timeline bob is %v", ev)
			}
		},
		"a whole state has the members who changed since the token, and the senders again": func(h *synctest.Server) {
			alice, bob, carol, dave := h.Client("alice"), h.Client("bob"), h.Client("carol"), h.Client("dave")
			r := alice.Create(func(c *room.CreateRequest) { c.Name = "Party" })
			for _, p := range []*synctest.Client{bob, carol, dave} {
				p.Join(r).Say(r, "x")
			}
			alice.Sync(synctest.Lazily)
			known := alice.Since
			bob.Leave(r)
			carol.Set(r, "m.room.member", carol.UserID.String(), `{"membership":"join","displayname":"Caroline"}`)
			dave.Say(r, "one")
			dave.Say(r, "two")
			for _, limit := range []int{1, 10} { // the changes are in a gap, or in the timeline
				filter := fmt.Sprintf(`{"room":{"timeline":{"limit":%d},"state":{"lazy_load_members":true}}}`, limit)
				for _, after := range []bool{false, true} {
					alice.Since = known
					change := []func(*clientsync.Request){synctest.FullState}
					if after {
						change = append(change, synctest.StateAfter)
					}
					got := alice.Sync(filter, change...).Join(r)
					members := got.State.Events
					if after {
						members = got.StateAfter.Events
					} else {
						members = append(members, got.Timeline.Events...)
					}
					is := map[string]any{}
					for _, ev := range members {
						if ev.Type == "m.room.member" {
							is[*ev.StateKey] = fmt.Sprint(ev.Content["membership"], " ", ev.Content["displayname"])
						}
					}
					for p, want := range map[*synctest.Client]string{bob: "leave <nil>", carol: "join Caroline", dave: "join <nil>"} {
						if is[p.UserID.String()] != want {
							h.T.Errorf("limit %d, state_after %v: %s is %v, not %q", limit, after, p.UserID, is[p.UserID.String()], want)
						}
					}
				}
			}
		},
		"who comes back is told of the members who changed meanwhile": func(h *synctest.Server) {
			for _, synced := range []bool{false, true} {
				alice, bob, carol := h.Client(fmt.Sprint("alice", synced)), h.Client("bob"), h.Client("carol")
				r := bob.Create(func(c *room.CreateRequest) { c.Name = "Party" })
				bob.Say(r, "x")
				carol.Join(r).Say(r, "x")
				alice.Join(r).Sync(synctest.Lazily)
				carol.Leave(r)
				alice.Leave(r)
				if synced {
					alice.Sync(synctest.Lazily)
				}
				bob.Set(r, "m.room.member", bob.UserID.String(), `{"membership":"join","displayname":"Bob"}`)
				alice.Join(r).Say(r, "x")
				got := alice.Sync(`{"room":{"timeline":{"limit":1},"state":{"lazy_load_members":true}}}`).Join(r).State
				if ev := got.Find("m.room.member", bob.UserID.String()); ev == nil || ev.Content["displayname"] != "Bob" {
					h.T.Errorf("synced after leaving: %v: bob is %v", synced, ev)
				}
				if ev := got.Find("m.room.member", carol.UserID.String()); !synced && (ev == nil || ev.Content["membership"] != "leave") {
					h.T.Errorf("carol, who left before alice, is %v", ev)
				} else if synced && ev != nil {
					h.T.Errorf("carol, of whom alice knows, is %v", ev)
				}
			}
		},
		"a sender's membership is told if the timeline hides it": func(h *synctest.Server) {
			alice, bob := h.Client("alice"), h.Client("bob")
			r := alice.Create(func(c *room.CreateRequest) { c.Name = "Party" })
			filter := `{"room":{"timeline":{"types":["m.room.message"]},"state":{"lazy_load_members":true}}}`
			member := func(what string, p *synctest.Client, change ...func(*clientsync.Request)) {
				h.T.Helper()
				got := p.Sync(filter, change...).Join(r)
				state := got.State
				if got.StateAfter != nil {
					state = *got.StateAfter
				}
				if ev := state.Find("m.room.member", bob.UserID.String()); ev == nil || ev.Content["displayname"] != "Robert" {
					h.T.Errorf("%s: bob is %v", what, ev)
				}
				if state.Find("m.room.member", p.UserID.String()) == nil {
					h.T.Errorf("%s: the viewer's membership is missing", what)
				}
			}
			carol := h.Client("carol")
			carol.Sync(filter)
			bob.Join(r).Say(r, "x")
			bob.Set(r, "m.room.member", bob.UserID.String(), `{"membership":"join","displayname":"Robert"}`)
			for range 2 {
				member("initial", alice, synctest.FromStart)
			}
			member("initial, state after", alice, synctest.FromStart, synctest.StateAfter)
			carol.Join(r)
			member("fresh join", carol)
			bob.Say(r, "y")
			member("full state", carol, synctest.FullState)
		},
		"members who changed in a gap are told": func(h *synctest.Server) {
			alice, bob := h.Client("alice"), h.Client("bob")
			r := alice.Create()
			alice.Sync(synctest.Lazily)
			bob.Join(r)
			alice.Say(r, "one")
			alice.Say(r, "two")
			got := alice.Sync(`{"room":{"timeline":{"limit":1},"state":{"lazy_load_members":true}}}`).Join(r)
			if got.State.Find("m.room.member", bob.UserID.String()) == nil {
				h.T.Errorf("state is %v", got.State.Names())
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.BothWays(t, test)
		})
	}
}

// A token that is older than the stream is answered like an initial sync.
func TestForgottenToken(t *testing.T) {
	t.Parallel()
	synctest.OnBothEngines(t, func(h *synctest.Server) {
		alice := h.Client("alice")
		r := alice.Create()
		alice.Sync("")
		old := *alice.Since
		for range 5 {
			alice.Say(r, "x")
		}
		alice.Sync("") // so the cache has seen all of it
		alice.Must(h.Store.TrimStream(h.T.Context(), 1))
		h.Cache.Forget()
		alice.Since = &old
		got := alice.Sync("").Join(r)
		if got.State.Find("m.room.create", "") == nil && got.Timeline.Events[0].Type != "m.room.create" {
			h.T.Errorf("timeline %v, state %v", got.Timeline.Names(), got.State.Names())
		}
	})
}

func TestPrevContent(t *testing.T) {
	t.Parallel()
	const visibility = "m.room.history_visibility"
	topic := func(h *synctest.Server, what string, got synctest.RoomAnswer, old string) {
		h.T.Helper()
		slices.Reverse(got.Timeline.Events) // the newest topic first
		ev := got.Timeline.Find("m.room.topic", "")
		if ev == nil || ev.Unsigned.ReplacesState == "" {
			h.T.Errorf("%s: no topic that replaces another: %+v", what, ev)
		} else if is, _ := ev.Unsigned.PrevContent["topic"].(string); is != old {
			h.T.Errorf("%s: the topic replaced %v, and not %q", what, ev.Unsigned.PrevContent, old)
		}
	}
	for name, test := range map[string]func(h *synctest.Server){
		"in a room with a hidden part, members see what they could see before": func(h *synctest.Server) {
			alice, bob, carol := h.Client("alice"), h.Client("bob"), h.Client("carol")
			r := alice.Create()
			alice.Set(r, "m.room.topic", "", `{"topic":"one"}`)
			bob.Join(r).Sync("")
			alice.Set(r, visibility, "", `{"history_visibility":"joined"}`)
			alice.Sync("")
			bob.Sync("")
			alice.Set(r, "m.room.topic", "", `{"topic":"two"}`)
			topic(h, "a member", alice.Sync("").Join(r), "one")
			topic(h, "who came after a shared event", bob.Sync("").Join(r), "one")
			topic(h, "from the start", bob.Sync("", synctest.FromStart).Join(r), "one")
			carol.Join(r).Sync("")
			alice.Set(r, "m.room.topic", "", `{"topic":"three"}`)
			topic(h, "a member since", bob.Sync("").Join(r), "two")
			topic(h, "who came after a hidden event", carol.Sync("").Join(r), "")
			topic(h, "who came after a hidden event, from the start", carol.Sync("", synctest.FromStart).Join(r), "")
		},
		"a redacted event is shown redacted": func(h *synctest.Server) {
			for _, shown := range []string{"shared", "joined"} {
				alice, bob := h.Client("alice"), h.Client("bob")
				r := alice.Create()
				alice.Set(r, visibility, "", fmt.Sprintf(`{"history_visibility":%q}`, shown))
				bob.Join(r).Sync("")
				secret := alice.Set(r, "m.room.topic", "", `{"topic":"secret"}`)
				_, err := h.Redact(h.T.Context(), room.RedactRequest{RoomID: r, Sender: alice.UserID, EventID: secret})
				alice.Must(err)
				bob.Sync("")
				second := alice.Set(r, "m.room.topic", "", `{"topic":"two"}`)
				a := bob.Sync("")
				topic(h, shown, a.Join(r), "")
				if strings.Contains(a.Raw, "secret") || !strings.Contains(a.Raw, `"prev_content":{}`) {
					h.T.Errorf("%s: got %s", shown, a.Raw)
				}
				alice.Set(r, "m.room.topic", "", `{"topic":"three"}`)
				_, err = h.Redact(h.T.Context(), room.RedactRequest{RoomID: r, Sender: alice.UserID, EventID: second})
				alice.Must(err)
				topic(h, shown+", redacted later", bob.Sync("").Join(r), "")
			}
		},
		"of an event far back, and of a room that the viewer has left": func(h *synctest.Server) {
			alice, bob := h.Client("alice"), h.Client("bob")
			r := alice.Create()
			bob.Join(r)
			alice.Set(r, "m.room.topic", "", `{"topic":"one"}`)
			alice.Set(r, "m.room.topic", "", `{"topic":"two"}`)
			for range 20 {
				alice.Say(r, "x")
			}
			for _, lazily := range []string{"false", "true"} {
				filter := `{"room":{"include_leave":true,"timeline":{"types":["m.room.topic"],"limit":1},"state":{"lazy_load_members":` + lazily + `}}}`
				topic(h, "far back", alice.Sync(filter, synctest.FromStart).Join(r), "one")
				topic(h, "far back, state after", alice.Sync(filter, synctest.FromStart, synctest.StateAfter).Join(r), "one")
			}
			bob.Leave(r)
			alice.Set(r, "m.room.topic", "", `{"topic":"three"}`)
			filter := `{"room":{"include_leave":true,"timeline":{"limit":30}}}`
			topic(h, "left", bob.Sync(filter, synctest.FromStart).Rooms.Leave[r.String()], "one")
			topic(h, "left, state after", bob.Sync(filter, synctest.FromStart, synctest.StateAfter).Rooms.Leave[r.String()], "one")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.BothWays(t, test)
		})
	}
}
