package stateres

// subgraph returns the conflicted state subgraph, apart from the conflicted state set itself: the events on the paths along
// auth events from one conflicted event to another. It walks the auth chains of the conflicted events once.
//
// Spec: rooms/v12#definitions
func (r *resolver) subgraph() ([]at, error) {
	const (
		unseen = iota
		open   // what it rests on is being walked
		leads  // a conflicted event, or on the way to one
		ends   // no conflicted event below
	)
	type visit struct {
		i    at
		next int // the auth event to look at next
	}
	var (
		mark  []uint8
		path  []visit
		found []at
	)
	state := func(i at) *uint8 {
		for len(mark) <= int(i) {
			mark = append(mark, unseen)
		}
		return &mark[i]
	}
	for _, start := range r.conflicted {
		if *state(start) != unseen {
			continue
		}
		*state(start) = open
		path = append(path, visit{i: start})
		for len(path) > 0 {
			top := &path[len(path)-1]
			auth, err := r.auth(top.i)
			if err != nil {
				return nil, err
			}
			if top.next < len(auth) {
				a := auth[top.next]
				top.next++
				if s := state(a); *s == unseen {
					*s = open
					path = append(path, visit{i: a})
				}
				continue
			}
			i := top.i
			path = path[:len(path)-1]
			*state(i) = ends
			if r.nodes[i].conflicted {
				*state(i) = leads
				continue
			}
			for _, a := range auth {
				if *state(a) == leads {
					*state(i) = leads
					found = append(found, i)
					break
				}
			}
		}
	}
	return found, nil
}
