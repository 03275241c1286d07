package room

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/store/storetest"
	"stoa/matrix/event"
	"stoa/matrix/stateres"
)

// asked counts the requests of a resolution to its graph.
type asked struct {
	*graph
	bulks, single int
}

func (a *asked) ManyAuthEvents(refs []stateres.Ref) ([][]stateres.Ref, error) {
	a.bulks++
	return a.graph.ManyAuthEvents(refs)
}

func (a *asked) AuthEvents(ref stateres.Ref) ([]stateres.Ref, error) {
	a.single++
	return a.graph.AuthEvents(ref)
}

// A member who was invited and then joined depends on an event that no state has, so that
// the resolution must read the auth events of the whole common state.
func TestGraph_gives_the_auth_events_of_a_large_state_in_few_queries(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		const members = 600
		s := open()
		rs := testRooms(t, s)
		roomID := fullRoom(t, rs, members)
		alice, carol := testUser(t, "alice"), testUser(t, "carol")
		if err := rs.Invite(t.Context(), MembershipRequest{RoomID: roomID, Sender: alice, Target: carol}); err != nil {
			t.Fatal(err)
		}
		if err := rs.Join(t.Context(), MembershipRequest{RoomID: roomID, Sender: carol}); err != nil {
			t.Fatal(err)
		}
		withGraph(t, rs, func(g *graph) error {
			nums, err := s.KeyNums(g.read, []store.Pair{{Type: event.TypeMember, StateKey: carol.String()}})
			if err != nil {
				return err
			}
			before := roomState{slot: g.t.row.Slot - 2}
			join, err := g.at(roomState{slot: g.t.row.Slot}, nums[0])
			if err != nil {
				return err
			}
			in, err := g.input(before, 2, nums, map[store.KeyNum][]store.EventNum{nums[0]: {0, join}})
			if err != nil {
				return err
			}
			many := &asked{graph: g}
			in.Events = many
			got, err := stateres.Resolve(in)
			if err != nil {
				return err
			}
			if many.bulks == 0 || many.bulks > members/100 || many.single > 20 {
				t.Errorf("%d members' auth events were asked for %d times in bulk, and %d times one by one", members, many.bulks, many.single)
			}
			in.Events = struct{ stateres.Graph }{g} // hide the bulk method
			want, err := stateres.Resolve(in)
			if err == nil && (len(want) == 0 || !maps.Equal(got, want)) {
				t.Errorf("resolved in bulk is %v, one by one %v", got, want)
			}
			return err
		}, roomID.String())
	})
}

func TestGraph_gives_many_auth_events_as_it_gives_those_of_one(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) {
		rs := testRooms(t, open())
		roomID := fullRoom(t, rs, 3)
		withGraph(t, rs, func(g *graph) error {
			entries, err := g.whole(roomState{slot: g.t.row.Slot})
			if err != nil {
				return err
			}
			const next = 1 << 40
			g.unstored[next] = unstoredEvent{edges: roomdb.Edges{Auth: []store.EventNum{entries[0].Event, entries[1].Event}}}
			refs := []stateres.Ref{next}
			for _, e := range slices.Backward(entries) {
				refs = append(refs, stateres.Ref(e.Event))
			}
			refs = append(refs, refs[1])
			many, err := g.ManyAuthEvents(refs)
			if err != nil {
				return err
			}
			for i, ref := range refs {
				one, err := g.AuthEvents(ref)
				if err != nil {
					return err
				}
				if !slices.Equal(many[i], one) {
					t.Errorf("event %d: %v in bulk, %v alone", ref, many[i], one)
				}
			}
			if _, err := g.ManyAuthEvents([]stateres.Ref{refs[1], next + 1}); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("an event that is not there: %v", err)
			}
			return nil
		}, roomID.String())
	})
}

// withGraph calls f with a room's graph.
func withGraph(t *testing.T, rs *Rooms, f func(*graph) error, roomID string) {
	t.Helper()
	err := rs.store.Read(t.Context(), func(read *store.Read) error {
		row, err := roomdb.RoomByID(read, roomID)
		if err != nil {
			return err
		}
		for _, r := range rs.resident.all() {
			defer rs.resident.release(r)
			if r.id.String() == roomID {
				return f(newGraph(&turn{ctx: t.Context(), rs: rs, r: r, row: row}, read))
			}
		}
		return fmt.Errorf("room %s is not in memory", roomID)
	})
	if err != nil {
		t.Fatal(err)
	}
}
