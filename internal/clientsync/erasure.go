package clientsync

import (
	"fmt"
	"slices"

	"stoa/internal/store/userdb"
	"stoa/internal/timeline"
)

// redactErased replaces events of a timeline that the viewer was not in the room for by their redacted form, if their
// senders' accounts have been erased since. Whoever was in the room has had them and keeps them, so a timeline without a
// time before the viewer's join costs nothing.
//
// Spec: client-server-api#account-deactivation
func (k snapshotReader) redactErased(e *entry) error {
	if e.visibility == nil {
		return nil
	}
	foreign := func(ev *timeline.Event) bool {
		return (e.joined == 0 || ev.Slot < e.joined) && e.visibility.membershipAt(ev) != "join" && ev.Sender != k.req.UserID
	}
	var senders []string
	for _, ev := range e.cut.events {
		if foreign(ev) && !slices.Contains(senders, ev.Sender.String()) {
			senders = append(senders, ev.Sender.String())
		}
	}
	if len(senders) == 0 {
		return nil
	}
	erased, err := userdb.Erased(k.read, senders)
	if err != nil {
		return fmt.Errorf("look for erased senders: %w", err)
	}
	for i, ev := range e.cut.events {
		if foreign(ev) && slices.Contains(erased, ev.Sender.String()) {
			pdu, err := k.l.Stored(ev.Num)
			if err != nil {
				return err
			}
			e.cut.events[i] = timeline.New(timeline.Source{Num: ev.Num, Slot: ev.Slot, Off: ev.Off, PDU: pdu.Redacted()})
		}
	}
	return nil
}
