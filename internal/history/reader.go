package history

import (
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/matrix/id"
)

// Reader reads rooms for those who may see them. Its methods may be called at the
// same time.
type Reader struct {
	store  *store.Store
	events *room.Events
	server id.ServerName
}

// New reads the rooms of a store, whose events are kept where their writer
// keeps them.
func New(s *store.Store, rooms *room.Rooms) *Reader {
	return &Reader{store: s, events: rooms.Events(), server: rooms.ServerName()}
}

func (rd *Reader) isLocal(user id.UserID) bool { return user.ServerName() == rd.server }
