package store_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
)

// model is a room state as a map.
type model map[store.KeyNum]store.EventNum

func (m model) entries() []roomdb.StateEntry {
	var out []roomdb.StateEntry
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, roomdb.StateEntry{Key: k, Event: m[k]})
	}
	return out
}

// diff is what [roomdb.DiffStates] should say from m to n.
func (m model) diff(n model) []roomdb.StateDelta {
	both := maps.Clone(m)
	maps.Copy(both, n)
	var out []roomdb.StateDelta
	for _, k := range slices.Sorted(maps.Keys(both)) {
		if m[k] != n[k] {
			out = append(out, roomdb.StateDelta{Key: k, Event: n[k], Prev: m[k]})
		}
	}
	return out
}

// stateRoom is a room whose state a test knows at every slot.
type stateRoom struct {
	room store.RoomNum
	head store.Head
	at   []model // by slot
	rand *rand.Rand
	next store.EventNum
}

// change makes a random delta against a state and the state after it.
func (r *stateRoom) change(from model, keys int) ([]roomdb.StateDelta, model) {
	to := maps.Clone(from)
	var deltas []roomdb.StateDelta
	for range 1 + r.rand.IntN(4) {
		k := store.KeyNum(1 + r.rand.IntN(keys))
		if slices.ContainsFunc(deltas, func(d roomdb.StateDelta) bool { return d.Key == k }) {
			continue
		}
		d := roomdb.StateDelta{Key: k, Prev: from[k]}
		if r.rand.IntN(6) > 0 || d.Prev == 0 {
			r.next++
			d.Event = r.next
			to[k] = d.Event
		} else {
			delete(to, k)
		}
		if d.Event != 0 && k%2 == 0 {
			d.Membership = roomdb.Membership(1 + r.rand.IntN(5))
		}
		deltas = append(deltas, d)
	}
	return deltas, to
}

func newStateRoom(t *testing.T, s *store.Store, slots int) *stateRoom {
	t.Helper()
	r := &stateRoom{rand: rand.New(rand.NewPCG(1, 2)), at: []model{{}}, next: 1000}
	r.room, r.head = newRoom(t, s, "!state:stoa.test")
	for i := range slots {
		slot := store.Slot(i + 1)
		c, head := slotChange(t, s, r.room, r.head, slot)
		after := r.at[i]
		if r.rand.IntN(3) > 0 { // some slots change no state
			var deltas []roomdb.StateDelta
			deltas, after = r.change(after, 60)
			roomdb.SetState(c, r.room, slot, deltas...)
		}
		if _, err := s.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		r.head, r.at = head, append(r.at, after)
	}
	return r
}

// TestStateAt compares states at slots with a replay in memory.
func TestStateAt(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		room := newStateRoom(t, s, 120)
		last := store.Slot(len(room.at) - 1)
		err := s.Read(t.Context(), func(r *store.Read) error {
			for slot, want := range room.at {
				slot := store.Slot(slot)
				got, err := roomdb.StateOf(r, room.room, roomdb.AfterSlot(slot))
				if err != nil {
					return err
				}
				if !slices.Equal(got, want.entries()) {
					t.Fatalf("state after slot %d is %v, want %v", slot, got, want.entries())
				}
				key := store.KeyNum(1 + room.rand.IntN(60))
				event, err := roomdb.StateKeyAt(r, room.room, slot, key)
				if err != nil {
					return err
				}
				if event != want[key] {
					t.Errorf("key %d after slot %d is %d, want %d", key, slot, event, want[key])
				}
				other := store.Slot(room.rand.IntN(len(room.at)))
				deltas, err := roomdb.StateBetween(r, room.room, slot, other)
				if err != nil {
					return err
				}
				if want := want.diff(room.at[other]); !slices.Equal(deltas, want) {
					t.Errorf("from slot %d to %d: %v, want %v", slot, other, deltas, want)
				}
			}
			now, err := roomdb.CurrentState(r, room.room)
			if err != nil {
				return err
			}
			if want := room.at[last].entries(); !slices.Equal(now, want) {
				t.Errorf("current state is %v, want %v", now, want)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// TestVersions makes random forks of a room and compares versions, and the
// differences between any two, with maps.
func TestVersions(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		room := newStateRoom(t, s, 30)
		type known struct {
			v    *roomdb.Version
			want model
		}
		var all []known
		c := store.NewChange()
		c.Room(room.room, room.head)
		for i := range 150 {
			n, err := s.NextVersion(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var base *roomdb.Version
			slot := store.Slot(room.rand.IntN(len(room.at)))
			from := room.at[slot]
			if i%30 != 0 { // long chains, with side branches
				k := all[len(all)-1]
				if i%7 == 0 {
					k = all[room.rand.IntN(len(all))]
				}
				base, from = k.v, k.want
			}
			deltas, after := room.change(from, 60)
			entries := make([]roomdb.StateEntry, len(deltas))
			for i, d := range deltas {
				entries[i] = roomdb.StateEntry{Key: d.Key, Event: d.Event}
			}
			v := roomdb.Derive(room.room, n, base, slot, entries)
			if v.Depth > 12 {
				t.Errorf("version %d is %d deltas deep", n, v.Depth)
			}
			roomdb.AddVersion(c, v)
			all = append(all, known{v, after})
		}
		if _, err := s.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		err := s.Read(t.Context(), func(r *store.Read) error {
			for _, k := range all {
				got, err := roomdb.StateOf(r, room.room, roomdb.OfVersion(k.v.Num))
				if err != nil {
					return err
				}
				if !slices.Equal(got, k.want.entries()) {
					t.Fatalf("version %d is %v, want %v", k.v.Num, got, k.want.entries())
				}
				key := store.KeyNum(1 + room.rand.IntN(60))
				event, err := roomdb.StateKeyOf(r, room.room, roomdb.OfVersion(k.v.Num), key)
				if err != nil {
					return err
				}
				if event != k.want[key] {
					t.Errorf("key %d of version %d is %d, want %d", key, k.v.Num, event, k.want[key])
				}
				other := all[room.rand.IntN(len(all))]
				loaded, err := roomdb.LoadVersion(r, room.room, k.v.Num)
				if err != nil {
					return err
				}
				otherLoaded, err := roomdb.LoadVersion(r, room.room, other.v.Num)
				if err != nil {
					return err
				}
				deltas, err := roomdb.DiffStates(r, room.room, loaded, 0, otherLoaded, 0)
				if err != nil {
					return err
				}
				if want := k.want.diff(other.want); !slices.Equal(deltas, want) {
					t.Errorf("from version %d to %d: %v, want %v", k.v.Num, other.v.Num, deltas, want)
				}
				slot := room.rand.IntN(len(room.at))
				deltas, err = roomdb.DiffStates(r, room.room, nil, store.Slot(slot), loaded, 0)
				if err != nil {
					return err
				}
				if want := room.at[slot].diff(k.want); !slices.Equal(deltas, want) {
					t.Errorf("from slot %d to version %d: %v, want %v", slot, k.v.Num, deltas, want)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// TestUnusedVersions finds versions to which nothing refers, leaves first.
func TestUnusedVersions(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		room, head := newRoom(t, s, "!a:stoa.test")
		c, head := slotChange(t, s, room, head, 1)
		delta := func(n store.KeyNum) (out []roomdb.StateEntry) {
			for k := range n {
				out = append(out, roomdb.StateEntry{Key: k + 1, Event: 1})
			}
			return out
		}
		base := roomdb.Derive(room, 1, nil, 0, delta(10))
		used := roomdb.Derive(room, 2, base, 0, delta(1))
		leaf := roomdb.Derive(room, 3, base, 0, delta(2))
		for _, v := range []*roomdb.Version{base, used, leaf} {
			roomdb.AddVersion(c, v)
		}
		roomdb.AddEvent(c, roomdb.Event{Room: room, Place: roomdb.Place{Slot: 1}, Num: 1, EventID: "$1", StateBefore: roomdb.OfVersion(2), Bytes: []byte("{}")})
		if _, err := s.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		unused := func() (out []store.VersionNum) {
			if err := s.Read(t.Context(), func(r *store.Read) (err error) {
				out, err = roomdb.UnusedVersions(r, room, 100, 10)
				return err
			}); err != nil {
				t.Fatal(err)
			}
			return out
		}
		if got := unused(); !slices.Equal(got, []store.VersionNum{3}) {
			t.Errorf("unused versions are %v, want only the leaf 3", got)
		}
		c = store.NewChange()
		c.Room(room, head)
		roomdb.DropVersion(c, room, 3)
		roomdb.DropEvent(c, 1)
		if _, err := s.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if got := unused(); !slices.Equal(got, []store.VersionNum{2}) {
			t.Errorf("unused versions are %v, want 2, whose event is gone", got)
		}
	})
}

// TestTimeline: the order is (slot, offset), backfilled events before the live
// event to which they lead.
func TestTimeline(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		room, head := newRoom(t, s, "!a:stoa.test")
		c, _ := slotChange(t, s, room, head, 1)
		c.Room(room, head).Last = 4
		n := store.EventNum(0)
		add := func(place roomdb.Place, standing roomdb.Standing) {
			n++
			roomdb.AddEvent(c, roomdb.Event{Room: room, Place: place, Num: n, EventID: fmt.Sprintf("$%d", n), Type: "m.test",
				Standing: standing, Bytes: []byte("{}"), TxnID: "t", TxnDevice: "D",
				Edges: roomdb.Edges{Prev: []store.EventNum{n - 1}, Auth: []store.EventNum{7, 8}}})
		}
		add(roomdb.Place{}, roomdb.Outlier) // 1
		for slot := range store.Slot(4) {   // 2 to 5
			add(roomdb.Place{Slot: slot + 1}, 0)
		}
		add(roomdb.Place{Slot: 1, Off: -1}, 0)                 // 6
		add(roomdb.Place{Slot: 1, Off: -2}, 0)                 // 7
		add(roomdb.Place{Slot: 3, Off: -1}, 0)                 // 8
		add(roomdb.Place{}, roomdb.Rejected|roomdb.SoftFailed) // 9
		if _, err := s.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		err := s.Read(t.Context(), func(r *store.Read) error {
			for _, tc := range []struct {
				name     string
				from, to roomdb.Place
				back     bool
				limit    int
				want     string
			}{
				{"everything forward", roomdb.Start, roomdb.End, false, 99, "[7 6 2 3 8 4 5]"},
				{"everything back", roomdb.End, roomdb.Start, true, 99, "[5 4 8 3 2 6 7]"},
				{"forward from between", roomdb.Place{Slot: 1, Off: -1}, roomdb.Place{Slot: 3}, false, 99, "[2 3 8 4]"},
				{"back to between", roomdb.Place{Slot: 3}, roomdb.Place{Slot: 1, Off: -1}, true, 99, "[8 3 2 6]"},
				{"limited", roomdb.End, roomdb.Start, true, 3, "[5 4 8]"},
			} {
				read := roomdb.Timeline
				if tc.back {
					read = roomdb.TimelineBack
				}
				events, err := read(r, room, tc.from, tc.to, tc.limit)
				if err != nil {
					return err
				}
				var nums []store.EventNum
				for _, e := range events {
					nums = append(nums, e.Num)
				}
				if got := fmt.Sprint(nums); got != tc.want {
					t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
				}
			}
			off, err := roomdb.FirstOff(r, room, 1)
			if err != nil || off != -2 {
				t.Errorf("first offset before slot 1 is %d, %v", off, err)
			}
			e, err := roomdb.EventByID(r, "$8")
			if err != nil {
				return err
			}
			if e.Place != (roomdb.Place{Slot: 3, Off: -1}) || e.StateBefore != 0 || fmt.Sprint(e.Edges) != "{[7] [7 8]}" || e.TxnDevice != "D" || e.TxnID != "t" {
				t.Errorf("backfilled event: %+v", e)
			}
			if e, err = roomdb.EventByNum(r, 3); err != nil || e.StateBefore != roomdb.AfterSlot(1) {
				t.Errorf("live event at slot 2 has state before %d, %v", e.StateBefore, err)
			}
			nums, err := roomdb.EventNums(r, []string{"$2", "$none", "$9"})
			if err != nil || fmt.Sprint(nums) != "[2 0 9]" {
				t.Errorf("numbers %v, %v", nums, err)
			}
			_, err = roomdb.EventByID(r, "$none")
			if !errors.Is(err, store.ErrNotFound) {
				t.Errorf("missing event: %v", err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// TestStanding: the bytes stay, what the server thinks of an event changes.
func TestStanding(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		room, head := newRoom(t, s, "!a:stoa.test")
		c, head := slotChange(t, s, room, head, 1)
		e := roomdb.Event{Room: room, Num: 5, EventID: "$e", Standing: roomdb.Outlier, Bytes: []byte("{}")}
		roomdb.AddEvent(c, e)
		if _, err := s.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		c, head = slotChange(t, s, room, head, 2)
		e.Place, e.Standing, e.StateBefore, e.Totals = roomdb.Place{Slot: 2}, 0, roomdb.AfterSlot(1), []byte("t")
		roomdb.PlaceEvent(c, e)
		roomdb.SetRedactedBy(c, room, 5, 6)
		roomdb.ReplaceBytes(c, 5, []byte(`{"redacted":1}`))
		pos, err := s.Commit(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		err = s.Read(t.Context(), func(r *store.Read) error {
			got, err := roomdb.EventByID(r, "$e")
			if err != nil {
				return err
			}
			if got.Place.Slot != 2 || got.Standing != roomdb.Replaced || got.RedactedBy != 6 || string(got.Bytes) != `{"redacted":1}` || string(got.Totals) != "t" {
				t.Errorf("event is %+v", got)
			}
			_, err = r.LastRoomRow(room, store.KindRoomUpdate, pos)
			return err
		})
		if err != nil {
			t.Errorf("stream row of the redaction: %v", err)
		}
		c = store.NewChange()
		c.Room(room, head)
		roomdb.AddEvent(c, e)
		if _, err := s.Commit(t.Context(), c); !errors.Is(err, store.ErrDuplicate) {
			t.Errorf("the same event again: %v", err)
		}
		c = store.NewChange()
		c.Room(room, head)
		roomdb.SetRedactedBy(c, room, 77, 6)
		if _, err := s.Commit(t.Context(), c); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("standing of an event that is not here: %v", err)
		}
	})
}
