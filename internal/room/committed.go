package room

import (
	"stoa/internal/store"
	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/pushrule"
	"stoa/matrix/roomversion"
)

// Committed describes what one commit changed in one room. It travels with the change
// (store.Change.Payload) to the subscribers (store.Subscription), which then need no
// query. It is immutable after the commit.
//
// Slots First to Last belong to this change. Each of them has a timeline event, or a
// change of state that no timeline event carries, or both.
type Committed struct {
	Room   store.RoomNum
	RoomID id.RoomID
	Rules  *roomversion.Rules
	First  store.Slot
	Last   store.Slot

	// Events are the timeline events, oldest first, without rejected and soft-failed
	// events and outliers.
	Events []TimelineEvent
	// State are the changes of current state in the order of their slots, including those
	// that a timeline event carries.
	State []StateChange
	// Redacted are the events that this change redacts, even if the redaction itself came
	// earlier.
	Redacted []Redacted

	// Joined and Invited count the members, and Totals the events, after the change.
	Joined, Invited int64
	Totals          Totals

	// Next describes another room that the same change wrote, as an upgrade does; nil if
	// there is none.
	Next *Committed
}

// TimelineEvent is an event with a place in the timeline of its room.
type TimelineEvent struct {
	Num  store.EventNum
	Slot store.Slot
	Off  int64
	PDU  *event.PDU
	// ReceivedTS is when this server received or built the event, in ms.
	ReceivedTS int64
	// Key is the interned (type, state key); 0 for a message event.
	Key store.KeyNum
	// Replaces is the event that the same (type, state key) had before; nil if there was
	// none, or if the event did not become current state. ReplacesSlot is its slot in the timeline, 0 for unknown.
	Replaces     *event.PDU
	ReplacesSlot store.Slot
	// Thread is the root of the event's thread; zero for the main timeline.
	Thread id.EventID
	// Class and Totals are for unread counts: the event's class, and the running totals
	// including it.
	Class  pushrule.Class
	Totals Totals
	// Txn is the sending device's transaction; zero for none.
	Txn Txn
	// Highlights are the local members with another verdict on the event than its class
	// gives.
	Highlights []Highlight
	// RedactedBy is the redaction of this event, if it came before the event.
	RedactedBy *event.PDU
	// SenderMember is, for messages, the sender's m.room.member before this event; nil if
	// it is not in memory or was redacted. This change may redact it.
	SenderMember *MemberEvent
}

// MemberEvent is an unredacted m.room.member of the current state.
type MemberEvent struct {
	Num  store.EventNum
	Slot store.Slot
	PDU  *event.PDU
}

// Highlight is a local member whose push rules judge an event otherwise than its class.
type Highlight struct {
	User    store.UserNum
	Verdict pushrule.Verdict
}

// StateChange is a change of one entry of current state.
type StateChange struct {
	Slot     store.Slot
	Key      store.KeyNum
	Type     string
	StateKey string
	// Event is the new entry, nil if the entry was removed. Num is its number.
	Event *event.PDU
	Num   store.EventNum
	// Previous is the entry that was replaced, nil for none. PreviousSlot is its slot in the timeline, 0 for unknown.
	Previous     *event.PDU
	PreviousSlot store.Slot
	// User is the local user whose membership this is; 0 for any other state.
	User store.UserNum
	// InTimeline says that the event is the timeline event of the same slot.
	InTimeline bool
}

// Redacted is a redacted event with its redaction.
type Redacted struct {
	Target   store.EventNum
	TargetID id.EventID
	// PDU is the target before its redaction.
	PDU     *event.PDU
	Because *event.PDU
}

// Counted is the part of a timeline event that unread counters need.
type Counted struct {
	Slot       store.Slot
	Sender     id.UserID
	Thread     id.EventID
	Class      pushrule.Class
	Totals     Totals
	Highlights []Highlight
}

// Counted returns the live events of a commit for unread counters. Backfilled events are
// not new to anybody and are left out.
func (c *Committed) Counted() []Counted {
	list := make([]Counted, 0, len(c.Events))
	for i := range c.Events {
		if e := &c.Events[i]; e.Off == 0 {
			list = append(list, Counted{
				Slot: e.Slot, Sender: e.PDU.Sender().Clone(), Thread: e.Thread.Clone(), Class: e.Class, Totals: e.Totals,
				Highlights: e.Highlights,
			})
		}
	}
	return list
}
