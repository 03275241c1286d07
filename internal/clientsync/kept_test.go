package clientsync_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/clientsync"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
	"stoa/internal/store/userdb"
	"stoa/internal/who"
	"stoa/matrix/id"
)

// cabinet holds stored filters, all of one text.
type cabinet struct{ reads atomic.Int64 }

func (c *cabinet) Filter(context.Context, who.User, string) ([]byte, error) {
	c.reads.Add(1)
	return []byte(`{"room":{"timeline":{"limit":20}}}`), nil
}

// The stored filters of many users are read once each, and those with one text are one.
func TestFilters_are_kept(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		var c cabinet
		h := newHouse(t, open(), func(o *options) { o.Filters = &c })
		const people = 5000
		shared, err := h.renderer.Filter(h.t.Context(), who.Device{User: who.User{UserNum: 1}}, "0")
		if err != nil {
			h.t.Fatal(err)
		}
		for range 2 {
			for num := range people {
				f, err := h.renderer.Filter(h.t.Context(), who.Device{User: who.User{UserNum: store.UserNum(num + 1)}}, "0")
				if err != nil {
					h.t.Fatal(err)
				}
				if f != shared {
					h.t.Fatalf("user %d has a filter of their own", num+1)
				}
			}
		}
		if n := c.reads.Load(); n != people {
			h.t.Errorf("%d filters were read %d times", people, n)
		}
	})
}

// abacus counts the reads of tallies. Nothing is ever unread.
type abacus struct{ reads atomic.Int64 }

func (a *abacus) Tallies(_ *store.Read, _ who.User, places []clientsync.Place) ([]clientsync.Tally, error) {
	a.reads.Add(1)
	out := make([]clientsync.Tally, len(places))
	for i, p := range places {
		if p.Slot == 0 || p.RoomID.IsZero() || p.Members == 0 {
			return nil, fmt.Errorf("a place that is not whole: %+v", p)
		}
		out[i] = &bead{p.Slot}
	}
	return out, nil
}

type bead struct{ slot store.Slot }

func (b *bead) Slot() store.Slot { return b.slot }

func (b *bead) Apply(_, last store.Slot, _ []room.Counted) bool {
	b.slot = max(b.slot, last)
	return true
}

func (b *bead) Read(store.Slot, string, *room.Totals) bool { return true }

func (b *bead) Counts(bool) clientsync.Counts { return clientsync.Counts{} }

// The tallies of a user's rooms are read together, at the first news of any of them.
func TestTallies_are_read_together(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		var a abacus
		h := newHouse(t, open(), func(o *options) { o.Unread = &a })
		alice, bob := h.person("alice"), h.person("bob")
		var rooms []id.RoomID
		for range 8 {
			r := alice.create()
			bob.join(r)
			rooms = append(rooms, r)
		}
		alice.sync("")
		h.cache.Reset() // it knows rooms and users no more than another instance does
		alice.sync("")
		a.reads.Store(0)
		for _, r := range rooms {
			bob.say(r, "x")
			alice.sync("")
		}
		if n := a.reads.Load(); n > 1 {
			h.t.Errorf("the tallies of %d rooms were read %d times", len(rooms), n)
		}
	})
}

// ear notes when it is asked.
type ear struct {
	kind  store.Kind
	asked atomic.Int64
}

func (e *ear) Key() string { return fmt.Sprintf("ear%d", e.kind) }

func (e *ear) Watch() clientsync.Watch {
	return clientsync.Watch{Shared: []store.Kind{e.kind}}
}

func (e *ear) Append(_ context.Context, dst []byte, _ *clientsync.Query) ([]byte, error) {
	e.asked.Add(1)
	return append(dst, '1'), nil
}

// What others share is looked for in the sections that tell of it, and in no other.
func TestSections_are_asked_for_their_own_kinds(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		presence, devices := &ear{kind: store.KindPresence}, &ear{kind: store.KindDeviceList}
		h := newHouse(t, open(), func(o *options) { o.Sections = []clientsync.Section{presence, devices} })
		alice, bob := h.person("alice"), h.person("bob")
		bob.join(alice.create())
		alice.sync("")
		alice.sync("") // memory knows of everything that comes after this
		presence.asked.Store(0)
		devices.asked.Store(0)
		bob.commit(func(c *store.Change) {
			userdb.SetPresence(c, userdb.Presence{User: bob.UserNum, UserID: bob.UserID.String(), Presence: "online", ActiveTS: 1})
		})
		alice.sync("")
		if presence.asked.Load() != 1 || devices.asked.Load() != 0 {
			t.Errorf("after a change of presence, that was asked %d times, device lists %d times", presence.asked.Load(), devices.asked.Load())
		}
	})
}

// Who types or reads in a room in which very many wait wakes nobody else, and is told with the next answer.
func TestMerged_news_wakes_no_crowd(t *testing.T) {
	t.Parallel()
	h := newHouse(t, storetest.SQLite(t), withAll)
	alice, bob := h.person("alice"), h.person("bob")
	small := alice.create()
	bob.join(small)
	bob.sync("")
	const crowd = 21
	h.cache.SetFanOut(100, 5, crowd-1)
	h.fill(alice, 1, crowd)
	first := alice.sync("")
	var large id.RoomID
	for name := range first.Rooms.Join {
		if r, err := id.ParseRoomID(name); err == nil && r != small {
			large = r
		}
	}
	said := alice.say(large, "x")
	alice.sync("")
	got := alice.wait()
	var others []<-chan answer
	for i := range crowd {
		p := h.person(fmt.Sprint("member", i))
		p.sync("")
		others = append(others, p.wait())
	}
	other := h.person("member0").in(h) // another device
	other.sync("")
	device := other.wait()
	h.cache.AwaitWaiting(t, crowd+2)
	before := h.cache.Wakeups()
	num, err := h.roomNum(large)
	if err != nil {
		t.Fatal(err)
	}
	h.typing.set(num, bob.UserID)
	h.cache.WakeTyping(num, true)
	h.cache.Tick(time.UnixMilli(h.clock.Load()).Add(2 * time.Second))
	if n := h.cache.Wakeups() - before; n != 0 {
		t.Errorf("typing in a room of %d woke %d", crowd, n)
	}
	other.receipt(large, said, roomdb.ReceiptRead, "")
	alice.must(h.cache.Await(t.Context(), h.store.Head()))
	h.cache.Tick(time.UnixMilli(h.clock.Load()).Add(4 * time.Second))
	if n := h.cache.Wakeups() - before; n > 2 {
		t.Errorf("a receipt in a room of %d woke %d", crowd, n)
	}
	if a := <-device; len(a.join(large).Ephemeral.Events) != 2 {
		t.Errorf("another device of who read is told %s", a.Raw)
	}
	bob.say(small, "x")
	a := <-got
	if len(a.join(large).Ephemeral.Events) != 2 {
		t.Errorf("the next answer does not tell who types and who has read: %s", a.Raw)
	}
	h.cache.Stop()
	for _, a := range others {
		<-a
	}
}

// That somebody stopped to type waits a little for what they typed, and so does in a large room that somebody began.
func TestTyping_that_can_wait(t *testing.T) {
	t.Parallel()
	h := newHouse(t, storetest.SQLite(t), withAll)
	alice, bob := h.person("alice"), h.person("bob")
	r := alice.create()
	bob.join(r)
	num, err := h.roomNum(r)
	alice.must(err)
	alice.sync("")
	got := alice.wait()
	h.cache.AwaitWaiting(t, 1)
	h.typing.set(num, bob.UserID)
	h.cache.WakeTyping(num, true)
	if a := <-got; len(a.join(r).Ephemeral.Events) != 1 {
		t.Errorf("who begins to type is told by %s", a.Raw)
	}
	got = alice.wait()
	h.cache.AwaitWaiting(t, 1)
	before := h.cache.Wakeups()
	h.typing.set(num)
	h.cache.WakeTyping(num, false)
	if n := h.cache.Wakeups() - before; n != 0 {
		t.Errorf("somebody who stops to type wakes %d at once", n)
	}
	bob.say(r, "x")
	if a := <-got; len(a.join(r).Timeline.Events) != 1 || len(a.join(r).Ephemeral.Events) != 1 {
		t.Errorf("what was typed is told by %s", a.Raw)
	}
	h.cache.SetFanOut(500, 0, 1000)
	got = alice.wait()
	h.cache.AwaitWaiting(t, 1)
	before = h.cache.Wakeups()
	h.typing.set(num, bob.UserID)
	h.cache.WakeTyping(num, true)
	if n := h.cache.Wakeups() - before; n != 0 {
		t.Errorf("somebody who types in a large room wakes %d at once", n)
	}
	h.cache.Tick(time.UnixMilli(h.clock.Load()).Add(time.Second))
	if a := <-got; len(a.join(r).Ephemeral.Events) != 1 {
		t.Errorf("who types in a large room is told by %s", a.Raw)
	}
}

func (h *house) roomNum(roomID id.RoomID) (num store.RoomNum, err error) {
	err = h.store.Read(h.t.Context(), func(r *store.Read) error {
		num, err = roomdb.RoomNum(r, roomID.String())
		return err
	})
	return num, err
}

// The members of a very large room are woken one batch after the other.
func TestCrowds_are_woken_in_batches(t *testing.T) {
	t.Parallel()
	h := newHouse(t, storetest.SQLite(t), withAll)
	alice := h.person("alice")
	const people = 101
	const batch = 25
	h.cache.SetFanOut(batch, 100, 1000)
	h.fill(alice, 1, people)
	var large id.RoomID
	for name := range alice.sync("").Rooms.Join {
		r, err := id.ParseRoomID(name)
		if err != nil {
			t.Fatal(err)
		}
		large = r
	}
	var got []<-chan answer
	for i := range people {
		p := h.person(fmt.Sprint("member", i))
		p.sync("")
		got = append(got, p.wait())
	}
	h.cache.AwaitWaiting(t, people)
	h.cache.Tick(time.UnixMilli(h.clock.Load()).Add(20 * time.Second)) // the hub's own ticks are earlier
	alice.say(large, "x")
	alice.must(h.cache.Await(t.Context(), h.store.Head()))
	for woken, ticks := 0, 0; woken < people; ticks++ {
		n := h.cache.Wakeups()
		if n-woken > batch {
			t.Errorf("%d were woken at once", n-woken)
		}
		if woken = n; ticks > 2*people/batch {
			t.Fatalf("%d of %d are woken after %d ticks", n, people, ticks)
		}
		h.cache.NextTick()
	}
	for i, a := range got {
		if bodies := (<-a).join(large).Timeline.bodies(); len(bodies) != 1 {
			t.Fatalf("member %d is told %v", i, bodies)
		}
	}
}
