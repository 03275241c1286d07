package stateres

import (
	"fmt"

	"stoa/matrix/event"
)

// at is the place of an event in resolver.nodes: a small number, dense in what this resolution has touched.
type at int32

// node is an event that this resolution has touched. Its parts are read when they are first needed.
type node struct {
	ref  Ref
	pdu  *event.PDU
	auth []at
	read bool // auth is filled

	conflicted bool // belongs to the conflicted state set
	full       bool // belongs to the full conflicted set
}

// resolver is the work of one resolution.
type resolver struct {
	in Input

	nodes []node
	index map[Ref]at

	conflicts    []Conflict
	conflictKeys map[Key]struct{}
	settled      map[Key]Ref // keys of in.Conflicts that are no conflicts
	conflicted   []at        // the conflicted state set, each event once

	result map[Key]Ref
	state  partial
}

func newResolver(in Input) *resolver {
	n := len(in.Conflicts)
	r := &resolver{
		in:           in,
		nodes:        make([]node, 0, 4*n+64),
		index:        make(map[Ref]at, 4*n+64),
		conflicts:    make([]Conflict, 0, n),
		conflictKeys: make(map[Key]struct{}, n),
		settled:      make(map[Key]Ref),
		result:       make(map[Key]Ref, n),
	}
	r.state = partial{r: r, entries: make(map[Key]at, n)}
	return r
}

// at returns the place of an event, a new one if this is the first that is heard of it.
func (r *resolver) at(ref Ref) at {
	if i, ok := r.index[ref]; ok {
		return i
	}
	i := at(len(r.nodes))
	r.nodes = append(r.nodes, node{ref: ref})
	r.index[ref] = i
	return i
}

func (r *resolver) pdu(i at) (*event.PDU, error) {
	if pdu := r.nodes[i].pdu; pdu != nil {
		return pdu, nil
	}
	pdu, err := r.in.Events.Event(r.nodes[i].ref)
	if err != nil {
		return nil, fmt.Errorf("load event %d: %w", r.nodes[i].ref, err)
	}
	r.nodes[i].pdu = pdu
	return pdu, nil
}

// auth returns the auth events of an event.
func (r *resolver) auth(i at) ([]at, error) {
	if r.nodes[i].read {
		return r.nodes[i].auth, nil
	}
	refs, err := r.in.Events.AuthEvents(r.nodes[i].ref)
	if err != nil {
		return nil, fmt.Errorf("load auth events of event %d: %w", r.nodes[i].ref, err)
	}
	auth := make([]at, 0, len(refs))
	for _, ref := range refs {
		if ref != 0 {
			auth = append(auth, r.at(ref))
		}
	}
	r.nodes[i].auth, r.nodes[i].read = auth, true
	return auth, nil
}

// unconflicted returns the entry of a key on which all branches agree, 0 if there is none.
func (r *resolver) unconflicted(key Key) (Ref, error) {
	if _, ok := r.conflictKeys[key]; ok {
		return 0, nil
	}
	if ref, ok := r.settled[key]; ok {
		return ref, nil
	}
	ref, err := r.in.Unconflicted(key)
	if err != nil {
		return 0, fmt.Errorf("look up state entry %q: %w", key, err)
	}
	return ref, nil
}

// keyOf returns the place of a state event in a state.
func keyOf(pdu *event.PDU) Key {
	stateKey, _ := pdu.StateKey()
	return Key{Type: pdu.Type(), StateKey: stateKey}
}

// collect fills the conflicted state set.
func (r *resolver) collect() {
	for _, c := range r.conflicts {
		for _, ref := range c.Refs {
			if ref == 0 {
				continue
			}
			if i := r.at(ref); !r.nodes[i].conflicted {
				r.nodes[i].conflicted = true
				r.conflicted = append(r.conflicted, i)
			}
		}
	}
}
