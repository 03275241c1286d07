// Table waiting_redactions. Written by package room.

package store

var (
	insertWaiting = stmt(`INSERT INTO waiting_redactions (room, target, event) VALUES ($1, $2, $3)`)
	deleteWaiting = stmt(`DELETE FROM waiting_redactions WHERE room = $1 AND target = $2`)
	selectWaiting = stmt(`SELECT event FROM waiting_redactions WHERE room = $1 AND target = $2 ORDER BY event LIMIT $3`)
)

// AddWaitingRedaction notes a redaction whose target is not here.
func (c *Change) AddWaitingRedaction(room RoomNum, target string, event EventNum) {
	c.exec(insertWaiting, room, target, event)
}

// DropWaitingRedactions forgets the redactions of a target that has come.
func (c *Change) DropWaitingRedactions(room RoomNum, target string) {
	c.exec(deleteWaiting, room, target)
}

// WaitingRedactions returns the redactions that wait for an event, oldest first.
func (r *Read) WaitingRedactions(room RoomNum, target string, limit int) ([]EventNum, error) {
	return query(r, selectWaiting, num[EventNum], room, target, limit)
}
