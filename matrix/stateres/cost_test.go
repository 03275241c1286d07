package stateres_test

import (
	"testing"

	"stoa/matrix/event"
	"stoa/matrix/roomversion"
	"stoa/matrix/stateres"
	"stoa/matrix/stateres/staterestest"
)

// counted counts what a resolution reads.
type counted struct {
	stateres.Graph
	reads, walked int
}

func (c *counted) Event(ref stateres.Ref) (*event.PDU, error) {
	c.reads++
	return c.Graph.Event(ref)
}

func (c *counted) AuthEvents(ref stateres.Ref) ([]stateres.Ref, error) {
	c.reads++
	return c.Graph.AuthEvents(ref)
}

func reads(t *testing.T, rules *roomversion.Rules, members int, twice bool) *counted {
	fork := staterestest.Big(t, rules, members, twice)
	in := fork.Input(fork.States...)
	c := &counted{Graph: in.Events}
	in.Events = c
	unconflicted, each := in.Unconflicted, in.EachUnconflicted
	in.Unconflicted = func(key stateres.Key) (stateres.Ref, error) {
		c.reads++
		return unconflicted(key)
	}
	in.EachUnconflicted = func(yield func(stateres.Ref) bool) error {
		return each(func(ref stateres.Ref) bool {
			c.walked++
			return yield(ref)
		})
	}
	if _, err := stateres.Resolve(in); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestCost promises that a resolution reads as much in a small room as in a large one, if the difference is the same, and
// that the common state is walked only for what can't be decided otherwise.
func TestCost(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, rules *roomversion.Rules) {
		small, large := reads(t, rules, 70, false), reads(t, rules, 700, false)
		if small.reads != large.reads || small.walked != 0 || large.walked != 0 {
			t.Errorf("70 members: %d reads, %d entries walked; 700 members: %d, %d", small.reads, small.walked, large.reads, large.walked)
		}
		if twice := reads(t, rules, 70, true); (twice.walked > 0) != (rules.StateRes != roomversion.StateResV1) {
			t.Errorf("two steps on one branch: %d entries walked", twice.walked)
		}
	})
}

func BenchmarkResolve(b *testing.B) {
	for _, version := range []string{"1", "11", "12"} {
		rules, _ := roomversion.Of(version)
		for _, shape := range []struct {
			name  string
			twice bool
		}{{"one step", false}, {"two steps", true}} {
			fork := staterestest.Big(b, rules, 10_000, shape.twice)
			in := fork.Input(fork.States...)
			b.Run("v"+version+"/"+shape.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := stateres.Resolve(in); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
