package history

import "stoa/matrix/event"

// The values of m.room.history_visibility.
const (
	visibilityWorldReadable = "world_readable"
	visibilityShared        = "shared"
	visibilityInvited       = "invited"
	visibilityJoined        = "joined"
)

// EventVisibility is everything that decides whether a viewer may see one event: the parts
// of the room's state at that event that concern the viewer.
type EventVisibility struct {
	// Visibility is the history visibility before the event; empty or unknown counts as
	// shared. VisibilityAfter differs only for an m.room.history_visibility event.
	Visibility, VisibilityAfter string
	// Membership is the viewer's membership before the event, empty for none.
	// MembershipAfter differs only for the viewer's own member events.
	Membership, MembershipAfter string
	// JoinsLater says that the viewer joined at some point after the event.
	JoinsLater bool
}

// Visible decides whether the viewer may see the event. An event that changes the
// visibility or the viewer's membership is visible if it is on either side of the change.
//
// Spec: client-server-api#room-history-visibility
func Visible(s EventVisibility) bool {
	return visibleAt(s.Visibility, s.Membership, s.JoinsLater) ||
		visibleAt(s.VisibilityAfter, s.Membership, s.JoinsLater) ||
		visibleAt(s.Visibility, s.MembershipAfter, s.JoinsLater)
}

// visibleAt implements the five numbered rules of the module.
func visibleAt(visibility, membership string, joinsLater bool) bool {
	switch visibility {
	case visibilityWorldReadable, visibilityInvited, visibilityJoined:
	default:
		visibility = visibilityShared
	}
	switch {
	case visibility == visibilityWorldReadable: // 1
		return true
	case membership == event.MembershipJoin: // 2
		return true
	case visibility == visibilityShared && joinsLater: // 3
		return true
	case visibility == visibilityInvited && membership == event.MembershipInvite: // 4
		return true
	}
	return false // 5
}
