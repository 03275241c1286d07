package directory_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"

	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// points checks what room an alias points to; zero for none.
func (h *fixture) points(alias string, want id.RoomID) {
	h.t.Helper()
	got, servers, err := h.Resolve(h.t.Context(), h.alias(alias))
	if want.IsZero() {
		h.refused(err, mxerr.CodeNotFound)
		return
	}
	h.must(err)
	if got != want {
		h.t.Fatalf("%s points to %s, want %s", alias, got, want)
	}
	if len(servers) != 1 || servers[0] != h.rooms.ServerName() {
		h.t.Fatalf("servers of %s are %v", alias, servers)
	}
}

func TestSetAlias(t *testing.T) {
	onBothEngines(t, func(h *fixture) {
		ctx := h.t.Context()
		alice, bob, eve := h.person("alice"), h.person("bob"), h.person("eve")
		hall, yard := h.create(alice), h.create(alice)
		h.join(hall, bob)
		set := func(user id.UserID, alias string, roomID id.RoomID) error {
			return h.SetAlias(ctx, user, h.alias(alias), roomID)
		}
		h.refused(set(eve, "hall", hall), mxerr.CodeForbidden)
		h.refused(set(bob, "hall:elsewhere.test", hall), mxerr.CodeInvalidParam)
		h.refused(set(bob, "hall", h.roomID("!none:stoa.test")), mxerr.CodeNotFound)
		h.points("hall", id.RoomID{})
		h.must(set(bob, "hall", hall)) // a member, without any power
		h.points("hall", hall)
		for _, roomID := range []id.RoomID{yard, hall} {
			err := set(alice, "hall", roomID)
			h.refused(err, mxerr.CodeUnknown)
			if refusal, _ := mxerr.As(err); refusal.Status != 409 {
				h.t.Fatalf("an alias that is taken gives %d", refusal.Status)
			}
		}
		h.points("hall", hall)
		h.leave(hall, bob)
		h.refused(set(bob, "late", hall), mxerr.CodeForbidden)
		h.points("none:elsewhere.test", id.RoomID{})

		aliases, err := h.Aliases(ctx, alice, hall)
		h.must(err)
		same(h.t, "aliases", aliases, []string{"#hall:stoa.test"})
	})
}

// Of many who want an alias for their rooms, one gets it.
func TestAnAliasPointsToOneRoom(t *testing.T) {
	onBothEngines(t, func(h *fixture) {
		alice := h.person("alice")
		var rooms []id.RoomID
		for range 4 {
			rooms = append(rooms, h.create(alice))
		}
		won := make([]bool, 2*len(rooms))
		var done sync.WaitGroup
		for i := range won {
			done.Go(func() {
				if i%2 == 0 {
					won[i] = h.SetAlias(h.t.Context(), alice, h.alias("hall"), rooms[i/2]) == nil
					return
				}
				_, err := h.CreateRoom(h.t.Context(), room.CreateRequest{Creator: alice, Alias: h.alias("hall")})
				won[i] = err == nil
				if refusal, ok := mxerr.As(err); err != nil && (!ok || refusal.Code != mxerr.CodeRoomInUse) {
					h.t.Errorf("create: %v", err)
				}
			})
		}
		done.Wait()
		winners := 0
		for _, w := range won {
			if w {
				winners++
			}
		}
		if winners != 1 {
			h.t.Fatalf("%d have got the alias", winners)
		}
		joined, err := h.history.JoinedRooms(h.t.Context(), alice)
		h.must(err)
		if extra := len(joined) - len(rooms); extra > 1 {
			h.t.Fatalf("%d rooms were made for one alias", extra)
		}
	})
}

func TestARoomHasABoundedNumberOfAliases(t *testing.T) {
	h := onSQLite(t)
	alice := h.person("alice")
	hall := h.create(alice)
	c := store.NewChange()
	for i := range 499 {
		roomdb.AddAlias(c, roomdb.Alias{Alias: h.alias(fmt.Sprintf("a%d", i)).String(), Room: h.roomNum(hall), Creator: alice.String()})
	}
	h.commit(c)
	h.must(h.SetAlias(t.Context(), alice, h.alias("last"), hall))
	h.refused(h.SetAlias(t.Context(), alice, h.alias("one-more"), hall), mxerr.CodeForbidden)
	aliases, err := h.Aliases(t.Context(), alice, hall)
	h.must(err)
	if len(aliases) != 500 {
		t.Fatalf("the room has %d aliases", len(aliases))
	}
}

func TestAUserCreatesABoundedNumberOfAliases(t *testing.T) {
	onBothEngines(t, func(h *fixture) {
		ctx := h.t.Context()
		alice, bob := h.person("alice"), h.person("bob")
		hall, yard := h.create(alice), h.create(bob)
		c := store.NewChange()
		for i := range 999 {
			roomdb.AddAlias(c, roomdb.Alias{Alias: h.alias(fmt.Sprintf("a%d", i)).String(), Room: h.roomNum(yard), Creator: alice.String()})
		}
		h.commit(c)
		h.must(h.SetAlias(ctx, alice, h.alias("last"), hall))
		h.refused(h.SetAlias(ctx, alice, h.alias("one-more"), hall), mxerr.CodeUserLimitExceeded)
		_, err := h.CreateRoom(ctx, room.CreateRequest{Creator: alice, Alias: h.alias("one-more")})
		h.refused(err, mxerr.CodeUserLimitExceeded)
		h.join(hall, bob)
		h.must(h.SetAlias(ctx, bob, h.alias("bobs"), hall))
		h.must(h.DeleteAlias(ctx, alice, false, h.alias("last")))
		h.must(h.SetAlias(ctx, alice, h.alias("one-more"), hall))
	})
}

func TestDeleteAlias(t *testing.T) {
	onBothEngines(t, func(h *fixture) {
		ctx := h.t.Context()
		alice, bob, eve := h.person("alice"), h.person("bob"), h.person("eve")
		hall := h.create(alice)
		h.join(hall, bob, eve)
		remove := func(user id.UserID, admin bool, alias string) error {
			return h.DeleteAlias(ctx, user, admin, h.alias(alias))
		}
		for _, alias := range []string{"a", "b", "c", "d"} {
			h.must(h.SetAlias(ctx, bob, h.alias(alias), hall))
		}
		h.refused(remove(eve, false, "a"), mxerr.CodeForbidden)
		h.refused(remove(alice, false, "none"), mxerr.CodeNotFound)
		h.refused(remove(alice, true, "a:elsewhere.test"), mxerr.CodeNotFound)
		h.must(remove(alice, false, "a")) // who may change the canonical alias
		h.must(remove(eve, true, "b"))    // an admin
		h.leave(hall, bob)
		h.must(remove(bob, false, "c")) // who made it, though gone
		h.refused(remove(bob, false, "c"), mxerr.CodeNotFound)
		for _, alias := range []string{"a", "b", "c"} {
			h.points(alias, id.RoomID{})
		}
		h.points("d", hall)
	})
}

// canonical is the content of m.room.canonical_alias, nil for none.
func (h *fixture) canonical(roomID id.RoomID) map[string]any {
	h.t.Helper()
	summary, err := h.history.Summary(h.t.Context(), roomID, "m.room.canonical_alias")
	h.must(err)
	pdu := summary.State["m.room.canonical_alias"]
	if pdu == nil {
		return nil
	}
	var content map[string]any
	h.must(json.Unmarshal(pdu.Content(), &content))
	return content
}

func TestADeletedAliasIsNoCanonicalOne(t *testing.T) {
	onBothEngines(t, func(h *fixture) {
		ctx := h.t.Context()
		alice, bob := h.person("alice"), h.person("bob")
		hall := h.create(alice, h.called("main"))
		h.join(hall, bob)
		for _, alias := range []string{"one", "two", "bobs"} {
			h.must(h.SetAlias(ctx, bob, h.alias(alias), hall))
		}
		h.set(alice, hall, "m.room.canonical_alias", "",
			`{"alias":"#main:stoa.test","alt_aliases":["#one:stoa.test","#two:stoa.test","#bobs:stoa.test"],"org.example.kept":{"a":1}}`)
		want := func(want string) {
			h.t.Helper()
			got, err := json.Marshal(h.canonical(hall))
			h.must(err)
			if string(got) != want {
				h.t.Fatalf("canonical aliases are\n     %s\nwant %s", got, want)
			}
		}
		h.must(h.DeleteAlias(ctx, alice, false, h.alias("one")))
		want(`{"alias":"#main:stoa.test","alt_aliases":["#two:stoa.test","#bobs:stoa.test"],"org.example.kept":{"a":1}}`)
		// Bob has no power over the event; his alias is gone all the same.
		h.must(h.DeleteAlias(ctx, bob, false, h.alias("bobs")))
		h.points("bobs", id.RoomID{})
		want(`{"alias":"#main:stoa.test","alt_aliases":["#two:stoa.test","#bobs:stoa.test"],"org.example.kept":{"a":1}}`)
		h.must(h.DeleteAlias(ctx, alice, false, h.alias("main")))
		want(`{"alt_aliases":["#two:stoa.test","#bobs:stoa.test"],"org.example.kept":{"a":1}}`)
		h.set(alice, hall, "m.room.canonical_alias", "", `{"alt_aliases":["#two:stoa.test"]}`)
		h.must(h.DeleteAlias(ctx, alice, false, h.alias("two")))
		want(`{}`)
	})
}

func TestSetCanonicalAlias(t *testing.T) {
	onBothEngines(t, func(h *fixture) {
		ctx := h.t.Context()
		alice, bob := h.person("alice"), h.person("bob")
		hall, yard := h.create(alice, h.called("hall")), h.create(alice, h.called("yard"))
		h.join(hall, bob)
		h.must(h.SetAlias(ctx, alice, h.alias("other"), hall))
		send := func(user id.UserID, content string) error {
			key := ""
			_, err := h.SetCanonicalAlias(ctx, room.Draft{RoomID: hall, Sender: user, Type: "m.room.canonical_alias", StateKey: &key, Content: json.RawMessage(content)})
			return err
		}
		for content, errcode := range map[string]string{
			`{"alias":"#none:stoa.test"}`:                                   mxerr.CodeBadAlias,
			`{"alias":"#yard:stoa.test"}`:                                   mxerr.CodeBadAlias,
			`{"alias":"#hall:elsewhere.test"}`:                              mxerr.CodeBadAlias,
			`{"alias":"#hall:stoa.test","alt_aliases":["#yard:stoa.test"]}`: mxerr.CodeBadAlias,
			`{"alias":"hall"}`:                                              mxerr.CodeInvalidParam,
			`{"alias":"#hall:stoa.test","alt_aliases":["#other"]}`:          mxerr.CodeInvalidParam,
			`{"alias":1}`: mxerr.CodeBadJSON,
			`{"alias":"#hall:stoa.test","alt_aliases":"#other:stoa.test"}`:     mxerr.CodeBadJSON,
			`{"alias":"#hall:stoa.test","alt_aliases":["#other:stoa.test",1]}`: mxerr.CodeBadJSON,
		} {
			h.refused(send(alice, content), errcode)
		}
		h.refused(send(bob, `{"alias":"#other:stoa.test"}`), mxerr.CodeForbidden)
		if got := h.canonical(hall)["alias"]; got != "#hall:stoa.test" {
			h.t.Fatalf("the canonical alias is %v", got)
		}
		h.must(send(alice, `{"alias":"#other:stoa.test","alt_aliases":["#hall:stoa.test"]}`))

		// What was named before may stay, though it no longer points anywhere.
		h.must(h.DeleteAlias(ctx, alice, false, h.alias("yard")))
		c := store.NewChange()
		roomdb.DropAlias(c, "#hall:stoa.test", h.roomNum(hall))
		h.commit(c)
		h.must(send(alice, `{"alias":"#hall:stoa.test","alt_aliases":["#other:stoa.test"]}`))
		h.must(send(alice, `{"alias":""}`))
		h.refused(send(alice, `{"alias":"#hall:stoa.test"}`), mxerr.CodeBadAlias)
		h.must(send(alice, `{"alias":null}`))
		if got := h.canonical(yard); got["alias"] != nil {
			h.t.Fatalf("the yard is still called %v", got)
		}
	})
}

func TestAliasesAreForThoseWhoMayReadTheRoom(t *testing.T) {
	h := onSQLite(t)
	ctx := t.Context()
	alice, bob, eve := h.person("alice"), h.person("bob"), h.person("eve")
	hall := h.create(alice, h.called("hall"))
	h.join(hall, bob)
	h.leave(hall, bob)
	for _, user := range []id.UserID{bob, eve} {
		_, err := h.Aliases(ctx, user, hall)
		h.refused(err, mxerr.CodeForbidden)
	}
	h.set(alice, hall, "m.room.history_visibility", "", `{"history_visibility":"world_readable"}`)
	for _, user := range []id.UserID{alice, bob, eve} {
		aliases, err := h.Aliases(ctx, user, hall)
		h.must(err)
		same(t, "aliases", aliases, []string{"#hall:stoa.test"})
	}
	none, err := h.Aliases(ctx, alice, h.create(alice))
	h.must(err)
	if none == nil || len(none) != 0 {
		t.Fatalf("a room without aliases has %#v, which is no empty list in JSON", none)
	}
}

func TestARoomOfATakenAliasIsNotMade(t *testing.T) {
	onBothEngines(t, func(h *fixture) {
		alice := h.person("alice")
		hall := h.create(alice, h.called("hall"))
		_, err := h.CreateRoom(h.t.Context(), room.CreateRequest{Creator: alice, Alias: h.alias("hall")})
		h.refused(err, mxerr.CodeRoomInUse)
		if !errors.Is(err, roomdb.ErrAliasTaken) {
			h.t.Errorf("the cause is lost: %v", err)
		}
		joined, err := h.history.JoinedRooms(h.t.Context(), alice)
		h.must(err)
		same(h.t, "rooms of alice", joined, []id.RoomID{hall})
		h.points("hall", hall)
	})
}

func TestAnUpgradeTakesTheAliasesAlong(t *testing.T) {
	onBothEngines(t, func(h *fixture) {
		ctx := h.t.Context()
		alice, bob := h.person("alice"), h.person("bob")
		old := h.create(alice, h.called("hall"))
		h.join(old, bob)
		h.must(h.SetAlias(ctx, bob, h.alias("bobs"), old))
		other := h.create(alice, h.called("other"))
		_, err := h.UpgradeRoom(ctx, room.UpgradeRequest{RoomID: old, Sender: bob, Version: "11"})
		h.refused(err, mxerr.CodeForbidden)
		h.points("hall", old)
		next, err := h.UpgradeRoom(ctx, room.UpgradeRequest{RoomID: old, Sender: alice, Version: "11"})
		h.must(err)
		h.points("hall", next)
		h.points("bobs", next)
		h.points("other", other)
		if got := h.canonical(next)["alias"]; got != "#hall:stoa.test" {
			h.t.Fatalf("the new room is called %v", got)
		}
	})
}
