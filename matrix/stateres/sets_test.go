package stateres_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"stoa/matrix/roomversion"
	"stoa/matrix/stateres"
	"stoa/matrix/stateres/staterestest"
)

// TestSets compares the auth difference and the conflicted state subgraph with what plain sets give, on graphs that no
// rules restrain and in which depths are lies.
func TestSets(t *testing.T) {
	t.Parallel()
	rules, _ := roomversion.Of("12")
	for shape := range 4 {
		t.Run(fmt.Sprintf("shape %d", shape), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(100) {
				compareSets(t, rules, rand.New(rand.NewPCG(seed, uint64(shape))), shape)
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
		})
	}
}

func compareSets(t *testing.T, rules *roomversion.Rules, r *rand.Rand, shape int) {
	t.Helper()
	room := staterestest.NewRoom(t, rules, staterestest.Users[0], nil)
	keys := 2 + r.IntN(5)
	place := func() stateres.Key { return stateres.Key{Type: "example.state", StateKey: fmt.Sprint(r.IntN(keys))} }
	byKey := map[stateres.Key][]stateres.Ref{}
	for n := range 8 + r.IntN(20) {
		key := place()
		var auth []stateres.Ref
		for ref := stateres.Ref(1); int(ref) <= room.Len(); ref++ {
			if r.IntN(2+room.Len()/(1+shape)) == 0 {
				auth = append(auth, ref)
			}
		}
		depth := int64(n)
		if shape%2 == 1 {
			depth = r.Int64N(30)
		}
		ref := room.Add(staterestest.Draft{
			Type: key.Type, StateKey: key.StateKey, Sender: staterestest.Users[0], Content: map[string]any{"n": n},
			Depth: depth, Auth: auth,
		})
		byKey[key] = append(byKey[key], ref)
	}
	branches := 2 + r.IntN(3)
	if r.IntN(20) == 0 {
		branches = 70 // more than fit into one word
	}
	states := make([]staterestest.State, branches)
	for i := range states {
		states[i] = staterestest.State{}
	}
	for key, refs := range byKey {
		agree := r.IntN(2) == 0
		chosen := refs[r.IntN(len(refs))]
		for _, state := range states {
			if !agree {
				chosen = refs[r.IntN(len(refs))]
			}
			if agree || r.IntN(4) > 0 {
				state[key] = chosen
			}
		}
	}
	compareInput(t, room, states, room.Input(states...))
	many := room.Input(states...)
	many.Events = &bulkGraph{Graph: room}
	compareInput(t, room, states, many)
	// The same with every entry given as a conflict.
	in := stateres.Input{Rules: rules, Branches: branches, Events: room}
	in.Unconflicted = func(stateres.Key) (stateres.Ref, error) { return 0, nil }
	in.EachUnconflicted = func(func(stateres.Ref) bool) error { return nil }
	for key := range byKey {
		refs := make([]stateres.Ref, branches)
		for i, state := range states {
			refs[i] = state[key]
		}
		in.Conflicts = append(in.Conflicts, stateres.Conflict{Key: key, Refs: refs})
	}
	compareInput(t, room, states, in)
}

func compareInput(t *testing.T, room *staterestest.Room, states []staterestest.State, in stateres.Input) {
	t.Helper()
	conflicted, difference, subgraph, err := stateres.Sets(in)
	if err != nil {
		t.Fatal(err)
	}
	wantDifference, wantSubgraph := plainSets(room, states, conflicted)
	slices.Sort(difference)
	slices.Sort(subgraph)
	if !slices.Equal(difference, wantDifference) {
		t.Errorf("auth difference %v, want %v", difference, wantDifference)
	}
	if !slices.Equal(subgraph, wantSubgraph) {
		t.Errorf("conflicted state subgraph %v, want %v", subgraph, wantSubgraph)
	}
}

// plainSets looks at every event by itself.
func plainSets(
	room *staterestest.Room, states []staterestest.State, conflicted []stateres.Ref,
) (difference, subgraph []stateres.Ref) {
	reaches := func(from, to stateres.Ref) bool { return reach(room, from, to) }
	for ref := stateres.Ref(1); int(ref) <= room.Len(); ref++ {
		if slices.Contains(conflicted, ref) {
			continue
		}
		in := 0
		for _, state := range states {
			for _, entry := range state {
				if reaches(entry, ref) {
					in++
					break
				}
			}
		}
		if in > 0 && in < len(states) {
			difference = append(difference, ref)
		}
		above := slices.ContainsFunc(conflicted, func(c stateres.Ref) bool { return reaches(c, ref) })
		below := slices.ContainsFunc(conflicted, func(c stateres.Ref) bool { return reaches(ref, c) })
		if above && below {
			subgraph = append(subgraph, ref)
		}
	}
	return difference, subgraph
}

// reach says whether an event is another, or has it in its auth chain. Auth events have smaller numbers here.
func reach(room *staterestest.Room, from, to stateres.Ref) bool {
	if from <= to {
		return from == to
	}
	auth, err := room.AuthEvents(from)
	if err != nil {
		room.T.Fatal(err)
	}
	return slices.ContainsFunc(auth, func(a stateres.Ref) bool { return reach(room, a, to) })
}
