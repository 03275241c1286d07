// Package stateres resolves the states of a room's forks into one: the algorithms of room version 1, of versions 2 to 11
// (v2) and of version 12 (v2.1).
//
// It owns the algorithms. It never reads a whole state: it is told in which entries the branches differ, asks for single
// entries on which they agree, and reads events and their auth events through Graph, by number. So its time follows the
// difference and the auth chains below it, not the size of the room, with one exception that Input.EachUnconflicted names.
// The invariant: the result depends on the states alone, not on the order of branches or conflicts, nor on the numbers.
//
// Spec: server-server-api#room-state-resolution, rooms/v1#state-resolution, rooms/v2#state-resolution,
// rooms/v12#state-resolution
package stateres

import (
	"fmt"

	"stoa/matrix/event"
	"stoa/matrix/eventauth"
	"stoa/matrix/roomversion"
)

// Ref is the caller's number of an event; 0 is no event. Its order means nothing.
type Ref int64

// Key is the place of an event in a state.
type Key = eventauth.Key

// Conflict is a key in which the branches differ.
type Conflict struct {
	Key Key
	// Refs has one entry for each branch, in the same order in all conflicts; 0 where the branch has no such entry.
	Refs []Ref
}

// Graph reads events by number. An answer must stay the same while a resolution runs.
type Graph interface {
	// Event returns the event; a missing one is an error.
	Event(Ref) (*event.PDU, error)
	// AuthEvents returns the numbers of the event's auth events. The slice is only read, and not kept.
	AuthEvents(Ref) ([]Ref, error)
	// Rejected says whether the event was rejected when it was received. Rejected auth events lend no authority.
	Rejected(Ref) (bool, error)
}

// Bulk is implemented by a Graph that reads the auth events of many events at less cost than one after the other. It is
// used for the entries of EachUnconflicted.
type Bulk interface {
	// ManyAuthEvents returns what AuthEvents returns for each, in the same order. There are at most bulk of them.
	ManyAuthEvents([]Ref) ([][]Ref, error)
}

// bulk is the greatest number of events that Bulk is asked for at once.
const bulk = 512

// Input is a set of states, given by their difference.
type Input struct {
	Rules *roomversion.Rules
	// Branches is the number of states.
	Branches int
	// Conflicts holds every key in which the branches differ, once, in any order. Keys on which they agree may be among
	// them; they only cost time.
	Conflicts []Conflict
	// Unconflicted returns the entry of a key on which all branches agree, 0 if there is none. It is not asked for keys of
	// Conflicts.
	Unconflicted func(Key) (Ref, error)
	// EachUnconflicted yields all entries on which the branches agree, until yield returns false. It is walked only by v2
	// and v2.1, and only if a branch has a chain of auth events (an invite and then a join, say) of which it must be proved
	// that no entry of the common state rests on it.
	EachUnconflicted func(yield func(Ref) bool) error
	Events           Graph
}

// Resolve returns the entries of the resolved state that may differ from the unconflicted ones: all keys of Conflicts, 0
// where the resolved state has no such entry, and keys that no branch has but auth events brought in. All other entries
// are those on which the branches agree. The map is the caller's.
//
// An error is a fault of Graph or of the callbacks, never a verdict.
//
// Spec: server-server-api#room-state-resolution
func Resolve(in Input) (map[Key]Ref, error) {
	for _, c := range in.Conflicts {
		if len(c.Refs) != in.Branches {
			return nil, fmt.Errorf("conflict of %q has %d entries for %d branches", c.Key, len(c.Refs), in.Branches)
		}
	}
	r := newResolver(in)
	if err := r.settle(); err != nil {
		return nil, err
	}
	if len(r.conflicts) == 0 {
		return r.result, nil
	}
	resolve := r.resolveV2
	if in.Rules.StateRes == roomversion.StateResV1 {
		resolve = r.resolveV1
	}
	if err := resolve(); err != nil {
		return nil, err
	}
	return r.result, nil
}

// settle takes out the keys that are no conflicts for the algorithm: those on which all branches agree and, for v1, those
// for which the branches know only one event (for v1, an absent entry is not a different one).
func (r *resolver) settle() error {
	for _, c := range r.in.Conflicts {
		only, differ := Ref(0), false
		for _, ref := range c.Refs {
			switch {
			case ref == 0:
				differ = differ || r.in.Rules.StateRes != roomversion.StateResV1
			case only == 0:
				only = ref
			case only != ref:
				differ = true
			}
		}
		if differ {
			r.conflicts = append(r.conflicts, c)
			r.conflictKeys[c.Key] = struct{}{}
			r.result[c.Key] = 0
			continue
		}
		r.settled[c.Key] = only
		r.result[c.Key] = only
	}
	return nil
}
