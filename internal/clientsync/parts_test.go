package clientsync_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"stoa/internal/clientsync"
	"stoa/internal/clientsync/synctest"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/keydb"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/userdb"
)

func TestParts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(h *synctest.Server){
		"receipts are told to all, private ones to their owner": func(h *synctest.Server) {
			alice, bob := h.Client("alice"), h.Client("bob")
			r := alice.Create()
			eventID := bob.Join(r).Say(r, "x")
			alice.Sync("")
			bob.Sync("")
			bob.Receipt(r, eventID, roomdb.ReceiptRead, "")
			bob.Receipt(r, eventID, roomdb.ReceiptPrivate, "main")
			public := fmt.Sprintf(`"content":{"%s":{"m.read":{"%s":{"ts":7}}}}`, eventID, bob.UserID)
			private := fmt.Sprintf(`"content":{"%s":{"m.read.private":{"%s":{"ts":7,"thread_id":"main"}}}}`, eventID, bob.UserID)
			for _, start := range []func(*clientsync.Request){func(*clientsync.Request) {}, synctest.FromStart} {
				if a := alice.Sync("", start); !strings.Contains(a.Raw, public) || strings.Contains(a.Raw, "private") {
					h.T.Errorf("alice got %s", a.Raw)
				}
				if a := bob.Sync("", start); !strings.Contains(a.Raw, public) || !strings.Contains(a.Raw, private) {
					h.T.Errorf("bob got %s", a.Raw)
				}
			}
			if a := alice.Sync(""); len(a.Rooms.Join) > 0 {
				h.T.Errorf("told twice: %s", a.Raw)
			}
		},
		"who joins is told all receipts": func(h *synctest.Server) {
			alice, bob, carol := h.Client("alice"), h.Client("bob"), h.Client("carol")
			r := alice.Create()
			eventID := bob.Join(r).Say(r, "x")
			bob.Receipt(r, eventID, roomdb.ReceiptRead, "")
			carol.Sync("")
			alice.Receipt(r, eventID, roomdb.ReceiptRead, "")
			a := carol.Join(r).Sync("")
			for _, p := range []*synctest.Client{alice, bob} {
				if !strings.Contains(a.Raw, fmt.Sprintf(`"%s":{"ts":7}`, p.UserID)) {
					h.T.Errorf("the receipt of %s is missing: %s", p.UserID, a.Raw)
				}
			}
		},
		"the newest receipt is told, of each thread": func(h *synctest.Server) {
			alice, bob := h.Client("alice"), h.Client("bob")
			r := alice.Create()
			first, second := bob.Join(r).Say(r, "x"), bob.Say(r, "y")
			alice.Sync("")
			bob.Receipt(r, first, roomdb.ReceiptRead, "")
			bob.Receipt(r, second, roomdb.ReceiptRead, "")
			bob.Receipt(r, second, roomdb.ReceiptRead, "main")
			a := alice.Sync("")
			if got := a.Join(r).Ephemeral.Events; len(got) != 2 || strings.Contains(a.Raw, first.String()) {
				h.T.Errorf("got %s", a.Raw)
			}
		},
		"who types is told, and that they have stopped": func(h *synctest.Server) {
			alice, bob := h.Client("alice"), h.Client("bob")
			r := alice.Create()
			bob.Join(r)
			alice.Sync("")
			var num store.RoomNum
			h.Read(func(read *store.Read) (err error) { num, err = roomdb.RoomNum(read, r.String()); return err })
			h.Typing.Set(num, bob.UserID)
			typing := `{"content":{"user_ids":["` + bob.UserID.String() + `"]},"type":"m.typing"}`
			if a := alice.Sync(""); !strings.Contains(a.Raw, typing) {
				h.T.Errorf("got %s", a.Raw)
			}
			if a := alice.Sync(""); len(a.Rooms.Join) > 0 {
				h.T.Errorf("told twice: %s", a.Raw)
			}
			h.Typing.Set(num)
			if a := alice.Sync(""); !strings.Contains(a.Raw, `{"content":{"user_ids":[]},"type":"m.typing"}`) {
				h.T.Errorf("got %s", a.Raw)
			}
		},
		"typing ends with the server": func(h *synctest.Server) {
			alice, bob := h.Client("alice"), h.Client("bob")
			quiet, r := alice.Create(), alice.Create()
			bob.Join(r)
			alice.Sync("")
			num, err := h.RoomNum(r)
			alice.Must(err)
			h.Typing.Set(num, bob.UserID)
			alice.Sync("")
			records := func(o *synctest.Options) {
				if !h.Memory {
					o.RingRecords = 1
				}
			}
			anew := alice.In(synctest.NewServer(h.T, h.Store, synctest.WithAll, records))
			a := anew.Sync("")
			if !strings.Contains(a.Raw, `{"content":{"user_ids":[]},"type":"m.typing"}`) || len(a.Join(r).Ephemeral.Events) != 1 {
				h.T.Errorf("the end is not told: %s", a.Raw)
			}
			if a := anew.Sync(""); len(a.Rooms.Join) > 0 {
				h.T.Errorf("told twice: %s", a.Raw)
			}
			before := alice.Sync("") // nobody has stopped there
			if len(before.Rooms.Join) > 0 {
				h.T.Errorf("told for nothing: %s", before.Raw)
			}
			h.Typing.Set(num)
			alice.Sync("")
			if a := alice.In(synctest.NewServer(h.T, h.Store, synctest.WithAll, records)).Sync(""); len(a.Rooms.Join) > 0 {
				h.T.Errorf("nobody typed when the server ended, and %s is told: %s", quiet, a.Raw)
			}
		},
		"account data is told as it changes": func(h *synctest.Server) {
			alice := h.Client("alice")
			r := alice.Create()
			alice.Note("", "first", `{"a":1}`)
			alice.Note(r.String(), "m.tag", `{"tags":{}}`)
			a := alice.Sync("")
			synctest.Equal(h.T, "global", a.AccountData.Names(), []string{"first"})
			synctest.Equal(h.T, "of the room", a.Join(r).AccountData.Names(), []string{"m.tag"})
			alice.Note("", "second", `{}`)
			a = alice.Sync("")
			synctest.Equal(h.T, "global", a.AccountData.Names(), []string{"second"})
			if len(a.Rooms.Join) > 0 {
				h.T.Errorf("a quiet room is told: %s", a.Raw)
			}
			alice.Note(r.String(), "m.fully_read", `{}`)
			a = alice.Sync("")
			synctest.Equal(h.T, "of the room", a.Join(r).AccountData.Names(), []string{"m.fully_read"})
			synctest.Equal(h.T, "global", a.AccountData.Names(), nil)
			alice.Note("", "first", `{"a":2}`)
			if a := alice.Sync(`{"account_data":{"not_types":["first"]}}`); len(a.AccountData.Events) > 0 {
				h.T.Errorf("filtered: %s", a.Raw)
			}
		},
		"messages to devices come once, in order, and again for the same token": func(h *synctest.Server) {
			alice := h.Client("alice")
			alice.Commit(func(c *store.Change) { userdb.PutDevice(c, alice.UserNum, userdb.Device{ID: string(alice.DeviceID)}) })
			alice.Create()
			alice.Sync("")
			for i := range 150 {
				alice.Commit(func(c *store.Change) {
					keydb.AddToDevice(c, alice.UserNum, string(alice.DeviceID), fmt.Sprintf(`{"content":{"body":"%d"},"sender":"@x:y","type":"t"}`, i))
				})
			}
			before := *alice.Since
			first := alice.Sync("").ToDevice.Bodies()
			alice.Since = &before
			synctest.Equal(h.T, "the same token", alice.Sync("").ToDevice.Bodies(), first)
			second := alice.Sync("").ToDevice.Bodies()
			var want []string
			for i := range 150 {
				want = append(want, fmt.Sprint(i))
			}
			synctest.Equal(h.T, "all", append(first, second...), want)
			synctest.Equal(h.T, "afterwards", alice.Sync("").ToDevice.Bodies(), nil)
			h.Read(func(read *store.Read) error {
				left, err := keydb.ToDeviceAfter(read, alice.UserNum, string(alice.DeviceID), 0, 10)
				if len(left) > 0 {
					h.T.Errorf("%d acknowledged messages are kept", len(left))
				}
				return err
			})
		},
		"messages of ignored users are left out, their state is not": func(h *synctest.Server) {
			alice, bob := h.Client("alice"), h.Client("bob")
			r := alice.Create(func(c *room.CreateRequest) {
				c.PowerLevels = json.RawMessage(`{"events":{"m.room.topic":0}}`)
			})
			bob.Join(r)
			alice.Sync("")
			alice.Note("", "m.ignored_user_list", `{"ignored_users":{"`+bob.UserID.String()+`":{}}}`)
			bob.Say(r, "spam")
			bob.Set(r, "m.room.topic", "", `{"topic":"x"}`)
			synctest.Equal(h.T, "timeline", alice.Sync("").Join(r).Timeline.Names(), []string{"m.room.topic"})
			other := bob.Create(func(c *room.CreateRequest) { c.Preset = room.PresetPrivateChat })
			bob.Invite(other, alice)
			if a := alice.Sync(""); len(a.Rooms.Invite) > 0 {
				h.T.Errorf("an ignored user invites: %s", a.Raw)
			}
		},
		"a section of every answer is kept until it changes": func(h *synctest.Server) {
			alice := h.Client("alice")
			r := alice.Create()
			first := alice.Sync("").Counts["position"]
			alice.Say(r, "x")
			if got := alice.Sync("").Counts["position"]; got < first {
				h.T.Errorf("%d after %d", got, first)
			}
			kept := alice.Sync("").Counts["position"]
			alice.Commit(func(c *store.Change) { keydb.AddToDevice(c, alice.UserNum, string(alice.DeviceID), `{"type":"t"}`) })
			if got := alice.Sync("").Counts["position"]; h.Memory && got != kept {
				h.T.Errorf("asked again without need: %d, not %d", got, kept)
			}
		},
		"device lists tell of who came and went": func(h *synctest.Server) {
			alice, bob := h.Client("alice"), h.Client("bob")
			r := alice.Create()
			alice.Sync("")
			bob.Join(r)
			synctest.Equal(h.T, "changed", alice.Sync("").DeviceLists.Changed, []string{bob.UserID.String()})
			bob.Leave(r)
			synctest.Equal(h.T, "left", alice.Sync("").DeviceLists.Left, []string{bob.UserID.String()})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.BothWaysWith(t, test)
		})
	}
}

func TestWaiting(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(h *synctest.Server){
		"nothing happens until the time is over": func(h *synctest.Server) {
			alice := h.Client("alice")
			alice.Create()
			alice.Sync("")
			before := *alice.Since
			got := alice.Wait()
			h.AwaitWaiting(1)
			h.Cache.Tick(time.UnixMilli(h.Clock.Load()).Add(31 * time.Second))
			a := <-got
			if len(a.Rooms.Join) > 0 || alice.Since.Position < before.Position {
				h.T.Errorf("got %s", a.Raw)
			}
		},
		"a wake-up touches nobody but those who can see the change": func(h *synctest.Server) {
			alice, bob, carol := h.Client("alice"), h.Client("bob"), h.Client("carol")
			shared, own := alice.Create(), carol.Create()
			bob.Join(shared)
			var all []<-chan synctest.Answer
			for _, p := range []*synctest.Client{alice, bob, carol} {
				p.Sync("")
				all = append(all, p.Wait())
			}
			h.AwaitWaiting(3)
			alice.Say(shared, "x")
			<-all[0]
			<-all[1]
			if n := h.Wakeups(); n != 2 {
				h.T.Errorf("%d were woken", n)
			}
			carol.Say(own, "y")
			synctest.Equal(h.T, "carol", (<-all[2]).Join(own).Timeline.Bodies(), []string{"y"})
		},
		"receipts are held for more, messages are not": func(h *synctest.Server) {
			alice, bob := h.Client("alice"), h.Client("bob")
			r := alice.Create()
			eventID := bob.Join(r).Say(r, "x")
			alice.Sync("")
			got := alice.Wait()
			h.AwaitWaiting(1)
			bob.Receipt(r, eventID, roomdb.ReceiptRead, "")
			alice.Must(h.Cache.Await(h.T.Context(), h.Store.Head()))
			if n := h.Wakeups(); n != 0 {
				h.T.Errorf("the receipt woke %d at once", n)
			}
			h.Cache.Tick(time.UnixMilli(h.Clock.Load()).Add(time.Second))
			if a := <-got; len(a.Join(r).Ephemeral.Events) != 1 {
				h.T.Errorf("got %s", a.Raw)
			}
			got = alice.Wait()
			h.AwaitWaiting(1)
			bob.Receipt(r, eventID, roomdb.ReceiptRead, "main")
			bob.Say(r, "y")
			if a := <-got; len(a.Join(r).Timeline.Events) != 1 || len(a.Join(r).Ephemeral.Events) != 1 {
				h.T.Errorf("got %s", a.Raw)
			}
		},
		"who has joined meanwhile hears of the room": func(h *synctest.Server) {
			alice, bob := h.Client("alice"), h.Client("bob")
			r := alice.Create()
			bob.Sync("")
			got := bob.Wait()
			h.AwaitWaiting(1)
			bob.Join(r)
			if a := <-got; a.Join(r).State.Find("m.room.create", "") == nil && a.Join(r).Timeline.Find("m.room.create", "") == nil {
				h.T.Errorf("got %s", a.Raw)
			}
			got = bob.Wait()
			h.AwaitWaiting(1)
			alice.Say(r, "x")
			synctest.Equal(h.T, "timeline", (<-got).Join(r).Timeline.Bodies(), []string{"x"})
		},
		"what the filter keeps out wakes nobody": func(h *synctest.Server) {
			alice := h.Client("alice")
			r := alice.Create()
			alice.Sync("")
			got := make(chan synctest.Answer, 1)
			go func() {
				a, err := alice.TrySync(h.T.Context(), `{"room":{"timeline":{"types":["wanted"]}}}`, synctest.Waiting)
				if err != nil {
					h.T.Error(err)
				}
				got <- a
			}()
			h.AwaitWaiting(1)
			alice.Say(r, "unwanted")
			alice.Must(h.Cache.Await(h.T.Context(), h.Store.Head()))
			h.AwaitWaiting(1)
			alice.Send(r, "wanted", `{}`)
			synctest.Equal(h.T, "timeline", (<-got).Join(r).Timeline.Names(), []string{"wanted"})
		},
		"a server that stops answers those who wait": func(h *synctest.Server) {
			alice := h.Client("alice")
			alice.Create()
			alice.Sync("")
			got := alice.Wait()
			h.AwaitWaiting(1)
			h.Stop()
			if a := <-got; a.NextBatch == "" {
				h.T.Error("no token")
			}
		},
		"a client that goes away leaves nothing behind": func(h *synctest.Server) {
			alice := h.Client("alice")
			alice.Create()
			alice.Sync("")
			ctx, cancel := context.WithCancel(h.T.Context())
			done := make(chan error)
			go func() { _, err := alice.TrySync(ctx, "", synctest.Waiting); done <- err }()
			h.AwaitWaiting(1)
			cancel()
			if err := <-done; err != context.Canceled {
				h.T.Errorf("got %v", err)
			}
			h.AwaitWaiting(0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.OnBothEngines(t, test, synctest.WithAll)
		})
	}
}
