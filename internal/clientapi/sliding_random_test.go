package clientapi_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/storetest"
)

// slidingModel is a client that keeps what the answers of a connection tell it of rooms, and nothing else.
type slidingModel struct {
	*sliding
	rooms map[string]*modelRoom
}

// modelRoom is a room of a slidingModel.
type modelRoom struct {
	state map[string]string // event IDs by type and state key
	// timeline are the newest events without a gap, oldest first.
	timeline []string
	invite   bool
}

// take takes an answer.
func (m *slidingModel) take(t *testing.T, a answer) {
	for roomID, room := range roomsOf(a) {
		r := m.rooms[roomID]
		if dig(room, "initial") == true || r == nil {
			if dig(room, "initial") != true && dig(room, "required_state") == nil {
				t.Fatalf("news of %s, which the client has not: %s", roomID, a.raw)
			}
			r = &modelRoom{state: map[string]string{}}
			m.rooms[roomID] = r
		}
		r.invite = dig(room, "invite_state") != nil
		state, _ := dig(room, "required_state").([]any)
		for _, ev := range state {
			r.state[fmt.Sprint(dig(ev, "type"), "|", dig(ev, "state_key"))], _ = dig(ev, "event_id").(string)
			if dig(ev, "type") == "m.room.member" && dig(ev, "state_key") == m.of.UserID && dig(ev, "content", "membership") != "join" {
				delete(m.rooms, roomID)
			}
		}
		if dig(room, "limited") == true || dig(room, "unstable_expanded_timeline") == true {
			r.timeline = nil
		}
		timeline, _ := dig(room, "timeline").([]any)
		for _, ev := range timeline {
			r.timeline = append(r.timeline, dig(ev, "event_id").(string))
		}
	}
}

// check compares the rooms with what the server says of them otherwise.
func (m *slidingModel) check(t *testing.T) {
	t.Helper()
	joined, _ := m.s.do("GET", v3+"/joined_rooms", m.of.Token, nil).want(200, "").Body["joined_rooms"].([]any)
	for _, id := range joined {
		roomID := id.(string)
		r := m.rooms[roomID]
		if r == nil || r.invite {
			t.Fatalf("%s of %s has no %s", m.name, m.of.UserID, roomID)
		}
		want := map[string]string{}
		for _, ev := range m.s.list(roomPath(roomID, "state"), m.of.Token) {
			want[fmt.Sprint(ev["type"], "|", ev["state_key"])] = ev["event_id"].(string)
		}
		if fmt.Sprint(want) != fmt.Sprint(r.state) {
			t.Fatalf("%s of %s, state of %s:\n%v\nwant\n%v", m.name, m.of.UserID, roomID, r.state, want)
		}
		page := m.s.do("GET", roomPath(roomID, "messages")+"?dir=b&limit=200", m.of.Token, nil).want(200, "")
		var visible []string
		chunk, _ := page.Body["chunk"].([]any)
		for _, ev := range chunk {
			visible = append(visible, dig(ev, "event_id").(string))
		}
		slices.Reverse(visible)
		if n := len(visible) - len(r.timeline); n < 0 || !slices.Equal(visible[n:], r.timeline) {
			t.Fatalf("%s of %s, timeline of %s:\n%v\nwant the end of\n%v", m.name, m.of.UserID, roomID, r.timeline, visible)
		}
	}
}

// Whatever happens between the answers, and whichever windows a client asks for, it has in the end what /state and /messages say.
func TestSlidingSync_of_random_clients(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("STOA_TEST_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		t.Logf("STOA_TEST_SEED=%d", seed)
		rnd := rand.New(rand.NewPCG(seed, 7))
		st := open()
		servers := []*server{newServer(t, st).in(t), newServer(t, st).in(t)}
		s := servers[0]
		people := []login{s.signUp("alice"), s.signUp("bob"), s.signUp("carol")}
		var rooms []string
		for i := range 6 {
			rooms = append(rooms, s.create(people[0], object{"preset": "public_chat", "name": fmt.Sprint("room ", i)}))
		}
		var clients []*slidingModel
		for i := range 6 {
			clients = append(clients, &slidingModel{s.connect(people[i%3], fmt.Sprint("c", i)), map[string]*modelRoom{}})
		}
		ask := func(m *slidingModel, from, to, limit int, subscribe string) {
			m.s = servers[rnd.IntN(2)]
			body := window(from, to, limit, [2]string{"*", "*"})
			if subscribe != "" {
				body["room_subscriptions"] = object{subscribe: object{"timeline_limit": rnd.IntN(6), "required_state": [][2]string{{"*", "*"}}}}
			}
			m.take(t, m.sync(body))
		}
		for range 250 {
			s := servers[rnd.IntN(2)]
			who, room := people[rnd.IntN(3)], rooms[rnd.IntN(len(rooms))]
			switch act := rnd.IntN(14); act {
			case 0, 1, 2, 3:
				s.do("PUT", roomPath(room, "send", "m.room.message", fmt.Sprint(rnd.Uint64())), who.Token, object{"msgtype": "m.text", "body": "x"})
			case 4, 5:
				s.do("PUT", roomPath(room, "state", "x.state", fmt.Sprint(rnd.IntN(3))), people[0].Token, object{"n": rnd.IntN(100)})
			case 6:
				s.do("PUT", roomPath(room, "state", "m.room.name"), people[0].Token, object{"name": fmt.Sprint(rnd.IntN(100))})
			case 7:
				s.do("POST", roomPath(room, "join"), who.Token, nil)
			case 8:
				if rnd.IntN(2) == 0 && who.UserID != people[0].UserID {
					s.do("POST", roomPath(room, "leave"), who.Token, nil)
				}
			case 9:
				s.do("POST", roomPath(room, []string{"kick", "ban", "unban", "invite"}[rnd.IntN(4)]), people[0].Token, object{"user_id": people[1+rnd.IntN(2)].UserID})
			default:
				m := clients[rnd.IntN(len(clients))]
				subscribe := ""
				if rnd.IntN(4) == 0 {
					subscribe = room
				}
				from := rnd.IntN(3)
				ask(m, from, from+rnd.IntN(4), rnd.IntN(5), subscribe)
			}
		}
		for _, m := range clients {
			ask(m, 0, 99, 3, "")
			m.check(t)
		}
		// And after a restart of everything, with news.
		servers = []*server{newServer(t, st).in(t), newServer(t, st).in(t)}
		for _, room := range rooms {
			servers[0].do("PUT", roomPath(room, "send", "m.room.message", fmt.Sprint(rnd.Uint64())), people[0].Token, object{"msgtype": "m.text", "body": "x"})
		}
		for _, m := range clients {
			ask(m, 0, 99, 3, "")
			m.check(t)
		}
	})
}
