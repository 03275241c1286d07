// Table relations: counts for aggregations. Written by package room.

package store

// RelationCount says how many events relate to a target with one type.
type RelationCount struct {
	Target  string // event ID
	RelType string
	Count   int64
}

var (
	countRelationsOf = Prepare(`SELECT target, rel_type, COUNT(*) FROM relations
		WHERE room = $1 AND {{intext target $2}} AND rel_type IN ('m.replace', 'm.reference', 'm.thread')
		GROUP BY target, rel_type ORDER BY target, rel_type`)
	countRelationsExcept = Prepare(`SELECT COUNT(*) FROM relations
		WHERE room = $1 AND target = $2 AND rel_type = $3 AND NOT ({{intext sender $4}})`)
	selectThreadRoots = Prepare(`SELECT r.target, r.slot, r.off FROM relations AS r
		WHERE r.room = $1 AND r.rel_type = 'm.thread' AND (r.slot, r.off) < ($2, $3)
		AND NOT EXISTS (SELECT 1 FROM relations AS later WHERE later.room = r.room AND later.target = r.target
			AND later.rel_type = r.rel_type AND (later.slot, later.off) > (r.slot, r.off))
		ORDER BY r.slot DESC, r.off DESC LIMIT $4`)
)

// RelationCounts counts the relations to some events of which aggregations are
// made: replacements, references and threads.
func (r *Read) RelationCounts(room RoomNum, targets []string) ([]RelationCount, error) {
	return Query(r, countRelationsOf, func(row *Row) (c RelationCount) {
		row.Scan(&c.Target, &c.RelType, &c.Count)
		return c
	}, room, targets)
}

// CountRelationsExcept counts the relations of one type to an event, without
// those of some senders.
func (r *Read) CountRelationsExcept(room RoomNum, target, relType string, senders []string) (int64, error) {
	if senders == nil {
		senders = []string{}
	}
	return QueryOne(r, countRelationsExcept, (*Row).Int, room, target, relType, senders)
}

// ThreadRoot is the root of a thread, and the place of the thread's newest event.
type ThreadRoot struct {
	Root   string // event ID
	Newest Place
}

// ThreadRoots returns the threads of a room whose newest event comes before a
// place, newest first.
func (r *Read) ThreadRoots(room RoomNum, before Place, limit int) ([]ThreadRoot, error) {
	return Query(r, selectThreadRoots, func(row *Row) (t ThreadRoot) {
		row.Scan(&t.Root, &t.Newest.Slot, &t.Newest.Off)
		return t
	}, room, before.Slot, before.Off, limit)
}
