package clientapi_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"stoa/internal/server/servertest"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
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

// state is a list of type and state key.
func stateOf(a answer, room string) map[string]bool {
	out := map[string]bool{}
	events, _ := dig(a.Body, "rooms", room, "required_state").([]any)
	for _, ev := range events {
		out[fmt.Sprint(dig(ev, "type"), "|", dig(ev, "state_key"))] = true
	}
	return out
}

func wantState(t *testing.T, a answer, room string, want ...string) {
	t.Helper()
	got := stateOf(a, room)
	for _, key := range want {
		if !got[key] {
			t.Errorf("no %s in %s", key, a.raw)
		}
	}
	if len(got) != len(want) {
		t.Errorf("state %v, want %v", got, want)
	}
}

func TestSlidingSync_subscriptions(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		room := s.create(alice, object{"preset": "public_chat", "name": "a room"})
		secret := s.create(bob, object{"preset": "private_chat"})
		s.join(room, bob)
		for i := range 5 {
			s.say(bob, room, fmt.Sprint(i))
		}
		c := s.connect(alice, "list")
		a := c.sync(window(0, 9, 1, [2]string{"m.room.member", "$LAZY"}, [2]string{"m.room.member", "$ME"})).wantRooms(room)
		same(t, bodies(a, room), "4")
		wantState(t, a, room, "m.room.member|"+alice.UserID, "m.room.member|"+bob.UserID)
		// A larger limit sends older events again, and state that was not asked for before; a room that the user is not in stays hidden.
		body := window(0, 9, 1, [2]string{"m.room.member", "$LAZY"}, [2]string{"m.room.member", "$ME"})
		body["room_subscriptions"] = object{
			room:   object{"timeline_limit": 3, "required_state": [][2]string{{"m.room.create", ""}}},
			secret: object{"timeline_limit": 3, "required_state": [][2]string{{"*", "*"}}},
		}
		a = c.sync(body).wantRooms(room)
		same(t, bodies(a, room), "2", "3", "4")
		if dig(a.Body, "rooms", room, "unstable_expanded_timeline") != true || dig(a.Body, "rooms", room, "initial") != nil || dig(a.Body, "rooms", room, "num_live") != float64(0) {
			t.Errorf("expanded: %s", a.raw)
		}
		if !stateOf(a, room)["m.room.create|"] {
			t.Errorf("expanded state: %s", a.raw)
		}
		c.sync(body).wantRooms()
		// State that is asked for comes when it changes, and the name with it.
		s.set(alice, room, "m.room.name", "", object{"name": "another name"})
		s.set(alice, room, "m.room.topic", "", object{"topic": "nobody asked"})
		a = c.sync(body).wantRooms(room)
		wantState(t, a, room)
		if dig(a.Body, "rooms", room, "name") != "another name" || dig(a.Body, "rooms", room, "num_live") != float64(2) {
			t.Errorf("name: %s", a.raw)
		}
		// All state but members.
		all := s.connect(bob, "")
		a = all.sync(object{"room_subscriptions": object{room: object{"timeline_limit": 0, "required_state": [][2]string{{"*", "*"}, {"m.room.member", "$LAZY"}}}}}).wantRooms(room)
		if state := stateOf(a, room); !state["m.room.topic|"] || !state["m.room.power_levels|"] || state["m.room.member|"+alice.UserID] {
			t.Errorf("all state: %s", a.raw)
		}
		a = s.connect(bob, "other").sync(object{"room_subscriptions": object{room: object{"timeline_limit": 0, "required_state": [][2]string{{"*", "*"}}}}})
		if state := stateOf(a, room); !state["m.room.topic|"] || !state["m.room.member|"+alice.UserID] {
			t.Errorf("all state: %s", a.raw)
		}
	})
}

func TestSlidingSync_memberships(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		room := s.create(alice, object{"preset": "private_chat", "name": "a room"})
		s.say(alice, room, "before")
		c := s.connect(bob, "list")
		body := window(0, 9, 10, [2]string{"m.room.member", "$ME"})
		c.sync(body).wantRooms()
		s.do("POST", roomPath(room, "invite"), alice.Token, object{"user_id": bob.UserID}).want(200, "")
		a := c.sync(body).wantRooms(room)
		if dig(a.Body, "rooms", room, "invite_state") == nil || dig(a.Body, "rooms", room, "timeline") != nil {
			t.Errorf("invite: %s", a.raw)
		}
		c.sync(body).wantRooms()
		s.join(room, bob)
		a = c.sync(body).wantRooms(room)
		if dig(a.Body, "rooms", room, "initial") != true || dig(a.Body, "rooms", room, "name") != "a room" {
			t.Errorf("joined: %s", a.raw)
		}
		wantState(t, a, room, "m.room.member|"+bob.UserID)
		c.sync(body).wantRooms()
		s.say(alice, room, "within")
		s.do("POST", roomPath(room, "kick"), alice.Token, object{"user_id": bob.UserID}).want(200, "")
		s.say(alice, room, "after")
		s.set(alice, room, "m.room.name", "", object{"name": "secret"})
		a = c.sync(body).wantRooms(room)
		same(t, bodies(a, room), "within")
		wantState(t, a, room, "m.room.member|"+bob.UserID)
		if strings.Contains(a.raw, "secret") || strings.Contains(a.raw, "after") {
			t.Errorf("of what came after the kick: %s", a.raw)
		}
		s.say(alice, room, "later")
		c.sync(body).wantRooms()
		// A new connection is told of rooms that somebody else put the user out of, as of then, and not of those that they left.
		other := s.create(bob, object{"preset": "public_chat"})
		s.do("POST", roomPath(other, "leave"), bob.Token, nil).want(200, "")
		a = s.connect(bob, "new").sync(body).wantRooms(room)
		if strings.Contains(a.raw, "secret") || strings.Contains(a.raw, "after") || strings.Contains(a.raw, "later") {
			t.Errorf("of what came after the kick: %s", a.raw)
		}
		// Who leaves is told once, on each connection that has the room.
		mine := s.create(bob, object{"preset": "public_chat"})
		c.sync(body).wantRooms(mine)
		s.do("POST", roomPath(mine, "leave"), bob.Token, nil).want(200, "")
		a = c.sync(body).wantRooms(mine)
		wantState(t, a, mine, "m.room.member|"+bob.UserID)
		c.sync(body).wantRooms()
	})
}

func TestSlidingSync_filters(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		plain := s.create(alice, object{"preset": "public_chat"})
		crypted := s.create(alice, object{"preset": "public_chat", "initial_state": []object{{"type": "m.room.encryption", "state_key": "", "content": object{"algorithm": "m.megolm.v1.aes-sha2"}}}})
		space := s.create(alice, object{"preset": "public_chat", "creation_content": object{"type": "m.space"}})
		direct := s.create(alice, object{"preset": "public_chat"})
		invited := s.create(bob, object{"preset": "public_chat", "invite": []string{alice.UserID}})
		s.set(alice, space, "m.space.child", plain, object{"via": []string{"stoa.test"}})
		data := v3 + "/user/" + alice.UserID
		s.do("PUT", data+"/account_data/m.direct", alice.Token, object{bob.UserID: []string{direct}}).want(200, "")
		s.do("PUT", data+"/rooms/"+plain+"/tags/m.favourite", alice.Token, object{"order": 0.5}).want(200, "")
		for name, c := range map[string]struct {
			filter object
			want   []string
		}{
			"none":         {object{}, []string{plain, crypted, space, direct, invited}},
			"encrypted":    {object{"is_encrypted": true}, []string{crypted}},
			"plain":        {object{"is_encrypted": false}, []string{plain, space, direct, invited}},
			"direct":       {object{"is_dm": true}, []string{direct}},
			"not direct":   {object{"is_dm": false}, []string{plain, crypted, space, invited}},
			"invites":      {object{"is_invite": true}, []string{invited}},
			"no invites":   {object{"is_invite": false}, []string{plain, crypted, space, direct}},
			"spaces":       {object{"room_types": []any{"m.space"}}, []string{space}},
			"typeless":     {object{"room_types": []any{nil}}, []string{plain, crypted, direct, invited}},
			"not spaces":   {object{"not_room_types": []any{"m.space"}}, []string{plain, crypted, direct, invited}},
			"children":     {object{"spaces": []string{space}}, []string{plain}},
			"no children":  {object{"spaces": []string{plain}}, nil},
			"tagged":       {object{"tags": []string{"m.favourite"}}, []string{plain}},
			"not tagged":   {object{"not_tags": []string{"m.favourite"}}, []string{crypted, space, direct, invited}},
			"both, tagged": {object{"tags": []string{"m.favourite"}, "not_tags": []string{"m.favourite"}}, nil},
		} {
			t.Run(name, func(t *testing.T) {
				conn := s.in(t).connect(alice, name)
				a := conn.sync(object{"lists": object{"l": object{"ranges": [][2]int{{0, 99}}, "timeline_limit": 1, "filters": c.filter}}}).wantRooms(c.want...)
				if dig(a.Body, "lists", "l", "count") != float64(len(c.want)) {
					t.Errorf("count: %s", a.raw)
				}
			})
		}
		// A filter that a room comes to pass brings it in.
		conn := s.connect(alice, "news")
		body := object{"lists": object{"l": object{"ranges": [][2]int{{0, 99}}, "timeline_limit": 1, "filters": object{"is_encrypted": true}}}}
		conn.sync(body).wantRooms(crypted)
		s.set(alice, plain, "m.room.encryption", "", object{"algorithm": "m.megolm.v1.aes-sha2"})
		conn.sync(body).wantRooms(plain)
		favourites := s.connect(alice, "tags")
		body = object{"lists": object{"l": object{"ranges": [][2]int{{0, 99}}, "timeline_limit": 1, "filters": object{"tags": []string{"m.favourite"}}}}}
		favourites.sync(body).wantRooms(plain)
		s.do("PUT", data+"/rooms/"+crypted+"/tags/m.favourite", alice.Token, object{}).want(200, "")
		favourites.sync(body).wantRooms(crypted)
	})
}

func TestSlidingSync_connections(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		room := s.create(alice, object{"preset": "public_chat"})
		s.join(room, bob)
		body := window(0, 9, 5)
		one, two := s.connect(alice, "one"), s.connect(alice, "two")
		one.sync(body).wantRooms(room)
		two.sync(body).wantRooms(room)
		s.say(bob, room, "hello")
		one.sync(body).wantRooms(room)
		two.sync(body).wantRooms(room)
		// In the steady state an answer writes nothing.
		var before, after store.Position
		saved := s.whole.Metric(t, "stoa_slidingsync_states_written_total")
		read := func(p *store.Position) {
			if err := s.store.Read(t.Context(), func(r *store.Read) error { *p = r.Head(); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		s.say(bob, room, "again")
		read(&before)
		same(t, bodies(one.sync(body), room), "again")
		if read(&after); after != before || s.whole.Metric(t, "stoa_slidingsync_states_written_total") != saved {
			t.Errorf("an answer with a message wrote something")
		}
		// A pos is good for its user and device only, and not after another first request of the same name.
		s.connect(bob, "one").sync(body)
		stolen := s.connect(bob, "one")
		stolen.pos = one.pos
		stolen.request(body, 0).want(400, "M_UNKNOWN_POS")
		device := s.connect(asLogin(s.logIn("alice", nil)), "one")
		device.pos = one.pos
		device.request(body, 0).want(400, "M_UNKNOWN_POS")
		for _, pos := range []string{"x", "s1.1.0.0", "c1.1.1.1.1.0.0"} {
			bad := s.connect(alice, "one")
			bad.pos = pos
			bad.request(body, 0).want(400, "M_UNKNOWN_POS")
		}
		// The newest connections of a device are kept.
		for i := range 9 {
			s.connect(alice, fmt.Sprint("many ", i)).sync(body)
		}
		other := clientOf(t, servertest.Start(t, s.store))
		gone := other.connect(alice, "two")
		gone.pos = two.pos
		gone.request(body, 0).want(400, "M_UNKNOWN_POS")
	})
}

// Any instance goes on with a connection, also one that was not there when it began.
func TestSlidingSync_on_several_instances(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		st := open()
		var all []*server
		for range 3 {
			all = append(all, newServer(t, st))
		}
		alice, bob := all[0].signUp("alice"), all[0].signUp("bob")
		room := all[0].create(alice, object{"preset": "public_chat", "name": "shared"})
		all[0].join(room, bob)
		c := all[0].connect(alice, "list")
		body := window(0, 9, 10)
		c.sync(body).wantRooms(room)
		for i := range 9 {
			c.s = all[i%3]
			all[(i+1)%3].say(bob, room, fmt.Sprint(i))
			same(t, bodies(c.sync(body).wantRooms(room), room), fmt.Sprint(i))
			if i == 4 { // something to write
				body = window(0, 9, 10, [2]string{"m.room.create", ""})
				c.s = all[(i+2)%3]
				wantState(t, c.sync(body).wantRooms(room), room, "m.room.create|")
			}
		}
	})
}

func TestSlidingSync_extensions(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		room := s.create(alice, object{"preset": "public_chat"})
		s.join(room, bob)
		first := s.say(bob, room, "hello")
		body := window(0, 9, 5)
		on := object{"enabled": true}
		since := object{"enabled": true}
		body["extensions"] = object{"to_device": since, "e2ee": on, "account_data": on, "typing": on, "presence": on, "receipts": object{"enabled": true, "rooms": []string{"*"}}}
		s.do("POST", roomPath(room, "receipt", "m.read", first), alice.Token, object{}).want(200, "")
		s.do("PUT", v3+"/user/"+alice.UserID+"/rooms/"+room+"/account_data/x.y", alice.Token, object{"a": 1}).want(200, "")
		message := func(n int) {
			s.do("PUT", v3+"/sendToDevice/m.test/"+strconv.Itoa(n), bob.Token, object{"messages": object{alice.UserID: object{alice.Device: object{"n": n}}}}).want(200, "")
		}
		message(1)
		c := s.connect(alice, "list")
		a := c.sync(body).wantRooms(room)
		messages := func(a answer) []any {
			list, _ := dig(a.Body, "extensions", "to_device", "events").([]any)
			return list
		}
		ext := func(keys ...string) any { return dig(dig(a.Body, "extensions"), keys...) }
		if len(messages(a)) != 1 || ext("e2ee", "device_one_time_keys_count") == nil || ext("account_data", "global") == nil ||
			len(ext("account_data", "rooms", room).([]any)) != 1 || ext("receipts", "rooms", room, "content", first, "m.read", alice.UserID) == nil {
			t.Errorf("first: %s", a.raw)
		}
		// Without the since of the messages they come again, with it they don't.
		if a = c.sync(body); len(messages(a)) != 1 {
			t.Errorf("again: %s", a.raw)
		}
		since["since"] = ext("to_device", "next_batch")
		if a = c.sync(body); len(messages(a)) != 0 || a.Body["rooms"] != nil {
			t.Errorf("acknowledged: %s", a.raw)
		}
		// Each of them is news, and wakes a long poll.
		for name, act := range map[string]struct {
			do   func()
			keys []string
		}{
			"to_device": {func() { message(2) }, []string{"to_device", "events"}},
			"receipts": {func() {
				s.do("POST", roomPath(room, "receipt", "m.read", first), bob.Token, object{}).want(200, "")
			}, []string{"receipts", "rooms", room, "content", first, "m.read", bob.UserID}},
			"account data": {func() {
				s.do("PUT", v3+"/user/"+alice.UserID+"/account_data/x.z", alice.Token, object{"a": 1}).want(200, "")
			}, []string{"account_data", "global"}},
			"typing": {func() {
				s.do("PUT", roomPath(room, "typing", bob.UserID), bob.Token, object{"typing": true, "timeout": 30000}).want(200, "")
			}, []string{"typing", "rooms", room, "content", "user_ids"}},
			"device lists": {func() { s.uploadKeys(bob, object{"device_keys": deviceKeys(t, bob)}) }, []string{"e2ee", "device_lists", "changed"}},
		} {
			if name == "receipts" || name == "device lists" { // which are merged with other news
				act.do()
				a = c.sync(body)
			} else {
				got := make(chan answer)
				go func() { got <- c.request(body, 30000) }()
				s.whole.AwaitWaiting(t, 1)
				act.do()
				a = (<-got).want(200, "")
				c.pos = a.str("pos")
			}
			if ext(act.keys...) == nil {
				t.Errorf("%s: %s", name, a.raw)
			}
			if next, ok := ext("to_device", "next_batch").(string); ok {
				since["since"] = next
			}
		}
	})
}

// The accepted form differs in names, in what it says of a room, and in where the parameters are.
func TestSlidingSync_in_the_accepted_form(t *testing.T) {
	onEach(t, func(t *testing.T, s *server) {
		alice, bob := s.signUp("alice"), s.signUp("bob")
		room := s.create(alice, object{"preset": "public_chat", "name": "a room"})
		s.join(room, bob)
		invited := s.create(bob, object{"preset": "private_chat", "invite": []string{alice.UserID}})
		c := s.connect(alice, "list")
		c.v4 = true
		list := object{"timeline_limit": 1, "required_state": object{"include": []object{{}}, "exclude": []object{{"type": "m.room.create", "state_key": ""}}, "lazy_members": true}}
		body := object{"lists": object{"l": list}}
		a := c.sync(body).wantRooms(room, invited)
		got := dig(a.Body, "rooms", room)
		if dig(got, "membership") != "join" || fmt.Sprint(dig(got, "lists")) != "[l]" || dig(a.Body, "rooms", invited, "stripped_state") == nil || dig(a.Body, "rooms", invited, "membership") != "invite" {
			t.Errorf("first: %s", a.raw)
		}
		if state := stateOf(a, room); state["m.room.create|"] || !state["m.room.power_levels|"] || state["m.room.member|"+alice.UserID] || !state["m.room.member|"+bob.UserID] {
			t.Errorf("state: %s", a.raw)
		}
		s.set(alice, room, "m.room.name", "", object{})
		a = c.sync(body).wantRooms(room)
		if name, ok := dig(a.Body, "rooms", room).(object)["name"]; !ok || name != nil || dig(a.Body, "rooms", room, "heroes") == nil {
			t.Errorf("no name: %s", a.raw)
		}
		list["timeline_limit"] = 4
		if a = c.sync(body).wantRooms(room); dig(a.Body, "rooms", room, "expanded_timeline") != true {
			t.Errorf("expanded: %s", a.raw)
		}
		// The pos is a token for /messages.
		s.do("GET", roomPath(room, "messages")+"?dir=b&from="+c.pos, alice.Token, nil).want(200, "")
		for name, bad := range map[string]object{
			"no limit":  {"lists": object{"l": object{"required_state": object{}}}},
			"no state":  {"lists": object{"l": object{"timeline_limit": 1}}},
			"presence":  {"set_presence": "busy"},
			"range":     {"lists": object{"l": object{"timeline_limit": 1, "required_state": object{}, "range": []int{3, 1}}}},
			"room ID":   {"room_subscriptions": object{"x": list}},
			"to_device": {"extensions": object{"to_device": object{"enabled": true, "since": "x"}}},
		} {
			if a := c.request(bad, 0); a.Status != 400 {
				t.Errorf("%s: %d %s", name, a.Status, a.raw)
			}
		}
	})
}
