package room

import (
	"stoa/internal/store"
	"stoa/matrix/id"
)

// Reader reads rooms for those who may see them. Its methods may be called at the
// same time.
type Reader struct {
	store  *store.Store
	events *Events
	server id.ServerName
}

// NewReader reads the rooms of a store, whose events are kept where their writer
// keeps them.
func NewReader(s *store.Store, rooms *Rooms) *Reader {
	return &Reader{store: s, events: rooms.Events(), server: rooms.ServerName()}
}

func (rd *Reader) isLocal(user id.UserID) bool { return user.ServerName() == rd.server }
