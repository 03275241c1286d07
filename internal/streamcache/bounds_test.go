package streamcache

import (
	"strings"
	"testing"

	"stoa/internal/store"
	"stoa/internal/timeline"
	"stoa/internal/who"
	"stoa/matrix/id"
)

// TestMembers_are_bounded_in_bytes: large membership events push out older ones.
func TestMembers_are_bounded_in_bytes(t *testing.T) {
	t.Parallel()
	const bound = 1 << 20
	c := newMemberCache(bound)
	for i := range 1000 {
		reason := strings.Repeat("x", 60_000)
		c.put(member{room: 1, userID: string(rune('a' + i))}, &timeline.Event{Num: store.EventNum(i + 1), Replaced: &timeline.Replaced{Content: []byte(reason)}})
	}
	bytes := 0
	for _, e := range c.events.Values() {
		bytes += memberBytes + e.Size()
	}
	if bytes > bound || bytes != c.bytes || c.events.Len() == 0 {
		t.Errorf("%d events of %d bytes, counted as %d; want at most %d", c.events.Len(), bytes, c.bytes, bound)
	}
	c.events.Purge()
	if c.bytes != 0 || len(c.byNum) != 0 {
		t.Errorf("an empty cache counts %d bytes and %d events", c.bytes, len(c.byNum))
	}
}

// testMemory returns a memory with loaded users in a number of rooms each.
func testMemory(users, rooms, maxUserBytes int) *memory {
	m := &memory{users: map[store.UserNum]*user{}, rooms: map[store.RoomNum]*roomState{}, maxUsers: 1 << 20, maxUserBytes: maxUserBytes}
	for n := range users {
		u := &user{num: store.UserNum(n + 1)}
		m.users[u.num] = u
		m.used.push(u)
		for i := range rooms {
			u.enter(&roomState{num: store.RoomNum(i + 1)}, 1)
		}
		m.measure(u)
		m.dropUsers(u)
	}
	return m
}

// TestUsers_are_bounded_in_bytes: users in many rooms push out those who were used before, except those who wait.
func TestUsers_are_bounded_in_bytes(t *testing.T) {
	t.Parallel()
	const bound = 4 << 20
	m := testMemory(500, 1000, bound)
	bytes := 0
	for _, u := range m.users {
		bytes += u.size()
	}
	if bytes > bound || bytes != m.userBytes || len(m.users) < 10 || m.used.count != len(m.users) {
		t.Errorf("%d users of %d bytes, counted as %d; want at most %d", len(m.users), bytes, m.userBytes, bound)
	}
	for _, u := range m.users {
		u.waiters = []*Waiter{nil}
	}
	m.maxUserBytes = 0
	kept := len(m.users)
	m.dropUsers(nil)
	if len(m.users) != kept {
		t.Error("a user who waits was dropped")
	}
}

// TestSections_of_a_user_are_bounded_in_bytes: large sections push out older ones.
func TestSections_of_a_user_are_bounded_in_bytes(t *testing.T) {
	t.Parallel()
	sc := &Cache{memory: *testMemory(1, 1, 1<<20)}
	k := &Kept{cache: sc}
	v := who.Device{User: who.User{UserNum: 1}}
	for i := range 100 {
		v.DeviceID = id.DeviceID(rune('a' + i))
		k.KeepSection(v, "account_data", make([]byte, 60_000), 1)
	}
	u, bytes := sc.users[1], 0
	for _, s := range u.sections {
		bytes += cap(s.value)
	}
	if bytes > sectionBytes || len(u.sections) != sectionBytes/60_000 || sc.userBytes != u.size() {
		t.Errorf("%d sections of %d bytes; the user counts %d, want %d", len(u.sections), bytes, sc.userBytes, u.size())
	}
	k.KeepSection(v, "account_data", make([]byte, sectionBytes+1), 2)
	if _, ok := k.Section(v, "account_data", nil); ok {
		t.Error("a section above the bound is kept")
	}
}
