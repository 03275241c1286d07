package ephemeral_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"stoa/internal/bus"
	"stoa/internal/ephemeral"
	"stoa/internal/store"
	"stoa/internal/who"
	"stoa/matrix/id"
)

// wire is a bus whose messages a test delivers, loses or mixes.
type wire struct {
	mu      sync.Mutex
	members []*end
	sent    []letter
}

type letter struct {
	from    *end
	topic   string
	payload []byte
}

// end is one instance's end of a wire.
type end struct {
	wire   *wire
	topics map[string]func([]byte)
	deaf   bool
}

func (w *wire) join() *end {
	e := &end{wire: w, topics: map[string]func([]byte){}}
	w.members = append(w.members, e)
	return e
}

func (e *end) Publish(topic string, payload []byte) {
	e.wire.mu.Lock()
	defer e.wire.mu.Unlock()
	e.wire.sent = append(e.wire.sent, letter{e, topic, payload})
}

func (e *end) Subscribe(topic string, f func([]byte)) func() {
	e.topics[topic] = f
	return func() { delete(e.topics, topic) }
}

func (e *end) OnConnect(func()) func() { return func() {} }

func (e *end) Healthy() bool { return !e.deaf }

// take empties the wire.
func (w *wire) take() []letter {
	w.mu.Lock()
	defer w.mu.Unlock()
	sent := w.sent
	w.sent = nil
	return sent
}

// deliver brings letters to all others, to each in an order of its own if r is not nil.
func (w *wire) deliver(sent []letter, r *rand.Rand) {
	for _, e := range w.members {
		if r != nil {
			r.Shuffle(len(sent), func(i, j int) { sent[i], sent[j] = sent[j], sent[i] })
		}
		for _, l := range sent {
			if f := e.topics[l.topic]; f != nil && l.from != e {
				f(l.payload)
			}
		}
	}
}

// settle delivers until nobody has anything to say, and counts the letters.
func (w *wire) settle() (letters int) {
	for sent := w.take(); len(sent) > 0; sent = w.take() {
		letters += len(sent)
		w.deliver(sent, nil)
	}
	return letters
}

// desks are several instances that share who types.
func desks(t *testing.T, n int) (*wire, *clock, []*ephemeral.Typing) {
	t.Helper()
	w, c := &wire{}, &clock{now: time.Now()}
	list := make([]*ephemeral.Typing, n)
	for i := range list {
		list[i] = ephemeral.NewTyping(nil, c.Now, w.join())
		t.Cleanup(list[i].Share())
	}
	w.settle()
	return w, c, list
}

func person(t testing.TB, i int) id.UserID {
	t.Helper()
	user, err := id.ParseUserID(fmt.Sprintf("@user%03d:stoa.test", i))
	if err != nil {
		t.Fatal(err)
	}
	return user
}

// shown is what clients are told of all rooms.
func shown(typing *ephemeral.Typing) string {
	var lines []string
	for num, digest := range typing.Rooms() {
		lines = append(lines, fmt.Sprint(num, " ", digest))
	}
	for i, line := range lines {
		var num store.RoomNum
		_, _ = fmt.Sscan(line, &num) // it was printed above
		lines[i] += fmt.Sprint(" ", typing.Users(num))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func wantAlike(t *testing.T, list []*ephemeral.Typing) {
	t.Helper()
	for i := range list[1:] {
		if one, other := shown(list[0]), shown(list[i+1]); one != other || list[0].Sum() != list[i+1].Sum() {
			t.Fatalf("instances differ:\n%s\nand\n%s", one, other)
		}
	}
}

func TestTyping_is_the_same_everywhere_whatever_order_it_comes_in(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		w, c, list := desks(t, 3)
		for range 200 {
			at := list[r.IntN(len(list))]
			at.Say(store.RoomNum(1+r.IntN(4)), person(t, r.IntN(5)), r.IntN(2) == 0, 30*time.Second)
			if r.IntN(10) == 0 { // often many at the same millisecond
				c.pass(time.Millisecond)
			}
			if r.IntN(20) == 0 {
				w.deliver(w.take(), r)
			}
		}
		w.deliver(w.take(), r)
		wantAlike(t, list)
	}
}

func TestTyping_of_more_people_than_fit_is_the_same_everywhere(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 1))
	w, c, list := desks(t, 2)
	for i := range 3 * ephemeral.MaxPeople {
		list[i%2].Say(1, person(t, i), true, time.Minute)
		c.pass(time.Millisecond)
	}
	w.deliver(w.take(), r)
	wantAlike(t, list)
	if got := list[0].Users(1); len(got) != ephemeral.MaxTypists {
		t.Errorf("%d are shown to type", len(got))
	}
	if _, _, most := list[0].Size(); most != ephemeral.MaxPeople {
		t.Errorf("%d people are kept", most)
	}
}

func TestTyping_that_ends_before_it_was_heard_of_ends(t *testing.T) {
	t.Parallel()
	w, _, list := desks(t, 2)
	list[0].Say(1, person(t, 1), true, 30*time.Second)
	began := w.take()
	list[1].Say(1, person(t, 1), false, 0)
	if got := shown(list[1]); got != "" {
		t.Errorf("told of silence where nobody typed: %s", got)
	}
	w.settle()
	w.deliver(began, nil)
	if got := list[0].Users(1); len(got) > 0 {
		t.Errorf("still typing: %v", got)
	}
	wantAlike(t, list)
}

func TestTyping_that_was_lost_is_asked_for(t *testing.T) {
	t.Parallel()
	w, c, list := desks(t, 3)
	list[0].Say(1, person(t, 1), true, time.Minute)
	list[0].Say(2, person(t, 2), true, time.Minute)
	w.settle()
	list[0].Say(1, person(t, 1), false, 0)
	list[1].Say(1, person(t, 3), true, time.Minute)
	list[1].Say(3, person(t, 3), true, time.Minute)
	list[2].Say(2, person(t, 2), false, 0) // a room falls silent
	w.take()                               // all of it is lost
	c.pass(ephemeral.AskEvery)
	for _, x := range list {
		x.Compare()
		w.settle()
		c.pass(ephemeral.CompareEvery)
	}
	wantAlike(t, list)
	if got := list[0].Users(1); !slices.Equal(got, []id.UserID{person(t, 3)}) {
		t.Errorf("typing are %v", got)
	}
	for _, x := range list { // those who agree only compare
		x.Compare()
	}
	if n := w.settle(); n != len(list) {
		t.Errorf("%d letters between instances that agree", n)
	}
}

func TestTyping_ends_alike_and_is_forgotten(t *testing.T) {
	t.Parallel()
	w, c, list := desks(t, 2)
	expire := func() {
		for _, x := range list {
			x.Expire()
		}
	}
	list[0].Say(1, person(t, 1), true, 10*time.Second)
	list[1].Say(1, person(t, 2), true, 20*time.Second)
	w.settle()
	for _, want := range []int{1, 0} {
		c.pass(10 * time.Second)
		expire()
		if got := list[1].Users(1); len(got) != want {
			t.Errorf("typing are %v", got)
		}
		wantAlike(t, list)
	}
	if shown(list[0]) == "" {
		t.Error("the silence is not told")
	}
	c.pass(ephemeral.FellSilent)
	expire()
	for _, x := range list {
		if rooms, people, _ := x.Size(); rooms+people > 0 {
			t.Errorf("%d rooms and %d people are kept", rooms, people)
		}
	}
	if list[0].Sum() != 0 {
		t.Error("there is a digest of nothing")
	}
}

func TestTyping_keeps_within_its_bounds(t *testing.T) {
	t.Parallel()
	w, _, list := desks(t, 2)
	people := make([]id.UserID, ephemeral.MaxPeople)
	for i := range people {
		people[i] = person(t, i)
	}
	for room := range ephemeral.MaxTypingRooms + 10 {
		list[0].Say(store.RoomNum(room+1), people[0], true, time.Minute)
	}
	for room := range 300 {
		for i := range people {
			list[0].Say(store.RoomNum(room+1), people[i], i%2 == 0, time.Minute)
		}
	}
	w.settle() // the other one has to hold as well
	for _, x := range list {
		rooms, people, most := x.Size()
		if rooms > ephemeral.MaxTypingRooms || people > ephemeral.MaxAllPeople || most > ephemeral.MaxPeople {
			t.Errorf("keeps %d rooms, %d people, %d in one", rooms, people, most)
		}
	}
	list[1].Compare()
	if n := w.settle(); n > 2_000 {
		t.Errorf("a comparison made %d letters", n)
	}
}

func TestTyping_bears_what_it_can_not_read(t *testing.T) {
	t.Parallel()
	w, _, list := desks(t, 2)
	other := w.join()
	for _, payload := range []string{"", "null", "[]", "{", `{"said":[{"r":0,"u":"@a:b","m":1,"t":true}]}`, `{"said":[{"r":1,"u":"a","m":1,"t":true}]}`,
		`{"said":[{"r":1,"m":7}]}`, `{"said":[{"r":1,"u":"@a:b","m":1,"t":true,"ms":-5}]}`, `{"sum":1,"ask":true}`} {
		other.Publish("typing", []byte(payload))
	}
	w.settle()
	for _, x := range list {
		x.Expire()
		if got := x.Users(1); len(got) > 0 {
			t.Errorf("typing are %v", got)
		}
	}
}

// TestTyping_tells_what_is_seen: somebody who stops though they are not known to type may have begun at another instance, so
// it is noted, but nobody here sees a difference.
func TestTyping_tells_what_is_seen(t *testing.T) {
	t.Parallel()
	w := &wire{}
	var notified []bool
	typing := ephemeral.NewTyping(nil, time.Now, w.join())
	typing.OnChange(func(_ store.RoomNum, began bool) { notified = append(notified, began) })
	for _, says := range []bool{true, true, false, false, true, false} {
		typing.Say(1, person(t, 1), says, time.Minute)
	}
	if want := []bool{true, false, true, false}; !slices.Equal(notified, want) {
		t.Errorf("told %v, want %v (began to type)", notified, want)
	}
}

// TestTyping_over_a_bus: the same by a real bus, with messages that are lost while it is broken.
func TestTyping_over_a_bus(t *testing.T) {
	t.Parallel()
	n := bus.NewNetwork()
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	notified := make(chan struct{}, 100)
	join := func() *ephemeral.Typing {
		b := bus.NewProcess(n, bus.Options{})
		typing := ephemeral.NewTyping(nil, time.Now, b)
		typing.OnChange(func(store.RoomNum, bool) { notified <- struct{}{} })
		connected := make(chan struct{}, 100)
		b.OnConnect(func() { connected <- struct{}{} })
		running.Go(func() { _ = typing.Run(t.Context()) }) // ends with the test
		running.Go(func() { _ = b.Run(t.Context()) })
		<-connected
		return typing
	}
	a, b := join(), join()
	until := func(ok func() bool) {
		t.Helper()
		late := time.After(20 * time.Second)
		for !ok() {
			select {
			case <-notified:
			case <-late:
				t.Fatalf("instances differ:\n%s\nand\n%s", shown(a), shown(b))
			}
		}
	}
	a.Say(1, person(t, 1), true, time.Minute)
	until(func() bool { return len(b.Users(1)) == 1 })
	n.Break(true)
	a.Say(1, person(t, 2), true, time.Minute)
	b.Say(1, person(t, 3), true, time.Minute)
	n.Break(false)
	until(func() bool { return len(a.Users(1)) == 3 && shown(a) == shown(b) })
}

// watch is the presence of two instances on one store.
func watch(h *fixture) (w *wire, a, b *ephemeral.Presence) {
	h.t.Helper()
	w = &wire{}
	one := func() *ephemeral.Presence {
		p := ephemeral.NewPresence(h.store, h.clock.Now, slog.New(slog.DiscardHandler), w.join())
		h.t.Cleanup(p.Listen())
		return p
	}
	return w, one(), one()
}

// changes are the stream's rows of presence of a user after a position.
func (h *fixture) changes(user who.User, after store.Position) (rows []store.StreamRow) {
	h.t.Helper()
	h.read(func(r *store.Read) (err error) {
		rows, err = r.UserStream(user.UserNum, after, r.Head(), 1000)
		return err
	})
	return slices.DeleteFunc(rows, func(x store.StreamRow) bool { return x.Kind != store.KindPresence })
}

func (h *fixture) wantPresence(p *ephemeral.Presence, of who.User, want string) {
	h.t.Helper()
	got, err := p.Of(h.t.Context(), h.alice, of.UserID)
	if err != nil || got.Presence != want {
		h.t.Errorf("%s is %s, %v; want %s", of.UserID, got.Presence, err, want)
	}
}

func TestPresence_of_who_syncs_with_another_instance_lasts(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *fixture) {
		ctx := h.t.Context()
		w, a, b := watch(h)
		a.Seen(ctx, h.bob, "") // once there, then only with the other
		for range 20 {
			b.Seen(ctx, h.bob, "")
			a.Tell()
			b.Tell()
			w.settle()
			h.clock.pass(30 * time.Second)
			check(h.t, a.Sweep(ctx))
			check(h.t, b.Sweep(ctx))
			h.wantPresence(a, h.bob, "online")
		}
		h.clock.pass(ephemeral.AbsentAfter)
		check(h.t, a.Sweep(ctx))
		check(h.t, b.Sweep(ctx))
		h.wantPresence(b, h.bob, "offline")
	})
}

func TestPresence_is_told_once_in_20_seconds(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *fixture) {
		w, a, _ := watch(h)
		letters := 0
		for range 60 {
			a.Seen(h.t.Context(), h.bob, "")
			a.Seen(h.t.Context(), h.alice, "")
			a.Tell()
			letters += w.settle()
			h.clock.pass(time.Second)
		}
		if letters != 3 {
			h.t.Errorf("told %d times in a minute", letters)
		}
	})
}

// Who is seen by others is not known while nothing is heard: nobody is taken for absent, until all had time to be told of again.
func TestPresence_lasts_while_other_instances_are_not_heard(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *fixture) {
		ctx := h.t.Context()
		w, a, b := watch(h)
		a.Seen(ctx, h.bob, "")
		w.members[0].deaf = true
		for range 10 {
			b.Seen(ctx, h.bob, "")
			b.Tell()
			w.take()
			h.clock.pass(30 * time.Second)
			check(h.t, a.Sweep(ctx))
			h.wantPresence(a, h.bob, "online")
		}
		w.members[0].deaf = false
		b.Seen(ctx, h.bob, "")
		b.Tell()
		w.settle()
		check(h.t, a.Sweep(ctx))
		h.wantPresence(a, h.bob, "online")
		for range 3 {
			h.clock.pass(ephemeral.AbsentAfter)
			check(h.t, a.Sweep(ctx))
		}
		h.wantPresence(a, h.bob, "offline")
	})
}

// What the stream tells of may be this instance's own.
func TestPresenceTransitionsAreBounded_when_told_of_own_rows(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *fixture) {
		_, a, _ := watch(h)
		began := h.store.Head()
		for i := range 50 {
			before := h.store.Head()
			a.Seen(h.t.Context(), h.bob, []string{"online", "unavailable"}[i%2])
			a.Follow(h.changes(h.bob, before))
		}
		if n := len(h.changes(h.bob, began)); n > 5 {
			h.t.Errorf("50 changes at once made %d transitions", n)
		}
	})
}

func TestPresence_follows_what_another_instance_writes(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(h *fixture) {
		ctx := h.t.Context()
		_, a, b := watch(h)
		a.Seen(ctx, h.bob, "online")
		before := h.store.Head()
		status := "thinking"
		check(h.t, b.Set(ctx, h.bob, "unavailable", &status))
		a.Follow(h.changes(h.bob, before))
		h.clock.pass(20 * time.Second)
		before = h.store.Head()
		a.Seen(ctx, h.bob, "unavailable") // as it is
		if n := len(h.changes(h.bob, before)); n > 0 {
			h.t.Errorf("%d changes to what is so already", n)
		}
		a.Seen(ctx, h.bob, "online")
		got, err := a.Of(ctx, h.alice, h.bob.UserID)
		if err != nil || got.Presence != "online" || got.StatusMsg == nil || *got.StatusMsg != status {
			h.t.Errorf("bob is %+v, %v", got, err)
		}
		// Both have been told of rows; one of them notices that he has gone.
		a.Forget()
		b.Forget()
		h.clock.pass(ephemeral.AbsentAfter + time.Second)
		before = h.store.Head()
		check(h.t, a.Sweep(ctx))
		check(h.t, b.Sweep(ctx))
		h.wantPresence(a, h.bob, "offline")
		if n := len(h.changes(h.bob, before)); n != 1 {
			h.t.Errorf("%d changes to offline", n)
		}
	})
}

// BenchmarkTyping: somebody types in one room and stops in another, a client looks, and
// something ends, while very many rooms have fallen silent of late.
func BenchmarkTyping(b *testing.B) {
	const silent = 3000
	now := time.Unix(1_000_000, 0)
	typing := ephemeral.NewTyping(nil, func() time.Time { return now }, nil)
	user := person(b, 1)
	joined := make([]store.RoomNum, 20)
	for i := range joined {
		joined[i] = store.RoomNum(i * 100)
	}
	digests := make([]uint32, 0, len(joined))
	say := func(i int) {
		typing.Say(store.RoomNum(1+i), user, true, 0)
		typing.Say(store.RoomNum(1+i), user, false, 0)
		now = now.Add(ephemeral.FellSilent / silent)
	}
	for i := range silent {
		say(i)
	}
	b.ReportAllocs()
	for i := silent; b.Loop(); i++ {
		say(i)
		digests = typing.AppendHashes(digests[:0], joined)
		typing.Expire()
	}
	if rooms, _, _ := typing.Size(); rooms > silent+2 {
		b.Errorf("%d rooms are kept", rooms)
	}
}
