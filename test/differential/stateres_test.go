package differential

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"stoa/matrix/event"
	"stoa/matrix/eventauth"
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

// forks is how many random forks of each room version are resolved.
const forks = 300

// TestResolve resolves random forks three times: by package stateres, by the letter of the specification, and by
// gomatrixserverlib. The first two must always agree; the third too, unless one of its known differences has a say in the
// fork. Each of these must show.
func TestResolve(t *testing.T) {
	t.Parallel()
	differs := map[string]int{} // how often the result differed, by the reason found
	for _, reason := range []string{
		anotherVerdict, fromAuthEvents, anotherMainline, otherPowerEvents, anotherPower, fromNothing, noCreate,
	} {
		differs[reason] = 0
	}
	compared, agreed := 0, 0
	var mu sync.Mutex // guards what stands above
	t.Run("forks", func(t *testing.T) {
		each(t, func(t *testing.T, rules *roomversion.Rules) {
			for seed := range uint64(forks) {
				fork := staterestest.Random(t, rules, 50_000+seed, staterestest.RandomOptions{})
				ours := fork.Resolve(fork.States...)
				letter, trace := fork.ReferenceTrace(fork.States...)
				if !maps.Equal(ours, letter) {
					t.Errorf("seed %d: not by the letter: %s", seed, difference(fork.Room, ours, letter))
				}
				g := newGMSLEvents(fork.Room)
				theirs, err := g.resolve(fork.States)
				reason := gmslDiffers(t, g, fork.States, trace, theirs, err)
				same := err == nil && maps.Equal(ours, theirs)
				if reason == "" && !same {
					t.Errorf("seed %d: gomatrixserverlib: %v %s", seed, err, difference(fork.Room, theirs, ours))
				}
				mu.Lock()
				if same {
					agreed++
				} else {
					differs[reason]++
				}
				if reason == "" {
					compared++
				}
				mu.Unlock()
			}
		})
	})
	t.Logf("%d forks, %d of them such that gomatrixserverlib must agree; it agrees on %d", 12*forks, compared, agreed)
	if compared < 12*forks/5 {
		t.Errorf("only %d forks can be compared", compared)
	}
	for reason, n := range differs {
		t.Logf("%5d × %s", n, reason)
		if n == 0 {
			t.Errorf("gomatrixserverlib no longer differs: %s", reason)
		}
	}
}

func difference(room *staterestest.Room, got, want staterestest.State) string {
	text := ""
	for key := range want {
		if got[key] != want[key] {
			text += fmt.Sprintf("\n  %v: %s, not %s", key, room.Describe(got[key]), room.Describe(want[key]))
		}
	}
	for key := range got {
		if _, ok := want[key]; !ok {
			text += fmt.Sprintf("\n  %v: %s, not none", key, room.Describe(got[key]))
		}
	}
	return text
}

// Known differences of gomatrixserverlib's state resolution. The README tells of each.
const (
	anotherVerdict   = "an auth check has another verdict"
	fromAuthEvents   = "entries that the partial state lacks are not taken from auth events"
	anotherMainline  = "mainline: positions count from the oldest, and steps come before time"
	otherPowerEvents = "power events: chains of auth events are followed among conflicted events only, and not in order"
	anotherPower     = "power ordering: sorted from the end, and a creator without levels has no power"
	fromNothing      = "v2.1: there is no create event to begin with, so all that is in conflict is lost"
	noCreate         = "v2.1: power events panic"
)

// gmslDiffers says which known difference of gomatrixserverlib's state resolution has a say in a fork, "" if none. What it
// does under v2.1 is known altogether.
func gmslDiffers(
	t *testing.T, g *gmslEvents, states []staterestest.State, trace *staterestest.Trace, theirs staterestest.State, err error,
) string {
	room := g.room
	if room.Rules.StateRes == roomversion.StateResV21 {
		var p panicked
		if errors.As(err, &p) {
			if len(trace.Power) == 0 {
				t.Errorf("gomatrixserverlib panics without power events: %v", err)
			}
			return noCreate
		}
		lost := states[0].Clone()
		for key, ref := range states[0] {
			for _, state := range states {
				if state[key] != ref {
					delete(lost, key)
				}
			}
		}
		if !maps.Equal(theirs, lost) {
			t.Errorf("gomatrixserverlib did not lose what is in conflict: %s", difference(room, theirs, lost))
		}
		return fromNothing
	}
	for _, c := range trace.Checks {
		verdict, err := eventauth.Check(room.PDU(c.Ref), room.View(c.State))
		if err != nil {
			t.Fatal(err)
		}
		if verdict.Allowed != (g.allowed(room.PDU(c.Ref), room.View(c.State)) == nil) {
			return anotherVerdict
		}
		if len(c.FromAuth) > 0 {
			return fromAuthEvents
		}
	}
	if room.Rules.StateRes == roomversion.StateResV1 {
		return ""
	}
	if !slices.Equal(trace.Rest, gmslMainline(room, trace)) {
		return anotherMainline
	}
	return gmslPower(room, trace)
}

func auth(room *staterestest.Room, ref stateres.Ref) []stateres.Ref {
	refs, err := room.AuthEvents(ref)
	if err != nil {
		room.T.Fatal(err)
	}
	return refs
}

func powerLevelsOf(room *staterestest.Room, ref stateres.Ref) stateres.Ref {
	for _, a := range auth(room, ref) {
		if room.PDU(a).Is(event.TypePowerLevels, "") {
			return a
		}
	}
	return 0
}

// gmslMainline orders the events of step 3 as gomatrixserverlib does: its positions count from the oldest levels, events
// off the mainline are at the oldest, and the way to the mainline comes before the time.
func gmslMainline(room *staterestest.Room, trace *staterestest.Trace) []stateres.Ref {
	var line []stateres.Ref
	for p := trace.PowerLevels; p != 0; p = powerLevelsOf(room, p) {
		line = append(line, p)
	}
	slices.Reverse(line)
	type placed struct{ position, steps int }
	places := map[stateres.Ref]placed{}
	for _, ref := range trace.Rest {
		p := placed{}
		for e := powerLevelsOf(room, ref); e != 0; e = powerLevelsOf(room, e) {
			if i := slices.Index(line, e); i >= 0 {
				p.position = i
				break
			}
			p.steps++
		}
		places[ref] = p
	}
	sorted := slices.Clone(trace.Rest)
	slices.SortFunc(sorted, func(x, y stateres.Ref) int {
		return cmp.Or(cmp.Compare(places[x].position, places[y].position), cmp.Compare(places[x].steps, places[y].steps),
			older(room, x, y))
	})
	return sorted
}

func older(room *staterestest.Room, x, y stateres.Ref) int {
	a, b := room.PDU(x), room.PDU(y)
	return cmp.Or(cmp.Compare(a.OriginServerTS(), b.OriginServerTS()), cmp.Compare(a.EventID().String(), b.EventID().String()))
}

// gmslPower compares step 1 with gomatrixserverlib's: it follows auth events among conflicted events only, sorts from the
// end, and may have events twice, which puts those that they rest on first. Longer chains are not compared.
func gmslPower(room *staterestest.Room, trace *staterestest.Trace) string {
	in := map[stateres.Ref]bool{}
	for _, ref := range trace.Power {
		in[ref] = true
	}
	rests := map[stateres.Ref][]stateres.Ref{} // on what an event of the set rests, in the set
	for _, ref := range trace.Power {
		for _, a := range auth(room, ref) {
			if in[a] {
				rests[ref] = append(rests[ref], a)
				if !trace.Conflicted[a] {
					return otherPowerEvents
				}
			}
		}
	}
	below := map[stateres.Ref]bool{}
	for _, on := range rests {
		for _, a := range on {
			below[a] = true
			if len(rests[a]) > 0 {
				return otherPowerEvents
			}
		}
	}
	level := func(ref stateres.Ref) int64 {
		p := powerLevelsOf(room, ref)
		if p == 0 {
			return 0
		}
		levels, err := room.PDU(p).PowerLevels()
		if err != nil {
			return 0
		}
		return levels.User(room.PDU(ref).Sender())
	}
	byPower := func(x, y stateres.Ref) int { return cmp.Or(cmp.Compare(level(y), level(x)), older(room, x, y)) }

	// Kahn's algorithm from the end: the greatest of those on which nothing rests any more comes last.
	var fromEnd []stateres.Ref
	left := maps.Clone(in)
	for len(left) > 0 {
		last := stateres.Ref(0)
		for ref := range left {
			free := true
			for above := range left {
				free = free && !slices.Contains(rests[above], ref)
			}
			if free && (last == 0 || byPower(ref, last) > 0) {
				last = ref
			}
		}
		delete(left, last)
		fromEnd = append(fromEnd, last)
	}
	slices.Reverse(fromEnd)
	belowFirst := slices.Clone(trace.Power)
	slices.SortFunc(belowFirst, func(x, y stateres.Ref) int {
		if below[x] != below[y] {
			if below[x] {
				return -1
			}
			return 1
		}
		return byPower(x, y)
	})
	if !slices.Equal(trace.Power, fromEnd) || !slices.Equal(trace.Power, belowFirst) {
		return anotherPower
	}
	return ""
}
