package server

import (
	"stoa/internal/auth"
	"stoa/internal/ephemeral"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/streamcache"
	"stoa/internal/userdata"
)

// followers are the packages that cache data of the store. Other caches have only
// immutable data.
func (s *Services) followers() []streamcache.Follower {
	return []streamcache.Follower{followSessions{s.Sessions}, followData{s.Data, s.Store}, followRooms{s.Rooms}}
}

type followSessions struct{ sessions *auth.Sessions }

func (f followSessions) Follow(_ *store.Read, rows []store.StreamRow) error {
	f.sessions.Follow(rows)
	return nil
}

func (f followSessions) Forget() { f.sessions.DropAll() }

type followData struct {
	data  *userdata.Data
	store *store.Store
}

func (f followData) Follow(r *store.Read, rows []store.StreamRow) error {
	return f.data.Follow(r, rows)
}

func (f followData) Forget() { f.data.Forget(f.store.Head()) }

type followRooms struct{ rooms *room.Rooms }

func (f followRooms) Follow(_ *store.Read, rows []store.StreamRow) error {
	f.rooms.FollowStream(rows)
	return nil
}

func (f followRooms) Forget() { f.rooms.ForgetAll() }

type followPresence struct{ presence *ephemeral.Presence }

func (f followPresence) Follow(_ *store.Read, rows []store.StreamRow) error {
	f.presence.Follow(rows)
	return nil
}

func (f followPresence) Forget() { f.presence.Forget() }
