package pushrule

import "stoa/matrix/event"

// FieldsOf returns what rules can see of a PDU. They share its memory.
func FieldsOf(pdu *event.PDU) Fields {
	f := Fields{
		Type: pdu.Type(), Sender: pdu.Sender().String(), RoomID: pdu.RoomID().String(), EventID: pdu.EventID().String(),
		OriginServerTS: pdu.OriginServerTS(), Content: pdu.Content(),
	}
	if !pdu.Rules().RedactsInContent {
		f.Redacts = pdu.Redacts().String()
	}
	if stateKey, ok := pdu.StateKey(); ok {
		f.StateKey = &stateKey
	}
	return f
}
