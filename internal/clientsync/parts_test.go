package clientsync_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"stoa/internal/clientsync"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/keydb"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/userdb"
	"stoa/internal/who"
	"stoa/matrix/id"
)

// mail is ToDevice over the store, as package e2ee does it.
type mail struct{ store *store.Store }

func (m mail) Append(dst []byte, r *store.Read, v who.Device, after store.Slot, limit int) ([]byte, store.Slot, bool, error) {
	rows, err := keydb.ToDeviceAfter(r, v.UserNum, string(v.DeviceID), after, limit+1)
	for i, row := range rows[:min(len(rows), limit)] {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst, after = append(dst, row.Message...), row.Slot
	}
	return dst, after, len(rows) > limit, err
}

func (m mail) Acknowledge(ctx context.Context, v who.Device, upTo store.Slot) error {
	c := store.NewChange()
	keydb.DeleteToDevice(c, v.UserNum, string(v.DeviceID), upTo)
	_, err := m.store.Commit(ctx, c)
	return err
}

// notes is AccountData over the store, as package userdata does it.
type notes struct{}

func (notes) Changed(r *store.Read, v who.User, after store.Slot) ([]clientsync.Datum, error) {
	rows, err := userdb.AccountDataAfter(r, v.UserNum, after, 1000)
	var out []clientsync.Datum
	for _, d := range rows {
		out = append(out, clientsync.Datum{RoomID: d.RoomID, Type: d.Type, Content: []byte(d.Content)})
	}
	return out, err
}

func (notes) Ignored(r *store.Read, v who.User) ([]id.UserID, error) {
	d, err := userdb.AccountDataOf(r, v.UserNum, "", "m.ignored_user_list")
	if err == store.ErrNotFound {
		return nil, nil
	}
	var list struct {
		Users map[string]any `json:"ignored_users"`
	}
	if err == nil {
		err = json.Unmarshal([]byte(d.Content), &list)
	}
	var out []id.UserID
	for name := range list.Users {
		userID, err := id.ParseUserID(name)
		if err != nil {
			return nil, err
		}
		out = append(out, userID)
	}
	return out, err
}

// keyboard is who types.
type keyboard struct {
	mu    sync.Mutex
	users map[store.RoomNum][]id.UserID
}

func (k *keyboard) AppendDigests(dst []uint32, rooms []store.RoomNum) []uint32 {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, num := range rooms {
		digest := uint32(0)
		if users, typed := k.users[num]; typed {
			digest = uint32(len(users)) + 1
		}
		dst = append(dst, digest)
	}
	return dst
}

func (k *keyboard) Users(num store.RoomNum) []id.UserID {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.users[num]
}

func (k *keyboard) set(num store.RoomNum, users ...id.UserID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.users[num] = users
}

func withAll(o *options) {
	o.ToDevice, o.AccountData, o.Typing = mail{o.Store}, notes{}, &keyboard{users: map[store.RoomNum][]id.UserID{}}
	o.Sections = []clientsync.Section{keyCount{}, clientsync.DeviceLists{}}
}

// keyCount is a section that belongs in every answer.
type keyCount struct{}

func (keyCount) Key() string { return "device_one_time_keys_count" }
func (keyCount) Watch() clientsync.Watch {
	return clientsync.Watch{Own: []store.Kind{store.KindKeys}, Always: true}
}
func (keyCount) Append(ctx context.Context, dst []byte, q *clientsync.Query) ([]byte, error) {
	r, err := q.Read(ctx)
	if err != nil {
		return dst, err
	}
	return fmt.Appendf(dst, `{"position":%d}`, r.Head()), nil
}

func (p *person) commit(f func(c *store.Change)) {
	p.h.t.Helper()
	c := store.NewChange()
	f(c)
	_, err := p.h.store.Commit(p.h.t.Context(), c)
	p.must(err)
}

func (p *person) note(roomID, dataType, content string) {
	p.h.t.Helper()
	p.commit(func(c *store.Change) { userdb.PutAccountData(c, p.UserNum, roomID, dataType, content) })
}

func (p *person) receipt(r id.RoomID, eventID id.EventID, kind roomdb.ReceiptKind, thread string) {
	p.h.t.Helper()
	x := roomdb.Receipt{User: p.UserNum, UserID: p.UserID.String(), Kind: kind, Thread: thread, EventID: eventID.String(), TS: 7}
	p.h.read(func(read *store.Read) (err error) {
		if x.Room, err = roomdb.RoomNum(read, r.String()); err != nil {
			return err
		}
		e, err := roomdb.EventByID(read, eventID.String())
		x.Slot, x.Off = e.Place.Slot, e.Place.Off
		return err
	})
	p.commit(func(c *store.Change) {
		roomdb.PutReceipt(c, x)
		c.Payload = []roomdb.Receipt{x}
	})
}

func bothWaysWith(t *testing.T, f func(h *house)) {
	t.Helper()
	for name, records := range map[string]int{"from memory": 0, "from the store": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBothEngines(t, f, withAll, func(o *options) { o.RingRecords = records })
		})
	}
}

func TestParts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(h *house){
		"receipts are told to all, private ones to their owner": func(h *house) {
			alice, bob := h.person("alice"), h.person("bob")
			r := alice.create()
			eventID := bob.join(r).say(r, "x")
			alice.sync("")
			bob.sync("")
			bob.receipt(r, eventID, roomdb.ReceiptRead, "")
			bob.receipt(r, eventID, roomdb.ReceiptPrivate, "main")
			public := fmt.Sprintf(`"content":{"%s":{"m.read":{"%s":{"ts":7}}}}`, eventID, bob.UserID)
			private := fmt.Sprintf(`"content":{"%s":{"m.read.private":{"%s":{"ts":7,"thread_id":"main"}}}}`, eventID, bob.UserID)
			for _, start := range []func(*clientsync.Request){func(*clientsync.Request) {}, fromStart} {
				if a := alice.sync("", start); !strings.Contains(a.Raw, public) || strings.Contains(a.Raw, "private") {
					h.t.Errorf("alice got %s", a.Raw)
				}
				if a := bob.sync("", start); !strings.Contains(a.Raw, public) || !strings.Contains(a.Raw, private) {
					h.t.Errorf("bob got %s", a.Raw)
				}
			}
			if a := alice.sync(""); len(a.Rooms.Join) > 0 {
				h.t.Errorf("told twice: %s", a.Raw)
			}
		},
		"the newest receipt is told, of each thread": func(h *house) {
			alice, bob := h.person("alice"), h.person("bob")
			r := alice.create()
			first, second := bob.join(r).say(r, "x"), bob.say(r, "y")
			alice.sync("")
			bob.receipt(r, first, roomdb.ReceiptRead, "")
			bob.receipt(r, second, roomdb.ReceiptRead, "")
			bob.receipt(r, second, roomdb.ReceiptRead, "main")
			a := alice.sync("")
			if got := a.join(r).Ephemeral.Events; len(got) != 2 || strings.Contains(a.Raw, first.String()) {
				h.t.Errorf("got %s", a.Raw)
			}
		},
		"who types is told, and that they have stopped": func(h *house) {
			alice, bob := h.person("alice"), h.person("bob")
			r := alice.create()
			bob.join(r)
			alice.sync("")
			var num store.RoomNum
			h.read(func(read *store.Read) (err error) { num, err = roomdb.RoomNum(read, r.String()); return err })
			h.typing.set(num, bob.UserID)
			typing := `{"content":{"user_ids":["` + bob.UserID.String() + `"]},"type":"m.typing"}`
			if a := alice.sync(""); !strings.Contains(a.Raw, typing) {
				h.t.Errorf("got %s", a.Raw)
			}
			if a := alice.sync(""); len(a.Rooms.Join) > 0 {
				h.t.Errorf("told twice: %s", a.Raw)
			}
			h.typing.set(num)
			if a := alice.sync(""); !strings.Contains(a.Raw, `{"content":{"user_ids":[]},"type":"m.typing"}`) {
				h.t.Errorf("got %s", a.Raw)
			}
		},
		"account data is told as it changes": func(h *house) {
			alice := h.person("alice")
			r := alice.create()
			alice.note("", "first", `{"a":1}`)
			alice.note(r.String(), "m.tag", `{"tags":{}}`)
			a := alice.sync("")
			equal(h.t, "global", a.AccountData.names(), []string{"first"})
			equal(h.t, "of the room", a.join(r).AccountData.names(), []string{"m.tag"})
			alice.note("", "second", `{}`)
			a = alice.sync("")
			equal(h.t, "global", a.AccountData.names(), []string{"second"})
			if len(a.Rooms.Join) > 0 {
				h.t.Errorf("a quiet room is told: %s", a.Raw)
			}
			alice.note(r.String(), "m.fully_read", `{}`)
			a = alice.sync("")
			equal(h.t, "of the room", a.join(r).AccountData.names(), []string{"m.fully_read"})
			equal(h.t, "global", a.AccountData.names(), nil)
			alice.note("", "first", `{"a":2}`)
			if a := alice.sync(`{"account_data":{"not_types":["first"]}}`); len(a.AccountData.Events) > 0 {
				h.t.Errorf("filtered: %s", a.Raw)
			}
		},
		"messages to devices come once, in order, and again for the same token": func(h *house) {
			alice := h.person("alice")
			alice.create()
			alice.sync("")
			for i := range 150 {
				alice.commit(func(c *store.Change) {
					keydb.AddToDevice(c, alice.UserNum, string(alice.DeviceID), fmt.Sprintf(`{"content":{"body":"%d"},"sender":"@x:y","type":"t"}`, i))
				})
			}
			before := *alice.since
			first := alice.sync("").ToDevice.bodies()
			alice.since = &before
			equal(h.t, "the same token", alice.sync("").ToDevice.bodies(), first)
			second := alice.sync("").ToDevice.bodies()
			var want []string
			for i := range 150 {
				want = append(want, fmt.Sprint(i))
			}
			equal(h.t, "all", append(first, second...), want)
			equal(h.t, "afterwards", alice.sync("").ToDevice.bodies(), nil)
			h.read(func(read *store.Read) error {
				left, err := keydb.ToDeviceAfter(read, alice.UserNum, string(alice.DeviceID), 0, 10)
				if len(left) > 0 {
					h.t.Errorf("%d acknowledged messages are kept", len(left))
				}
				return err
			})
		},
		"messages of ignored users are left out, their state is not": func(h *house) {
			alice, bob := h.person("alice"), h.person("bob")
			r := alice.create(func(c *room.CreateRequest) {
				c.PowerLevels = json.RawMessage(`{"events":{"m.room.topic":0}}`)
			})
			bob.join(r)
			alice.sync("")
			alice.note("", "m.ignored_user_list", `{"ignored_users":{"`+bob.UserID.String()+`":{}}}`)
			bob.say(r, "spam")
			bob.set(r, "m.room.topic", "", `{"topic":"x"}`)
			equal(h.t, "timeline", alice.sync("").join(r).Timeline.names(), []string{"m.room.topic"})
			other := bob.create(func(c *room.CreateRequest) { c.Preset = room.PresetPrivateChat })
			bob.invite(other, alice)
			if a := alice.sync(""); len(a.Rooms.Invite) > 0 {
				h.t.Errorf("an ignored user invites: %s", a.Raw)
			}
		},
		"a section of every answer is kept until it changes": func(h *house) {
			alice := h.person("alice")
			r := alice.create()
			first := alice.sync("").Counts["position"]
			alice.say(r, "x")
			if got := alice.sync("").Counts["position"]; got < first {
				h.t.Errorf("%d after %d", got, first)
			}
			kept := alice.sync("").Counts["position"]
			alice.commit(func(c *store.Change) { keydb.AddToDevice(c, alice.UserNum, string(alice.DeviceID), `{"type":"t"}`) })
			if got := alice.sync("").Counts["position"]; h.memory && got != kept {
				h.t.Errorf("asked again without need: %d, not %d", got, kept)
			}
		},
		"device lists tell of who came and went": func(h *house) {
			alice, bob := h.person("alice"), h.person("bob")
			r := alice.create()
			alice.sync("")
			bob.join(r)
			equal(h.t, "changed", alice.sync("").DeviceLists.Changed, []string{bob.UserID.String()})
			bob.leave(r)
			equal(h.t, "left", alice.sync("").DeviceLists.Left, []string{bob.UserID.String()})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bothWaysWith(t, test)
		})
	}
}

func TestWaiting(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(h *house){
		"nothing happens until the time is over": func(h *house) {
			alice := h.person("alice")
			alice.create()
			alice.sync("")
			before := *alice.since
			got := alice.wait()
			h.cache.AwaitWaiting(h.t, 1)
			h.cache.Tick(time.UnixMilli(h.clock.Load()).Add(31 * time.Second))
			a := <-got
			if len(a.Rooms.Join) > 0 || alice.since.Position < before.Position {
				h.t.Errorf("got %s", a.Raw)
			}
		},
		"a wake-up touches nobody but those who can see the change": func(h *house) {
			alice, bob, carol := h.person("alice"), h.person("bob"), h.person("carol")
			shared, own := alice.create(), carol.create()
			bob.join(shared)
			var all []<-chan answer
			for _, p := range []*person{alice, bob, carol} {
				p.sync("")
				all = append(all, p.wait())
			}
			h.cache.AwaitWaiting(h.t, 3)
			alice.say(shared, "x")
			<-all[0]
			<-all[1]
			if n := h.cache.Wakeups(); n != 2 {
				h.t.Errorf("%d were woken", n)
			}
			carol.say(own, "y")
			equal(h.t, "carol", (<-all[2]).join(own).Timeline.bodies(), []string{"y"})
		},
		"receipts are held for more, messages are not": func(h *house) {
			alice, bob := h.person("alice"), h.person("bob")
			r := alice.create()
			eventID := bob.join(r).say(r, "x")
			alice.sync("")
			got := alice.wait()
			h.cache.AwaitWaiting(h.t, 1)
			bob.receipt(r, eventID, roomdb.ReceiptRead, "")
			alice.must(h.cache.Await(h.t.Context(), h.store.Head()))
			if n := h.cache.Wakeups(); n != 0 {
				h.t.Errorf("the receipt woke %d at once", n)
			}
			h.cache.Tick(time.UnixMilli(h.clock.Load()).Add(600 * time.Millisecond))
			if a := <-got; len(a.join(r).Ephemeral.Events) != 1 {
				h.t.Errorf("got %s", a.Raw)
			}
			got = alice.wait()
			h.cache.AwaitWaiting(h.t, 1)
			bob.receipt(r, eventID, roomdb.ReceiptRead, "main")
			bob.say(r, "y")
			if a := <-got; len(a.join(r).Timeline.Events) != 1 || len(a.join(r).Ephemeral.Events) != 1 {
				h.t.Errorf("got %s", a.Raw)
			}
		},
		"who has joined meanwhile hears of the room": func(h *house) {
			alice, bob := h.person("alice"), h.person("bob")
			r := alice.create()
			bob.sync("")
			got := bob.wait()
			h.cache.AwaitWaiting(h.t, 1)
			bob.join(r)
			if a := <-got; a.join(r).State.find("m.room.create", "") == nil && a.join(r).Timeline.find("m.room.create", "") == nil {
				h.t.Errorf("got %s", a.Raw)
			}
			got = bob.wait()
			h.cache.AwaitWaiting(h.t, 1)
			alice.say(r, "x")
			equal(h.t, "timeline", (<-got).join(r).Timeline.bodies(), []string{"x"})
		},
		"what the filter keeps out wakes nobody": func(h *house) {
			alice := h.person("alice")
			r := alice.create()
			alice.sync("")
			got := make(chan answer, 1)
			go func() {
				a, err := alice.trySync(h.t.Context(), `{"room":{"timeline":{"types":["wanted"]}}}`, waiting)
				if err != nil {
					h.t.Error(err)
				}
				got <- a
			}()
			h.cache.AwaitWaiting(h.t, 1)
			alice.say(r, "unwanted")
			alice.must(h.cache.Await(h.t.Context(), h.store.Head()))
			h.cache.AwaitWaiting(h.t, 1)
			alice.send(r, "wanted", `{}`)
			equal(h.t, "timeline", (<-got).join(r).Timeline.names(), []string{"wanted"})
		},
		"a server that stops answers those who wait": func(h *house) {
			alice := h.person("alice")
			alice.create()
			alice.sync("")
			got := alice.wait()
			h.cache.AwaitWaiting(h.t, 1)
			h.stop()
			if a := <-got; a.NextBatch == "" {
				h.t.Error("no token")
			}
		},
		"a client that goes away leaves nothing behind": func(h *house) {
			alice := h.person("alice")
			alice.create()
			alice.sync("")
			ctx, cancel := context.WithCancel(h.t.Context())
			done := make(chan error)
			go func() { _, err := alice.trySync(ctx, "", waiting); done <- err }()
			h.cache.AwaitWaiting(h.t, 1)
			cancel()
			if err := <-done; err != context.Canceled {
				h.t.Errorf("got %v", err)
			}
			h.cache.AwaitWaiting(h.t, 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBothEngines(t, test, withAll)
		})
	}
}

// wait asks, and gives the answer when it comes.
func (p *person) wait() <-chan answer {
	got := make(chan answer, 1)
	go func() {
		a, err := p.trySync(p.h.t.Context(), "", waiting)
		if err != nil {
			p.h.t.Error(err)
		}
		got <- a
	}()
	return got
}
