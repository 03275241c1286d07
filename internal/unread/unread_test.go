package unread_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
	"stoa/internal/unread"
	"stoa/internal/who"
	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/pushrule"
	"stoa/matrix/pushrule/pushruletest"
	"stoa/matrix/signing"
)

// fixture is one room with people whose push rules are random, and what a naive counter needs to know of all that happened.
type fixture struct {
	*room.Rooms
	t        *testing.T
	store    *store.Store
	random   *pushruletest.Random
	room     id.RoomID
	num      store.RoomNum
	people   []*person
	events   []happened
	tail     *store.Subscription
	counters map[*person]*unread.RoomCounter // kept up by Apply
	counter  *unread.Counter
}

type person struct {
	id      id.UserID
	num     store.UserNum
	rules   *pushrule.RuleSet
	ignored []id.UserID
	name    string
	in      bool
	joined  store.Slot
	marks   map[string]store.Slot // by thread; "" all threads
}

// happened is a live event as a naive counter sees it.
type happened struct {
	slot   store.Slot
	id     id.EventID
	sender id.UserID
	thread string
	json   []byte
	facts  pushrule.Facts
	totals room.Totals
}

// rules are the push rules of the people, as package room and the counter ask for them.
type rules struct{ *fixture }

func (r rules) Rules(_ context.Context, user id.UserID) (*pushrule.Rules, error) {
	for _, p := range r.people {
		if p.id == user {
			return p.rules.Compile(p.ignored), nil
		}
	}
	return pushrule.UsualRules(), nil
}

func (r rules) Unusual(context.Context, store.RoomNum) ([]id.UserID, error) {
	var all []id.UserID
	for _, p := range r.people {
		all = append(all, p.id)
	}
	return all, nil
}

type counterRules struct{ rules }

func (r counterRules) Compiled(_ *store.Read, user who.User) (*pushrule.Rules, error) {
	return r.rules.Rules(context.Background(), user.UserID)
}

type profiles struct{ *fixture }

func (p profiles) Profile(_ context.Context, user id.UserID) (room.Profile, error) {
	for _, x := range p.people {
		if x.id == user {
			return room.Profile{DisplayName: x.name}, nil
		}
	}
	return room.Profile{}, nil
}

func newFixture(t *testing.T, s *store.Store, seed uint64) *fixture {
	w := &fixture{t: t, store: s, counters: map[*person]*unread.RoomCounter{}}
	var names []string
	for i := range 6 {
		userID, err := id.ParseUserID(fmt.Sprintf("@user%d:%s", i, storetest.ServerName))
		w.must(err)
		nums, err := s.InternUsers(t.Context(), func(string) bool { return true }, userID.String())
		w.must(err)
		w.people = append(w.people, &person{id: userID, num: nums[0], marks: map[string]store.Slot{}})
		names = append(names, userID.String())
	}
	keyID, err := id.ParseKeyID("ed25519:1")
	w.must(err)
	key, err := signing.NewKey(keyID, bytes.Repeat([]byte{7}, 32))
	w.must(err)
	server, err := id.ParseServerName(storetest.ServerName)
	w.must(err)
	var mu sync.Mutex
	now := time.UnixMilli(1_700_000_000_000)
	w.Rooms, err = room.New(room.Options{
		Store: s, Signer: signing.NewSigner(server, key), PushRules: rules{w}, Profiles: profiles{w},
		Clock: func() time.Time { mu.Lock(); defer mu.Unlock(); now = now.Add(time.Millisecond); return now },
	})
	w.must(err)
	w.tail = s.Subscribe()
	t.Cleanup(w.tail.Close)
	w.counter = unread.New(s, counterRules{rules{w}})
	owner := w.people[0]
	for _, p := range w.people {
		p.rules = pushrule.Defaults(p.id)
	}
	w.room, err = w.Create(t.Context(), room.CreateRequest{Creator: owner.id, Preset: room.PresetPublicChat})
	w.must(err)
	w.read(func(r *store.Read) (err error) {
		w.num, err = roomdb.RoomNum(r, w.room.String())
		return err
	})
	w.random = pushruletest.NewRandom(seed, names, []string{w.room.String(), "!other:" + storetest.ServerName})
	for _, p := range w.people {
		p.rules, p.name = w.random.RuleSet(p.id), w.random.DisplayName()
		for _, ignored := range w.random.Ignored() {
			userID, err := id.ParseUserID(ignored)
			w.must(err)
			p.ignored = append(p.ignored, userID)
		}
		w.Rooms.PushRulesChanged(p.id)
	}
	owner.in, owner.name = true, "" // the room was made before anybody had a name
	w.note()
	return w
}

func (w *fixture) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *fixture) read(f func(*store.Read) error) {
	w.t.Helper()
	w.must(w.store.Read(w.t.Context(), f))
}

// note takes over what was committed since the last time.
func (w *fixture) note() {
	w.t.Helper()
	var upTo store.Position
	w.read(func(r *store.Read) error { upTo = r.Head(); return nil })
	for {
		b, err := w.tail.Next(w.t.Context())
		w.must(err)
		for _, payload := range b.Payloads {
			if c, ok := payload.(*room.Committed); ok {
				w.take(c)
			}
		}
		if b.Last >= upTo {
			return
		}
	}
}

// take notes the events of a commit, with the facts as they were then, and keeps the counters up.
func (w *fixture) take(c *room.Committed) {
	for i := range c.Events {
		e := &c.Events[i]
		if e.PDU.Type() == event.TypeMember {
			key, _ := e.PDU.StateKey()
			for _, p := range w.people {
				if p.id.String() == key {
					joins := e.PDU.Membership() == "join"
					if joins && !p.in {
						p.joined = e.Slot
					}
					p.in = joins
				}
			}
		}
		count := 0
		for _, p := range w.people {
			if p.in {
				count++
			}
		}
		sender := e.PDU.Sender()
		facts := pushrule.Facts{MemberCount: count, MayNotify: func(string) bool { return sender == w.people[0].id }}
		w.events = append(w.events, happened{
			slot: e.Slot, id: e.PDU.EventID(), sender: sender, thread: e.Thread.String(),
			json: pushruletest.NewEvent(pushrule.FieldsOf(e.PDU)).JSON, facts: facts, totals: e.Totals,
		})
		for _, p := range w.people {
			if p.id == sender {
				p.read(e.Thread.String(), e.Slot)
			}
		}
	}
	for p, t := range w.counters {
		if !t.Apply(c.First, c.Last, c.Counted()) {
			delete(w.counters, p)
		}
	}
}

// read notes that the person has read a thread up to a slot; "" is the main timeline here.
func (p *person) read(thread string, slot store.Slot) {
	if thread == "" {
		thread = "main"
	}
	p.marks[thread] = max(p.marks[thread], slot)
}

// naive counts by walking through every rule for every event.
func (w *fixture) naive(p *person) (main pushrule.Unread, threads map[string]pushrule.Unread) {
	shown, err := json.Marshal(p.rules)
	w.must(err)
	member := pushruletest.Member{UserID: p.id.String(), DisplayName: p.name, Rules: shown}
	for _, ignored := range p.ignored {
		member.Ignored = append(member.Ignored, ignored.String())
	}
	threads = map[string]pushrule.Unread{}
	for _, e := range w.events {
		thread := e.thread
		if thread == "" {
			thread = "main"
		}
		if e.slot <= max(p.joined, p.marks[""], p.marks[thread]) {
			continue
		}
		verdict := pushruletest.Naive(member, e.json, e.facts)
		if e.thread == "" {
			main.Add(verdict, 1)
		} else {
			u := threads[thread]
			u.Add(verdict, 1)
			threads[thread] = u
		}
	}
	maps.DeleteFunc(threads, func(_ string, u pushrule.Unread) bool { return u == pushrule.Unread{} })
	return main, threads
}

// check compares the counts of everybody with the naive ones: counted anew, and kept up.
func (w *fixture) check(what string) {
	w.t.Helper()
	for _, p := range w.people {
		if !p.in {
			continue
		}
		w.read(func(r *store.Read) error {
			row, err := roomdb.RoomByNum(r, w.num)
			if err != nil {
				return err
			}
			place := unread.Place{
				Room: w.num, RoomID: w.room, Joined: p.joined, Slot: row.Slot, Totals: row.Totals, Members: row.Joined,
			}
			counters, err := w.counter.RoomCounters(r, who.User{UserID: p.id, UserNum: p.num}, []unread.Place{place})
			if err != nil {
				return err
			}
			w.compare(what+", counted anew", p, counters[0])
			if kept := w.counters[p]; kept != nil {
				w.compare(what+", kept up", p, kept)
			} else if w.random.IntN(2) == 0 {
				w.counters[p] = counters[0]
			}
			return nil
		})
	}
}

func (w *fixture) compare(what string, p *person, t *unread.RoomCounter) {
	w.t.Helper()
	main, threads := w.naive(p)
	gotMain, list := t.Counts(true)
	got := map[string]pushrule.Unread{}
	for _, x := range list {
		got[x.Root] = x.Unread
	}
	if gotMain != main || !maps.Equal(got, threads) {
		shown, _ := json.Marshal(p.rules)
		w.t.Errorf("%s: %s has %v and %v, not %v and %v\nmarks %v, joined %d, ignores %v, rules %s",
			what, p.id, gotMain, got, main, threads, p.marks, p.joined, p.ignored, shown)
	}
	all := main
	for _, u := range threads {
		all.Notifications += u.Notifications
		all.Highlights += u.Highlights
	}
	if gotAll, _ := t.Counts(false); gotAll != all {
		w.t.Errorf("%s: %s has %v in all, not %v", what, p.id, gotAll, all)
	}
}

// happen makes one random thing happen.
func (w *fixture) happen() {
	w.t.Helper()
	p := w.people[w.random.IntN(len(w.people))]
	ctx := w.t.Context()
	switch n := w.random.IntN(20); {
	case !p.in:
		w.must(w.Join(ctx, room.MembershipRequest{RoomID: w.room, Sender: p.id}))
	case n == 0 && p != w.people[0]:
		w.must(w.Leave(ctx, room.MembershipRequest{RoomID: w.room, Sender: p.id}))
		w.note()
		delete(w.counters, p)
		return
	case n == 1:
		owner := w.people[0]
		key := ""
		_, err := w.Send(ctx, room.Draft{RoomID: w.room, Sender: owner.id, Type: "m.room.topic", StateKey: &key,
			Content: json.RawMessage(fmt.Sprintf(`{"topic":"%d"}`, w.random.Int()))})
		w.must(err)
	case n <= 5:
		w.receipt(p)
		return
	default:
		w.message(p)
	}
	w.note()
}

// message sends something random, often into a thread or related to something.
func (w *fixture) message(p *person) {
	w.t.Helper()
	made := w.random.Event(w.room.String(), p.id.String())
	for made.Fields.StateKey != nil {
		made = w.random.Event(w.room.String(), p.id.String())
	}
	var content map[string]json.RawMessage
	w.must(json.Unmarshal(made.Fields.Content, &content))
	delete(content, "m.relates_to")
	if string(content["number"]) == "1.5" {
		delete(content, "number") // no event of this room version
	}
	if w.random.IntN(2) == 0 {
		target := w.events[w.random.IntN(len(w.events))]
		relType := []string{"m.thread", "m.thread", "m.replace", "m.annotation", "m.reference"}[w.random.IntN(5)]
		relates, err := json.Marshal(map[string]string{"rel_type": relType, "event_id": target.id.String(), "key": "x"})
		w.must(err)
		content["m.relates_to"] = relates
	}
	body, err := json.Marshal(content)
	w.must(err)
	if _, err := w.Send(w.t.Context(), room.Draft{RoomID: w.room, Sender: p.id, Type: made.Fields.Type, Content: body}); err != nil {
		// A thread in a thread, or a second reaction of the same kind: refused, and nothing happens.
		if _, err := w.Send(w.t.Context(), room.Draft{RoomID: w.room, Sender: p.id, Type: "m.room.message",
			Content: json.RawMessage(`{"msgtype":"m.text","body":"cake"}`)}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// receipt moves one of a person's receipts forward.
func (w *fixture) receipt(p *person) {
	w.t.Helper()
	e := w.events[w.random.IntN(len(w.events))]
	x := roomdb.Receipt{Room: w.num, User: p.num, UserID: p.id.String(), EventID: e.id.String(), Slot: e.slot, TS: 1,
		Kind: roomdb.ReceiptKind(1 + w.random.IntN(2))}
	if w.random.IntN(2) == 0 {
		x.Thread = "main"
		if e.thread != "" {
			x.Thread = e.thread
		}
	}
	c := store.NewChange()
	roomdb.PutReceipt(c, x)
	_, err := w.store.Commit(w.t.Context(), c)
	w.must(err)
	p.marks[x.Thread] = max(p.marks[x.Thread], e.slot)
	kept := w.counters[p]
	if kept == nil {
		return
	}
	moved := unread.Receipt{Slot: e.slot, Thread: x.Thread}
	if w.random.IntN(3) > 0 {
		moved.Totals = &e.totals
	}
	if !kept.Read(moved) {
		delete(w.counters, p)
	}
}

// The counts of unread events are those of a naive evaluator of every rule over every event, in random rooms with threads,
// receipts, mutes, ignores, keywords and rejoins.
func TestCountsAreThoseOfANaiveWalk(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
				w := newFixture(t, open(), seed)
				for i := range 100 {
					w.happen()
					if i%8 == 0 {
						w.check(fmt.Sprint("after ", i))
					}
					if t.Failed() {
						return
					}
				}
			})
		})
	}
}
