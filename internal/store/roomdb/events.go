// Table events.

package roomdb

import (
	"cmp"
	"encoding/binary"

	"stoa/internal/store"
)

// Place is the place of an event in its room's timeline. Live events are at (slot, 0),
// events backfilled before it at (slot, −1), (slot, −2) … An event without a place
// (outlier, rejected, soft-failed) is at (0, its number).
type Place struct {
	Slot store.Slot
	Off  int64
}

// Compare orders places as in the timeline.
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

// Standing is the status of an event after the checks.
type Standing int64

const (
	Outlier    Standing = 1 << iota // the state before it is unknown
	Rejected                        // the rules reject it for ever
	SoftFailed                      // the rules allowed it, but not in the current state
	Replaced                        // only its redacted form is stored
)

// Event is an accepted event: its immutable bytes, and its standing.
type Event struct {
	Room           store.RoomNum
	Place          Place // Slot 0: no place
	Num            store.EventNum
	EventID        string
	Type           string
	Key            store.KeyNum // 0: not a state event
	Sender         string
	Depth          int64
	OriginServerTS int64 // ms
	ReceivedTS     int64 // ms
	Standing       Standing
	StateBefore    StateRef // 0: unknown (outlier)
	RedactedBy     store.EventNum
	Totals         []byte // running counts of the room, and of the thread
	Edges          Edges
	TxnDevice      string // device of the sender that sent it through this server
	TxnID          string
	Bytes          []byte // canonical PDU without unsigned
}

// Edges are the neighbours of an event in the graph that were stored before it. The
// event's bytes have the full lists of IDs.
type Edges struct {
	Prev, Auth []store.EventNum
}

const eventColumns = `room, slot, off, num, event_id, type, state_key_num, sender, depth, origin_server_ts,
	received_ts, flags, state_before, redacted_by, totals, edges, txn_device, txn_id, bytes`

var (
	insertEvent = store.Prepare(`INSERT INTO events (` + eventColumns + `)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)`)
	placeEvent = store.Prepare(`UPDATE events SET slot = $2, off = $3, flags = $4, state_before = $5, totals = $6, edges = $7
		WHERE num = $1`)
	updateStanding   = store.Prepare(`UPDATE events SET flags = $2, state_before = $3 WHERE num = $1`)
	updateRedactedBy = store.Prepare(`UPDATE events SET redacted_by = $2 WHERE num = $1`)
	updateBytes      = store.Prepare(`UPDATE events SET bytes = $2, flags = flags | 8 WHERE num = $1`)
	deleteEvent      = store.Prepare(`DELETE FROM events WHERE num = $1`)

	selectEventByID  = store.Prepare(`SELECT ` + eventColumns + ` FROM events WHERE event_id = $1`)
	selectEventByNum = store.Prepare(`SELECT ` + eventColumns + ` FROM events WHERE num = $1`)
	selectEventNum   = store.Prepare(`SELECT num FROM events WHERE event_id = $1`)
	selectEventID    = store.Prepare(`SELECT event_id FROM events WHERE num = $1`)
	selectTimelineUp = store.Prepare(`SELECT ` + eventColumns + ` FROM events
		WHERE room = $1 AND (slot, off) > ($2, $3) AND (slot, off) <= ($4, $5) ORDER BY slot, off LIMIT $6`)
	selectTimelineDown = store.Prepare(`SELECT ` + eventColumns + ` FROM events
		WHERE room = $1 AND (slot, off) < ($2, $3) AND (slot, off) >= ($4, $5) ORDER BY slot DESC, off DESC LIMIT $6`)
	selectFirstOff    = store.Prepare(`SELECT COALESCE(MIN(off), 0) FROM events WHERE room = $1 AND slot = $2 AND off < 0`)
	selectEventsAfter = store.Prepare(`SELECT ` + eventColumns + ` FROM events WHERE num > $1 ORDER BY num LIMIT $2`)
	selectUnplaced    = store.Prepare(`SELECT ` + eventColumns + ` FROM events
		WHERE room = $1 AND slot = 0 AND off > $2 ORDER BY off LIMIT $3`)
)

func scanEvent(row *store.Row) (e Event) {
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
	e.Edges, err = DecodeEdges(edges)
	row.Fail(err)
	return e
}

// storedBefore is the column state_before, which is mostly 0.
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

// AddEvent writes an event. The change fails with ErrDuplicate if it exists.
func AddEvent(c *store.Change, e Event) {
	at := e.place()
	c.Exec(insertEvent, e.Room, at.Slot, at.Off, e.Num, e.EventID, e.Type, e.Key, e.Sender, e.Depth, e.OriginServerTS,
		e.ReceivedTS, int64(e.Standing), e.storedBefore(), e.RedactedBy, e.Totals, e.Edges.encode(),
		orNull(e.TxnDevice), orNull(e.TxnID), e.Bytes)
}

// PlaceEvent gives a place and a standing to an event that was stored without a place. It
// uses Num, Place, Standing, StateBefore, Totals and Edges of e.
func PlaceEvent(c *store.Change, e Event) {
	at := e.place()
	c.ExecOne(placeEvent, store.ErrNotFound, e.Num, at.Slot, at.Off, int64(e.Standing), e.storedBefore(), e.Totals, e.Edges.encode())
}

// SetStanding changes the standing of an event without moving it. It uses Num, Place,
// Standing and StateBefore of e.
func SetStanding(c *store.Change, e Event) {
	c.ExecOne(updateStanding, store.ErrNotFound, e.Num, int64(e.Standing), e.storedBefore())
}

// SetRedactedBy marks an event as redacted by another. Readers of the stream get an
// update of the room.
func SetRedactedBy(c *store.Change, room store.RoomNum, event, by store.EventNum) {
	c.ExecOne(updateRedactedBy, store.ErrNotFound, event, by)
	c.NoteRoomUpdate(room)
}

// ReplaceBytes replaces an event's bytes by the redacted form.
func ReplaceBytes(c *store.Change, event store.EventNum, redacted []byte) {
	c.ExecOne(updateBytes, store.ErrNotFound, event, redacted)
}

// DropEvent deletes an event when history is purged or a room deleted.
func DropEvent(c *store.Change, event store.EventNum) { c.Exec(deleteEvent, event) }

// EventByID returns an event, whatever its standing.
func EventByID(r *store.Read, eventID string) (Event, error) {
	return store.QueryOne(r, selectEventByID, scanEvent, eventID)
}

// EventByNum returns an event by its number.
func EventByNum(r *store.Read, event store.EventNum) (Event, error) {
	return store.QueryOne(r, selectEventByNum, scanEvent, event)
}

// EventsByNum returns events by their numbers, in the given order, without missing ones.
func EventsByNum(r *store.Read, events []store.EventNum) ([]Event, error) {
	return eachOne(r, selectEventByNum, scanEvent, events)
}

// EventsByID returns events by their IDs, in the given order, without missing ones.
func EventsByID(r *store.Read, eventIDs []string) ([]Event, error) {
	return eachOne(r, selectEventByID, scanEvent, eventIDs)
}

// eachOne queries one row for each key, in order, and leaves out missing ones.
func eachOne[K, T any](r *store.Read, s *store.Stmt, scan func(*store.Row) T, keys []K) ([]T, error) {
	out := make([]T, 0, len(keys))
	err := store.QueryKeys(r, s, keys, func(_ int, row *store.Row) error {
		out = append(out, scan(row))
		return nil
	})
	return out, err
}

// EventNums returns the numbers of events by their IDs, in the given order, 0 for missing
// ones.
func EventNums(r *store.Read, eventIDs []string) ([]store.EventNum, error) {
	out := make([]store.EventNum, len(eventIDs))
	err := store.QueryKeys(r, selectEventNum, eventIDs, func(i int, row *store.Row) error {
		out[i] = store.Num[store.EventNum](row)
		return nil
	})
	return out, err
}

// EventIDs returns the IDs of events by their numbers, in the given order, "" for missing
// ones.
func EventIDs(r *store.Read, events []store.EventNum) ([]string, error) {
	out := make([]string, len(events))
	err := store.QueryKeys(r, selectEventID, events, func(i int, row *store.Row) error {
		out[i] = row.Text()
		return nil
	})
	return out, err
}

// Timeline returns up to limit events of a room with from < place ≤ to, oldest
// first.
func Timeline(r *store.Read, room store.RoomNum, from, to Place, limit int) ([]Event, error) {
	return store.Query(r, selectTimelineUp, scanEvent, room, from.Slot, from.Off, to.Slot, to.Off, limit)
}

// TimelineBack returns up to limit events of a room with to ≤ place < from, newest first.
// Start extends to the beginning, without unplaced events.
func TimelineBack(r *store.Read, room store.RoomNum, from, to Place, limit int) ([]Event, error) {
	return store.Query(r, selectTimelineDown, scanEvent, room, from.Slot, from.Off, to.Slot, to.Off, limit)
}

// FirstOff is the lowest offset used before a live event, 0 if none. The next backfilled
// events get lower ones.
func FirstOff(r *store.Read, room store.RoomNum, slot store.Slot) (int64, error) {
	return store.QueryOne(r, selectFirstOff, (*store.Row).Int, room, slot)
}

// UnplacedEvents returns events of a room that have no place, by number.
func UnplacedEvents(r *store.Read, room store.RoomNum, after store.EventNum, limit int) ([]Event, error) {
	return store.Query(r, selectUnplaced, scanEvent, room, after, limit)
}

// EventsAfter returns events of all rooms by number.
func EventsAfter(r *store.Read, after store.EventNum, limit int) ([]Event, error) {
	return store.Query(r, selectEventsAfter, scanEvent, after, limit)
}

var selectEdges = store.Prepare(`SELECT e.num, e.edges FROM events AS e WHERE {{in e.num $1}}`)

// EdgesOf returns the edges of some events by number, without missing ones, in one query.
func EdgesOf(r *store.Read, events []store.EventNum) (map[store.EventNum]Edges, error) {
	out := make(map[store.EventNum]Edges, len(events))
	return out, store.QueryEach(r, selectEdges, func(row *store.Row) error {
		var event store.EventNum
		var stored []byte
		row.Scan(&event, &stored)
		edges, err := DecodeEdges(stored)
		out[event] = edges
		return err
	}, events)
}

func (e Edges) encode() []byte {
	if len(e.Prev) == 0 && len(e.Auth) == 0 {
		return nil
	}
	b := make([]byte, 1, 2+6*(len(e.Prev)+len(e.Auth)))
	b[0] = formatEdges
	for _, list := range [][]store.EventNum{e.Prev, e.Auth} {
		b = binary.AppendUvarint(b, uint64(len(list)))
		for _, n := range list {
			b = binary.AppendUvarint(b, uint64(n))
		}
	}
	return b
}
