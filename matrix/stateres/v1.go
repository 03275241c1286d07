package stateres

import (
	"cmp"
	"crypto/sha1"
	"slices"

	"stoa/matrix/event"
	"stoa/matrix/eventauth"
)

// resolveV1 is the algorithm of room version 1: power levels, join rules and memberships one after the other, then the rest.
//
// Where the specification leaves it open, this does what the algorithm's servers do: all entries of a pass are resolved
// against the state before the pass, and if no event of an entry passes, the one of least depth is taken.
//
// Spec: rooms/v1#state-resolution
func (r *resolver) resolveV1() error {
	passes := []func(Key) bool{
		func(key Key) bool { return key.Type == event.TypePowerLevels },
		func(key Key) bool { return key.Type == event.TypeJoinRules },
		func(key Key) bool { return key.Type == event.TypeMember },
	}
	left := r.conflicts
	for _, pass := range passes {
		var later []Conflict
		resolved := make(map[Key]at)
		for _, c := range left {
			if !pass(c.Key) {
				later = append(later, c)
				continue
			}
			i, err := r.latestOfChain(c)
			if err != nil {
				return err
			}
			resolved[c.Key] = i
		}
		r.apply(resolved)
		left = later
	}
	resolved := make(map[Key]at)
	for _, c := range left {
		i, err := r.firstAllowed(c)
		if err != nil {
			return err
		}
		resolved[c.Key] = i
	}
	r.apply(resolved)
	return nil
}

func (r *resolver) apply(resolved map[Key]at) {
	for key, i := range resolved {
		r.state.entries[key] = i
		r.result[key] = r.nodes[i].ref
	}
}

// latestOfChain takes the events of an entry by ascending depth, as long as each is allowed by the one before it.
func (r *resolver) latestOfChain(c Conflict) (at, error) {
	events, err := r.byDepth(c)
	if err != nil {
		return 0, err
	}
	current := events[0]
	for _, e := range events[1:] {
		state := stateV1{r: r, key: c.Key, entry: current.pdu}
		verdict, err := eventauth.Check(e.pdu, state)
		if err != nil {
			return 0, err
		}
		if !verdict.Allowed {
			break
		}
		current = e
	}
	return current.i, nil
}

// firstAllowed takes the deepest event of an entry that the state allows.
func (r *resolver) firstAllowed(c Conflict) (at, error) {
	events, err := r.byDepth(c)
	if err != nil {
		return 0, err
	}
	for _, e := range slices.Backward(events) {
		verdict, err := eventauth.Check(e.pdu, stateV1{r: r})
		if err != nil {
			return 0, err
		}
		if verdict.Allowed {
			return e.i, nil
		}
	}
	return events[0].i, nil
}

type eventV1 struct {
	pdu  *event.PDU
	hash [sha1.Size]byte
	i    at
}

// byDepth returns the events of an entry, each once, by ascending depth and then descending SHA-1 of the event ID.
func (r *resolver) byDepth(c Conflict) ([]eventV1, error) {
	var events []eventV1
	for _, ref := range c.Refs {
		if ref == 0 || slices.ContainsFunc(events, func(e eventV1) bool { return r.nodes[e.i].ref == ref }) {
			continue
		}
		i := r.at(ref)
		pdu, err := r.pdu(i)
		if err != nil {
			return nil, err
		}
		events = append(events, eventV1{pdu, sha1.Sum([]byte(pdu.EventID().String())), i})
	}
	slices.SortFunc(events, func(x, y eventV1) int {
		return cmp.Or(cmp.Compare(x.pdu.Depth(), y.pdu.Depth()), slices.Compare(y.hash[:], x.hash[:]))
	})
	return events, nil
}

// stateV1 is the state resolved so far, with the entry that is being resolved.
type stateV1 struct {
	r     *resolver
	key   Key
	entry *event.PDU // nil: none
}

// Event implements eventauth.State.
func (s stateV1) Event(eventType, stateKey string) (*event.PDU, error) {
	key := Key{Type: eventType, StateKey: stateKey}
	if s.entry != nil && key == s.key {
		return s.entry, nil
	}
	if i, ok := s.r.state.entries[key]; ok {
		return s.r.pdu(i)
	}
	ref, err := s.r.unconflicted(key)
	if err != nil || ref == 0 {
		return nil, err
	}
	return s.r.pdu(s.r.at(ref))
}
