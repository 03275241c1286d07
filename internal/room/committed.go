package room

import (
	"stoa/internal/store"
	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/pushrule"
	"stoa/matrix/roomversion"
)

// Committed is what one commit did to one room. It travels with the change
// (store.Change.Payload) to the subscribers (store.Subscription), who need no query for
// what it holds. Nobody changes it after the commit.
//
// Slots First to Last belong to this change; each of them has a timeline event,
// or a change of state that no timeline event carries, or both.
type Committed struct {
	Room   store.RoomNum
	RoomID id.RoomID
	Rules  *roomversion.Rules
	First  store.Slot
	Last   store.Slot

	// Events are the timeline events, oldest first. Rejected, soft-failed and
	// outlying events are not among them.
	Events []TimelineEvent
	// State are the changes of current state in the order of their slots,
	// those which a timeline event carries too.
	State []StateChange
	// Redacted are the events which this change redacts, also when the
	// redaction itself came earlier.
	Redacted []Redacted

	// Joined and Invited count the members after the change, Totals are the
	// room's running totals after it.
	Joined, Invited int64
	Totals          Totals

	// Next is what the same change did to another room (an upgrade writes
	// two), nil for nothing.
	Next *Committed
}

// TimelineEvent is an event with a place in the timeline of its room.
type TimelineEvent struct {
	Num  store.EventNum
	Slot store.Slot
	Off  int64
	PDU  *event.PDU
	// ReceivedTS is when this server received or made the event, in ms.
	ReceivedTS int64
	// Key is the interned (type, state key); 0 for a message event.
	Key store.KeyNum
	// Replaces is the event that had the same (type, state key) before; nil if
	// there was none, or if the event did not become current state.
	Replaces *event.PDU
	// Thread is the root of the thread that the event belongs to, zero for the
	// main timeline.
	Thread id.EventID
	// Class and Totals are the counting of unread events: the event's class, and
	// the running totals after it.
	Class  pushrule.Class
	Totals Totals
	// Txn is the sending device's transaction; zero for none.
	Txn Txn
	// Highlights are the local members for whom the event counts for more than
	// its class says.
	Highlights []Highlight
	// RedactedBy is the redaction of this event, if it came before the event.
	RedactedBy *event.PDU
	// SenderMember is the sender's m.room.member as it was before this event, for
	// messages; nil if it is not in memory, or not shown as it is. The change itself
	// may redact it.
	SenderMember *MemberEvent
}

// MemberEvent is an m.room.member of the current state that is shown as it is.
type MemberEvent struct {
	Num  store.EventNum
	Slot store.Slot
	PDU  *event.PDU
}

// Highlight is a local member for whom an event counts for more than for others.
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
	// Event is the new entry, nil if the entry is gone. Num is its number.
	Event *event.PDU
	Num   store.EventNum
	// Previous is the entry before, nil for none.
	Previous *event.PDU
	// User is the local user whose membership the entry is; 0 for anything else.
	User store.UserNum
	// InTimeline says that the event is the timeline event of the same slot.
	InTimeline bool
}

// Redacted is an event that was redacted, and why.
type Redacted struct {
	Target   store.EventNum
	TargetID id.EventID
	// PDU is the target as it was.
	PDU     *event.PDU
	Because *event.PDU
}

// Counted is what counts of a timeline event for who has not read it.
type Counted struct {
	Slot       store.Slot
	Sender     id.UserID
	Thread     id.EventID
	Class      pushrule.Class
	Totals     Totals
	Highlights []Highlight
}

// Counted leaves out of the events of a commit what does not count: those which
// were put before others are not new to anybody.
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
