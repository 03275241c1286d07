// Table relations.

package roomdb

import (
	"slices"

	"stoa/internal/store"
)

// Relation says that an event relates to another. Its target is an ID, since the target
// may be stored later, or never.
type Relation struct {
	Room    store.RoomNum
	Target  string
	RelType string
	Place   Place // of the event
	Event   store.EventNum
	Type    string
	Sender  string
}

const relationColumns = `room, target, rel_type, slot, off, event, type, sender`

var (
	insertRelation = store.Prepare(`INSERT INTO relations (` + relationColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (room, target, rel_type, slot, off) DO NOTHING`)
	deleteRelation    = store.Prepare(`DELETE FROM relations WHERE room = $1 AND target = $2 AND rel_type = $3 AND slot = $4 AND off = $5`)
	selectRelationsUp = store.Prepare(`SELECT ` + relationColumns + ` FROM relations
		WHERE room = $1 AND target = $2 AND rel_type = $3 AND (type = $4 OR $4 = '')
		AND (slot, off) > ($5, $6) AND (slot, off) <= ($7, $8) ORDER BY slot, off LIMIT $9`)
	selectRelationsDown = store.Prepare(`SELECT ` + relationColumns + ` FROM relations
		WHERE room = $1 AND target = $2 AND rel_type = $3 AND (type = $4 OR $4 = '')
		AND (slot, off) < ($5, $6) AND (slot, off) >= ($7, $8) ORDER BY slot DESC, off DESC LIMIT $9`)
	selectRelTypes = store.Prepare(`SELECT DISTINCT rel_type FROM relations WHERE room = $1 AND target = $2`)
	countRelations = store.Prepare(`SELECT COUNT(*) FROM relations WHERE room = $1 AND target = $2 AND rel_type = $3`)
	relatedBy      = store.Prepare(`SELECT COUNT(*) FROM (SELECT 1 FROM relations
		WHERE room = $1 AND target = $2 AND rel_type = $3 AND sender = $4 LIMIT 1) AS own`)
)

func scanRelation(row *store.Row) (r Relation) {
	row.Scan(&r.Room, &r.Target, &r.RelType, &r.Place.Slot, &r.Place.Off, &r.Event, &r.Type, &r.Sender)
	return r
}

// AddRelation writes a relation of an event with a place.
func AddRelation(c *store.Change, r Relation) {
	c.Exec(insertRelation, r.Room, r.Target, r.RelType, r.Place.Slot, r.Place.Off, r.Event, r.Type, r.Sender)
}

// DropRelation deletes a relation, because its event was redacted.
func DropRelation(c *store.Change, r Relation) {
	c.Exec(deleteRelation, r.Room, r.Target, r.RelType, r.Place.Slot, r.Place.Off)
}

// Relations returns the relations to an event with from < place ≤ to, oldest first. An
// empty relType or evType selects all.
func Relations(r *store.Read, room store.RoomNum, target, relType, evType string, from, to Place, limit int) ([]Relation, error) {
	return readRelations(r, selectRelationsUp, Place.Compare, room, target, relType, evType, from, to, limit)
}

// RelationsBack returns the relations to an event with to ≤ place < from, newest first.
func RelationsBack(r *store.Read, room store.RoomNum, target, relType, evType string, from, to Place, limit int) ([]Relation, error) {
	newest := func(p, q Place) int { return q.Compare(p) }
	return readRelations(r, selectRelationsDown, newest, room, target, relType, evType, from, to, limit)
}

// readRelations makes a query for each type, of which there are few: each reads a range
// of the key, and only the result is sorted.
func readRelations(r *store.Read, s *store.Stmt, order func(p, q Place) int, room store.RoomNum, target, relType, evType string, from, to Place, limit int) ([]Relation, error) {
	types := []string{relType}
	if relType == "" {
		var err error
		if types, err = store.Query(r, selectRelTypes, (*store.Row).Text, room, target); err != nil {
			return nil, err
		}
	}
	var all []Relation
	for _, t := range types {
		list, err := store.Query(r, s, scanRelation, room, target, t, evType, from.Slot, from.Off, to.Slot, to.Off, limit)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	if len(types) > 1 {
		slices.SortFunc(all, func(a, b Relation) int { return order(a.Place, b.Place) })
	}
	return all[:min(len(all), limit)], nil
}

// CountRelations counts the relations of one type to an event.
func CountRelations(r *store.Read, room store.RoomNum, target, relType string) (int64, error) {
	return store.QueryOne(r, countRelations, (*store.Row).Int, room, target, relType)
}

// IsRelatedBy reports whether a user has sent a relation of a type to an event, for
// example has taken part in a thread.
func IsRelatedBy(r *store.Read, room store.RoomNum, target, relType, sender string) (bool, error) {
	return store.QueryOne(r, relatedBy, (*store.Row).Bool, room, target, relType, sender)
}

// RelationCount is the number of relations of one type to a target.
type RelationCount struct {
	Target  string // event ID
	RelType string
	Count   int64
}

var (
	countRelationsOf = store.Prepare(`SELECT target, rel_type, COUNT(*) FROM relations
		WHERE room = $1 AND {{intext target $2}} AND rel_type IN ('m.replace', 'm.reference', 'm.thread')
		GROUP BY target, rel_type ORDER BY target, rel_type`)
	countRelationsExcept = store.Prepare(`SELECT COUNT(*) FROM relations
		WHERE room = $1 AND target = $2 AND rel_type = $3 AND NOT ({{intext sender $4}})`)
	selectThreadRoots = store.Prepare(`SELECT r.target, r.slot, r.off FROM relations AS r
		WHERE r.room = $1 AND r.rel_type = 'm.thread' AND (r.slot, r.off) < ($2, $3)
		AND NOT EXISTS (SELECT 1 FROM relations AS later WHERE later.room = r.room AND later.target = r.target
			AND later.rel_type = r.rel_type AND (later.slot, later.off) > (r.slot, r.off))
		ORDER BY r.slot DESC, r.off DESC LIMIT $4`)
)

// RelationCounts counts the relations to some events that are aggregated: replacements,
// references and threads.
func RelationCounts(r *store.Read, room store.RoomNum, targets []string) ([]RelationCount, error) {
	return store.Query(r, countRelationsOf, func(row *store.Row) (c RelationCount) {
		row.Scan(&c.Target, &c.RelType, &c.Count)
		return c
	}, room, targets)
}

// CountRelationsExcept counts the relations of one type to an event, without those by
// some senders.
func CountRelationsExcept(r *store.Read, room store.RoomNum, target, relType string, senders []string) (int64, error) {
	if senders == nil {
		senders = []string{}
	}
	return store.QueryOne(r, countRelationsExcept, (*store.Row).Int, room, target, relType, senders)
}

// ThreadRoot is the root of a thread, and the place of the thread's newest event.
type ThreadRoot struct {
	Root   string // event ID
	Newest Place
}

// ThreadRoots returns the threads of a room whose newest event is before a place, newest
// first.
func ThreadRoots(r *store.Read, room store.RoomNum, before Place, limit int) ([]ThreadRoot, error) {
	return store.Query(r, selectThreadRoots, func(row *store.Row) (t ThreadRoot) {
		row.Scan(&t.Root, &t.Newest.Slot, &t.Newest.Off)
		return t
	}, room, before.Slot, before.Off, limit)
}

var selectRelationsBy = store.Prepare(`SELECT ` + relationColumns + ` FROM relations
	WHERE room = $1 AND target = $2 AND rel_type = $3 AND sender = $4 ORDER BY slot DESC, off DESC LIMIT $5`)

// RelationsBy returns one user's relations of a type to an event, newest first.
func RelationsBy(r *store.Read, room store.RoomNum, target, relType, sender string, limit int) ([]Relation, error) {
	return store.Query(r, selectRelationsBy, scanRelation, room, target, relType, sender, limit)
}
