// Reads of table state_log by key. Written by package room.

package store

var selectKeyLog = Prepare(`SELECT slot, event FROM state_log WHERE room = $1 AND key = $2 ORDER BY slot DESC LIMIT $3`)

// KeyChange is one change of one entry of a room's current state.
type KeyChange struct {
	Slot  Slot
	Event EventNum // 0: removed
}

// KeyLog returns the newest changes of one entry of a room's current state,
// newest first.
func (r *Read) KeyLog(room RoomNum, key KeyNum, limit int) ([]KeyChange, error) {
	return Query(r, selectKeyLog, func(row *Row) (c KeyChange) {
		row.Scan(&c.Slot, &c.Event)
		return c
	}, room, key, limit)
}
