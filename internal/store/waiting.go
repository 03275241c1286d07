// Table waiting_redactions. Written by package room.

package store

var (
	insertWaiting = Prepare(`INSERT INTO waiting_redactions (room, target, event) VALUES ($1, $2, $3)`)
	deleteWaiting = Prepare(`DELETE FROM waiting_redactions WHERE room = $1 AND target = $2`)
	selectWaiting = Prepare(`SELECT event FROM waiting_redactions WHERE room = $1 AND target = $2 ORDER BY event LIMIT $3`)
)

// AddWaitingRedaction notes a redaction whose target is not here.
func (c *Change) AddWaitingRedaction(room RoomNum, target string, event EventNum) {
	c.Exec(insertWaiting, room, target, event)
}

// DropWaitingRedactions forgets the redactions of a target that has come.
func (c *Change) DropWaitingRedactions(room RoomNum, target string) {
	c.Exec(deleteWaiting, room, target)
}

// WaitingRedactions returns the redactions that wait for an event, oldest first.
func (r *Read) WaitingRedactions(room RoomNum, target string, limit int) ([]EventNum, error) {
	return Query(r, selectWaiting, Num[EventNum], room, target, limit)
}
