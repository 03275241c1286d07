// Deletes from all core tables of a room, in bounded pieces. Called by package
// room, as changes under the room's head.

package store

import (
	"context"
	"errors"
)

var (
	selectPurgeable = Prepare(`SELECT num FROM events WHERE room = $1 AND slot > 0 AND (slot, off) < ($2, $3)
		AND state_key_num = 0 AND type <> 'm.room.redaction' ORDER BY slot, off LIMIT $4`)
	updatePurged        = Prepare(`UPDATE rooms SET purged = CASE WHEN purged < $2 THEN $2 ELSE purged END WHERE num = $1`)
	purgeRelations      = Prepare(`DELETE FROM relations WHERE room = $1 AND {{in event $2}}`)
	purgeHighlights     = Prepare(`DELETE FROM highlights WHERE room = $1 AND {{in event $2}}`)
	purgeEvents         = Prepare(`DELETE FROM events WHERE {{in num $1}}`)
	selectRedactedAfter = Prepare(`SELECT e.num, e.redacted_by FROM events AS e JOIN events AS r ON r.num = e.redacted_by
		WHERE e.redacted_by > 0 AND e.flags < 8 AND e.redacted_by > $1 AND r.received_ts < $2 ORDER BY e.redacted_by LIMIT $3`)
)

// PurgeableEvents returns the oldest events before a place that a purge of
// history may take: neither state nor redactions.
func (r *Read) PurgeableEvents(room RoomNum, before Place, limit int) ([]EventNum, error) {
	return Query(r, selectPurgeable, Num[EventNum], room, before.Slot, before.Off, limit)
}

// PurgeEvents takes events away, with their relations and highlights, and notes
// that up to a slot the timeline may have gaps.
func (c *Change) PurgeEvents(room RoomNum, upTo Slot, events []EventNum) {
	c.Exec(purgeRelations, room, events)
	c.Exec(purgeHighlights, room, events)
	c.Exec(purgeEvents, events)
	c.Exec(updatePurged, room, upTo)
	c.NoteRoomUpdate(room)
}

// Redacted is an event whose bytes are still those from before its redaction.
type Redacted struct {
	Event, By EventNum
}

// RedactedEvents returns events whose redaction was received before a time (ms),
// by the redaction's number.
func (r *Read) RedactedEvents(afterBy EventNum, before int64, limit int) ([]Redacted, error) {
	return Query(r, selectRedactedAfter, func(row *Row) (x Redacted) {
		row.Scan(&x.Event, &x.By)
		return x
	}, afterBy, before, limit)
}

// roomPieces delete at most $2 keys of one table of a room. The state goes last,
// so that a room which is half deleted still says who was in it.
var roomPieces = []*Stmt{
	Prepare(`DELETE FROM relations WHERE room = $1 AND target IN (SELECT target FROM relations WHERE room = $1 LIMIT $2)`),
	Prepare(`DELETE FROM highlights WHERE room = $1 AND user_num IN (SELECT user_num FROM highlights WHERE room = $1 LIMIT $2)`),
	Prepare(`DELETE FROM receipts WHERE room = $1 AND user_num IN (SELECT user_num FROM receipts WHERE room = $1 LIMIT $2)`),
	Prepare(`DELETE FROM threads WHERE room = $1 AND root IN (SELECT root FROM threads WHERE room = $1 LIMIT $2)`),
	Prepare(`DELETE FROM own_events WHERE room = $1 AND user_num IN (SELECT user_num FROM own_events WHERE room = $1 LIMIT $2)`),
	Prepare(`DELETE FROM backward_extremities WHERE room = $1 AND event_id IN (SELECT event_id FROM backward_extremities WHERE room = $1 LIMIT $2)`),
	Prepare(`DELETE FROM events WHERE num IN (SELECT num FROM events WHERE room = $1 ORDER BY slot, off LIMIT $2)`),
	Prepare(`DELETE FROM state_versions WHERE room = $1 AND num IN (SELECT num FROM state_versions WHERE room = $1 ORDER BY num LIMIT $2)`),
	Prepare(`DELETE FROM state_log WHERE room = $1 AND slot IN (SELECT slot FROM state_log WHERE room = $1 ORDER BY slot LIMIT $2)`),
	Prepare(`DELETE FROM current_state WHERE room = $1 AND key IN (SELECT key FROM current_state WHERE room = $1 ORDER BY key LIMIT $2)`),
	Prepare(`DELETE FROM room_servers WHERE room = $1 AND server IN (SELECT server FROM room_servers WHERE room = $1 ORDER BY server LIMIT $2)`),
	Prepare(`DELETE FROM memberships WHERE room = $1 AND user_num IN (SELECT user_num FROM memberships WHERE room = $1 ORDER BY user_num LIMIT $2)`),
}

// roomRemains ask whether a table of a room has rows, in the order of roomPieces.
var roomRemains = []*Stmt{
	Prepare(`SELECT 1 FROM relations WHERE room = $1 LIMIT 1`),
	Prepare(`SELECT 1 FROM highlights WHERE room = $1 LIMIT 1`),
	Prepare(`SELECT 1 FROM receipts WHERE room = $1 LIMIT 1`),
	Prepare(`SELECT 1 FROM threads WHERE room = $1 LIMIT 1`),
	Prepare(`SELECT 1 FROM own_events WHERE room = $1 LIMIT 1`),
	Prepare(`SELECT 1 FROM backward_extremities WHERE room = $1 LIMIT 1`),
	Prepare(`SELECT 1 FROM events WHERE room = $1 LIMIT 1`),
	Prepare(`SELECT 1 FROM state_versions WHERE room = $1 LIMIT 1`),
	Prepare(`SELECT 1 FROM state_log WHERE room = $1 LIMIT 1`),
	Prepare(`SELECT 1 FROM current_state WHERE room = $1 LIMIT 1`),
	Prepare(`SELECT 1 FROM room_servers WHERE room = $1 LIMIT 1`),
	Prepare(`SELECT 1 FROM memberships WHERE room = $1 LIMIT 1`),
}

// RoomPiece is a part of a room that is left to delete.
type RoomPiece int

// NextPiece returns what of a deleted room is left, ErrNotFound if nothing but
// its row, which stays: slots and head go on.
func (r *Read) NextPiece(room RoomNum) (RoomPiece, error) {
	for i, s := range roomRemains {
		_, err := QueryOne(r, s, (*Row).Int, room)
		if !errors.Is(err, ErrNotFound) {
			return RoomPiece(i), err
		}
	}
	return 0, ErrNotFound
}

// DropPiece deletes some of a piece of a room, about limit rows. The room must
// be one that this server has left (Resident false); upTo is its last slot.
func (c *Change) DropPiece(room RoomNum, piece RoomPiece, upTo Slot, limit int) {
	c.Exec(roomPieces[piece], room, limit)
	c.Exec(updatePurged, room, upTo)
}

// DeleteRoom deletes everything of a room but its row, in changes of their own
// that only append. Package room calls it when the room is no longer resident
// and nobody writes it.
func (s *Store) DeleteRoom(ctx context.Context, room RoomNum, limit int) error {
	for {
		var piece RoomPiece
		var row Room
		err := s.Read(ctx, func(r *Read) (err error) {
			if row, err = r.RoomByNum(room); err != nil {
				return err
			}
			piece, err = r.NextPiece(room)
			return err
		})
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		c := NewChange()
		c.Room(room, row.Head)
		c.DropPiece(room, piece, row.Slot, limit)
		if _, err := s.Commit(ctx, c); err != nil && !errors.Is(err, ErrConflict) {
			return err
		}
	}
}
