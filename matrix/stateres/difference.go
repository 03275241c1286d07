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

func isDeeper(a, b deepest) bool {
	if a.depth != b.depth {
		return a.depth > b.depth
	}
	return a.i < b.i
}

// authDifference returns the events of the auth difference that are not conflicted themselves.
func (r *resolver) authDifference() ([]at, error) {
	d := &difference{r: r, words: (r.in.Branches + 63) / 64, queue: heap[deepest]{less: isDeeper}}
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
	for len(d.queue.items) > 0 {
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
	c := &common{graph: d.r.in.Events, seen: make(map[Ref]struct{}), waiting: make(map[Ref]struct{})}
	for _, i := range d.candidates {
		if !d.isFull(i) {
			c.waiting[d.r.nodes[i].ref] = struct{}{}
		}
	}
	for _, i := range d.frontier {
		if err := c.below(d.r.nodes[i].ref); err != nil {
			return nil, err
		}
	}
	for _, ref := range d.r.settled {
		if err := c.below(ref); err != nil {
			return nil, err
		}
	}
	if len(c.waiting) == 0 {
		return nil, nil
	}
	if err := c.belowEach(d.r.in.EachUnconflicted); err != nil {
		return nil, err
	}
	found := make([]at, 0, len(c.waiting))
	for _, i := range d.candidates {
		if _, ok := c.waiting[d.r.nodes[i].ref]; ok {
			found = append(found, i)
		}
	}
	return found, nil
}

// common walks what all branches rest on, as long as something waits to be met.
type common struct {
	graph   Graph
	seen    map[Ref]struct{} // met, and what it rests on too
	waiting map[Ref]struct{} // looked for, and not met so far
	stack   []Ref
}

// below walks what an event rests on; 0 is no event.
func (c *common) below(ref Ref) error {
	if _, seen := c.seen[ref]; seen || ref == 0 || len(c.waiting) == 0 {
		return nil
	}
	auth, err := c.graph.AuthEvents(ref)
	if err != nil {
		return fmt.Errorf("load auth events of event %d: %w", ref, err)
	}
	return c.meet(auth)
}

// meet walks events and what they rest on.
func (c *common) meet(refs []Ref) error {
	c.push(refs)
	for len(c.stack) > 0 && len(c.waiting) > 0 {
		ref := c.stack[len(c.stack)-1]
		c.stack = c.stack[:len(c.stack)-1]
		auth, err := c.graph.AuthEvents(ref)
		if err != nil {
			return fmt.Errorf("load auth events of event %d: %w", ref, err)
		}
		c.push(auth)
	}
	return nil
}

func (c *common) push(refs []Ref) {
	for _, ref := range refs {
		if _, seen := c.seen[ref]; seen || ref == 0 {
			continue
		}
		c.seen[ref] = struct{}{}
		c.stack = append(c.stack, ref)
		delete(c.waiting, ref)
	}
}

// belowEach is below for many events, read in bulk if the graph can.
func (c *common) belowEach(each func(yield func(Ref) bool) error) error {
	many, canBulk := c.graph.(Bulk)
	var fault error
	var refs []Ref
	flush := func() {
		lists, err := many.ManyAuthEvents(refs)
		if err == nil && len(lists) != len(refs) {
			err = fmt.Errorf("%d answers", len(lists))
		}
		if err != nil {
			fault = fmt.Errorf("load auth events of %d events: %w", len(refs), err)
			return
		}
		for _, auth := range lists {
			if fault = c.meet(auth); fault != nil {
				return
			}
		}
		refs = refs[:0]
	}
	err := each(func(ref Ref) bool {
		if !canBulk {
			fault = c.below(ref)
		} else if _, seen := c.seen[ref]; !seen {
			if refs = append(refs, ref); len(refs) == bulk {
				flush()
			}
		}
		return fault == nil && len(c.waiting) > 0
	})
	if err == nil && fault == nil && len(refs) > 0 && len(c.waiting) > 0 {
		flush()
	}
	if fault != nil {
		return fault
	}
	return err
}
