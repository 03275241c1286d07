package history

import (
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/matrix/id"
)

// Reader reads rooms on behalf of users. Its methods may be called concurrently.
type Reader struct {
	store  *store.Store
	events *room.Events
	server id.ServerName
}

// New returns a Reader of a store. It shares the cache of parsed events with their
// writer.
func New(s *store.Store, rooms *room.Rooms) *Reader {
	return &Reader{store: s, events: rooms.Events(), server: rooms.ServerName()}
}

func (rd *Reader) isLocal(user id.UserID) bool { return user.ServerName() == rd.server }
