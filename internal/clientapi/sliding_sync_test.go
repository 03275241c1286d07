package clientapi_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"
)

const slidingPath = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"

// sliding is a connection of a device.
type sliding struct {
	s    *server
	of   login
	name string
	pos  string
	v4   bool
}

func (s *server) connect(of login, name string) *sliding { return &sliding{s: s, of: of, name: name} }

// request is a request without its answer.
func (c *sliding) request(body object, timeout int) answer {
	c.s.t.Helper()
	full := object{"conn_id": c.name}
	for k, v := range body {
		full[k] = v
	}
	path := slidingPath + "?timeout=" + strconv.Itoa(timeout)
	if c.v4 {
		path = "/_matrix/client/v4/sync"
		full["timeout"] = timeout
		if c.pos != "" {
			full["pos"] = c.pos
		}
	} else if c.pos != "" {
		path += "&pos=" + c.pos
	}
	return c.s.do("POST", path, c.of.Token, full)
}

// sync sends a request and takes its answer.
func (c *sliding) sync(body object) answer {
	c.s.t.Helper()
	a := c.request(body, 0).want(200, "")
	c.pos = a.str("pos")
	return a
}

// window asks for one list.
func window(from, to, limit int, state ...[2]string) object {
	return object{"lists": object{"all": object{"ranges": [][2]int{{from, to}}, "timeline_limit": limit, "required_state": state}}}
}

// bodies are the texts of a room's timeline in an answer.
func bodies(a answer, room string) (out []string) {
	events, _ := dig(a.Body, "rooms", room, "timeline").([]any)
	for _, ev := range events {
		if body, ok := dig(ev, "content", "body").(string); ok {
			out = append(out, body)
		}
	}
	return out
}

func roomsOf(a answer) map[string]any {
	rooms, _ := a.Body["rooms"].(map[string]any)
	return rooms
}

func (a answer) wantRooms(rooms ...string) answer {
	a.t.Helper()
	got := roomsOf(a)
	if len(got) != len(rooms) {
		a.t.Fatalf("%d rooms, want %v: %s", len(got), rooms, a.raw)
	}
	for _, room := range rooms {
		if got[room] == nil {
			a.t.Fatalf("no %s in %s", room, a.raw)
		}
	}
	return a
}

func TestSlidingSync(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		var rooms []string
		for i := range 3 {
			rooms = append(rooms, s.create(alice, object{"preset": "public_chat", "name": fmt.Sprint("room ", i)}))
		}
		s.join(rooms[2], bob)
		c := s.connect(alice, "list")
		a := c.sync(window(0, 1, 1, [2]string{"m.room.create", ""})).wantRooms(rooms[1], rooms[2])
		if dig(a.Body, "lists", "all", "count") != float64(3) {
			t.Errorf("count: %s", a.raw)
		}
		room := dig(a.Body, "rooms", rooms[2])
		if dig(room, "initial") != true || dig(room, "name") != "room 2" || dig(room, "joined_count") != float64(2) || dig(room, "limited") != true ||
			dig(room, "bump_stamp") == nil || dig(room, "num_live") != float64(0) || dig(room, "prev_batch") == nil {
			t.Errorf("room: %s", a.raw)
		}
		if state := dig(room, "required_state").([]any); len(state) != 1 || dig(state[0], "type") != "m.room.create" {
			t.Errorf("state: %s", a.raw)
		}
		// Nothing new.
		c.sync(window(0, 1, 1, [2]string{"m.room.create", ""})).wantRooms()
		// A message in the room that is not in the window brings it there.
		s.say(alice, rooms[0], "one")
		a = c.sync(window(0, 1, 1, [2]string{"m.room.create", ""})).wantRooms(rooms[0])
		if dig(a.Body, "rooms", rooms[0], "initial") != true || dig(a.Body, "rooms", rooms[0], "num_live") != float64(1) {
			t.Errorf("new: %s", a.raw)
		}
		// News of a room that the client has.
		s.say(alice, rooms[0], "two")
		a = c.sync(window(0, 1, 1, [2]string{"m.room.create", ""})).wantRooms(rooms[0])
		got := dig(a.Body, "rooms", rooms[0])
		if dig(got, "initial") != nil || fmt.Sprint(bodies(a, rooms[0])) != "[two]" || dig(got, "limited") != nil || dig(got, "name") != nil || dig(got, "required_state") != nil {
			t.Errorf("news: %s", a.raw)
		}
		// The same pos again.
		before := c.pos
		s.say(alice, rooms[0], "three")
		a = c.sync(window(0, 1, 1, [2]string{"m.room.create", ""}))
		c.pos = before
		if again := c.sync(window(0, 1, 1, [2]string{"m.room.create", ""})); fmt.Sprint(bodies(again, rooms[0])) != "[three]" {
			t.Errorf("again: %s", again.raw)
		}
		// A wider window.
		c.sync(window(0, 9, 1, [2]string{"m.room.create", ""})).wantRooms()
		// A long poll is woken.
		woken := make(chan answer)
		go func() { woken <- c.request(window(0, 9, 1, [2]string{"m.room.create", ""}), 30000) }()
		s.whole.AwaitWaiting(t, 1)
		s.say(bob, rooms[2], "wake up")
		a = (<-woken).want(200, "").wantRooms(rooms[2])
		if fmt.Sprint(bodies(a, rooms[2])) != "[wake up]" {
			t.Errorf("woken: %s", a.raw)
		}
		// One that nothing happens for ends with its time.
		c.pos = a.str("pos")
		go func() { woken <- c.request(window(0, 9, 1, [2]string{"m.room.create", ""}), 300) }()
		s.whole.AwaitWaiting(t, 1)
		s.clock.Advance(time.Second)
		(<-woken).want(200, "").wantRooms()
	})
}
