package stateres

import (
	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/roomversion"
)

// resolveV2 is the algorithm of room versions 2 to 11, and 12.
//
// Spec: rooms/v2#algorithm, rooms/v12#algorithm
func (r *resolver) resolveV2() error {
	full, err := r.fullConflictedSet()
	if err != nil {
		return err
	}
	// 1. Power events, and what they rest on, in reverse topological power ordering.
	chosen, err := r.powerSet(full)
	if err != nil {
		return err
	}
	power, err := r.reverseTopologicalPowerOrdering(chosen)
	if err != nil {
		return err
	}
	// 2. Auth checks from the unconflicted state map (v2) or from an empty state map (v2.1).
	r.state.fromUnconflicted = r.in.Rules.StateRes != roomversion.StateResV21
	if err := r.iterativeAuthChecks(power); err != nil {
		return err
	}
	// 3. The others in the mainline ordering of the power levels just found.
	inPower := make(map[at]struct{}, len(power))
	for _, i := range power {
		inPower[i] = struct{}{}
	}
	rest := make([]at, 0, len(full))
	for _, i := range full {
		if _, ok := inPower[i]; !ok {
			rest = append(rest, i)
		}
	}
	if rest, err = r.mainlineOrdering(rest); err != nil {
		return err
	}
	// 4. Auth checks of these.
	if err := r.iterativeAuthChecks(rest); err != nil {
		return err
	}
	// 5. Entries on which all branches agree stand.
	for key, i := range r.state.entries {
		ref, err := r.unconflicted(key)
		if err != nil {
			return err
		}
		if ref == 0 {
			r.result[key] = r.nodes[i].ref
		}
	}
	return nil
}

// fullConflictedSet returns the conflicted state set, the auth difference and, for v2.1, the conflicted state subgraph.
//
// Spec: rooms/v2#definitions, rooms/v12#definitions
func (r *resolver) fullConflictedSet() ([]at, error) {
	r.collect()
	full := append([]at(nil), r.conflicted...)
	for _, i := range full {
		r.nodes[i].full = true
	}
	add := func(more []at, err error) error {
		for _, i := range more {
			if !r.nodes[i].full {
				r.nodes[i].full = true
				full = append(full, i)
			}
		}
		return err
	}
	if r.in.Rules.StateRes == roomversion.StateResV21 {
		if err := add(r.subgraph()); err != nil {
			return nil, err
		}
	}
	return full, add(r.authDifference())
}

// isPowerEvent says whether an event might take away someone's ability to do something in the room.
//
// Spec: rooms/v2#definitions
func isPowerEvent(pdu *event.PDU) bool {
	switch pdu.Type() {
	case event.TypePowerLevels, event.TypeJoinRules:
		return true
	case event.TypeMember:
		stateKey, _ := pdu.StateKey()
		membership := pdu.Membership()
		return (membership == event.MembershipLeave || membership == event.MembershipBan) && pdu.Sender().String() != stateKey
	}
	return false
}

// powerSet returns the power events of the full conflicted set, and the events of the set that they rest on. Like every
// known server, it follows auth events inside of the set only.
func (r *resolver) powerSet(full []at) ([]at, error) {
	taken := make(map[at]struct{})
	var chosen, stack []at
	take := func(i at) {
		if _, ok := taken[i]; !ok && r.nodes[i].full {
			taken[i] = struct{}{}
			chosen = append(chosen, i)
			stack = append(stack, i)
		}
	}
	for _, i := range full {
		pdu, err := r.pdu(i)
		if err != nil {
			return nil, err
		}
		if !isPowerEvent(pdu) {
			continue
		}
		for take(i); len(stack) > 0; {
			top := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			auth, err := r.auth(top)
			if err != nil {
				return nil, err
			}
			for _, a := range auth {
				take(a)
			}
		}
	}
	return chosen, nil
}

// partial is the partially resolved state, as one event sees it: entries resolved so far, the unconflicted state map in
// v2, and, for what neither has, the event's own auth events unless rejected.
//
// Spec: rooms/v2#definitions
type partial struct {
	r                *resolver
	fromUnconflicted bool
	entries          map[Key]at
	event            at // the event that is being checked
}

// Event implements eventauth.State.
func (p *partial) Event(eventType, stateKey string) (*event.PDU, error) {
	key := Key{Type: eventType, StateKey: stateKey}
	if i, ok := p.entries[key]; ok {
		return p.r.pdu(i)
	}
	// Where the room ID is made of the create event, every event rests on it without naming it.
	implied := eventType == event.TypeCreate && p.r.in.Rules.RoomIDFromCreate
	if p.fromUnconflicted || implied {
		ref, err := p.r.unconflicted(key)
		if err != nil {
			return nil, err
		}
		if ref != 0 {
			return p.r.pdu(p.r.at(ref))
		}
	}
	auth, err := p.r.auth(p.event)
	if err != nil {
		return nil, err
	}
	for _, a := range auth {
		pdu, err := p.r.pdu(a)
		if err != nil {
			return nil, err
		}
		if pdu.Type() != eventType || keyOf(pdu) != key {
			continue
		}
		rejected, err := p.r.in.Events.Rejected(p.r.nodes[a].ref)
		if err != nil {
			return nil, err
		}
		if !rejected {
			return pdu, nil
		}
	}
	return nil, nil
}

// iterativeAuthChecks applies each event to the partially resolved state if that allows it.
//
// Spec: rooms/v2#definitions
func (r *resolver) iterativeAuthChecks(events []at) error {
	for _, i := range events {
		pdu, err := r.pdu(i)
		if err != nil {
			return err
		}
		r.state.event = i
		verdict, err := eventauth.Check(pdu, &r.state)
		if err != nil {
			return err
		}
		if verdict.Allowed {
			r.state.entries[keyOf(pdu)] = i
		}
	}
	return nil
}
