package store

var selectRelationsBy = Prepare(`SELECT ` + relationColumns + ` FROM relations
	WHERE room = $1 AND target = $2 AND rel_type = $3 AND sender = $4 ORDER BY slot DESC, off DESC LIMIT $5`)

// RelationsBy returns what one user has related to an event with a type, newest
// first.
func (r *Read) RelationsBy(room RoomNum, target, relType, sender string, limit int) ([]Relation, error) {
	return Query(r, selectRelationsBy, scanRelation, room, target, relType, sender, limit)
}
