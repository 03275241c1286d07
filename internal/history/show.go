package history

import (
	"stoa/internal/timeline"
	"stoa/matrix/event"
	"stoa/matrix/id"
)

// Content is the content of Shown.
func (v *View) Content() []byte { return v.Shown().Content() }

// Shown is the event for clients: redacted if the event was.
func (v *View) Shown() *event.PDU {
	if v.RedactedBy != nil {
		return v.PDU.Redacted()
	}
	return v.PDU
}

// Event converts the view for package timeline.
func (v *View) Event() *timeline.Event {
	return timeline.New(timeline.Source{
		Num: v.Num, Slot: v.Slot, Off: v.Off, PDU: v.PDU, Replaces: v.Replaces, RedactedBy: v.RedactedBy,
		TxnUser: v.PDU.Sender(), TxnDevice: v.TxnDevice, TxnID: v.TxnID,
	})
}

// Append appends the event in the form for the reader, who is the viewer.
func (v *View) Append(dst []byte, reader *timeline.Reader, roomID id.RoomID) []byte {
	return v.Event().Append(dst, reader, timeline.Show{
		RoomID: roomID, Membership: v.Membership, SeesReplaced: v.SeesReplaced, Bundle: v.Bundle,
	})
}
