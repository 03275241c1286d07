// Deletes from all tables of a room, in bounded steps, as changes under the room's head.

package roomdb

import (
	"context"
	"errors"

	"stoa/internal/store"
)

var (
	selectPurgeable = store.Prepare(`SELECT num FROM events WHERE room = $1 AND slot > 0 AND (slot, off) < ($2, $3)
		AND state_key_num = 0 AND type <> 'm.room.redaction' ORDER BY slot, off LIMIT $4`)
	updatePurged    = store.Prepare(`UPDATE rooms SET purged = CASE WHEN purged < $2 THEN $2 ELSE purged END WHERE num = $1`)
	purgeRelations  = store.Prepare(`DELETE FROM relations WHERE room = $1 AND {{in event $2}}`)
	purgeHighlights = store.Prepare(`DELETE FROM highlights WHERE room = $1 AND {{in event $2}}`)
	purgeEvents     = store.Prepare(`DELETE FROM events WHERE {{in num $1}}`)
)

// PurgeableEvents returns the oldest events before a place that a purge of history may
// delete: neither state nor redactions.
func PurgeableEvents(r *store.Read, room store.RoomNum, before Place, limit int) ([]store.EventNum, error) {
	return store.Query(r, selectPurgeable, store.Num[store.EventNum], room, before.Slot, before.Off, limit)
}

// PurgeEvents deletes events with their relations and highlights, and records that the
// timeline may have gaps up to a slot.
func PurgeEvents(c *store.Change, room store.RoomNum, upTo store.Slot, events []store.EventNum) {
	c.Exec(purgeRelations, room, events)
	c.Exec(purgeHighlights, room, events)
	c.Exec(purgeEvents, events)
	c.Exec(updatePurged, room, upTo)
	c.NoteRoomUpdate(room)
}

// roomPieces delete at most $2 keys of one table of a room. The state goes last, so that
// a room that is partly deleted still has its members.
var roomPieces = []*store.Stmt{
	store.Prepare(`DELETE FROM relations WHERE room = $1 AND target IN (SELECT target FROM relations WHERE room = $1 LIMIT $2)`),
	store.Prepare(`DELETE FROM highlights WHERE room = $1 AND user_num IN (SELECT user_num FROM highlights WHERE room = $1 LIMIT $2)`),
	store.Prepare(`DELETE FROM receipts WHERE room = $1 AND user_num IN (SELECT user_num FROM receipts WHERE room = $1 LIMIT $2)`),
	store.Prepare(`DELETE FROM threads WHERE room = $1 AND root IN (SELECT root FROM threads WHERE room = $1 LIMIT $2)`),
	store.Prepare(`DELETE FROM own_events WHERE room = $1 AND user_num IN (SELECT user_num FROM own_events WHERE room = $1 LIMIT $2)`),
	store.Prepare(`DELETE FROM backward_extremities WHERE room = $1 AND event_id IN (SELECT event_id FROM backward_extremities WHERE room = $1 LIMIT $2)`),
	store.Prepare(`DELETE FROM verdicts WHERE room = $1 AND event IN (SELECT event FROM verdicts WHERE room = $1 LIMIT $2)`),
	store.Prepare(`DELETE FROM events WHERE num IN (SELECT num FROM events WHERE room = $1 ORDER BY slot, off LIMIT $2)`),
	store.Prepare(`DELETE FROM state_versions WHERE room = $1 AND num IN (SELECT num FROM state_versions WHERE room = $1 ORDER BY num LIMIT $2)`),
	store.Prepare(`DELETE FROM state_log WHERE room = $1 AND slot IN (SELECT slot FROM state_log WHERE room = $1 ORDER BY slot LIMIT $2)`),
	store.Prepare(`DELETE FROM current_state WHERE room = $1 AND key IN (SELECT key FROM current_state WHERE room = $1 ORDER BY key LIMIT $2)`),
	store.Prepare(`DELETE FROM room_servers WHERE room = $1 AND server IN (SELECT server FROM room_servers WHERE room = $1 ORDER BY server LIMIT $2)`),
	store.Prepare(`DELETE FROM memberships WHERE room = $1 AND user_num IN (SELECT user_num FROM memberships WHERE room = $1 ORDER BY user_num LIMIT $2)`),
}

// roomRemains check whether a table of a room has rows, in the order of roomPieces.
var roomRemains = []*store.Stmt{
	store.Prepare(`SELECT 1 FROM relations WHERE room = $1 LIMIT 1`),
	store.Prepare(`SELECT 1 FROM highlights WHERE room = $1 LIMIT 1`),
	store.Prepare(`SELECT 1 FROM receipts WHERE room = $1 LIMIT 1`),
	store.Prepare(`SELECT 1 FROM threads WHERE room = $1 LIMIT 1`),
	store.Prepare(`SELECT 1 FROM own_events WHERE room = $1 LIMIT 1`),
	store.Prepare(`SELECT 1 FROM backward_extremities WHERE room = $1 LIMIT 1`),
	store.Prepare(`SELECT 1 FROM verdicts WHERE room = $1 LIMIT 1`),
	store.Prepare(`SELECT 1 FROM events WHERE room = $1 LIMIT 1`),
	store.Prepare(`SELECT 1 FROM state_versions WHERE room = $1 LIMIT 1`),
	store.Prepare(`SELECT 1 FROM state_log WHERE room = $1 LIMIT 1`),
	store.Prepare(`SELECT 1 FROM current_state WHERE room = $1 LIMIT 1`),
	store.Prepare(`SELECT 1 FROM room_servers WHERE room = $1 LIMIT 1`),
	store.Prepare(`SELECT 1 FROM memberships WHERE room = $1 LIMIT 1`),
}

// RoomPiece is a part of a room that has yet to be deleted.
type RoomPiece int

// NextPiece returns the next part of a deleted room; ErrNotFound if only its row is left.
// The row stays, so that slots and head continue.
func NextPiece(r *store.Read, room store.RoomNum) (RoomPiece, error) {
	for i, s := range roomRemains {
		_, err := store.QueryOne(r, s, (*store.Row).Int, room)
		if !errors.Is(err, store.ErrNotFound) {
			return RoomPiece(i), err
		}
	}
	return 0, store.ErrNotFound
}

// DropPiece deletes some rows of a part of a room, about limit. The room must be one that
// this server has left (Resident false); upTo is its last slot.
func DropPiece(c *store.Change, room store.RoomNum, piece RoomPiece, upTo store.Slot, limit int) {
	c.Exec(roomPieces[piece], room, limit)
	c.Exec(updatePurged, room, upTo)
}

// DeleteRoom deletes everything of a room but its row, in changes of their own that only
// append. Package room calls it when the room is no longer resident and nothing writes
// it.
func DeleteRoom(ctx context.Context, s *store.Store, room store.RoomNum, limit int) error {
	for {
		var piece RoomPiece
		var row store.Room
		err := s.Read(ctx, func(r *store.Read) (err error) {
			if row, err = RoomByNum(r, room); err != nil {
				return err
			}
			piece, err = NextPiece(r, room)
			return err
		})
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		c := store.NewChange()
		c.Room(room, row.Head)
		DropPiece(c, room, piece, row.Slot, limit)
		if _, err := s.Commit(ctx, c); err != nil && !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}
