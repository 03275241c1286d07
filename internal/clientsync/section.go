package clientsync

import (
	"context"

	"stoa/internal/store"
	"stoa/internal/streamcache"
	"stoa/internal/who"
	"stoa/matrix/eventfilter"
	"stoa/matrix/id"
)

// Query is what a section of an answer is asked: what is new for the viewer after Since, up to Upto.
type Query struct {
	who.Device
	Filter *eventfilter.Filter
	// Since is the position of the token; 0 for an initial sync.
	Since store.Position
	// Upto is the position that the answer's token will have. A section may tell of later things only if it tells of them
	// again, or if telling twice does no harm.
	Upto store.Position
	// Forgotten says that the stream no longer reaches back to the token: it is answered like an initial sync, but the
	// client knows an older state of things, so every device list has to be told as changed.
	Forgotten bool
	// Rooms are the rooms that the viewer is in, Entered and Left those that the viewer joined and left after Since.
	Rooms, Entered, Left []store.RoomNum
	// Grew and Shrank are the rooms, of Rooms, which others joined or left after Since.
	Grew, Shrank []Passage

	read  func(context.Context) (*store.Read, error)
	cache *streamcache.Cache
}

// Passage is a member who came into a room or went out of it.
type Passage struct {
	Room   store.RoomNum
	UserID id.UserID
}

// Read is the answer's snapshot of the store, opened when it is first asked for. It is not closed by the section, and no
// other may be opened.
func (q *Query) Read(ctx context.Context) (*store.Read, error) { return q.read(ctx) }

// Section is a part of the answer which another package provides. Its methods may be called at the same time.
type Section interface {
	// Key is the member of the answer, such as device_lists.
	Key() string
	// Watch says when to ask.
	Watch() Watch
	// Append appends the value of the member, or nothing if there is nothing to tell.
	Append(ctx context.Context, dst []byte, q *Query) ([]byte, error)
}

// Watch says which changes of the stream a section tells about. It is asked when one of them happened after the token, and
// in every initial sync.
type Watch struct {
	// Own are kinds of changes of the viewer, Shared those of users who share a room with the viewer.
	Own, Shared []store.Kind
	// Members: the viewer's rooms, and who is in them.
	Members bool
	// Always: the section belongs in every answer, changed or not, and does not make one worth sending by itself. What it
	// appended is kept, per device, until one of the changes that it watches.
	Always bool
}

// ToDevice hands messages to devices. They carry a counter of their own in the token, so that each is in the answers
// between two acknowledged tokens exactly once.
//
// Spec: client-server-api#send-to-device-messaging
type ToDevice interface {
	// Append appends up to limit messages after a slot, as the elements of a JSON list. It returns the slot of the last of
	// them, or after if there are none, and whether more wait.
	Append(dst []byte, r *store.Read, v who.Device, after store.Slot, limit int) (out []byte, last store.Slot, more bool, err error)
	// Acknowledge deletes the messages up to a slot: the device has them.
	Acknowledge(ctx context.Context, v who.Device, upTo store.Slot) error
}

// Typing knows who types where, now.
//
// Spec: client-server-api#typing-notifications
type Typing interface {
	// Users are those who type in a room.
	Users(num store.RoomNum) []id.UserID
}

// Presence is told that a device syncs.
type Presence interface {
	// Seen says that a user's device is connected, with the state that it wishes: online, unavailable or offline.
	Seen(ctx context.Context, user who.User, presence string)
}

// Datum is one account data event.
type Datum struct {
	RoomID  string // "" for global account data
	Type    string
	Content []byte // a JSON object
}

// AccountData reads what users attach to themselves and to rooms.
//
// Spec: client-server-api#client-config
type AccountData interface {
	// Changed returns the viewer's account data that changed after a slot of the user; for slot 0 all of it, with what the
	// server makes up for users who have set nothing (push rules).
	Changed(r *store.Read, user who.User, after store.Slot) ([]Datum, error)
	// Ignored returns the users on m.ignored_user_list.
	Ignored(r *store.Read, user who.User) ([]id.UserID, error)
}

// Filters finds the filters that clients have stored.
type Filters interface {
	// Filter returns a stored filter's JSON, or store.ErrNotFound.
	Filter(ctx context.Context, user who.User, filterID string) ([]byte, error)
}

// Unread counts unread events.
//
// Spec: client-server-api#receiving-notifications
type Unread interface {
	// Tallies counts the viewer's unread events in some rooms, in the same order.
	Counters(r *store.Read, user who.User, places []Place) ([]streamcache.UnreadCounter, error)
}

// Place is a room as the viewer is in it: since which slot, and what the room's row says.
type Place struct {
	Room   store.RoomNum
	RoomID id.RoomID
	Joined store.Slot
	Slot   store.Slot
	Totals []byte
	// Members is the number of joined members.
	Members int64
}
