package clientsync_test

import (
	"slices"
	"testing"

	"stoa/internal/store/storetest"
)

// twoHouses are two instances on one database.
func twoHouses(t *testing.T, change ...func(*options)) (first, second *house) {
	t.Helper()
	url := storetest.URL(t, "postgres")
	return newHouse(t, storetest.OpenURL(t, url), change...), newHouse(t, storetest.OpenURL(t, url), change...)
}

// in is the person at another instance, with the same token.
func (p *person) in(h *house) *person {
	return &person{h: h, Device: p.Device, since: p.since}
}

// after is sync, as a request does it: behind the barrier.
func (p *person) after(filter string) answer {
	p.h.t.Helper()
	p.must(p.h.cache.Barrier(p.h.t.Context()))
	return p.sync(filter)
}

// TestRoomsOfNobodyHere are not read when others write them, and who asks for them later misses nothing.
func TestRoomsOfNobodyHere(t *testing.T) {
	t.Parallel()
	const lazy = `{"room":{"state":{"lazy_load_members":true}}}`
	here, there := twoHouses(t)
	alice, bob := there.person("alice"), there.person("bob")
	roomID, other := alice.create(), alice.create()
	bob.join(roomID)
	bob.sync("")
	was := bob.since

	alice.say(roomID, "one")
	alice.set(roomID, "m.room.member", alice.UserID.String(), `{"membership":"join","displayname":"Alicia"}`)
	must(t, here.cache.CatchUp(t.Context()))
	if read := here.cache.Passed(); read == 0 {
		t.Error("the first instance has read a room that nobody asked it for")
	}

	at := bob.in(here)
	at.since = was
	got := at.after(lazy).Rooms.Join[roomID.String()]
	if said := got.Timeline.bodies(); !slices.Contains(said, "one") {
		t.Errorf("whoever comes with an older token is told %q, without what was passed over", said)
	}

	// From here on bob is in memory: what happens in the room is read, and told from the ring.
	passed := here.cache.Passed()
	alice.say(roomID, "two")
	if said := at.after(lazy).Rooms.Join[roomID.String()].Timeline.bodies(); !slices.Equal(said, []string{"two"}) {
		t.Errorf("then is told %q, want two", said)
	}
	if here.cache.Passed() != passed {
		t.Error("a room of somebody in memory was passed over")
	}

	// And what happens where he comes in.
	alice.say(other, "before")
	bob.join(other)
	alice.say(other, "after")
	if said := at.after(lazy).Rooms.Join[other.String()].Timeline.bodies(); !slices.Contains(said, "after") {
		t.Errorf("of the room that he has joined elsewhere he is told %q", said)
	}
	alice.say(other, "later")
	if said := at.after(lazy).Rooms.Join[other.String()].Timeline.bodies(); !slices.Equal(said, []string{"later"}) {
		t.Errorf("then is told %q, want later", said)
	}
}

// TestBarrier_passes: what a barrier finds, and nobody here can see, is not read once more.
func TestBarrier_passes(t *testing.T) {
	t.Parallel()
	here, there := twoHouses(t)
	alice := there.person("alice")
	roomID := alice.create()
	must(t, here.cache.CatchUp(t.Context()))
	for range 50 { // a look may come in between, and is waited for by nobody
		alice.say(roomID, "one")
		must(t, here.cache.Barrier(t.Context()))
		if here.cache.Head() == there.store.Head() {
			return
		}
	}
	t.Error("behind a barrier the ring never is where the stream is")
}

// TestMembersOfPassedRooms: what is kept of a room's members goes when the room is passed over.
func TestMembersOfPassedRooms(t *testing.T) {
	t.Parallel()
	const lazy = `{"room":{"timeline":{"limit":1},"state":{"lazy_load_members":true}}}`
	here, there := twoHouses(t, func(o *options) { o.Users = 1 })
	alice, bob, carol := there.person("alice"), there.person("bob"), there.person("carol")
	roomID := alice.create()
	bob.join(roomID)
	carol.create()

	at := bob.in(here)
	alice.say(roomID, "one")
	at.after(lazy) // alice's membership is in memory now
	carol.in(here).after("")
	alice.set(roomID, "m.room.member", alice.UserID.String(), `{"membership":"join","displayname":"Alicia"}`)
	alice.say(roomID, "two")
	must(t, here.cache.CatchUp(t.Context()))

	again := bob.in(here)
	got := again.after(lazy).Rooms.Join[roomID.String()]
	member := got.State.find("m.room.member", alice.UserID.String())
	if member == nil || member.Content["displayname"] != "Alicia" {
		t.Errorf("the sender is told as %+v, want Alicia", member)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestAnnounced_news is in the next answer, also where nobody has waited for news and the ring is looked after rarely.
func TestAnnounced_news(t *testing.T) {
	t.Parallel()
	here, there := twoHouses(t)
	alice, bob := there.person("alice"), there.person("bob")
	roomID := alice.create()
	bob.join(roomID)
	bob.sync("")
	at := bob.in(here)
	at.sync("")
	for _, text := range []string{"one", "two", "three"} {
		alice.say(roomID, text)
		here.cache.Wake(there.store.Head())
		if said := at.sync("").Rooms.Join[roomID.String()].Timeline.bodies(); !slices.Equal(said, []string{text}) {
			t.Errorf("after it was announced that %q was said, the answer holds %q", text, said)
		}
	}
}
