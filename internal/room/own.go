package room

import "stoa/internal/store/roomdb"

// markOwn notes the newest event of a local sender in its thread: who sends has
// read what came before.
//
// Spec: client-server-api#marking-notifications-as-read
func (t *turn) markOwn(out *TimelineEvent) error {
	sender := out.PDU.Sender()
	if !t.rs.isLocal(sender) {
		return nil
	}
	user, err := t.rs.userNum(t.ctx, sender)
	if err != nil {
		return err
	}
	roomdb.SetOwnEvent(t.change, user, roomdb.OwnEvent{Room: t.row.Num, Thread: out.Thread.String(), Slot: out.Slot})
	return nil
}
