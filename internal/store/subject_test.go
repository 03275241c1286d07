package store_test

import (
	"errors"
	"fmt"
	"testing"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
)

// commitIn fills and commits one change of a room whose head is read anew.
func commitIn(t *testing.T, s *store.Store, room store.RoomNum, fill func(*store.Change)) {
	t.Helper()
	var row store.Room
	if err := s.Read(t.Context(), func(r *store.Read) (err error) { row, err = roomdb.RoomByNum(r, room); return err }); err != nil {
		t.Fatal(err)
	}
	c := store.NewChange()
	c.Room(room, row.Head)
	fill(c)
	if _, err := s.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

func inSnapshot(t *testing.T, s *store.Store, f func(*store.Read) error) {
	t.Helper()
	if err := s.Read(t.Context(), f); err != nil {
		t.Error(err)
	}
}

// TestReceipts: a receipt never goes back, and its slot tells readers that it moved.
func TestReceipts(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		room := benchRooms(t, s, 1)[0]
		put := func(slot store.Slot, off int64, thread string) {
			c := store.NewChange()
			roomdb.PutReceipt(c, roomdb.Receipt{Room: room.room.Num, User: room.user, Kind: roomdb.ReceiptRead, Thread: thread, Slot: slot, Off: off,
				EventID: fmt.Sprintf("$%d.%d", slot, off)})
			if _, err := s.Commit(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		for _, step := range []struct {
			slot   store.Slot
			off    int64
			thread string
			want   string
		}{
			{5, 0, "", "[:$5.0@1]"},
			{4, 0, "", "[:$5.0@1]"},
			{5, -1, "", "[:$5.0@1]"},
			{6, -1, "", "[:$6.-1@4]"},
			{6, 0, "", "[:$6.0@5]"},
			{2, 0, "main", "[:$6.0@5 main:$2.0@6]"},
		} {
			put(step.slot, step.off, step.thread)
			inSnapshot(t, s, func(r *store.Read) error {
				list, err := roomdb.ReceiptsSince(r, room.room.Num, room.user, 0, 100, 10)
				var got []string
				for i := range list { // newest first
					x := list[len(list)-1-i]
					got = append(got, fmt.Sprintf("%s:%s@%d", x.Thread, x.EventID, x.Seq))
				}
				if fmt.Sprint(got) != step.want {
					t.Errorf("after (%d, %d): %v, want %s", step.slot, step.off, got, step.want)
				}
				return err
			})
		}
	})
}

// TestMembers: pages follow on one another, local rows and the room's state.
func TestMembers(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		room, head := newRoom(t, s, "!a:stoa.test")
		const n = 25
		var pairs []store.Pair
		var ids []string
		for i := range n {
			id := fmt.Sprintf("@u%d:stoa.test", i)
			ids, pairs = append(ids, id), append(pairs, store.Pair{Type: "m.room.member", StateKey: id})
		}
		keys, err := s.Intern(t.Context(), pairs)
		if err != nil {
			t.Fatal(err)
		}
		users, err := s.InternUsers(t.Context(), func(string) bool { return true }, ids...)
		if err != nil {
			t.Fatal(err)
		}
		c, head := slotChange(t, s, room, head, 1)
		c.Room(room, head).Last = n
		for i := range n {
			slot, membership := store.Slot(n-i), roomdb.Join // the last comes in first
			if i%5 == 4 {
				membership = roomdb.Invite
			}
			roomdb.SetState(c, room, slot, roomdb.StateDelta{Key: keys[i], Event: store.EventNum(i + 1), Membership: membership})
			roomdb.SetMembership(c, roomdb.RoomMembership{User: users[i], Room: room, Membership: membership, Slot: slot, Event: store.EventNum(i + 1)})
			roomdb.CountServer(c, room, "stoa.test", 1)
		}
		roomdb.CountServer(c, room, "gone.test", 1)
		roomdb.CountServer(c, room, "gone.test", -1)
		if _, err := s.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		inSnapshot(t, s, func(r *store.Read) error {
			var got []string
			for after := (roomdb.Member{}); ; {
				page, err := roomdb.Members(r, room, roomdb.Join, after, 3)
				if err != nil {
					return err
				}
				for _, m := range page {
					got, after = append(got, m.UserID), m
				}
				if len(page) < 3 {
					break
				}
			}
			if len(got) != 20 || got[0] != "@u23:stoa.test" || got[19] != "@u0:stoa.test" {
				t.Errorf("members by pages: %v", got)
			}
			count, err := roomdb.CountMembers(r, room, roomdb.Invite)
			if err != nil || count != 5 {
				t.Errorf("%d invited, %v", count, err)
			}
			rooms, err := roomdb.RoomsOfKey(r, keys[0], roomdb.Join, 0, 10)
			if err != nil || len(rooms) != 1 {
				t.Errorf("rooms of a member: %v, %v", rooms, err)
			}
			m, err := roomdb.MembershipOf(r, users[4], room)
			if err != nil || m.Membership != roomdb.Invite || m.UserSlot != 1 {
				t.Errorf("membership %+v, %v", m, err)
			}
			local, err := roomdb.LocalMembers(r, room, roomdb.Join, users[0], 100)
			if err != nil || len(local) != 19 {
				t.Errorf("%d local members after the first, %v", len(local), err)
			}
			sharing, err := roomdb.LocalUsersSharing(r, users[0], 0, 100)
			if err != nil || len(sharing) != 20 {
				t.Errorf("%d users share a room, %v", len(sharing), err)
			}
			servers, err := roomdb.RoomServers(r, room, "", 10)
			if err != nil || fmt.Sprint(servers) != "[stoa.test]" {
				t.Errorf("servers %v, %v", servers, err)
			}
			return nil
		})
		commitIn(t, s, room, func(c *store.Change) { roomdb.ForgetRoom(c, users[4], room) })
		inSnapshot(t, s, func(r *store.Read) error {
			m, err := roomdb.MembershipOf(r, users[4], room)
			if !m.Forgotten || m.UserSlot != 1 { // that of the leave
				t.Errorf("forgotten membership %+v", m)
			}
			return err
		})
	})
}

// TestRelations come by type or all together, in the order of the timeline.
func TestRelations(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		room, _ := newRoom(t, s, "!a:stoa.test")
		commitIn(t, s, room, func(c *store.Change) {
			for i := range 12 {
				relType := []string{"m.thread", "m.annotation", "m.replace"}[i%3]
				roomdb.AddRelation(c, roomdb.Relation{Room: room, Target: "$t", RelType: relType, Place: roomdb.Place{Slot: store.Slot(i + 2)},
					Event: store.EventNum(i + 2), Type: []string{"m.a", "m.b"}[i%2], Sender: fmt.Sprint("@", i%2)})
			}
		})
		inSnapshot(t, s, func(r *store.Read) error {
			for _, tc := range []struct {
				relType, evType string
				back            bool
				limit           int
				want            string
			}{
				{"m.thread", "", false, 10, "[2 5 8 11]"},
				{"m.thread", "", true, 3, "[11 8 5]"},
				{"m.thread", "m.a", false, 10, "[2 8]"},
				{"", "", false, 5, "[2 3 4 5 6]"},
				{"", "m.b", true, 4, "[13 11 9 7]"},
				{"m.none", "", false, 4, "[]"},
			} {
				list, err := roomdb.Relations(r, room, "$t", tc.relType, tc.evType, roomdb.Start, roomdb.End, tc.limit)
				if tc.back {
					list, err = roomdb.RelationsBack(r, room, "$t", tc.relType, tc.evType, roomdb.End, roomdb.Start, tc.limit)
				}
				var got []store.EventNum
				for _, x := range list {
					got = append(got, x.Event)
				}
				if err != nil || fmt.Sprint(got) != tc.want {
					t.Errorf("%+v: %v, %v", tc, got, err)
				}
			}
			n, err := roomdb.CountRelations(r, room, "$t", "m.replace")
			if err != nil || n != 4 {
				t.Errorf("%d replacements, %v", n, err)
			}
			own, err := roomdb.IsRelatedBy(r, room, "$t", "m.thread", "@1")
			other, err2 := roomdb.IsRelatedBy(r, room, "$t", "m.thread", "@2")
			if !own || other {
				t.Errorf("took part in the thread: %v %v", own, other)
			}
			return errors.Join(err, err2)
		})
	})
}

// TestHighlights count up to where a member has read.
func TestHighlights(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		s := open()
		room := benchRooms(t, s, 1)[0]
		num := room.room.Num
		commitIn(t, s, num, func(c *store.Change) {
			for slot := range store.Slot(6) {
				roomdb.AddHighlight(c, roomdb.Highlight{Room: num, User: room.user, Slot: slot + 1, Kind: roomdb.CountsAsHighlight, Event: store.EventNum(slot + 1)})
			}
		})
		commitIn(t, s, num, func(c *store.Change) {
			roomdb.DropHighlights(c, num, room.user, 2)
			roomdb.DropHighlight(c, num, room.user, 4)
		})
		inSnapshot(t, s, func(r *store.Read) error {
			list, err := roomdb.Highlights(r, num, room.user, 0, 5, 10)
			var got []store.Slot
			for _, h := range list {
				got = append(got, h.Slot)
			}
			if fmt.Sprint(got) != "[3 5]" {
				t.Errorf("highlights up to slot 5: %v", got)
			}
			return err
		})
	})
}
