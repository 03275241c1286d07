package room

import (
	"stoa/internal/store"
	"stoa/matrix/id"
	"stoa/matrix/pushrule"
)

// Sight is what decides whether a viewer may see one event: the state of the
// room at that event, as far as it concerns the viewer.
type Sight = sight

// Visible decides whether a viewer may see an event.
//
// Spec: client-server-api#room-history-visibility
func Visible(s Sight) bool { return visible(s) }

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
