package staterestest

import (
	"crypto/sha1"
	"slices"
	"strings"

	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/roomversion"
	"stoa/matrix/stateres"
)

type set = map[stateres.Ref]bool

// Trace tells the steps of a resolution.
type Trace struct {
	// Conflicted is the conflicted state set, Full the full conflicted set. Both are nil for v1.
	Conflicted, Full map[stateres.Ref]bool
	// Power are the events of step 1, Rest those of step 3, in the order of their application. Both are nil for v1.
	Power, Rest []stateres.Ref
	// PowerLevels is the power levels event of the state before step 3; 0 for none.
	PowerLevels stateres.Ref
	// Checks are the auth checks that were made.
	Checks []Check
}

// Check is one auth check of a resolution.
type Check struct {
	Ref stateres.Ref
	// State is what the event was checked against.
	State State
	// FromAuth are the keys of State that come from the event's auth events.
	FromAuth []stateres.Key
}

// Reference resolves whole states by the words of the specification, with sets and without any shortcut.
//
// Spec: rooms/v1#state-resolution, rooms/v2#state-resolution, rooms/v12#state-resolution
func (r *Room) Reference(states ...State) State {
	resolved, _ := r.ReferenceTrace(states...)
	return resolved
}

// ReferenceTrace is Reference and tells how it came to its result.
func (r *Room) ReferenceTrace(states ...State) (State, *Trace) {
	t := &Trace{}
	if r.Rules.StateRes == roomversion.StateResV1 {
		return r.referenceV1(states, t), t
	}
	v21 := r.Rules.StateRes == roomversion.StateResV21

	// Unconflicted state map and conflicted state set.
	unconflicted, conflicted := State{}, set{}
	for _, state := range states {
		for key, ref := range state {
			everywhere := true
			for _, other := range states {
				everywhere = everywhere && other[key] == ref
			}
			if everywhere {
				unconflicted[key] = ref
			} else {
				conflicted[ref] = true
			}
		}
	}
	// Full conflicted set.
	full := set{}
	for ref := range conflicted {
		full[ref] = true
	}
	chains := make([]set, len(states))
	for i, state := range states {
		chains[i] = set{}
		for _, ref := range state {
			r.chain(ref, chains[i])
		}
	}
	for _, chain := range chains {
		for ref := range chain {
			for _, other := range chains {
				if !other[ref] {
					full[ref] = true
				}
			}
		}
	}
	if v21 {
		for from := range conflicted {
			below := set{}
			r.chain(from, below)
			for ref := range below {
				further := set{}
				r.chain(ref, further)
				for to := range further {
					if conflicted[to] {
						full[ref] = true
					}
				}
			}
		}
	}

	// 1
	x := set{}
	for ref := range full {
		if r.isPower(ref) {
			r.within(ref, full, x)
		}
	}
	// 2
	state := State{}
	if !v21 {
		state = unconflicted.Clone()
	}
	t.Conflicted, t.Full, t.Power = conflicted, full, r.kahn(x)
	r.authChecks(state, t.Power, t)
	// 3
	rest := []stateres.Ref{}
	for ref := range full {
		if !x[ref] {
			rest = append(rest, ref)
		}
	}
	mainline := map[stateres.Ref]int{}
	t.PowerLevels = state[stateres.Key{Type: event.TypePowerLevels}]
	for p := t.PowerLevels; p != 0; p = r.powerLevelsOf(p) {
		mainline[p] = len(mainline)
	}
	position := func(ref stateres.Ref) int {
		for e := r.powerLevelsOf(ref); e != 0; e = r.powerLevelsOf(e) {
			if i, ok := mainline[e]; ok {
				return i
			}
		}
		return len(r.events) + 1
	}
	slices.SortFunc(rest, func(x, y stateres.Ref) int {
		if a, b := position(x), position(y); a != b {
			return b - a
		}
		return r.older(x, y)
	})
	// 4
	t.Rest = rest
	r.authChecks(state, rest, t)
	// 5
	for key, ref := range unconflicted {
		state[key] = ref
	}
	return state, t
}

// chain adds an event and its auth chain to a set.
func (r *Room) chain(ref stateres.Ref, into set) {
	if into[ref] {
		return
	}
	into[ref] = true
	for _, a := range r.auth[ref-1] {
		r.chain(a, into)
	}
}

// within adds an event and what it rests on inside of a set to another.
func (r *Room) within(ref stateres.Ref, limits, into set) {
	if into[ref] || !limits[ref] {
		return
	}
	into[ref] = true
	for _, a := range r.auth[ref-1] {
		r.within(a, limits, into)
	}
}

func (r *Room) isPower(ref stateres.Ref) bool {
	pdu := r.PDU(ref)
	stateKey, _ := pdu.StateKey()
	return pdu.Type() == event.TypePowerLevels || pdu.Type() == event.TypeJoinRules ||
		pdu.Type() == event.TypeMember && pdu.Sender().String() != stateKey &&
			(pdu.Membership() == "leave" || pdu.Membership() == "ban")
}

func (r *Room) authOf(ref stateres.Ref, eventType string) stateres.Ref {
	for _, a := range r.auth[ref-1] {
		if r.PDU(a).Is(eventType, "") {
			return a
		}
	}
	return 0
}

func (r *Room) powerLevelsOf(ref stateres.Ref) stateres.Ref {
	return r.authOf(ref, event.TypePowerLevels)
}

func (r *Room) older(x, y stateres.Ref) int {
	a, b := r.PDU(x), r.PDU(y)
	if a.OriginServerTS() != b.OriginServerTS() {
		if a.OriginServerTS() < b.OriginServerTS() {
			return -1
		}
		return 1
	}
	return strings.Compare(a.EventID().String(), b.EventID().String())
}

// kahn sorts a set in reverse topological power ordering.
func (r *Room) kahn(x set) []stateres.Ref {
	level := func(ref stateres.Ref) eventauth.Level {
		var create, levels *event.PDU
		if r.Rules.RoomIDFromCreate {
			create = r.PDU(r.create)
		} else if a := r.authOf(ref, event.TypeCreate); a != 0 {
			create = r.PDU(a)
		}
		if a := r.powerLevelsOf(ref); a != 0 {
			levels = r.PDU(a)
		}
		return eventauth.UserLevel(create, levels, r.PDU(ref).Sender())
	}
	var sorted []stateres.Ref
	done := set{}
	for len(sorted) < len(x) {
		var best stateres.Ref
		for ref := range x {
			ready := !done[ref]
			for _, a := range r.auth[ref-1] {
				ready = ready && (!x[a] || done[a])
			}
			if !ready {
				continue
			}
			if best == 0 || level(ref) > level(best) || level(ref) == level(best) && r.older(ref, best) < 0 {
				best = ref
			}
		}
		done[best] = true
		sorted = append(sorted, best)
	}
	return sorted
}

// authChecks is the iterative auth checks algorithm.
func (r *Room) authChecks(state State, events []stateres.Ref, t *Trace) {
	for _, ref := range events {
		seen := State{}
		for _, a := range r.auth[ref-1] {
			if !r.Refused[a] {
				stateKey, _ := r.PDU(a).StateKey()
				seen[stateres.Key{Type: r.PDU(a).Type(), StateKey: stateKey}] = a
			}
		}
		var fromAuth []stateres.Key
		for key := range seen {
			if state[key] == 0 {
				fromAuth = append(fromAuth, key)
			}
		}
		for key, a := range state {
			seen[key] = a
		}
		r.apply(state, seen, ref, t)
		t.Checks[len(t.Checks)-1].FromAuth = fromAuth
	}
}

// apply puts an event into a state if another state allows it.
func (r *Room) apply(state, by State, ref stateres.Ref, t *Trace) bool {
	t.Checks = append(t.Checks, Check{Ref: ref, State: by.Clone()})
	verdict, err := eventauth.Check(r.PDU(ref), r.View(by))
	r.check(err)
	if verdict.Allowed {
		stateKey, _ := r.PDU(ref).StateKey()
		state[stateres.Key{Type: r.PDU(ref).Type(), StateKey: stateKey}] = ref
	}
	return verdict.Allowed
}

func (r *Room) referenceV1(states []State, t *Trace) State {
	result, conflicts := State{}, map[stateres.Key][]stateres.Ref{}
	for _, state := range states {
		for key, ref := range state {
			if !slices.Contains(conflicts[key], ref) {
				conflicts[key] = append(conflicts[key], ref)
			}
		}
	}
	for key, refs := range conflicts {
		if len(refs) == 1 {
			result[key] = refs[0]
			delete(conflicts, key)
			continue
		}
		// Ascending depth, then descending SHA-1.
		slices.SortFunc(refs, func(x, y stateres.Ref) int {
			a, b := r.PDU(x), r.PDU(y)
			if a.Depth() != b.Depth() {
				return int(a.Depth() - b.Depth())
			}
			h, g := sha1.Sum([]byte(a.EventID().String())), sha1.Sum([]byte(b.EventID().String()))
			return slices.Compare(g[:], h[:])
		})
	}
	for _, eventType := range []string{event.TypePowerLevels, event.TypeJoinRules, event.TypeMember} {
		before := result.Clone()
		for key, refs := range conflicts {
			if key.Type != eventType {
				continue
			}
			state := before.Clone()
			state[key] = refs[0]
			for _, ref := range refs[1:] {
				if !r.apply(state, state, ref, t) {
					break
				}
			}
			result[key] = state[key]
			delete(conflicts, key)
		}
	}
	before := result.Clone()
	for key, refs := range conflicts {
		result[key] = refs[0]
		for _, ref := range slices.Backward(refs) {
			if r.apply(result, before, ref, t) {
				break
			}
		}
	}
	return result
}
