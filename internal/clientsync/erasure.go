package clientsync

import (
	"fmt"
	"slices"

	"stoa/internal/store/userdb"
	"stoa/internal/timeline"
)

// redactErased redacts events from before the viewer's join if the accounts of their senders have been erased since. Members of
// that time have the events and keep them, so a timeline after the viewer's join costs nothing.
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
	for _, ev := range e.timeline.events {
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
	for i, ev := range e.timeline.events {
		if foreign(ev) && slices.Contains(erased, ev.Sender.String()) {
			pdu, err := k.l.Stored(ev.Num)
			if err != nil {
				return err
			}
			e.timeline.events[i] = timeline.New(timeline.Source{Num: ev.Num, Slot: ev.Slot, Off: ev.Off, PDU: pdu.Redacted()})
		}
	}
	return nil
}
