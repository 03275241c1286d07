package clientsync_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"stoa/internal/clientsync"
	"stoa/internal/clientsync/synctest"
	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/token"
	"stoa/matrix/id"
)

// clientModel is a client that relies on its answers alone: the timelines and states of its rooms are what the answers
// say they are. Gaps of limited timelines are filled by paging back from prev_batch.
type clientModel struct {
	*synctest.Client
	filter string
	// after: use_state_after; lazy: members are loaded lazily; noTimeline: the limit is 0.
	after, lazy, noTimeline bool
	rooms                   map[string]*roomModel
}

type roomModel struct {
	num      store.RoomNum
	timeline []string          // event IDs
	state    map[string]string // type/state key → event ID
	last     token.Timeline    // place of the newest event
}

func newClientModel(p *synctest.Client, filter string, after bool) *clientModel {
	return &clientModel{
		Client: p, filter: filter, after: after, rooms: map[string]*roomModel{},
		lazy: strings.Contains(filter, "lazy_load_members"), noTimeline: strings.Contains(filter, `"limit":0`),
	}
}

// follow asks once and takes over the answer.
func (m *clientModel) follow(change ...func(*clientsync.Request)) {
	m.Server.T.Helper()
	if m.after {
		change = append(change, synctest.StateAfter)
	}
	a := m.Sync(m.filter, change...)
	for roomID := range a.Rooms.Leave {
		delete(m.rooms, roomID)
	}
	for roomID, got := range a.Rooms.Join {
		m.take(roomID, got)
	}
}

func (m *clientModel) take(roomID string, got synctest.RoomAnswer) {
	m.Server.T.Helper()
	r := m.rooms[roomID]
	if r == nil {
		r = &roomModel{state: map[string]string{}}
		m.Server.Read(func(read *store.Read) (err error) {
			r.num, err = roomdb.RoomNum(read, roomID)
			return err
		})
		m.rooms[roomID] = r
	}
	if got.Timeline.Limited {
		prev, err := token.ParseTimeline(got.Timeline.PrevBatch)
		m.Must(err)
		m.Server.Read(func(read *store.Read) error {
			gap, err := roomdb.Timeline(read, r.num, roomdb.Place{Slot: store.Slot(r.last.Slot), Off: r.last.Offset},
				roomdb.Place{Slot: store.Slot(prev.Slot), Off: prev.Offset}, 100_000)
			for _, e := range gap {
				r.timeline = append(r.timeline, e.EventID)
			}
			return err
		})
	}
	for _, ev := range got.Timeline.Events {
		r.timeline = append(r.timeline, ev.EventID)
	}
	state := got.State.Events
	if got.StateAfter != nil {
		state = got.StateAfter.Events
	}
	for _, ev := range state {
		r.state[ev.Type+"/"+*ev.StateKey] = ev.EventID
	}
	if got.StateAfter == nil {
		for _, ev := range got.Timeline.Events {
			if ev.StateKey != nil {
				r.state[ev.Type+"/"+*ev.StateKey] = ev.EventID
			}
		}
	}
	if n := len(r.timeline); n > 0 {
		m.Server.Read(func(read *store.Read) error {
			e, err := roomdb.EventByID(read, r.timeline[n-1])
			r.last = token.Timeline{Slot: int64(e.Place.Slot), Offset: e.Place.Off}
			return err
		})
	}
}

// check compares what the client believes with the store. A client that loads members lazily knows some of them, and one
// with a limit of 0 no timeline.
func (m *clientModel) check(what string) {
	m.Server.T.Helper()
	for roomID, r := range m.rooms {
		timeline, state := m.Server.StoredRoom(r.num)
		if !m.noTimeline && !slices.Equal(r.timeline, timeline) {
			m.Server.T.Errorf("%s: %s in %s: timeline of %d events is not the %d of the room:\n%v\n%v",
				what, m.UserID, roomID, len(r.timeline), len(timeline), r.timeline, timeline)
		}
		for key, want := range state {
			got, ok := r.state[key]
			if got != want && (ok || !m.lazy || !strings.HasPrefix(key, "m.room.member/")) {
				m.Server.T.Errorf("%s: %s in %s: state %s is %q, not %q", what, m.UserID, roomID, key, got, want)
			}
		}
	}
}

// Whatever happens at the same time, and wherever answers come from, the answers to a chain of tokens hold every event once
// and in order, and lead to the state of the room.
func TestAnswersAddUp(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*synctest.Options){
		"from memory":      func(*synctest.Options) {},
		"from the store":   func(o *synctest.Options) { o.RingRecords = 1 },
		"from both":        func(o *synctest.Options) { o.RingRecords = 12 },
		"with few in mind": func(o *synctest.Options) { o.Users, o.EventBytes, o.MemberBytes = 2, 20_000, 2_500 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.OnBothEngines(t, func(h *synctest.Server) { walk(h) }, change)
		})
	}
}

func walk(h *synctest.Server) {
	const writers, rounds = 4, 25
	owner := h.Client("owner")
	rooms := []id.RoomID{owner.Create(), owner.Create()}
	clients := []*clientModel{
		newClientModel(h.Client("reader0"), `{"room":{"timeline":{"limit":3}}}`, false),
		newClientModel(h.Client("reader1"), `{"room":{"timeline":{"limit":100}}}`, false),
		newClientModel(h.Client("reader2"), `{"room":{"timeline":{"limit":2},"state":{"lazy_load_members":true}}}`, true),
		newClientModel(h.Client("reader3"), `{"room":{"timeline":{"limit":1}}}`, true),
		newClientModel(h.Client("reader4"), `{"room":{"timeline":{"limit":0}}}`, false),
	}
	for _, c := range clients {
		for _, r := range rooms {
			c.Join(r)
		}
		c.follow()
	}
	late := newClientModel(h.Client("late"), `{"room":{"timeline":{"limit":3}}}`, false)
	late.follow()
	clients = append(clients, late)
	var writing, reading sync.WaitGroup
	done := make(chan struct{})
	for w := range writers {
		writing.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 1))
			p := h.Client(fmt.Sprintf("writer%d", w))
			in := map[id.RoomID]bool{}
			for i := range rounds {
				r := rooms[rnd.IntN(len(rooms))]
				switch n := rnd.IntN(10); {
				case !in[r]:
					p.Join(r)
					in[r] = true
				case n == 0:
					p.Leave(r)
					in[r] = false
				case n == 1:
					owner.Set(r, "m.room.topic", "", fmt.Sprintf(`{"topic":"%d by %d"}`, i, w))
				default:
					p.Say(r, fmt.Sprint(w, i))
				}
			}
		})
	}
	writing.Add(1)
	lateIsIn := sync.OnceFunc(writing.Done) // its joins are the last events, if it is slow
	for _, c := range clients {
		reading.Go(func() {
			if c == late {
				defer lateIsIn()
			}
			for n := 0; ; n++ {
				if c == late && n < len(rooms) {
					c.Join(rooms[n])
				} else if c == late {
					lateIsIn()
				}
				select {
				case <-done:
					c.follow()
					return
				default:
					c.follow()
				}
			}
		})
	}
	writing.Wait()
	close(done)
	reading.Wait()
	for i, c := range clients {
		c.check(fmt.Sprint("client ", i))
	}
}
