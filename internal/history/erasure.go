package history

import (
	"fmt"

	"stoa/internal/store/userdb"
	"stoa/matrix/event"
	"stoa/matrix/id"
)

// withoutErased returns an event redacted if its sender's account was erased and the
// viewer was not in the room when the event was sent. Users who were in the room have
// already received the event, and keep it.
//
// Spec: client-server-api#account-deactivation
func (v *Viewer) withoutErased(pdu *event.PDU) (*event.PDU, error) {
	sender := pdu.Sender()
	if !v.rd.isLocal(sender) || sender == v.User {
		return pdu, nil
	}
	gone, known := v.erased[sender]
	if !known {
		list, err := userdb.Erased(v.read, []string{sender.String()})
		if err != nil {
			return nil, fmt.Errorf("look for the erasure of %s: %w", sender, err)
		}
		gone = len(list) > 0
		if v.erased == nil {
			v.erased = map[id.UserID]bool{}
		}
		v.erased[sender] = gone
	}
	if gone {
		return pdu.Redacted(), nil
	}
	return pdu, nil
}
