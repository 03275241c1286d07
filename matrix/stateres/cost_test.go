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

// bulkGraph reads many events at once.
type bulkGraph struct {
	stateres.Graph
	asked []int
}

func (b *bulkGraph) ManyAuthEvents(refs []stateres.Ref) ([][]stateres.Ref, error) {
	b.asked = append(b.asked, len(refs))
	lists := make([][]stateres.Ref, len(refs))
	for i, ref := range refs {
		var err error
		if lists[i], err = b.AuthEvents(ref); err != nil {
			return nil, err
		}
	}
	return lists, nil
}

// TestBulk promises that a graph which reads many events at once is asked so, with the same result.
func TestBulk(t *testing.T) {
	t.Parallel()
	rules, _ := roomversion.Of("12")
	fork := staterestest.Big(t, rules, 1200, true)
	in := fork.Input(fork.States...)
	b := &bulkGraph{Graph: in.Events}
	in.Events = b
	resolved, err := stateres.Resolve(in)
	if err != nil {
		t.Fatal(err)
	}
	want := fork.Resolve(fork.States...)
	for key, ref := range resolved {
		if want[key] != ref {
			t.Errorf("%v is %s, not %s", key, fork.Describe(ref), fork.Describe(want[key]))
		}
	}
	if len(b.asked) != 3 || b.asked[0] != 512 || b.asked[1] != 512 {
		t.Errorf("asked for %v events", b.asked)
	}
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
