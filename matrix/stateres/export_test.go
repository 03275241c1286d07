package stateres

// Sets returns the conflicted state set, and the auth difference and the conflicted state subgraph apart from it.
func Sets(in Input) (conflicted, difference, subgraph []Ref, err error) {
	r := newResolver(in)
	if err := r.settle(); err != nil {
		return nil, nil, nil, err
	}
	r.collect()
	refs := func(places []at, fault error) (refs []Ref) {
		for _, i := range places {
			refs = append(refs, r.nodes[i].ref)
		}
		if fault != nil {
			err = fault
		}
		return refs
	}
	conflicted = refs(r.conflicted, nil)
	difference = refs(r.authDifference())
	subgraph = refs(r.subgraph())
	return conflicted, difference, subgraph, err
}
