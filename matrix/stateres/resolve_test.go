package stateres_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"stoa/matrix/event"
	"stoa/matrix/roomversion"
	"stoa/matrix/stateres"
	"stoa/matrix/stateres/staterestest"
)

func each(t *testing.T, run func(t *testing.T, rules *roomversion.Rules)) {
	t.Helper()
	for _, rules := range roomversion.All() {
		t.Run("v"+rules.Version, func(t *testing.T) {
			t.Parallel()
			run(t, rules)
		})
	}
}

func same(t *testing.T, room *staterestest.Room, what string, got, want staterestest.State) {
	t.Helper()
	if maps.Equal(got, want) {
		return
	}
	for key := range want {
		if got[key] != want[key] {
			t.Errorf("%s: %v is %s, not %s", what, key, room.Describe(got[key]), room.Describe(want[key]))
		}
	}
	for key := range got {
		if _, ok := want[key]; !ok {
			t.Errorf("%s: %v is %s, not none", what, key, room.Describe(got[key]))
		}
	}
}

// TestResolve compares random resolutions with the ones by the letter.
func TestResolve(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, rules *roomversion.Rules) {
		for seed := range uint64(40) {
			fork := staterestest.Random(t, rules, seed, staterestest.RandomOptions{Rejected: true})
			same(t, fork.Room, fmt.Sprintf("seed %d", seed), fork.Resolve(fork.States...), fork.Reference(fork.States...))
			if t.Failed() {
				return
			}
		}
	})
}

// renumbered is a room whose events have other numbers.
type renumbered struct {
	room     *staterestest.Room
	old, new []stateres.Ref
}

func renumber(room *staterestest.Room, r *rand.Rand) *renumbered {
	n := &renumbered{room: room, old: make([]stateres.Ref, room.Len()+1), new: make([]stateres.Ref, room.Len()+1)}
	for i, j := range r.Perm(room.Len()) {
		n.new[i+1], n.old[j+1] = stateres.Ref(j+1), stateres.Ref(i+1)
	}
	return n
}

func (n *renumbered) Event(ref stateres.Ref) (*event.PDU, error) { return n.room.Event(n.old[ref]) }

func (n *renumbered) AuthEvents(ref stateres.Ref) ([]stateres.Ref, error) {
	auth, err := n.room.AuthEvents(n.old[ref])
	mine := make([]stateres.Ref, len(auth))
	for i, a := range auth {
		mine[i] = n.new[a]
	}
	return mine, err
}

func (n *renumbered) Rejected(ref stateres.Ref) (bool, error) { return n.room.Rejected(n.old[ref]) }

// TestResolve_order promises that neither the order of branches and conflicts nor the numbers of events matter.
func TestResolve_order(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, rules *roomversion.Rules) {
		for seed := range uint64(12) {
			fork := staterestest.Random(t, rules, 1000+seed, staterestest.RandomOptions{Rejected: true})
			want := fork.Resolve(fork.States...)
			r := rand.New(rand.NewPCG(seed, 1))
			for range 4 {
				r.Shuffle(len(fork.States), func(i, j int) {
					fork.States[i], fork.States[j] = fork.States[j], fork.States[i]
				})
				same(t, fork.Room, fmt.Sprintf("seed %d, other order", seed), fork.Resolve(fork.States...), want)

				in := fork.Input(fork.States...)
				n := renumber(fork.Room, r)
				in.Events = n
				r.Shuffle(len(in.Conflicts), func(i, j int) { in.Conflicts[i], in.Conflicts[j] = in.Conflicts[j], in.Conflicts[i] })
				for _, c := range in.Conflicts {
					for i, ref := range c.Refs {
						c.Refs[i] = n.new[ref]
					}
				}
				unconflicted, each := in.Unconflicted, in.EachUnconflicted
				in.Unconflicted = func(key stateres.Key) (stateres.Ref, error) {
					ref, err := unconflicted(key)
					return n.new[ref], err
				}
				in.EachUnconflicted = func(yield func(stateres.Ref) bool) error {
					return each(func(ref stateres.Ref) bool { return yield(n.new[ref]) })
				}
				resolved, err := stateres.Resolve(in)
				if err != nil {
					t.Fatal(err)
				}
				for key, ref := range resolved {
					if n.old[ref] != want[key] {
						t.Errorf("seed %d, other numbers: %v is %s, not %s", seed, key,
							fork.Describe(n.old[ref]), fork.Describe(want[key]))
					}
				}
			}
			if t.Failed() {
				return
			}
		}
	})
}

// TestResolve_agreement promises that keys on which the branches agree change nothing, also when they are given.
func TestResolve_agreement(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, rules *roomversion.Rules) {
		for seed := range uint64(10) {
			fork := staterestest.Random(t, rules, 2000+seed, staterestest.RandomOptions{})
			want, in := fork.Resolve(fork.States...), fork.Input(fork.States...)
			for key, ref := range fork.States[0] {
				if agreed, err := in.Unconflicted(key); err != nil || agreed == 0 {
					continue
				}
				refs := make([]stateres.Ref, in.Branches)
				for i := range refs {
					refs[i] = ref
				}
				in.Conflicts = append(in.Conflicts, stateres.Conflict{Key: key, Refs: refs})
			}
			in.Unconflicted = func(stateres.Key) (stateres.Ref, error) { return 0, nil }
			in.EachUnconflicted = func(func(stateres.Ref) bool) error { return nil }
			resolved, err := stateres.Resolve(in)
			if err != nil {
				t.Fatal(err)
			}
			for key, ref := range resolved {
				if ref != want[key] {
					t.Errorf("seed %d: %v is %s, not %s", seed, key, fork.Describe(ref), fork.Describe(want[key]))
				}
			}
			one := fork.Resolve(fork.States[0], fork.States[0])
			same(t, fork.Room, "a state with itself", one, fork.States[0])
		}
	})
}

// broken fails at one of its reads.
type broken struct {
	stateres.Graph
	left int
}

var errBroken = errors.New("broken")

func (b *broken) spend() error {
	if b.left--; b.left < 0 {
		return errBroken
	}
	return nil
}

func (b *broken) Event(ref stateres.Ref) (*event.PDU, error) {
	if err := b.spend(); err != nil {
		return nil, err
	}
	return b.Graph.Event(ref)
}

func (b *broken) AuthEvents(ref stateres.Ref) ([]stateres.Ref, error) {
	if err := b.spend(); err != nil {
		return nil, err
	}
	return b.Graph.AuthEvents(ref)
}

func (b *broken) Rejected(ref stateres.Ref) (bool, error) {
	if err := b.spend(); err != nil {
		return false, err
	}
	return b.Graph.Rejected(ref)
}

// TestResolve_faults promises that a fault at any read comes out as an error, never as a state.
func TestResolve_faults(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, rules *roomversion.Rules) {
		fork := staterestest.Random(t, rules, 3003, staterestest.RandomOptions{})
		for fails := 0; ; fails++ {
			in := fork.Input(fork.States...)
			b := &broken{Graph: in.Events, left: fails}
			unconflicted, each := in.Unconflicted, in.EachUnconflicted
			in.Events = b
			in.Unconflicted = func(key stateres.Key) (stateres.Ref, error) {
				if err := b.spend(); err != nil {
					return 0, err
				}
				return unconflicted(key)
			}
			in.EachUnconflicted = func(yield func(stateres.Ref) bool) error {
				if err := b.spend(); err != nil {
					return err
				}
				return each(yield)
			}
			_, err := stateres.Resolve(in)
			if b.left >= 0 && err == nil {
				break
			}
			if !errors.Is(err, errBroken) {
				t.Fatalf("with a fault at read %d: error %v", fails, err)
			}
		}
	})
	t.Run("entries missing", func(t *testing.T) {
		t.Parallel()
		in := stateres.Input{Rules: roomversion.All()[1], Branches: 2, Conflicts: []stateres.Conflict{{Refs: []stateres.Ref{1}}}}
		if _, err := stateres.Resolve(in); err == nil {
			t.Error("a conflict with one entry for two branches is taken")
		}
	})
}

// FuzzResolve looks for a room in which the resolution differs from the one by the letter.
func FuzzResolve(f *testing.F) {
	for i, rules := range roomversion.All() {
		f.Add(uint64(i), rules.Version)
	}
	f.Fuzz(func(t *testing.T, seed uint64, version string) {
		rules, ok := roomversion.Of(version)
		if !ok {
			return
		}
		fork := staterestest.Random(t, rules, seed, staterestest.RandomOptions{Rejected: true})
		same(t, fork.Room, "resolved", fork.Resolve(fork.States...), fork.Reference(fork.States...))
	})
}
