package room_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/pushrule"
)

// askedRules counts the requests for each user's rules.
type askedRules struct {
	rules
	asked atomic.Int64
}

func (r *askedRules) Rules(ctx context.Context, user id.UserID) (*pushrule.Rules, error) {
	r.asked.Add(1)
	return r.rules.Rules(ctx, user)
}

// joins are drafts of some users' joins.
func joins(roomID id.RoomID, users ...id.UserID) []room.Draft {
	drafts := make([]room.Draft, len(users))
	for i, user := range users {
		stateKey := user.String()
		drafts[i] = room.Draft{
			RoomID: roomID, Sender: user, Type: event.TypeMember, StateKey: &stateKey, Content: json.RawMessage(`{"membership":"join"}`),
		}
	}
	return drafts
}

func TestJoin_asks_for_the_push_rules_of_each_member_once(t *testing.T) {
	t.Parallel()
	const members = 40
	var users []id.UserID
	for i := range members {
		users = append(users, user(t, fmt.Sprintf("user%d", i)))
	}
	for _, c := range []struct {
		name string
		join func(*fixture, id.RoomID) error
	}{
		{"one after the other", func(h *fixture, roomID id.RoomID) error {
			h.join(roomID, users...)
			return nil
		}},
		{"in one group", func(h *fixture, roomID id.RoomID) error {
			_, err := h.SendMany(t.Context(), roomID, joins(roomID, users...))
			return err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			asking := &askedRules{rules: rules{}}
			h := newFixture(t, storetest.SQLite(t), func(o *room.Options) { o.PushRules = asking })
			alice := user(t, "alice")
			roomID := h.create(alice)
			before := asking.asked.Load()
			if err := c.join(h, roomID); err != nil {
				t.Fatal(err)
			}
			h.say(roomID, alice, "hello")
			if got := asking.asked.Load() - before; got != members {
				t.Errorf("%d members came in, and push rules were asked for %d times", members, got)
			}
		})
	}
}

// A turn reports its members to memberRules before it is known whether the turn succeeds.
func TestSendMany_that_is_refused_leaves_nobody_highlighted(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		alice, bob, carol := user(t, "alice"), user(t, "bob"), user(t, "carol")
		h := newFixture(t, s, func(o *room.Options) {
			o.PushRules = rules{bob: keyword(t, bob, "tea"), carol: keyword(t, carol, "tea")}
		})
		roomID := h.create(alice)
		h.join(roomID, carol)
		after := committed(t, s)
		h.say(roomID, alice, "more tea?")
		leave := joins(roomID, carol)[0]
		leave.Content = json.RawMessage(`{"membership":"leave"}`)
		refused := room.Draft{RoomID: roomID, Sender: user(t, "dave"), Type: "m.room.message", Content: json.RawMessage(`{}`)}
		if _, err := h.SendMany(t.Context(), roomID, append(joins(roomID, bob), leave, refused)); err == nil {
			t.Fatal("somebody who is not in the room may send to it")
		}
		h.say(roomID, alice, "tea for carol alone")
		h.join(roomID, bob)
		h.say(roomID, alice, "tea for both")
		var got []int
		for _, c := range after() {
			for _, e := range c.Events {
				got = append(got, len(e.Highlights))
			}
		}
		if want := []int{1, 1, 0, 2}; !slices.Equal(got, want) { // the third is bob's join
			t.Errorf("highlights are %v, want %v", got, want)
		}
	})
}
