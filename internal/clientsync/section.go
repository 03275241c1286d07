package clientsync

import (
	"bytes"
	"context"

	"stoa/internal/store"
	"stoa/internal/streamcache"
	"stoa/internal/who"
	"stoa/matrix/eventfilter"
	"stoa/matrix/id"
)

// Query is the input of a section: what is new for the viewer after Since, up to Upto.
type Query struct {
	who.Device
	Filter *eventfilter.Filter
	// Since is the position of the token; 0 for an initial sync.
	Since store.Position
	// Upto is the position of the answer's next token. A section may include later changes only if it repeats them in the next
	// answer, or if repeating does no harm.
	Upto store.Position
	// Forgotten is set if the stream no longer reaches back to the token. The request is answered like an initial sync; since the
	// client has an older state, every device list counts as changed.
	Forgotten bool
	// Rooms are the rooms that the viewer is in, Entered those that the viewer joined after Since, Left those that the viewer was in at
	// Since and is in no longer. Room filters leave none of them out.
	Rooms, Entered []store.RoomNum
	Left           []LeftRoom
	// JoinedMembers and LeftMembers are the members who joined or left Rooms after Since.
	JoinedMembers, LeftMembers []MemberMove

	read  func(context.Context) (*store.Read, error)
	cache *streamcache.Cache
}

// LeftRoom is a room that the viewer has left.
type LeftRoom struct {
	Room store.RoomNum
	// Since is the room's last slot at the token, Slot the one at which the viewer left.
	Since, Slot store.Slot
}

// MemberMove is a member who joined or left a room.
type MemberMove struct {
	Room   store.RoomNum
	UserID id.UserID
}

// Read returns the answer's snapshot of the store, opened on first use. The section does not close it, and opens no other.
func (q *Query) Read(ctx context.Context) (*store.Read, error) { return q.read(ctx) }

// Section is a part of the answer that another package provides. Its methods are called concurrently.
type Section interface {
	// Key is the member of the answer, such as device_lists.
	Key() string
	// Watch says which changes the section depends on.
	Watch() Watch
	// Append appends the value of the member, or nothing if there is no news.
	Append(ctx context.Context, dst []byte, q *Query) ([]byte, error)
}

// Watch says which changes of the stream a section tells about. It is asked when one of them happened after the token, and
// in every initial sync.
type Watch struct {
	// Own are kinds of changes of the viewer, Shared those of users who share a room with the viewer.
	Own, Shared []store.Kind
	// Members: the viewer's rooms, and who is in them.
	Members bool
	// Always: the section belongs in every answer, changed or not, and does not by itself make a waiting request answered. It is
	// kept, per device, until one of the changes that it watches.
	Always bool
}

// AppendSection appends the value of one of the renderer's sections as of a range of the stream, or nothing. read opens the snapshot of
// the answer.
func (r *Renderer) AppendSection(ctx context.Context, dst []byte, key string, v who.Device, since, upto store.Position, read func(context.Context) (*store.Read, error)) ([]byte, error) {
	for _, s := range r.opt.Sections {
		if s.Key() != key {
			continue
		}
		q := &Query{Device: v, Filter: eventfilter.Everything(), Since: since, Upto: upto, read: read, cache: r.cache}
		if w := s.Watch(); w.Always {
			return r.appendCached(ctx, dst, s, w, q)
		}
		return s.Append(ctx, dst, q)
	}
	return dst, nil
}

// appendCached appends a section that belongs in every answer. It is kept per device until something changes that it watches.
func (r *Renderer) appendCached(ctx context.Context, dst []byte, s Section, w Watch, q *Query) ([]byte, error) {
	if value, ok := r.kept.Section(q.Device, s.Key(), w.Own); ok {
		return append(dst, value...), nil
	}
	read, err := q.read(ctx)
	if err != nil {
		return dst, err
	}
	value, err := s.Append(ctx, nil, q)
	if err != nil {
		return dst, err
	}
	r.kept.KeepSection(q.Device, s.Key(), bytes.Clone(value), read.Head())
	return append(dst, value...), nil
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
	// Counters returns the viewer's unread counters in some rooms, in the same order.
	Counters(r *store.Read, user who.User, places []Place) ([]streamcache.UnreadCounter, error)
}

// Place is a room with the viewer's place in it.
type Place struct {
	Room   store.RoomNum
	RoomID id.RoomID
	Joined store.Slot
	Slot   store.Slot
	Totals []byte
	// Members is the number of joined members.
	Members int64
}
