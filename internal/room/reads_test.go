package room_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"stoa/internal/history"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
	"stoa/internal/store/userdb"
	"stoa/internal/token"
	"stoa/matrix/eventfilter"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

func filterOf(t testing.TB, text string) *eventfilter.RoomEventFilter {
	t.Helper()
	f, err := eventfilter.ParseRoomEvents([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func idsOf(views []history.View) []id.EventID {
	ids := make([]id.EventID, len(views))
	for i, v := range views {
		ids[i] = v.PDU.EventID()
	}
	return ids
}

func TestMessages_apply_filters_and_load_members_lazily(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		h := newFixture(t, open())
		alice, bob, carol := user(t, "alice"), user(t, "bob"), user(t, "carol")
		roomID := h.create(alice)
		h.join(roomID, bob, carol)
		var wanted []id.EventID
		for range 300 {
			h.say(roomID, alice, "noise")
		}
		for range 3 {
			wanted = append(wanted, h.say(roomID, bob, "signal"))
			h.say(roomID, alice, "noise")
		}
		slices.Reverse(wanted)
		q := history.HistoryQuery{Limit: 2, Filter: filterOf(t, `{"senders":["`+bob.String()+`"],"types":["m.room.message"],"lazy_load_members":true}`)}
		var got []id.EventID
		for {
			page, err := h.Messages(t.Context(), carol, roomID, q)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, idsOf(page.Events)...)
			if len(page.Events) > 0 && (len(page.State) != 1 || !page.State[0].PDU.Is("m.room.member", bob.String())) {
				t.Errorf("state is %v, want bob's membership", idsOf(page.State))
			}
			if !page.HasEnd {
				break
			}
			q.From = &token.Token{Timeline: page.End, IsTimeline: true}
		}
		if !slices.Equal(got, wanted) {
			t.Errorf("got %v, want %v", got, wanted)
		}
	})
}

func TestMessages_take_tokens_of_the_stream(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		h := newFixture(t, s)
		alice := user(t, "alice")
		roomID := h.create(alice)
		before := h.say(roomID, alice, "before")
		stream := token.Token{Stream: token.Stream{Position: int64(s.Head())}}
		after := h.say(roomID, alice, "after")
		back, err := h.Messages(t.Context(), alice, roomID, history.HistoryQuery{From: &stream, Limit: 1})
		if err != nil || !slices.Equal(idsOf(back.Events), []id.EventID{before}) {
			t.Errorf("backwards: %v, %v; want %v", idsOf(back.Events), err, before)
		}
		on, err := h.Messages(t.Context(), alice, roomID, history.HistoryQuery{From: &stream, Dir: history.Forwards, Limit: 10})
		if err != nil || !slices.Equal(idsOf(on.Events), []id.EventID{after}) || on.HasEnd {
			t.Errorf("forwards: %v, %v; want %v", idsOf(on.Events), err, after)
		}
		until, err := h.Messages(t.Context(), alice, roomID, history.HistoryQuery{To: &stream, Limit: 10})
		if err != nil || !slices.Contains(idsOf(until.Events), after) || slices.Contains(idsOf(until.Events), before) {
			t.Errorf("back to it: %v, %v; want %v without %v", idsOf(until.Events), err, after, before)
		}
	})
}

func TestContext_surrounds_an_event(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		h := newFixture(t, open())
		alice, bob := user(t, "alice"), user(t, "bob")
		roomID := h.create(alice)
		h.join(roomID, bob)
		var all []id.EventID
		for range 9 {
			all = append(all, h.say(roomID, alice, "x"))
		}
		c, err := h.Context(t.Context(), bob, roomID, all[4], 5, filterOf(t, `{"lazy_load_members":true}`))
		if err != nil {
			t.Fatal(err)
		}
		if c.Event.PDU.EventID() != all[4] || !slices.Equal(idsOf(c.Before), []id.EventID{all[3], all[2], all[1]}) ||
			!slices.Equal(idsOf(c.After), all[5:7]) {
			t.Errorf("context is %v, %v, %v", idsOf(c.Before), c.Event.PDU.EventID(), idsOf(c.After))
		}
		members := 0
		for _, s := range c.State {
			if s.PDU.Type() == "m.room.member" {
				members++
			}
		}
		if members != 1 || len(c.State) < 5 {
			t.Errorf("state has %d entries, %d of them members; want alice alone", len(c.State), members)
		}
		older, err := h.Messages(t.Context(), bob, roomID, history.HistoryQuery{
			From: &token.Token{Timeline: c.Start, IsTimeline: true}, Limit: 1,
		})
		if err != nil || !slices.Equal(idsOf(older.Events), all[:1]) {
			t.Errorf("before it: %v, %v", idsOf(older.Events), err)
		}
		newer, err := h.Messages(t.Context(), bob, roomID, history.HistoryQuery{
			From: &token.Token{Timeline: c.End, IsTimeline: true}, Dir: history.Forwards, Limit: 10,
		})
		if err != nil || !slices.Equal(idsOf(newer.Events), all[7:]) {
			t.Errorf("after it: %v, %v", idsOf(newer.Events), err)
		}
		alone, err := h.Context(t.Context(), bob, roomID, all[0], 0, nil)
		if err != nil || len(alone.Before)+len(alone.After) != 0 {
			t.Errorf("limit 0 gives %v, %v", alone, err)
		}
		_, err = h.Context(t.Context(), user(t, "carol"), roomID, all[0], 5, nil)
		refusedWith(t, err, mxerr.CodeNotFound)
	})
}

func TestTimestampToEvent_finds_the_closest(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		h := newFixture(t, open())
		alice := user(t, "alice")
		roomID := h.create(alice)
		var all []id.EventID
		var times []int64
		for range 5 {
			h.clock.Add(60_000)
			all = append(all, h.say(roomID, alice, "x"))
			view, err := h.Event(t.Context(), alice, roomID, all[len(all)-1])
			if err != nil {
				t.Fatal(err)
			}
			times = append(times, view.PDU.OriginServerTS())
		}
		for name, c := range map[string]struct {
			ts   int64
			dir  history.Direction
			want id.EventID
		}{
			"exactly, on":      {times[2], history.Forwards, all[2]},
			"exactly, back":    {times[2], history.Backwards, all[2]},
			"between, on":      {times[2] + 1, history.Forwards, all[3]},
			"between, back":    {times[2] + 1, history.Backwards, all[2]},
			"after all, back":  {times[4] + 1_000_000, history.Backwards, all[4]},
			"after all, on":    {times[4] + 1, history.Forwards, id.EventID{}},
			"before all, back": {1, history.Backwards, id.EventID{}},
		} {
			view, err := h.TimestampToEvent(t.Context(), alice, roomID, c.ts, c.dir)
			switch {
			case c.want.IsZero():
				refusedWith(t, err, mxerr.CodeNotFound)
			case err != nil || view.PDU.EventID() != c.want:
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
		}
		first, err := h.TimestampToEvent(t.Context(), alice, roomID, 1, history.Forwards)
		if err != nil || first.PDU.Type() != "m.room.create" {
			t.Errorf("before all, on: %v", err)
		}
	})
}

func TestMembers_at_a_time_and_by_membership(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		h := newFixture(t, s)
		h.names[user(t, "bob")] = room.Profile{DisplayName: "Bob", AvatarURL: "mxc://stoa.test/bob"}
		alice, bob, carol := user(t, "alice"), user(t, "bob"), user(t, "carol")
		roomID := h.create(alice)
		h.join(roomID, bob)
		then := token.Token{Stream: token.Stream{Position: int64(s.Head())}}
		h.join(roomID, carol)
		if err := h.Leave(t.Context(), room.MembershipRequest{RoomID: roomID, Sender: bob}); err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]struct {
			q    history.MembersQuery
			want string
		}{
			"all now":            {history.MembersQuery{}, "alice:join bob:leave carol:join"},
			"joined now":         {history.MembersQuery{Membership: "join"}, "alice:join carol:join"},
			"not joined now":     {history.MembersQuery{NotMembership: "join"}, "bob:leave"},
			"either":             {history.MembersQuery{Membership: "join", NotMembership: "leave"}, "alice:join carol:join"},
			"all then":           {history.MembersQuery{At: &then}, "alice:join bob:join"},
			"those gone by then": {history.MembersQuery{At: &then, NotMembership: "join"}, ""},
		} {
			members, err := h.Members(t.Context(), alice, roomID, c.q)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, m := range members {
				stateKey, _ := m.PDU.StateKey()
				localpart, _, _ := strings.Cut(stateKey[1:], ":")
				got = append(got, localpart+":"+m.PDU.Membership())
			}
			slices.Sort(got)
			if strings.Join(got, " ") != c.want {
				t.Errorf("%s: %v, want %s", name, got, c.want)
			}
		}
		seen, err := h.Members(t.Context(), bob, roomID, history.MembersQuery{Membership: "join"})
		if err != nil || len(seen) != 2 {
			t.Errorf("bob, who left, sees %d members, %v", len(seen), err)
		}
		joined, err := h.JoinedMembers(t.Context(), alice, roomID)
		if err != nil || len(joined) != 2 {
			t.Errorf("joined are %v, %v", joined, err)
		}
		_, err = h.JoinedMembers(t.Context(), bob, roomID)
		refusedWith(t, err, mxerr.CodeForbidden)
	})
}

func TestInvite_tells_what_room_it_is(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		h := newFixture(t, s)
		alice, bob := user(t, "alice"), user(t, "bob")
		roomID := h.create(alice, func(r *room.CreateRequest) {
			r.Preset, r.Name, r.Invite = room.PresetPrivateChat, "hall", []id.UserID{bob}
		})
		h.read(func(read *store.Read) error {
			num, err := s.UserNum(read, bob.String())
			if err != nil {
				return err
			}
			row, err := roomdb.RoomByID(read, roomID.String())
			if err != nil {
				return err
			}
			m, err := roomdb.MembershipOf(read, num, row.Num)
			if err != nil {
				return err
			}
			var stripped []map[string]any
			if err := json.Unmarshal([]byte(m.Stripped), &stripped); err != nil {
				return err
			}
			var types []string
			for _, e := range stripped {
				types = append(types, e["type"].(string)+"|"+e["state_key"].(string))
				if len(e) != 4 {
					t.Errorf("stripped event has keys %v", e)
				}
			}
			want := []string{"m.room.create|", "m.room.name|", "m.room.join_rules|", "m.room.member|" + alice.String(), "m.room.member|" + bob.String()}
			if m.Membership != roomdb.Invite || !slices.Equal(types, want) {
				t.Errorf("membership %d with %v, want %v", m.Membership, types, want)
			}
			return nil
		})
	})
}

func TestInvite_is_refused_for_those_who_block_invites(t *testing.T) {
	t.Parallel()
	h := newFixture(t, storetest.SQLite(t))
	alice, bob := user(t, "alice"), user(t, "bob")
	roomID := h.create(alice)
	nums, err := h.store.InternUsers(t.Context(), func(string) bool { return true }, bob.String())
	if err != nil {
		t.Fatal(err)
	}
	change := store.NewChange()
	userdb.PutAccountData(change, nums[0], "", "m.invite_permission_config", `{"default_action":"block"}`)
	if _, err := h.store.Commit(t.Context(), change); err != nil {
		t.Fatal(err)
	}
	err = h.Invite(t.Context(), room.MembershipRequest{RoomID: roomID, Sender: alice, Target: bob})
	refusedWith(t, err, mxerr.CodeInviteBlocked)
	_, err = h.Create(t.Context(), room.CreateRequest{Creator: alice, Invite: []id.UserID{bob}})
	refusedWith(t, err, mxerr.CodeInviteBlocked)
	h.join(roomID, bob)
}
