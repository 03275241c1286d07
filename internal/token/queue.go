package token

import (
	"fmt"
	"strconv"
)

// Queue is a place in the queue of messages to a dehydrated device: after a slot of its user. Its text form is
//
//	q1.<slot>
type Queue struct{ Slot int64 }

func (q Queue) String() string { return "q1." + strconv.FormatInt(q.Slot, 10) }

// ParseQueue parses a Queue.
func ParseQueue(text string) (Queue, error) {
	fields, ok := split(text, "q1", 1)
	if !ok {
		return Queue{}, fmt.Errorf("queue token %q: %w", text, ErrMalformed)
	}
	slot, okSlot := integer(fields[0], false)
	q := Queue{Slot: slot}
	if !okSlot || q.String() != text {
		return Queue{}, fmt.Errorf("queue token %q: %w", text, ErrMalformed)
	}
	return q, nil
}
