package stateres

import "fmt"

// difference finds the auth difference, apart from what is in the conflicted state set anyway.
//
// The auth chain of a state is taken with the state's own events, as all servers do: an event that is a branch's state and
// in another branch's auth chain is conflicted anyway, and one that is in all branches' state rests on nothing that is in
// dispute. Since entries on which all branches agree are in every chain, only the chains of the conflicted entries are
// walked, and only as far down as they are not in every branch.
//
// Spec: rooms/v2#definitions
type difference struct {
	r     *resolver
	words int
	// reach has, for each node, one bit for each branch whose auth chain is known to have it: words numbers each.
	reach []uint64
	all   []uint64
	// queued and expanded are by node. An expanded node has passed its bits on.
	queued, expanded []bool
	queue            heap[deepest]
	// candidates were reached from some branches only.
	candidates []at
	// frontier are the nodes in every chain at which the walk stopped.
	frontier []at
}

// deepest orders the walk: events of greater depth first, so that an event is mostly met after all that rest on it. Depth
// is what a server claims; a lie costs time and changes nothing else.
type deepest struct {
	depth int64
	i     at
}

func (d deepest) less(o deepest) bool {
	if d.depth != o.depth {
		return d.depth > o.depth
	}
	return d.i < o.i
}

// authDifference returns the events of the auth difference that are not conflicted themselves.
func (r *resolver) authDifference() ([]at, error) {
	d := &difference{r: r, words: (r.in.Branches + 63) / 64}
	d.all = make([]uint64, d.words)
	for b := range r.in.Branches {
		d.all[b/64] |= 1 << (b % 64)
	}
	for _, c := range r.conflicts {
		for b, ref := range c.Refs {
			if ref == 0 {
				continue
			}
			i := r.at(ref)
			d.grow(i)
			d.reach[int(i)*d.words+b/64] |= 1 << (b % 64)
			if err := d.push(i); err != nil {
				return nil, err
			}
		}
	}
	if err := d.walk(); err != nil {
		return nil, err
	}
	return d.decide()
}

func (d *difference) grow(i at) {
	for len(d.queued) <= int(i) {
		d.queued = append(d.queued, false)
		d.expanded = append(d.expanded, false)
		for range d.words {
			d.reach = append(d.reach, 0)
		}
	}
}

func (d *difference) bits(i at) []uint64 { return d.reach[int(i)*d.words : (int(i)+1)*d.words] }

func (d *difference) isFull(i at) bool {
	for w, bits := range d.bits(i) {
		if bits != d.all[w] {
			return false
		}
	}
	return true
}

func (d *difference) push(i at) error {
	if d.queued[i] {
		return nil
	}
	pdu, err := d.r.pdu(i)
	if err != nil {
		return err
	}
	d.queued[i] = true
	d.queue.push(deepest{depth: pdu.Depth(), i: i})
	return nil
}

// pass adds the bits of one node to another and says whether that changed anything.
func (d *difference) pass(from, to at) (changed bool) {
	d.grow(to)
	target := d.bits(to)
	for w, bits := range d.bits(from) {
		changed = changed || target[w]|bits != target[w]
		target[w] |= bits
	}
	return changed
}

// walk carries the bits down the auth chains until they no longer change. A node that every branch reaches is not
// expanded; if it was, before the last bits came, only what it was expanded to hears of them.
func (d *difference) walk() error {
	for len(d.queue) > 0 {
		i := d.queue.pop().i
		d.queued[i] = false
		if !d.expanded[i] && !d.isFull(i) {
			agreed, err := d.agreed(i)
			if err != nil {
				return err
			}
			if agreed {
				copy(d.bits(i), d.all)
			}
		}
		if d.isFull(i) && !d.expanded[i] {
			d.frontier = append(d.frontier, i)
			continue
		}
		if !d.expanded[i] {
			d.expanded[i] = true
			if !d.r.nodes[i].conflicted {
				d.candidates = append(d.candidates, i)
			}
		}
		auth, err := d.r.auth(i)
		if err != nil {
			return err
		}
		for _, a := range auth {
			if d.pass(i, a) {
				if err := d.push(a); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// agreed says whether a node is an entry on which all branches agree.
func (d *difference) agreed(i at) (bool, error) {
	if d.r.nodes[i].conflicted {
		return false, nil
	}
	pdu, err := d.r.pdu(i)
	if err != nil {
		return false, err
	}
	ref, err := d.r.unconflicted(keyOf(pdu))
	return ref == d.r.nodes[i].ref, err
}

// decide takes from the candidates what is in every chain after all: what the frontier, or an entry on which the branches
// agree, rests on.
func (d *difference) decide() ([]at, error) {
	waiting := make(map[Ref]struct{})
	for _, i := range d.candidates {
		if !d.isFull(i) {
			waiting[d.r.nodes[i].ref] = struct{}{}
		}
	}
	if len(waiting) == 0 {
		return nil, nil
	}
	common := make(map[Ref]struct{})
	var stack []Ref
	// descend marks what an event rests on as common. It returns false when nothing is left to decide.
	descend := func(from Ref) (bool, error) {
		if from == 0 {
			return true, nil
		}
		for stack = append(stack[:0], from); len(stack) > 0; {
			ref := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			auth, err := d.r.in.Events.AuthEvents(ref)
			if err != nil {
				return false, fmt.Errorf("load auth events of event %d: %w", ref, err)
			}
			for _, a := range auth {
				if _, seen := common[a]; seen || a == 0 {
					continue
				}
				common[a] = struct{}{}
				stack = append(stack, a)
				if _, ok := waiting[a]; ok {
					if delete(waiting, a); len(waiting) == 0 {
						return false, nil
					}
				}
			}
		}
		return true, nil
	}
	for _, i := range d.frontier {
		if more, err := descend(d.r.nodes[i].ref); err != nil || !more {
			return nil, err
		}
	}
	for _, ref := range d.r.settled {
		if more, err := descend(ref); err != nil || !more {
			return nil, err
		}
	}
	var fault error
	err := d.r.in.EachUnconflicted(func(ref Ref) bool {
		if _, seen := common[ref]; seen {
			return true
		}
		more, err := descend(ref)
		fault = err
		return more && err == nil
	})
	if fault != nil {
		err = fault
	}
	if err != nil || len(waiting) == 0 {
		return nil, err
	}
	found := make([]at, 0, len(waiting))
	for _, i := range d.candidates {
		if _, ok := waiting[d.r.nodes[i].ref]; ok {
			found = append(found, i)
		}
	}
	return found, nil
}
