package room

// Sight is what decides whether a viewer may see one event: the state of the
// room at that event, as far as it concerns the viewer.
type Sight = sight

// Visible decides whether a viewer may see an event.
//
// Spec: client-server-api#room-history-visibility
func Visible(s Sight) bool { return visible(s) }
