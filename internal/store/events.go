// Tables events, relations, transactions, backward_extremities. Written by
// package room.

package store

import (
	"cmp"
	"errors"
	"slices"
)

// Place is where an event stands in its room's timeline. Live events are at
// (slot, 0), those backfilled before it at (slot, −1), (slot, −2) … An event
// without a place (outlier, rejected, soft-failed) is at (0, its number).
type Place struct {
	Slot Slot
	Off  int64
}

// Compare orders places as the timeline does.
func (p Place) Compare(q Place) int {
	if c := cmp.Compare(p.Slot, q.Slot); c != 0 {
		return c
	}
	return cmp.Compare(p.Off, q.Off)
}

// Start is before every place of a timeline, End after it.
var (
	Start = Place{1, -1 << 62}
	End   = Place{1 << 62, 0}
)

// Standing is what the server thinks of an event.
type Standing int64

const (
	Outlier    Standing = 1 << iota // its state is not known
	Rejected                        // it failed the rules, for ever
	SoftFailed                      // it was allowed, but not by the current state
	Replaced                        // its bytes are the redacted form
)

// Event is an accepted event: its bytes, which never change, and its standing.
type Event struct {
	Room           RoomNum
	Place          Place // Slot 0: no place
	Num            EventNum
	EventID        string
	Type           string
	Key            KeyNum // 0: not a state event
	Sender         string
	Depth          int64
	OriginServerTS int64 // ms
	ReceivedTS     int64 // ms
	Standing       Standing
	StateBefore    StateRef // 0: not known (outlier)
	RedactedBy     EventNum
	Totals         []byte // running counts of the room, and of the thread
	Edges          Edges
	TxnDevice      string // device of the sender that sent it through this server
	TxnID          string
	Bytes          []byte // canonical PDU without unsigned
}

// Edges are the neighbours of an event in the graph that were known when it was
// stored. The full lists of IDs are in its bytes.
type Edges struct {
	Prev, Auth []EventNum
}

const eventColumns = `room, slot, off, num, event_id, type, state_key_num, sender, depth, origin_server_ts,
	received_ts, flags, state_before, redacted_by, totals, edges, txn_device, txn_id, bytes`

var (
	insertEvent = Prepare(`INSERT INTO events (` + eventColumns + `)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)`)
	placeEvent = Prepare(`UPDATE events SET slot = $2, off = $3, flags = $4, state_before = $5, totals = $6, edges = $7
		WHERE num = $1`)
	updateStanding   = Prepare(`UPDATE events SET flags = $2, state_before = $3 WHERE num = $1`)
	updateRedactedBy = Prepare(`UPDATE events SET redacted_by = $2 WHERE num = $1`)
	updateBytes      = Prepare(`UPDATE events SET bytes = $2, flags = flags | 8 WHERE num = $1`)
	deleteEvent      = Prepare(`DELETE FROM events WHERE num = $1`)

	selectEventByID  = Prepare(`SELECT ` + eventColumns + ` FROM events WHERE event_id = $1`)
	selectEventByNum = Prepare(`SELECT ` + eventColumns + ` FROM events WHERE num = $1`)
	selectEventNum   = Prepare(`SELECT num FROM events WHERE event_id = $1`)
	selectEventID    = Prepare(`SELECT event_id FROM events WHERE num = $1`)
	selectTimelineUp = Prepare(`SELECT ` + eventColumns + ` FROM events
		WHERE room = $1 AND (slot, off) > ($2, $3) AND (slot, off) <= ($4, $5) ORDER BY slot, off LIMIT $6`)
	selectTimelineDown = Prepare(`SELECT ` + eventColumns + ` FROM events
		WHERE room = $1 AND (slot, off) < ($2, $3) AND (slot, off) >= ($4, $5) ORDER BY slot DESC, off DESC LIMIT $6`)
	selectFirstOff = Prepare(`SELECT COALESCE(MIN(off), 0) FROM events WHERE room = $1 AND slot = $2 AND off < 0`)
	selectUnplaced = Prepare(`SELECT ` + eventColumns + ` FROM events
		WHERE room = $1 AND slot = 0 AND off > $2 ORDER BY off LIMIT $3`)
)

func scanEvent(row *Row) (e Event) {
	var flags, before int64
	var device, txn *string
	var edges []byte
	row.Scan(&e.Room, &e.Place.Slot, &e.Place.Off, &e.Num, &e.EventID, &e.Type, &e.Key, &e.Sender, &e.Depth,
		&e.OriginServerTS, &e.ReceivedTS, &flags, &before, &e.RedactedBy, &e.Totals, &edges, &device, &txn, &e.Bytes)
	e.Standing = Standing(flags)
	e.StateBefore = StateRef(before)
	if before == 0 && e.Place.Slot > 0 && e.Place.Off == 0 {
		e.StateBefore = AfterSlot(e.Place.Slot - 1)
	}
	if device != nil {
		e.TxnDevice = *device
	}
	if txn != nil {
		e.TxnID = *txn
	}
	var err error
	e.Edges, err = decodeEdges(edges)
	row.Fail(err)
	return e
}

// storedBefore is the column state_before: the usual case is 0.
func (e *Event) storedBefore() int64 {
	if e.Place.Slot > 0 && e.Place.Off == 0 && e.StateBefore == AfterSlot(e.Place.Slot-1) {
		return 0
	}
	return int64(e.StateBefore)
}

func (e *Event) place() Place {
	if e.Place.Slot == 0 {
		return Place{0, int64(e.Num)}
	}
	return e.Place
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// AddEvent writes an event. If it is there already the change fails with
// ErrDuplicate.
func (c *Change) AddEvent(e Event) {
	at := e.place()
	c.Exec(insertEvent, e.Room, at.Slot, at.Off, e.Num, e.EventID, e.Type, e.Key, e.Sender, e.Depth, e.OriginServerTS,
		e.ReceivedTS, int64(e.Standing), e.storedBefore(), e.RedactedBy, e.Totals, e.Edges.encode(),
		orNull(e.TxnDevice), orNull(e.TxnID), e.Bytes)
}

// PlaceEvent gives a place and a standing to an event that was stored without:
// of e it takes Num, Place, Standing, StateBefore, Totals and Edges.
func (c *Change) PlaceEvent(e Event) {
	at := e.place()
	c.ExecOne(placeEvent, ErrNotFound, e.Num, at.Slot, at.Off, int64(e.Standing), e.storedBefore(), e.Totals, e.Edges.encode())
}

// SetStanding changes what the server thinks of an event, without moving it: of
// e it takes Num, Place, Standing and StateBefore.
func (c *Change) SetStanding(e Event) {
	c.ExecOne(updateStanding, ErrNotFound, e.Num, int64(e.Standing), e.storedBefore())
}

// SetRedactedBy marks an event as redacted by another. Readers of the stream see
// an update of the room.
func (c *Change) SetRedactedBy(room RoomNum, event, by EventNum) {
	c.ExecOne(updateRedactedBy, ErrNotFound, event, by)
	c.NoteRoomUpdate(room)
}

// ReplaceBytes puts the redacted form in the place of an event's bytes.
func (c *Change) ReplaceBytes(event EventNum, redacted []byte) {
	c.ExecOne(updateBytes, ErrNotFound, event, redacted)
}

// DropEvent forgets an event: purge of history, deletion of a room.
func (c *Change) DropEvent(event EventNum) { c.Exec(deleteEvent, event) }

// EventByID returns an event, whatever its standing.
func (r *Read) EventByID(eventID string) (Event, error) {
	return QueryOne(r, selectEventByID, scanEvent, eventID)
}

// EventByNum returns an event by its number.
func (r *Read) EventByNum(event EventNum) (Event, error) {
	return QueryOne(r, selectEventByNum, scanEvent, event)
}

// EventsByNum returns events by their numbers, in the order asked; those that
// are not there are left out.
func (r *Read) EventsByNum(events []EventNum) ([]Event, error) {
	return eachOne(r, selectEventByNum, scanEvent, events)
}

// EventsByID returns events by their IDs, in the order asked; those that are not
// there are left out.
func (r *Read) EventsByID(eventIDs []string) ([]Event, error) {
	return eachOne(r, selectEventByID, scanEvent, eventIDs)
}

// eachOne asks for one row per key, in order, leaving out the missing.
func eachOne[K, T any](r *Read, s *Stmt, scan func(*Row) T, keys []K) ([]T, error) {
	out := make([]T, 0, len(keys))
	err := QueryKeys(r, s, keys, func(_ int, row *Row) error {
		out = append(out, scan(row))
		return nil
	})
	return out, err
}

// EventNums returns the numbers of events by their IDs, in the order asked, 0 for
// those that are not there.
func (r *Read) EventNums(eventIDs []string) ([]EventNum, error) {
	out := make([]EventNum, len(eventIDs))
	err := QueryKeys(r, selectEventNum, eventIDs, func(i int, row *Row) error {
		out[i] = Num[EventNum](row)
		return nil
	})
	return out, err
}

// EventIDs returns the IDs of events by their numbers, in the order asked, "" for
// those that are not there.
func (r *Read) EventIDs(events []EventNum) ([]string, error) {
	out := make([]string, len(events))
	err := QueryKeys(r, selectEventID, events, func(i int, row *Row) error {
		out[i] = row.Text()
		return nil
	})
	return out, err
}

// Timeline returns up to limit events of a room with from < place ≤ to, oldest
// first.
func (r *Read) Timeline(room RoomNum, from, to Place, limit int) ([]Event, error) {
	return Query(r, selectTimelineUp, scanEvent, room, from.Slot, from.Off, to.Slot, to.Off, limit)
}

// TimelineBack returns up to limit events of a room with to ≤ place < from,
// newest first. Start goes back to the beginning, without unplaced events.
func (r *Read) TimelineBack(room RoomNum, from, to Place, limit int) ([]Event, error) {
	return Query(r, selectTimelineDown, scanEvent, room, from.Slot, from.Off, to.Slot, to.Off, limit)
}

// FirstOff is the lowest offset taken before a live event, 0 if none: what is
// backfilled next gets the ones below.
func (r *Read) FirstOff(room RoomNum, slot Slot) (int64, error) {
	return QueryOne(r, selectFirstOff, (*Row).Int, room, slot)
}

// UnplacedEvents returns events of a room that have no place, by number.
func (r *Read) UnplacedEvents(room RoomNum, after EventNum, limit int) ([]Event, error) {
	return Query(r, selectUnplaced, scanEvent, room, after, limit)
}

// Relation says that an event relates to another. Its target is an ID, as it may
// come later, or never.
type Relation struct {
	Room    RoomNum
	Target  string
	RelType string
	Place   Place // of the event
	Event   EventNum
	Type    string
	Sender  string
}

const relationColumns = `room, target, rel_type, slot, off, event, type, sender`

var (
	insertRelation = Prepare(`INSERT INTO relations (` + relationColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (room, target, rel_type, slot, off) DO NOTHING`)
	deleteRelation    = Prepare(`DELETE FROM relations WHERE room = $1 AND target = $2 AND rel_type = $3 AND slot = $4 AND off = $5`)
	selectRelationsUp = Prepare(`SELECT ` + relationColumns + ` FROM relations
		WHERE room = $1 AND target = $2 AND rel_type = $3 AND (type = $4 OR $4 = '')
		AND (slot, off) > ($5, $6) AND (slot, off) <= ($7, $8) ORDER BY slot, off LIMIT $9`)
	selectRelationsDown = Prepare(`SELECT ` + relationColumns + ` FROM relations
		WHERE room = $1 AND target = $2 AND rel_type = $3 AND (type = $4 OR $4 = '')
		AND (slot, off) < ($5, $6) AND (slot, off) >= ($7, $8) ORDER BY slot DESC, off DESC LIMIT $9`)
	selectRelTypes = Prepare(`SELECT DISTINCT rel_type FROM relations WHERE room = $1 AND target = $2`)
	countRelations = Prepare(`SELECT COUNT(*) FROM relations WHERE room = $1 AND target = $2 AND rel_type = $3`)
	relatedBy      = Prepare(`SELECT COUNT(*) FROM (SELECT 1 FROM relations
		WHERE room = $1 AND target = $2 AND rel_type = $3 AND sender = $4 LIMIT 1) AS own`)
)

func scanRelation(row *Row) (r Relation) {
	row.Scan(&r.Room, &r.Target, &r.RelType, &r.Place.Slot, &r.Place.Off, &r.Event, &r.Type, &r.Sender)
	return r
}

// AddRelation writes a relation of an event with a place.
func (c *Change) AddRelation(r Relation) {
	c.Exec(insertRelation, r.Room, r.Target, r.RelType, r.Place.Slot, r.Place.Off, r.Event, r.Type, r.Sender)
}

// DropRelation takes a relation away: its event was redacted.
func (c *Change) DropRelation(r Relation) {
	c.Exec(deleteRelation, r.Room, r.Target, r.RelType, r.Place.Slot, r.Place.Off)
}

// Relations returns what relates to an event with from < place ≤ to, oldest
// first. An empty relType or evType stands for all.
func (r *Read) Relations(room RoomNum, target, relType, evType string, from, to Place, limit int) ([]Relation, error) {
	return r.relations(selectRelationsUp, Place.Compare, room, target, relType, evType, from, to, limit)
}

// RelationsBack returns what relates to an event with to ≤ place < from, newest
// first.
func (r *Read) RelationsBack(room RoomNum, target, relType, evType string, from, to Place, limit int) ([]Relation, error) {
	newest := func(p, q Place) int { return q.Compare(p) }
	return r.relations(selectRelationsDown, newest, room, target, relType, evType, from, to, limit)
}

// relations asks for each type by itself, of which there are few: so each reads
// a stretch of the key and nothing is sorted but what is returned.
func (r *Read) relations(s *Stmt, order func(p, q Place) int, room RoomNum, target, relType, evType string, from, to Place, limit int) ([]Relation, error) {
	types := []string{relType}
	if relType == "" {
		var err error
		if types, err = Query(r, selectRelTypes, (*Row).Text, room, target); err != nil {
			return nil, err
		}
	}
	var all []Relation
	for _, t := range types {
		list, err := Query(r, s, scanRelation, room, target, t, evType, from.Slot, from.Off, to.Slot, to.Off, limit)
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
func (r *Read) CountRelations(room RoomNum, target, relType string) (int64, error) {
	return QueryOne(r, countRelations, (*Row).Int, room, target, relType)
}

// IsRelatedBy reports whether a user has related to an event with a type, such
// as taken part in a thread.
func (r *Read) IsRelatedBy(room RoomNum, target, relType, sender string) (bool, error) {
	return QueryOne(r, relatedBy, (*Row).Bool, room, target, relType, sender)
}

// ErrTxnTaken says that the transaction ID has an event already: look it up.
var ErrTxnTaken = errors.New("store: transaction ID was used")

// Txn is a transaction ID that a client gave, and the event made for it.
type Txn struct {
	User    UserNum
	Device  string
	Path    string // of the endpoint, as the spec scopes transaction IDs
	ID      string
	EventID string
	Room    RoomNum
	At      int64 // ms
}

var (
	insertTxn = Prepare(`INSERT INTO transactions (user_num, device, path, txn_id, event_id, room, at)
		VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (user_num, device, path, txn_id) DO NOTHING`)
	selectTxn = Prepare(`SELECT user_num, device, path, txn_id, event_id, room, at FROM transactions
		WHERE user_num = $1 AND device = $2 AND path = $3 AND txn_id = $4`)
	selectTxnPage = Prepare(`SELECT user_num, device, path, txn_id, event_id, room, at FROM transactions
		WHERE (user_num, device, path, txn_id) > ($1, $2, $3, $4) ORDER BY user_num, device, path, txn_id LIMIT $5`)
)

// AddTxn writes a transaction ID beside its event. If it is there already, the
// change fails with ErrTxnTaken.
func (c *Change) AddTxn(t Txn) {
	c.ExecOne(insertTxn, ErrTxnTaken, t.User, t.Device, t.Path, t.ID, t.EventID, t.Room, t.At)
}

// Txn looks a transaction ID up.
func (r *Read) Txn(user UserNum, device, path, txnID string) (Txn, error) {
	return QueryOne(r, selectTxn, scanTxn, user, device, path, txnID)
}

func scanTxn(row *Row) (t Txn) {
	row.Scan(&t.User, &t.Device, &t.Path, &t.ID, &t.EventID, &t.Room, &t.At)
	return t
}

// MissingEvent is a backward extremity: an event that is not here, and the place
// before which its history belongs.
type MissingEvent struct {
	EventID string
	Before  Place
}

var (
	insertMissing = Prepare(`INSERT INTO backward_extremities (room, event_id, slot, off) VALUES ($1, $2, $3, $4)
		ON CONFLICT (room, event_id) DO NOTHING`)
	deleteMissing = Prepare(`DELETE FROM backward_extremities WHERE room = $1 AND event_id = $2`)
	selectMissing = Prepare(`SELECT event_id, slot, off FROM backward_extremities WHERE room = $1 AND (slot, off) <= ($2, $3)
		ORDER BY slot DESC, off DESC LIMIT $4`)
)

// AddMissing notes that an event at a place refers to one that is not here.
func (c *Change) AddMissing(room RoomNum, m MissingEvent) {
	c.Exec(insertMissing, room, m.EventID, m.Before.Slot, m.Before.Off)
}

// DropMissing forgets a backward extremity: the event has come.
func (c *Change) DropMissing(room RoomNum, eventID string) {
	c.Exec(deleteMissing, room, eventID)
}

// Missing returns the backward extremities at or before a place, nearest first.
func (r *Read) Missing(room RoomNum, at Place, limit int) ([]MissingEvent, error) {
	return Query(r, selectMissing, func(row *Row) (m MissingEvent) {
		row.Scan(&m.EventID, &m.Before.Slot, &m.Before.Off)
		return m
	}, room, at.Slot, at.Off, limit)
}
