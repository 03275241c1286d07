package pushrule_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"stoa/matrix/id"
	"stoa/matrix/pushrule"
	"stoa/matrix/pushrule/pushruletest"
)

const room = "!Room:example.org"

var (
	modelUsers = []string{"@a:example.org", "@b:example.org", "@c:example.org", "@d:example.org", "@e:example.org", "@x:else.where", "@A:example.org"}
	modelRooms = []string{room, "!room:example.org", "!other:example.org"}
)

func mustUser(t testing.TB, s string) id.UserID {
	t.Helper()
	user, err := id.ParseUserID(s)
	if err != nil {
		t.Fatal(err)
	}
	return user
}

func mustRoom(t testing.TB, s string) id.RoomID {
	t.Helper()
	roomID, err := id.ParseRoomID(s)
	if err != nil {
		t.Fatal(err)
	}
	return roomID
}

// modelMember is a joined local member of the model room.
type modelMember struct {
	userID id.UserID
	member pushrule.Member
	naive  pushruletest.Member
	set    *pushrule.RuleSet
	rules  *pushrule.Rules
}

func (m *modelMember) compile(t testing.TB) {
	t.Helper()
	var ignored []id.UserID
	for _, user := range m.naive.Ignored {
		ignored = append(ignored, mustUser(t, user))
	}
	m.rules = m.set.Compile(ignored)
	shown, err := json.Marshal(m.set)
	if err != nil {
		t.Fatal(err)
	}
	m.naive.Rules = shown
}

func randomMember(t testing.TB, r *pushruletest.Random, name string) *modelMember {
	t.Helper()
	user := mustUser(t, name)
	displayName := r.DisplayName()
	m := &modelMember{
		userID: user, set: r.RuleSet(user),
		member: pushrule.Member{UserID: name, DisplayName: displayName},
		naive:  pushruletest.Member{UserID: name, DisplayName: displayName, Ignored: r.Ignored()},
	}
	m.compile(t)
	return m
}

func randomFacts(r *pushruletest.Random) pushrule.Facts {
	mayRoom, mayOther := r.IntN(2) == 0, r.IntN(2) == 0
	return pushrule.Facts{
		MemberCount: 1 + r.IntN(4),
		MayNotify:   func(key string) bool { return key == "room" && mayRoom || key == "other" && mayOther },
	}
}

// unreadByModel is how the store counts: totals and rows, or evaluation for members whose rules take away.
func unreadByModel(m *modelMember, totals []pushrule.Totals, rows map[string][]pushrule.Raised, events []*pushrule.Event, from int, senders []string) pushrule.Unread {
	counter := m.rules.In(id.RoomID{})
	if roomID, err := id.ParseRoomID(room); err == nil {
		counter = m.rules.In(roomID)
	}
	if counter.TakesAway(func(user string) bool { return slices.Contains(senders, user) }) {
		var u pushrule.Unread
		for _, e := range events[from:] {
			u.Add(counter.Judge(m.member, e), 1)
		}
		return u
	}
	u := counter.Count(totals[len(events)].Minus(totals[from]))
	for i := from; i < len(events); i++ {
		for _, row := range rows[fmt.Sprint(i)] {
			if row.UserID == m.userID {
				counter.CountRaised(&u, row.Class, row.Verdict)
			}
		}
	}
	return u
}

func TestCountingModel(t *testing.T) {
	t.Parallel()
	runs := uint64(1500)
	if testing.Short() {
		runs = 200
	}
	for shard := range uint64(4) {
		t.Run(fmt.Sprintf("equals_the_naive_evaluator_%d", shard), func(t *testing.T) {
			t.Parallel()
			took := map[bool]int{}
			for seed := shard; seed < runs; seed += 4 {
				checkModel(t, seed, took)
			}
			if took[true] == 0 || took[false] == 0 {
				t.Errorf("both ways of counting should be met, were %v", took)
			}
		})
	}
}

// checkModel plays one random room: members with random rules, events, and every member's count from their own last event on.
func checkModel(t *testing.T, seed uint64, took map[bool]int) {
	t.Helper()
	r := pushruletest.NewRandom(seed, modelUsers, modelRooms)
	var members []*modelMember
	joined := map[id.UserID]bool{}
	watch := pushrule.NewWatch(mustRoom(t, room), func(user id.UserID) bool { return joined[user] })
	for _, name := range modelUsers[:4] {
		m := randomMember(t, r, name)
		members = append(members, m)
		joined[m.userID] = true
		watch.Set(m.userID, "before", m.rules)
		watch.Set(m.userID, m.member.DisplayName, m.rules)
	}
	gone := randomMember(t, r, modelUsers[4])
	watch.Set(gone.userID, gone.member.DisplayName, gone.rules)
	watch.Remove(gone.userID)

	var raw []pushruletest.Event
	var facts []pushrule.Facts
	var events []*pushrule.Event
	var senders []string
	totals := []pushrule.Totals{{}}
	rows := map[string][]pushrule.Raised{}
	for i := range 12 {
		sender := modelUsers[r.IntN(len(modelUsers))]
		raw = append(raw, r.Event(room, sender))
		facts = append(facts, randomFacts(r))
		events = append(events, pushrule.NewEvent(raw[i].Fields, facts[i]))
		senders = append(senders, sender)
		next := totals[i]
		next.Add(events[i].Class())
		stored, err := pushrule.ParseTotals(next.Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		totals = append(totals, stored)
		rows[fmt.Sprint(i)] = watch.Raised(events[i])
	}
	for _, m := range members {
		from := 0
		for i, sender := range senders {
			if sender == m.member.UserID {
				from = i + 1
			}
		}
		var want pushrule.Unread
		for i := from; i < len(raw); i++ {
			naive := pushruletest.Naive(m.naive, raw[i].JSON, facts[i])
			want.Add(naive, 1)
			if got := m.rules.In(mustRoom(t, room)).Judge(m.member, events[i]); got != naive {
				t.Fatalf("seed %d: %s: verdict %d, naive %d\nevent %s\nrules %s", seed, m.member.UserID, got, naive, raw[i].JSON, m.naive.Rules)
			}
		}
		got := unreadByModel(m, totals, rows, events, from, senders)
		took[m.rules.In(mustRoom(t, room)).TakesAway(func(user string) bool { return slices.Contains(senders, user) })]++
		if got != want {
			t.Fatalf("seed %d: %s from %d: counted %+v, naive %+v\nrules %s", seed, m.member.UserID, from, got, want, m.naive.Rules)
		}
	}
}
