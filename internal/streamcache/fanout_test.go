package streamcache_test

import (
	"fmt"
	"stoa/internal/clientsync/synctest"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
	"stoa/matrix/id"
	"testing"
	"time"
)

// Who types or reads in a room in which very many wait wakes nobody else, and is told with the next answer.
func TestMerged_news_wakes_no_crowd(t *testing.T) {
	t.Parallel()
	h := synctest.NewServer(t, storetest.SQLite(t), synctest.WithAll)
	alice, bob := h.Client("alice"), h.Client("bob")
	small := alice.Create()
	bob.Join(small)
	bob.Sync("")
	const devices = 21
	h.Cache.SetFanOut(100, 5, devices-1)
	h.Fill(alice, 1, devices)
	first := alice.Sync("")
	var large id.RoomID
	for name := range first.Rooms.Join {
		if r, err := id.ParseRoomID(name); err == nil && r != small {
			large = r
		}
	}
	said := alice.Say(large, "x")
	alice.Sync("")
	got := alice.Wait()
	var rest []<-chan synctest.Answer
	for i := range devices {
		p := h.Client(fmt.Sprint("member", i))
		p.Sync("")
		rest = append(rest, p.Wait())
	}
	other := h.Client("member0").In(h) // another device
	other.Sync("")
	device := other.Wait()
	h.AwaitWaiting(devices + 2)
	before := h.Wakeups()
	num, err := h.RoomNum(large)
	if err != nil {
		t.Fatal(err)
	}
	h.Typing.Set(num, bob.UserID)
	h.Cache.WakeTyping(num, true)
	h.Cache.Tick(time.UnixMilli(h.Clock.Load()).Add(2 * time.Second))
	if n := h.Wakeups() - before; n != 0 {
		t.Errorf("typing in a room of %d woke %d", devices, n)
	}
	other.Receipt(large, said, roomdb.ReceiptRead, "")
	alice.Must(h.Cache.Await(t.Context(), h.Store.Head()))
	h.Cache.Tick(time.UnixMilli(h.Clock.Load()).Add(4 * time.Second))
	if n := h.Wakeups() - before; n > 2 {
		t.Errorf("a receipt in a room of %d woke %d", devices, n)
	}
	if a := <-device; len(a.Join(large).Ephemeral.Events) != 2 {
		t.Errorf("another device of who read is told %s", a.Raw)
	}
	bob.Say(small, "x")
	a := <-got
	if len(a.Join(large).Ephemeral.Events) != 2 {
		t.Errorf("the next answer does not tell who types and who has read: %s", a.Raw)
	}
	h.Cache.Stop()
	for _, a := range rest {
		<-a
	}
}

// That somebody stopped to type waits a little for what they typed, and so does in a large room that somebody began.
func TestTyping_that_can_wait(t *testing.T) {
	t.Parallel()
	h := synctest.NewServer(t, storetest.SQLite(t), synctest.WithAll)
	alice, bob := h.Client("alice"), h.Client("bob")
	r := alice.Create()
	bob.Join(r)
	num, err := h.RoomNum(r)
	alice.Must(err)
	alice.Sync("")
	got := alice.Wait()
	h.AwaitWaiting(1)
	h.Typing.Set(num, bob.UserID)
	h.Cache.WakeTyping(num, true)
	if a := <-got; len(a.Join(r).Ephemeral.Events) != 1 {
		t.Errorf("who begins to type is told by %s", a.Raw)
	}
	got = alice.Wait()
	h.AwaitWaiting(1)
	before := h.Wakeups()
	h.Typing.Set(num)
	h.Cache.WakeTyping(num, false)
	if n := h.Wakeups() - before; n != 0 {
		t.Errorf("somebody who stops to type wakes %d at once", n)
	}
	bob.Say(r, "x")
	if a := <-got; len(a.Join(r).Timeline.Events) != 1 || len(a.Join(r).Ephemeral.Events) != 1 {
		t.Errorf("what was typed is told by %s", a.Raw)
	}
	h.Cache.SetFanOut(500, 0, 1000)
	got = alice.Wait()
	h.AwaitWaiting(1)
	before = h.Wakeups()
	h.Typing.Set(num, bob.UserID)
	h.Cache.WakeTyping(num, true)
	if n := h.Wakeups() - before; n != 0 {
		t.Errorf("somebody who types in a large room wakes %d at once", n)
	}
	h.Cache.Tick(time.UnixMilli(h.Clock.Load()).Add(time.Second))
	if a := <-got; len(a.Join(r).Ephemeral.Events) != 1 {
		t.Errorf("who types in a large room is told by %s", a.Raw)
	}
}

// The members of a very large room are woken one batch after the other.
func TestCrowds_are_woken_in_batches(t *testing.T) {
	t.Parallel()
	h := synctest.NewServer(t, storetest.SQLite(t), synctest.WithAll)
	alice := h.Client("alice")
	const people = 101
	const batch = 25
	h.Cache.SetFanOut(batch, 100, 1000)
	h.Fill(alice, 1, people)
	var large id.RoomID
	for name := range alice.Sync("").Rooms.Join {
		r, err := id.ParseRoomID(name)
		if err != nil {
			t.Fatal(err)
		}
		large = r
	}
	var got []<-chan synctest.Answer
	for i := range people {
		p := h.Client(fmt.Sprint("member", i))
		p.Sync("")
		got = append(got, p.Wait())
	}
	h.AwaitWaiting(people)
	h.Cache.Tick(time.UnixMilli(h.Clock.Load()).Add(20 * time.Second)) // the cache's own ticks are earlier
	alice.Say(large, "x")
	alice.Must(h.Cache.Await(t.Context(), h.Store.Head()))
	for woken, ticks := 0, 0; woken < people; ticks++ {
		n := h.Wakeups()
		if n-woken > batch {
			t.Errorf("%d were woken at once", n-woken)
		}
		if woken = n; ticks > 2*people/batch {
			t.Fatalf("%d of %d are woken after %d ticks", n, people, ticks)
		}
		h.Cache.NextTick()
	}
	for i, a := range got {
		if bodies := (<-a).Join(large).Timeline.Bodies(); len(bodies) != 1 {
			t.Fatalf("member %d is told %v", i, bodies)
		}
	}
}
