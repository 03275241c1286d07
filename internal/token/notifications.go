package token

import (
	"fmt"
	"strconv"
)

// Notifications is a place in the list of a user's notifications: before an event, by the position of its commit and its slot.
// Its text form is
//
//	n1.<position>.<slot>
type Notifications struct{ Pos, Slot int64 }

func (n Notifications) String() string {
	return "n1." + strconv.FormatInt(n.Pos, 10) + "." + strconv.FormatInt(n.Slot, 10)
}

// ParseNotifications parses a Notifications.
func ParseNotifications(text string) (Notifications, error) {
	fields, ok := split(text, "n1", 2)
	if !ok {
		return Notifications{}, fmt.Errorf("notifications token %q: %w", text, ErrMalformed)
	}
	var n Notifications
	var okPos, okSlot bool
	n.Pos, okPos = integer(fields[0], false)
	n.Slot, okSlot = integer(fields[1], false)
	if !okPos || !okSlot || n.String() != text {
		return Notifications{}, fmt.Errorf("notifications token %q: %w", text, ErrMalformed)
	}
	return n, nil
}
