package room

import (
	"fmt"
	"slices"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/id"
	"stoa/matrix/stateres"
)

// graph reads the event graph of a room while an event is added to it: states before and
// after events, their differences, and the events that state resolution needs. It reads
// the store, so no change of the room may be in flight.
type graph struct {
	t    *turn
	read *store.Read
	// fresh are versions that the store does not have yet.
	fresh map[*roomdb.Version]bool
	// unstored are events of this change.
	unstored map[store.EventNum]unstoredEvent
}

// unstoredEvent is an event that this change will store.
type unstoredEvent struct {
	pdu      *event.PDU
	edges    roomdb.Edges
	rejected bool
}

func newGraph(t *turn, read *store.Read) *graph {
	return &graph{t: t, read: read, fresh: map[*roomdb.Version]bool{}, unstored: map[store.EventNum]unstoredEvent{}}
}

// roomState is one immutable state of the room: a version, or if that is nil, the current
// state after a slot.
type roomState struct {
	version *roomdb.Version
	slot    store.Slot
}

// ref is the reference to the state in an event's row. A version must be saved before.
func (s roomState) ref() roomdb.StateRef {
	if s.version != nil {
		return roomdb.OfVersion(s.version.Num)
	}
	return roomdb.AfterSlot(s.slot)
}

// root is the slot that the state is based on.
func (s roomState) root() store.Slot {
	if s.version != nil {
		return s.version.Root
	}
	return s.slot
}

func (s roomState) same(other roomState) bool {
	if s.version != nil && other.version != nil {
		return s.version.Num == other.version.Num
	}
	return s.version == nil && other.version == nil && s.slot == other.slot
}

// load returns the state that a row refers to.
func (g *graph) load(ref roomdb.StateRef) (roomState, error) {
	if slot, ok := ref.Slot(); ok {
		return roomState{slot: slot}, nil
	}
	num, ok := ref.Version()
	if !ok {
		return roomState{}, fmt.Errorf("an event's state is not known")
	}
	v, err := roomdb.LoadVersion(g.read, g.t.row.Num, num)
	return roomState{version: v}, err
}

// derive is a state with some entries changed.
func (g *graph) derive(s roomState, delta []roomdb.StateEntry) (roomState, error) {
	if len(delta) == 0 {
		return s, nil
	}
	num, err := g.t.rs.store.NextVersion(g.t.ctx)
	if err != nil {
		return roomState{}, err
	}
	v := roomdb.Derive(g.t.row.Num, num, s.version, s.slot, delta)
	g.fresh[v] = true
	return roomState{version: v}, nil
}

// save writes the new versions of a state, so that an event's row can refer to it.
func (g *graph) save(s roomState) roomdb.StateRef {
	var unsaved []*roomdb.Version
	for v := s.version; v != nil && g.fresh[v]; v = v.Base {
		unsaved = append(unsaved, v)
	}
	for _, v := range slices.Backward(unsaved) {
		roomdb.AddVersion(g.t.change, v)
		delete(g.fresh, v)
	}
	return s.ref()
}

// entry is one entry of a state; 0 for none.
func (g *graph) entry(s roomState, key eventauth.Key) (store.EventNum, error) {
	nums, err := g.t.rs.store.KeyNums(g.read, []store.Pair{{Type: key.Type, StateKey: key.StateKey}})
	if err != nil || nums[0] == 0 {
		return 0, err
	}
	return g.at(s, nums[0])
}

func (g *graph) at(s roomState, key store.KeyNum) (store.EventNum, error) {
	if s.version != nil {
		return roomdb.VersionKey(g.read, s.version, key)
	}
	return roomdb.StateKeyAt(g.read, g.t.row.Num, s.slot, key)
}

// after is the state after a stored event. A rejected event changes nothing; a
// soft-failed one counts as any other.
//
// Spec: server-server-api#rejection, server-server-api#soft-failure
func (g *graph) after(e roomdb.Event) (roomState, error) {
	before, err := g.load(e.StateBefore)
	if err != nil {
		return roomState{}, fmt.Errorf("state before %s: %w", e.EventID, err)
	}
	if e.Key == 0 || e.Standing&roomdb.Rejected != 0 {
		return before, nil
	}
	if before.version == nil && e.Place.Off == 0 && before.slot == e.Place.Slot-1 {
		now, err := roomdb.StateKeyAt(g.read, g.t.row.Num, e.Place.Slot, e.Key)
		if err != nil {
			return roomState{}, err
		}
		if now == e.Num {
			return roomState{slot: e.Place.Slot}, nil
		}
	}
	return g.derive(before, []roomdb.StateEntry{{Key: e.Key, Event: e.Num}})
}

// resolve resolves several states into one. Its cost grows with their differences, not
// with their size.
//
// Spec: server-server-api#room-state-resolution
func (g *graph) resolve(states []roomState) (roomState, error) {
	states = distinctStates(states)
	if len(states) == 1 {
		return states[0], nil
	}
	// Later states will mostly be compared with the newest root, so it becomes the base.
	slices.SortStableFunc(states, func(a, b roomState) int { return int(b.root() - a.root()) })
	base := states[0]
	branches := map[store.KeyNum][]store.EventNum{}
	var order []store.KeyNum
	for i, other := range states[1:] {
		diff, err := roomdb.DiffStates(g.read, g.t.row.Num, base.version, base.slot, other.version, other.slot)
		if err != nil {
			return roomState{}, err
		}
		for _, d := range diff {
			refs := branches[d.Key]
			if refs == nil {
				refs = make([]store.EventNum, len(states))
				for j := range refs {
					refs[j] = d.Prev
				}
				branches[d.Key] = refs
				order = append(order, d.Key)
			}
			refs[i+1] = d.Event
		}
	}
	if len(order) == 0 {
		return base, nil
	}
	slices.Sort(order)
	return g.resolveDiff(base, len(states), order, branches)
}

// resolveDiff resolves the entries in which states differ.
func (g *graph) resolveDiff(base roomState, count int, order []store.KeyNum, branches map[store.KeyNum][]store.EventNum) (roomState, error) {
	in, err := g.input(base, count, order, branches)
	if err != nil {
		return roomState{}, err
	}
	resolved, err := stateres.Resolve(in)
	if err != nil {
		return roomState{}, fmt.Errorf("resolve states of %s: %w", g.t.r.id, err)
	}
	return g.withResolved(base, resolved)
}

// input builds the input of state resolution for the entries in which states differ.
func (g *graph) input(base roomState, count int, order []store.KeyNum, branches map[store.KeyNum][]store.EventNum) (stateres.Input, error) {
	pairs, err := g.t.rs.store.Pairs(g.read, order)
	if err != nil {
		return stateres.Input{}, err
	}
	in := stateres.Input{
		Rules: g.t.r.rules, Branches: count, Events: g,
		Unconflicted: func(key stateres.Key) (stateres.Ref, error) {
			num, err := g.entry(base, eventauth.Key(key))
			return stateres.Ref(num), err
		},
		EachUnconflicted: func(yield func(stateres.Ref) bool) error {
			all, err := g.whole(base)
			if err != nil {
				return err
			}
			for _, e := range all {
				if branches[e.Key] == nil && !yield(stateres.Ref(e.Event)) {
					return nil
				}
			}
			return nil
		},
	}
	for i, key := range order {
		c := stateres.Conflict{Key: stateres.Key{Type: pairs[i].Type, StateKey: pairs[i].StateKey}}
		for _, num := range branches[key] {
			c.Refs = append(c.Refs, stateres.Ref(num))
		}
		in.Conflicts = append(in.Conflicts, c)
	}
	return in, nil
}

// withResolved is the base with the resolved entries that differ from it.
func (g *graph) withResolved(base roomState, resolved map[stateres.Key]stateres.Ref) (roomState, error) {
	var delta []roomdb.StateEntry
	for key, ref := range resolved {
		nums, err := g.t.rs.store.KeyNums(g.read, []store.Pair{{Type: key.Type, StateKey: key.StateKey}})
		if err != nil {
			return roomState{}, err
		}
		num := nums[0] // 0: the event is not stored, so nothing changes
		if num == 0 {
			continue
		}
		was, err := g.at(base, num)
		if err != nil {
			return roomState{}, err
		}
		if was != store.EventNum(ref) {
			delta = append(delta, roomdb.StateEntry{Key: num, Event: store.EventNum(ref)})
		}
	}
	return g.derive(base, delta)
}

// whole returns all entries of a state.
func (g *graph) whole(s roomState) ([]roomdb.StateEntry, error) {
	if s.version != nil {
		return roomdb.VersionState(g.read, s.version)
	}
	return roomdb.StateAt(g.read, g.t.row.Num, s.slot)
}

func distinctStates(states []roomState) []roomState {
	var out []roomState
	for _, s := range states {
		if !slices.ContainsFunc(out, s.same) {
			out = append(out, s)
		}
	}
	return out
}

// Event implements stateres.Graph.
func (g *graph) Event(ref stateres.Ref) (*event.PDU, error) {
	if c, ok := g.unstored[store.EventNum(ref)]; ok {
		return c.pdu, nil
	}
	return g.t.rs.events.Load(g.read, g.t.r.rules, store.EventNum(ref))
}

var _ stateres.Bulk = (*graph)(nil)

// AuthEvents implements stateres.Graph.
func (g *graph) AuthEvents(ref stateres.Ref) ([]stateres.Ref, error) {
	nums := g.unstored[store.EventNum(ref)].edges.Auth
	if _, ok := g.unstored[store.EventNum(ref)]; !ok {
		e, err := roomdb.EventByNum(g.read, store.EventNum(ref))
		if err != nil {
			return nil, fmt.Errorf("event number %d: %w", ref, err)
		}
		nums = e.Edges.Auth
	}
	return refsOf(nums), nil
}

// ManyAuthEvents implements stateres.Bulk, with one query.
func (g *graph) ManyAuthEvents(refs []stateres.Ref) ([][]stateres.Ref, error) {
	nums := make([]store.EventNum, 0, len(refs))
	for _, ref := range refs {
		if _, ok := g.unstored[store.EventNum(ref)]; !ok {
			nums = append(nums, store.EventNum(ref))
		}
	}
	stored, err := roomdb.EdgesOf(g.read, nums)
	if err != nil {
		return nil, fmt.Errorf("auth events of %d events: %w", len(nums), err)
	}
	lists := make([][]stateres.Ref, len(refs))
	for i, ref := range refs {
		if c, ok := g.unstored[store.EventNum(ref)]; ok {
			lists[i] = refsOf(c.edges.Auth)
		} else if edges, ok := stored[store.EventNum(ref)]; ok {
			lists[i] = refsOf(edges.Auth)
		} else {
			return nil, fmt.Errorf("event number %d: %w", ref, store.ErrNotFound)
		}
	}
	return lists, nil
}

func refsOf(nums []store.EventNum) []stateres.Ref {
	refs := make([]stateres.Ref, len(nums))
	for i, num := range nums {
		refs[i] = stateres.Ref(num)
	}
	return refs
}

// Rejected implements stateres.Graph.
func (g *graph) Rejected(ref stateres.Ref) (bool, error) {
	if c, ok := g.unstored[store.EventNum(ref)]; ok {
		return c.rejected, nil
	}
	e, err := roomdb.EventByNum(g.read, store.EventNum(ref))
	if err != nil {
		return false, fmt.Errorf("event number %d: %w", ref, err)
	}
	return e.Standing&roomdb.Rejected != 0, nil
}

// stateView gives the authorisation rules access to a state.
type stateView struct {
	g *graph
	s roomState
}

// Event implements eventauth.State.
func (v stateView) Event(evType, stateKey string) (*event.PDU, error) {
	num, err := v.g.entry(v.s, eventauth.Key{Type: evType, StateKey: stateKey})
	if err != nil || num == 0 {
		return nil, err
	}
	return v.g.Event(stateres.Ref(num))
}

// stored returns the rows of some events, all of which the store must have.
func (g *graph) stored(eventIDs []id.EventID) ([]roomdb.Event, error) {
	texts := make([]string, len(eventIDs))
	for i, eventID := range eventIDs {
		texts[i] = eventID.String()
	}
	events, err := roomdb.EventsByID(g.read, texts)
	if err != nil {
		return nil, err
	}
	if len(events) != len(eventIDs) {
		return nil, fmt.Errorf("events that others refer to: %w", store.ErrNotFound)
	}
	return events, nil
}
