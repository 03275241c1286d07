package store

// Writes counts the rows that a change writes: one for each of its statements,
// one for each owner whose head or slot moves, and its rows of the stream.
func (c *Change) Writes() int {
	n := len(c.ops) + len(c.args.slots)
	users := map[UserNum]bool{}
	for _, p := range c.users {
		users[p.User] = true
	}
	n += len(users) + len(c.rooms)
	for _, p := range c.rooms {
		if p.Last != 0 {
			n++
		}
		if p.updates {
			n++
		}
	}
	return n
}
