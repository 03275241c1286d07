package room_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
	"stoa/matrix/id"
	"stoa/matrix/pushrule"
)

// rules are push rules by user; other users have the default rules.
type rules map[id.UserID]*pushrule.Rules

func (r rules) Rules(_ context.Context, user id.UserID) (*pushrule.Rules, error) {
	if own := r[user]; own != nil {
		return own, nil
	}
	return pushrule.UsualRules(), nil
}

func (r rules) Unusual(context.Context, store.RoomNum) ([]id.UserID, error) {
	var users []id.UserID
	for user := range r {
		users = append(users, user)
	}
	return users, nil
}

// keyword makes rules that highlight a word.
func keyword(t testing.TB, user id.UserID, word string) *pushrule.Rules {
	t.Helper()
	body := fmt.Sprintf(`{"pattern":%q,"actions":["notify",{"set_tweak":"highlight"}]}`, word)
	set, err := pushrule.Defaults(user).Put(pushrule.Content, word, []byte(body), pushrule.Place{})
	if err != nil {
		t.Fatal(err)
	}
	return set.Compile(nil)
}

// committed returns the payloads of all later commits of a store.
func committed(t testing.TB, s *store.Store) func() []*room.Committed {
	t.Helper()
	tail := s.Subscribe()
	t.Cleanup(tail.Close)
	return func() []*room.Committed {
		t.Helper()
		var all []*room.Committed
		for last := store.Position(0); last < s.Head(); {
			batch, err := tail.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			last = batch.Last
			for _, payload := range batch.Payloads {
				if c, ok := payload.(*room.Committed); ok {
					all = append(all, c)
				}
			}
		}
		return all
	}
}

func TestSend_writes_a_row_for_each_member_whom_it_concerns_more(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		alice, bob, carol, dave := user(t, "alice"), user(t, "bob"), user(t, "carol"), user(t, "dave")
		own := rules{carol: keyword(t, carol, "tea")}
		h := newFixture(t, s, func(o *room.Options) { o.PushRules = own })
		roomID := h.create(alice)
		h.join(roomID, bob, carol)
		after := committed(t, s)
		say := func(body, mentioned string) {
			t.Helper()
			content := fmt.Sprintf(`{"msgtype":"m.text","body":%q,"m.mentions":{"user_ids":[%q]}}`, body, mentioned)
			_, err := h.Send(t.Context(), room.Draft{RoomID: roomID, Sender: alice, Type: "m.room.message", Content: json.RawMessage(content)})
			if err != nil {
				t.Fatal(err)
			}
		}
		say("hello", bob.String())         // bob is mentioned
		say("more tea?", alice.String())   // carol's keyword; alice mentions herself, which does not count
		say("tea for all", dave.String())  // carol again; dave is not here
		h.join(roomID, dave)               // …
		say("hello dave", dave.String())   // now he is a member
		own[bob] = keyword(t, bob, "cake") //
		h.PushRulesChanged(bob)            //
		say("cake", "@nobody:stoa.test")   // bob has a keyword by now
		if err := h.Leave(t.Context(), room.MembershipRequest{RoomID: roomID, Sender: carol}); err != nil {
			t.Fatal(err)
		}
		say("no tea for those who left", "") // carol has gone

		var got []string
		for _, c := range after() {
			for _, e := range c.Events {
				for _, hl := range e.Highlights {
					h.read(func(read *store.Read) error {
						names, err := s.UserIDs(read, []store.UserNum{hl.User})
						if err != nil {
							return err
						}
						got = append(got, names[0]+" "+bodyOf(t, e.PDU.Content()))
						rows, err := roomdb.Highlights(read, c.Room, hl.User, e.Slot-1, e.Slot, 10)
						if err == nil && (len(rows) != 1 || rows[0].Event != e.Num || rows[0].Kind != roomdb.CountsAsHighlight) {
							t.Errorf("rows of %s are %+v", names[0], rows)
						}
						return err
					})
				}
			}
		}
		want := []string{
			bob.String() + " hello", carol.String() + " more tea?", carol.String() + " tea for all",
			dave.String() + " hello dave", bob.String() + " cake",
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("highlighted are\n%q, want\n%q", got, want)
		}
	})
}

func TestSend_keeps_running_totals_of_room_and_threads(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		h := newFixture(t, s)
		alice, bob, carol := user(t, "alice"), user(t, "bob"), user(t, "carol")
		roomID := h.create(alice)
		h.join(roomID, bob, carol)
		after := committed(t, s)
		root := h.say(roomID, alice, "root")
		relate := func(h *fixture, evType, relType string, target id.EventID) id.EventID {
			t.Helper()
			content := fmt.Sprintf(`{"body":"x","m.relates_to":{"rel_type":%q,"event_id":%q}}`, relType, target)
			eventID, err := h.Send(t.Context(), room.Draft{RoomID: roomID, Sender: bob, Type: evType, Content: json.RawMessage(content)})
			if err != nil {
				t.Fatal(err)
			}
			return eventID
		}
		reply := relate(h, "m.room.message", "m.thread", root)
		h = newFixture(t, s) // the store has everything that memory has
		edit := relate(h, "m.room.message", "m.replace", reply)
		relate(h, "m.reaction", "m.annotation", edit)
		relate(h, "m.reaction", "m.annotation", root)
		h.say(roomID, carol, "main")
		relate(h, "m.room.message", "m.thread", root)

		message := pushrule.Classify(pushrule.Facts{MemberCount: 3}, pushrule.Fields{Type: "m.room.message", Content: []byte(`{}`)})
		var all, main, thread int64
		events := 0
		for _, c := range after() {
			for _, e := range c.Events {
				events++
				inThread := !e.Thread.IsZero()
				if inThread != (e.Thread == root) {
					t.Errorf("event %d belongs to thread %v", events, e.Thread)
				}
				if e.Class == message {
					all++
					if inThread {
						thread++
					} else {
						main++
					}
				}
				if got := e.Totals.All.Of(message); got != all {
					t.Errorf("event %d: %d messages in all, want %d", events, got, all)
				}
				if got := e.Totals.Main().Of(message); got != main {
					t.Errorf("event %d: %d messages in the main timeline, want %d", events, got, main)
				}
				if got := e.Totals.Thread.Of(message); inThread && got != thread {
					t.Errorf("event %d: %d messages in the thread, want %d", events, got, thread)
				}
				checkStoredTotals(t, h, e)
			}
		}
		if events != 7 || all != 4 || thread != 2 {
			t.Errorf("%d events, %d messages, %d of them in the thread", events, all, thread)
		}
	})
}

func checkStoredTotals(t *testing.T, h *fixture, e room.TimelineEvent) {
	t.Helper()
	h.read(func(read *store.Read) error {
		stored, err := roomdb.EventByNum(read, e.Num)
		if err != nil {
			return err
		}
		totals, err := room.ParseTotals(stored.Totals)
		if err == nil && fmt.Sprint(totals) != fmt.Sprint(e.Totals) {
			t.Errorf("stored totals are %v, told ones %v", totals, e.Totals)
		}
		return err
	})
}
