package streamcache_test

import (
	"slices"
	"stoa/internal/clientsync/synctest"
	"testing"
)

// TestRoomsOfNobodyHere are not read when others write them, and who asks for them later misses nothing.
func TestRoomsOfNobodyHere(t *testing.T) {
	t.Parallel()
	const lazy = `{"room":{"state":{"lazy_load_members":true}}}`
	here, there := synctest.TwoServers(t)
	alice, bob := there.Client("alice"), there.Client("bob")
	roomID, other := alice.Create(), alice.Create()
	bob.Join(roomID)
	bob.Sync("")
	was := bob.Since

	alice.Say(roomID, "one")
	alice.Set(roomID, "m.room.member", alice.UserID.String(), `{"membership":"join","displayname":"Alicia"}`)
	synctest.Must(t, here.Cache.CatchUp(t.Context()))
	if read := here.Cache.Skipped(); read == 0 {
		t.Error("the first instance has read a room that nobody asked it for")
	}

	at := bob.In(here)
	at.Since = was
	got := at.After(lazy).Rooms.Join[roomID.String()]
	if said := got.Timeline.Bodies(); !slices.Contains(said, "one") {
		t.Errorf("whoever comes with an older token is told %q, without what was passed over", said)
	}

	// From here on bob is in memory: what happens in the room is read, and told from the ring.
	passed := here.Cache.Skipped()
	alice.Say(roomID, "two")
	if said := at.After(lazy).Rooms.Join[roomID.String()].Timeline.Bodies(); !slices.Equal(said, []string{"two"}) {
		t.Errorf("then is told %q, want two", said)
	}
	if here.Cache.Skipped() != passed {
		t.Error("a room of somebody in memory was passed over")
	}

	// And what happens where he comes in.
	alice.Say(other, "before")
	bob.Join(other)
	alice.Say(other, "after")
	if said := at.After(lazy).Rooms.Join[other.String()].Timeline.Bodies(); !slices.Contains(said, "after") {
		t.Errorf("of the room that he has joined elsewhere he is told %q", said)
	}
	alice.Say(other, "later")
	if said := at.After(lazy).Rooms.Join[other.String()].Timeline.Bodies(); !slices.Equal(said, []string{"later"}) {
		t.Errorf("then is told %q, want later", said)
	}
}

// TestBarrier_passes: what a barrier finds, and nobody here can see, is not read once more.
func TestBarrier_passes(t *testing.T) {
	t.Parallel()
	here, there := synctest.TwoServers(t)
	alice := there.Client("alice")
	roomID := alice.Create()
	synctest.Must(t, here.Cache.CatchUp(t.Context()))
	for range 50 { // a poll may find the group first
		alice.Say(roomID, "one")
		synctest.Must(t, here.Cache.Barrier(t.Context()))
		if here.Cache.Head() == there.Store.Head() {
			return
		}
	}
	t.Error("behind a barrier the ring never is where the stream is")
}

// TestMembersOfPassedRooms: what is kept of a room's members goes when the room is passed over.
func TestMembersOfPassedRooms(t *testing.T) {
	t.Parallel()
	const lazy = `{"room":{"timeline":{"limit":1},"state":{"lazy_load_members":true}}}`
	here, there := synctest.TwoServers(t, func(o *synctest.Options) { o.Users = 1 })
	alice, bob, carol := there.Client("alice"), there.Client("bob"), there.Client("carol")
	roomID := alice.Create()
	bob.Join(roomID)
	carol.Create()

	at := bob.In(here)
	alice.Say(roomID, "one")
	at.After(lazy) // alice's membership is in memory now
	carol.In(here).After("")
	alice.Set(roomID, "m.room.member", alice.UserID.String(), `{"membership":"join","displayname":"Alicia"}`)
	alice.Say(roomID, "two")
	synctest.Must(t, here.Cache.CatchUp(t.Context()))

	again := bob.In(here)
	got := again.After(lazy).Rooms.Join[roomID.String()]
	member := got.State.Find("m.room.member", alice.UserID.String())
	if member == nil || member.Content["displayname"] != "Alicia" {
		t.Errorf("the sender is told as %+v, want Alicia", member)
	}
}

// TestAnnounced_news is in the next answer, also where nobody has waited for news and the ring is looked after rarely.
func TestAnnounced_news(t *testing.T) {
	t.Parallel()
	here, there := synctest.TwoServers(t)
	alice, bob := there.Client("alice"), there.Client("bob")
	roomID := alice.Create()
	bob.Join(roomID)
	bob.Sync("")
	at := bob.In(here)
	at.Sync("")
	for _, text := range []string{"one", "two", "three"} {
		alice.Say(roomID, text)
		here.Cache.Wake(there.Store.Head())
		if said := at.Sync("").Rooms.Join[roomID.String()].Timeline.Bodies(); !slices.Equal(said, []string{text}) {
			t.Errorf("after it was announced that %q was said, the answer holds %q", text, said)
		}
	}
}
