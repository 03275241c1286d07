package eventfilter

import "stoa/matrix/id"

// Limits of filters.
const (
	// DefaultLimit is the number of events that are returned if a filter has no limit.
	DefaultLimit = 10
	// MaxLimit is the greatest number of events that are returned; greater limits are taken as this.
	MaxLimit = 1000
	// MaxSize is the length of a filter's JSON text in bytes.
	MaxSize = 64 << 10
	// MaxWildcards is the number of entries with `*` that a list of types may have.
	MaxWildcards = 128
)

// Format is the form in which a client wants events.
type Format uint8

const (
	// FormatClient: as clients usually get them.
	FormatClient Format = iota
	// FormatFederation: the raw event as received over federation.
	FormatFederation
)

// Filter is a whole filter, as for /sync. Use Everything for a client that gave none.
//
// Spec: client-server-api#post_matrixclientv3useruseridfilter
type Filter struct {
	// EventFields is nil if all fields are wanted.
	EventFields *Fields
	EventFormat Format
	Presence    EventFilter
	AccountData EventFilter
	Room        RoomFilter
}

// RoomFilter says which rooms and which of their events are wanted.
type RoomFilter struct {
	rooms rooms
	// IncludeLeave asks for rooms that the user has left.
	IncludeLeave bool
	Ephemeral    RoomEventFilter
	State        RoomEventFilter
	Timeline     RoomEventFilter
	AccountData  RoomEventFilter
}

// EventFilter says which events are wanted. The zero value allows all and has no limit of its own.
type EventFilter struct {
	limit      limit
	types      *patterns // nil allows all
	notTypes   *patterns // nil excludes none
	senders    set       // nil allows all
	notSenders set
}

// RoomEventFilter is an EventFilter for events in rooms.
type RoomEventFilter struct {
	EventFilter
	rooms       rooms
	containsURL choice

	// UnreadThreadNotifications asks for counts per thread.
	UnreadThreadNotifications bool
	// LazyLoadMembers asks for no other membership events than those of senders of events that are returned.
	LazyLoadMembers bool
	// IncludeRedundantMembers asks for membership events again that were sent before. It is false without LazyLoadMembers.
	IncludeRedundantMembers bool
	// RelatedBySenders and RelatedByRelTypes ask for events to which an event of one of the senders, with one of the
	// relation types, is related. nil stands for any. They are those of MSC3440, which clients send; the text of the
	// specification has lost them. See AllowsRelations.
	RelatedBySenders  []string
	RelatedByRelTypes []string
}

// Event is what a filter looks at. What an event does not have, such as the sender of account data, is "".
type Event struct {
	Type   string
	Sender string
	RoomID string
	// Content is the JSON object of the event's content. It is read only by filters with contains_url.
	Content []byte
}

// Relation is an event that is related to another one.
type Relation struct {
	RelType string
	Sender  string
}

var everything = &Filter{}

// Everything returns the filter of a client that gave none.
func Everything() *Filter { return everything }

var allRoomEvents = &RoomEventFilter{}

// AllRoomEvents returns the filter of a client that gave none, for endpoints that return the events of one room.
func AllRoomEvents() *RoomEventFilter { return allRoomEvents }

type choice uint8

const (
	either choice = iota
	yes
	no
)

// limit is a limit that may be missing.
type limit struct {
	value   int
	present bool
}

// Limit returns the number of events to return: 0 to MaxLimit. The specification has no 0; clients use it to get no events
// at all.
func (f *EventFilter) Limit() int { return f.LimitOr(DefaultLimit) }

// LimitOr is Limit with another default, for endpoints that have their own.
func (f *EventFilter) LimitOr(missing int) int {
	if f.limit.present {
		return f.limit.value
	}
	return missing
}

// AllowsAll says that every event passes, whatever it is.
func (f *EventFilter) AllowsAll() bool {
	return f.types == nil && f.notTypes == nil && f.senders == nil && f.notSenders == nil
}

// AllowsNone says that no event passes, so that there is nothing to look up.
func (f *EventFilter) AllowsNone() bool {
	return f.types != nil && f.types.isEmpty() || f.senders != nil && len(f.senders) == 0
}

// Allows says whether an event passes.
func (f *EventFilter) Allows(e Event) bool { return f.AllowsType(e.Type) && f.AllowsSender(e.Sender) }

// AllowsType says whether events of a type can pass.
func (f *EventFilter) AllowsType(eventType string) bool {
	if f.notTypes != nil && f.notTypes.match(eventType) {
		return false
	}
	return f.types == nil || f.types.match(eventType)
}

// AllowsSender says whether events of a sender can pass.
func (f *EventFilter) AllowsSender(sender string) bool {
	return !f.notSenders.has(sender) && (f.senders == nil || f.senders.has(sender))
}

// AllowsAll says that every event of every room passes, relations apart.
func (f *RoomEventFilter) AllowsAll() bool {
	return f.EventFilter.AllowsAll() && f.rooms.allowAll() && f.containsURL == either
}

// AllowsNone says that no event passes, so that there is nothing to look up.
func (f *RoomEventFilter) AllowsNone() bool { return f.EventFilter.AllowsNone() || f.rooms.allowNone() }

// AllowsRoom says whether events of a room can pass.
func (f *RoomEventFilter) AllowsRoom(roomID id.RoomID) bool { return f.rooms.allow(roomID.String()) }

// Allows says whether an event passes, relations apart.
func (f *RoomEventFilter) Allows(e Event) bool {
	return f.rooms.allow(e.RoomID) && f.EventFilter.Allows(e) && f.allowsContent(e.Content)
}

// AsksForRelations says that the events that are related to an event decide whether it passes: AllowsRelations.
func (f *RoomEventFilter) AsksForRelations() bool {
	return f.RelatedBySenders != nil || f.RelatedByRelTypes != nil
}

// AllowsRelations says whether an event passes to which these events are related.
func (f *RoomEventFilter) AllowsRelations(related []Relation) bool {
	if !f.AsksForRelations() {
		return true
	}
	for _, r := range related {
		if contains(f.RelatedBySenders, r.Sender) && contains(f.RelatedByRelTypes, r.RelType) {
			return true
		}
	}
	return false
}

// AllowsRoom says whether anything of a room is wanted.
func (f *RoomFilter) AllowsRoom(roomID id.RoomID) bool { return f.rooms.allow(roomID.String()) }

// AllowsAllRooms says that AllowsRoom is true for all rooms.
func (f *RoomFilter) AllowsAllRooms() bool { return f.rooms.allowAll() }

// OnlyRooms returns the rooms that are listed, of which AllowsRoom may still exclude some; false if none are listed, which
// allows all.
func (f *RoomFilter) OnlyRooms() ([]string, bool) { return f.rooms.only.list() }

// OnlyRooms returns the rooms that are listed, of which AllowsRoom may still exclude some; false if none are listed, which
// allows all.
func (f *RoomEventFilter) OnlyRooms() ([]string, bool) { return f.rooms.only.list() }

// OnlySenders returns the senders that are listed, of which AllowsSender may still exclude some; false if none are listed,
// which allows all.
func (f *EventFilter) OnlySenders() ([]string, bool) { return f.senders.list() }
