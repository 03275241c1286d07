package directory_test

import (
	"fmt"
	"slices"
	"testing"

	"stoa/internal/directory"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

func (h *fixture) page(q directory.PublishedQuery) directory.PublishedPage {
	h.t.Helper()
	page, err := h.PublishedRooms(h.t.Context(), q)
	h.must(err)
	if page.Rooms == nil {
		h.t.Fatal("a page without rooms is null in JSON")
	}
	return page
}

func roomsOf(pages ...directory.PublishedPage) (found []id.RoomID) {
	for _, page := range pages {
		for _, r := range page.Rooms {
			found = append(found, r.RoomID)
		}
	}
	return found
}

// through reads a list from its beginning to its end, and back.
func (h *fixture) through(q directory.PublishedQuery) (forwards, backwards []id.RoomID) {
	h.t.Helper()
	page := h.page(q)
	if page.Prev != nil {
		h.t.Fatalf("there is something before the first page: %v", page.Prev)
	}
	forwards = roomsOf(page)
	for page.Next != nil {
		q.Since = page.Next
		page = h.page(q)
		forwards = append(forwards, roomsOf(page)...)
	}
	backwards = roomsOf(page)
	for page.Prev != nil {
		q.Since = page.Prev
		page = h.page(q)
		backwards = append(roomsOf(page), backwards...)
	}
	return forwards, backwards
}

func TestPublishedRoomsComeInPages(t *testing.T) {
	onBothEngines(t, func(h *fixture) {
		alice, bob, eve := h.person("alice"), h.person("bob"), h.person("eve")
		var all, odd []id.RoomID
		for i := range 9 {
			roomID := h.create(alice, listed, named(fmt.Sprintf("Number %d %s", i, []string{"even", "ODD"}[i%2])))
			all = append(all, roomID)
		}
		h.create(alice, named("Number 10 odd, not listed"))
		h.join(all[3], bob, eve)
		h.join(all[6], bob)
		h.join(all[2], bob)
		// The fullest first, then the newest.
		all = []id.RoomID{all[3], all[6], all[2], all[8], all[7], all[5], all[4], all[1], all[0]}
		for _, roomID := range all {
			summary, err := h.Summarize(h.t.Context(), alice, roomID)
			h.must(err)
			if summary.Name[9:] == "ODD" {
				odd = append(odd, roomID)
			}
		}
		for limit := range 11 {
			for term, want := range map[string][]id.RoomID{"": all, "odd": odd, "none": nil} {
				forwards, backwards := h.through(directory.PublishedQuery{Limit: limit, Term: term})
				same(h.t, fmt.Sprintf("forwards by %d with %q", limit, term), forwards, want)
				same(h.t, fmt.Sprintf("backwards by %d with %q", limit, term), backwards, want)
			}
		}
		if page := h.page(directory.PublishedQuery{Limit: 2}); page.Total != 9 || len(page.Rooms) != 2 || page.Rooms[0].NumJoinedMembers != 3 {
			h.t.Fatalf("the first page is %+v", page)
		}
	})
}

// A room that was there all the time is on one page, whatever else changes between
// two of them.
func TestPagesHoldAlthoughTheListChanges(t *testing.T) {
	onBothEngines(t, func(h *fixture) {
		ctx := h.t.Context()
		alice := h.person("alice")
		var rooms []id.RoomID
		for range 4 {
			rooms = append([]id.RoomID{h.create(alice, listed)}, rooms...)
		}
		first := h.page(directory.PublishedQuery{Limit: 2})
		same(h.t, "first page", roomsOf(first), rooms[:2])
		h.create(alice, listed) // in front of all others
		h.must(h.Publish(ctx, alice, false, rooms[1], false))
		second := h.page(directory.PublishedQuery{Limit: 2, Since: first.Next})
		same(h.t, "second page", roomsOf(second), rooms[2:])

		// What is left of a page after its neighbours are gone leads on to all that there is.
		for _, roomID := range rooms[2:] {
			h.must(h.Publish(ctx, alice, false, roomID, false))
		}
		empty := h.page(directory.PublishedQuery{Limit: 5, Since: first.Next})
		same(h.t, "a page behind the last room", roomsOf(empty), nil)
		if empty.Next != nil || empty.Prev == nil {
			h.t.Fatalf("behind the last room there is %v, before it %v", empty.Next, empty.Prev)
		}
		h.must(h.Publish(ctx, alice, false, rooms[1], true)) // where first.Next stands
		before := h.page(directory.PublishedQuery{Limit: 5, Since: empty.Prev})
		whole := h.page(directory.PublishedQuery{Limit: 5})
		same(h.t, "all that is before it", roomsOf(before), roomsOf(whole))
		if len(whole.Rooms) != 3 {
			h.t.Fatalf("listed are %v", roomsOf(whole))
		}
		for _, r := range whole.Rooms {
			h.must(h.Publish(ctx, alice, false, r.RoomID, false))
		}
		back := *first.Next
		back.Back = true
		empty = h.page(directory.PublishedQuery{Limit: 5, Since: &back})
		h.must(h.Publish(ctx, alice, false, rooms[1], true))
		if empty.Next == nil || empty.Prev != nil {
			h.t.Fatalf("before the first room there is %v, behind it %v", empty.Prev, empty.Next)
		}
		same(h.t, "all that is behind it", roomsOf(h.page(directory.PublishedQuery{Limit: 5, Since: empty.Next})), rooms[1:2])
	})
}

func TestPublishedRoomsAreFound(t *testing.T) {
	onBothEngines(t, func(h *fixture) {
		alice := h.person("alice")
		garden := h.create(alice, listed, named("Gärten & Höfe"), func(req *room.CreateRequest) { req.Topic = "About 100% of plants" })
		lane := h.create(alice, listed, space, h.called("under_score"))
		plain := h.create(alice, listed)
		h.create(alice, named("Gärten"), h.called("plants"))
		odd := h.create(alice, listed, func(req *room.CreateRequest) { req.CreationContent = []byte(`{"type":"org.example.odd"}`) })
		for name, c := range map[string]struct {
			term  string
			types []string
			want  []id.RoomID
		}{
			"part_of_a_name":             {"rten &", nil, []id.RoomID{garden}},
			"a_name_in_capitals":         {"GÄRTEN", nil, []id.RoomID{garden}},
			"a_topic":                    {"of plants", nil, []id.RoomID{garden}},
			"a_percent_sign":             {"0% of", nil, []id.RoomID{garden}},
			"no_percent_sign":            {"%", []string{"m.space"}, nil},
			"a_canonical_alias":          {"under_score", nil, []id.RoomID{lane}},
			"no_wildcard":                {"under%score", nil, nil},
			"no_wildcard_of_one_letter":  {"h_fe", nil, nil},
			"no_room_ID":                 {plain.String(), nil, nil},
			"spaces":                     {"", []string{"m.space"}, []id.RoomID{lane}},
			"rooms_without_a_type":       {"", []string{""}, []id.RoomID{plain, garden}},
			"one_type_or_another":        {"", []string{"m.space", "org.example.odd"}, []id.RoomID{odd, lane}},
			"no_types_at_all":            {"", []string{}, nil},
			"a_term_and_a_type":          {"höfe", []string{""}, []id.RoomID{garden}},
			"a_term_of_another_type":     {"höfe", []string{"m.space"}, nil},
			"everything":                 {"", nil, []id.RoomID{odd, plain, lane, garden}},
			"a_type_that_no_room_has":    {"", []string{"org.example.none"}, nil},
			"nothing_for_an_odd_quote":   {"'", nil, nil},
			"nothing_for_a_newline":      {"\n", nil, nil},
			"nothing_for_a_long_request": {string(make([]byte, 10_000)), nil, nil},
		} {
			h.t.Log(name)
			same(h.t, name, roomsOf(h.page(directory.PublishedQuery{Term: c.term, RoomTypes: c.types})), c.want)
		}
		c := store.NewChange()
		roomdb.SetBlocked(c, h.roomNum(garden), true)
		h.commit(c)
		same(h.t, "what is left when a room is blocked", roomsOf(h.page(directory.PublishedQuery{})), []id.RoomID{odd, plain, lane})
		h.leave(plain, alice)
		same(h.t, "what is left when a room is empty", roomsOf(h.page(directory.PublishedQuery{})), []id.RoomID{odd, lane})
	})
}

func TestPublishedRoomsTellWhatTheyAre(t *testing.T) {
	h := onSQLite(t)
	alice, bob := h.person("alice"), h.person("bob")
	hall := h.create(alice, listed, named("Hall"), h.called("hall"), func(req *room.CreateRequest) { req.Topic = "walls" })
	h.join(hall, bob)
	h.set(alice, hall, "m.room.avatar", "", `{"url":"mxc://stoa.test/hall"}`)
	h.set(alice, hall, "m.room.guest_access", "", `{"guest_access":"can_join"}`)
	h.set(alice, hall, "m.room.history_visibility", "", `{"history_visibility":"world_readable"}`)
	want := directory.Published{RoomID: hall, Name: "Hall", Topic: "walls", AvatarURL: "mxc://stoa.test/hall", CanonicalAlias: "#hall:stoa.test",
		JoinRule: "public", NumJoinedMembers: 2, WorldReadable: true, GuestCanJoin: true}
	if got := h.page(directory.PublishedQuery{}).Rooms; len(got) != 1 || got[0] != want {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
	// State of the wrong form is passed over, not shown and no fault.
	h.set(alice, hall, "m.room.name", "", `{"name":["Hall"]}`)
	h.set(alice, hall, "m.room.avatar", "", `{"url":{}}`)
	h.set(alice, hall, "m.room.guest_access", "", `{}`)
	want.Name, want.AvatarURL, want.GuestCanJoin = "", "", false
	if got := h.page(directory.PublishedQuery{}).Rooms; len(got) != 1 || got[0] != want {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

func TestPublish(t *testing.T) {
	onBothEngines(t, func(h *fixture) {
		ctx := h.t.Context()
		alice, bob, eve := h.person("alice"), h.person("bob"), h.person("eve")
		hall := h.create(alice)
		h.join(hall, bob)
		none := h.roomID("!none:stoa.test")
		is := func(want bool) {
			h.t.Helper()
			published, err := h.IsPublished(ctx, alice, hall)
			h.must(err)
			if published != want || slices.Contains(roomsOf(h.page(directory.PublishedQuery{})), hall) != want {
				h.t.Fatalf("published: %v, listed: %v; want %v", published, roomsOf(h.page(directory.PublishedQuery{})), want)
			}
		}
		is(false)
		h.refused(h.Publish(ctx, bob, false, hall, true), mxerr.CodeForbidden)
		h.refused(h.Publish(ctx, eve, false, hall, true), mxerr.CodeForbidden)
		is(false)
		h.must(h.Publish(ctx, alice, false, hall, true))
		is(true)
		h.must(h.Publish(ctx, alice, false, hall, true))
		is(true)
		h.refused(h.Publish(ctx, bob, false, hall, false), mxerr.CodeForbidden)
		h.must(h.Publish(ctx, eve, true, hall, false)) // an admin, who is not in the room
		is(false)
		h.refused(h.Publish(ctx, alice, true, none, true), mxerr.CodeNotFound)
		_, err := h.IsPublished(ctx, alice, none)
		h.refused(err, mxerr.CodeNotFound)
	})
}

func TestSummarizeTellsWhoMayKnow(t *testing.T) {
	h := onSQLite(t)
	ctx := t.Context()
	alice, bob, eve := h.person("alice"), h.person("bob"), h.person("eve")
	club := h.create(alice, private)
	h.must(h.rooms.Invite(ctx, room.MembershipRequest{RoomID: club, Sender: alice, Target: bob}))
	h.join(club, bob)
	rule := func(rule, more string) func() id.RoomID {
		return func() id.RoomID {
			roomID := h.create(alice, private)
			h.set(alice, roomID, "m.room.join_rules", "", `{"join_rule":"`+rule+`"`+more+`}`)
			return roomID
		}
	}
	allow := `,"allow":[{"type":"m.room_membership","room_id":"` + club.String() + `"}]`
	for name, c := range map[string]struct {
		make    func() id.RoomID
		mayFind []id.UserID // of nobody, bob who is in the club, and eve who is not
	}{
		"public":           {rule("public", ""), []id.UserID{{}, bob, eve}},
		"knock":            {rule("knock", ""), []id.UserID{{}, bob, eve}},
		"knock_restricted": {rule("knock_restricted", allow), []id.UserID{{}, bob, eve}},
		"restricted":       {rule("restricted", allow), []id.UserID{bob}},
		"invite":           {rule("invite", ""), nil},
		"private":          {rule("private", ""), nil},
		"world_readable": {func() id.RoomID {
			roomID := h.create(alice, private)
			h.set(alice, roomID, "m.room.history_visibility", "", `{"history_visibility":"world_readable"}`)
			return roomID
		}, []id.UserID{{}, bob, eve}},
		"invited": {func() id.RoomID {
			roomID := h.create(alice, private)
			h.must(h.rooms.Invite(ctx, room.MembershipRequest{RoomID: roomID, Sender: alice, Target: eve}))
			return roomID
		}, []id.UserID{eve}},
		"banned": {func() id.RoomID {
			roomID := h.create(alice)
			h.must(h.rooms.Ban(ctx, room.MembershipRequest{RoomID: roomID, Sender: alice, Target: eve}))
			return roomID
		}, []id.UserID{{}, bob}},
	} {
		t.Run(name, func(t *testing.T) {
			roomID := c.make()
			for _, user := range []id.UserID{{}, bob, eve} {
				summary, err := h.Summarize(ctx, user, roomID)
				if !slices.Contains(c.mayFind, user) {
					if refusal, ok := mxerr.As(err); !ok || refusal.Code != mxerr.CodeNotFound {
						t.Errorf("%q gets %+v, %v", user, summary, err)
					}
					continue
				}
				want := "leave"
				switch {
				case user.IsZero():
					want = ""
				case name == "invited":
					want = "invite"
				}
				if err != nil || summary.Membership != want || summary.RoomID != roomID {
					t.Errorf("%q gets %+v, %v", user, summary, err)
				}
				if restricted := name == "restricted" || name == "knock_restricted"; restricted && !slices.Equal(summary.AllowedRoomIDs, []id.RoomID{club}) {
					t.Errorf("members of %v may join", summary.AllowedRoomIDs)
				}
			}
		})
	}
	_, err := h.Summarize(ctx, alice, h.roomID("!none:stoa.test"))
	h.refused(err, mxerr.CodeNotFound)
	if s, err := h.Summarize(ctx, alice, club); err != nil || s.Membership != "join" || s.NumJoinedMembers != 2 || s.RoomVersion == "" {
		t.Fatalf("the club is %+v, %v", s, err)
	}
}
