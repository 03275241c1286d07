package ops

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"

	"stoa/internal/auth"
	"stoa/internal/bus"
	"stoa/internal/clientsync"
	"stoa/internal/config"
	"stoa/internal/ephemeral"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/userdata"
)

// busName is a name for this process that no other has: instances may be called
// alike by mistake, and commands open the store of a server too.
func busName() string { return rand.Text() }

// notifyChannel is where the store announces what it has committed, unless the
// instances do so by Redis.
func notifyChannel(cfg *config.Config) string {
	if cfg.Redis != "" {
		return ""
	}
	return bus.HeadChannel
}

// makeBus makes this instance one of several, if others can be there.
func (srv *server) makeBus() error {
	s := srv.services
	if !s.store.IsPostgres() {
		return nil
	}
	var err error
	opt := bus.Options{Log: srv.log, Registerer: srv.registry}
	if url := srv.cfg.Redis; url != "" {
		srv.bus, err = bus.NewRedis(url, srv.cfg.ServerName.String(), opt)
	} else {
		srv.bus, err = bus.NewPostgres(s.store, s.busName, opt)
	}
	if err != nil {
		return fmt.Errorf("connect the instances: %w", err)
	}
	return nil
}

// others is the bus to the other instances, nil if there can be none.
func (srv *server) others() ephemeral.Bus {
	if srv.bus == nil {
		return nil
	}
	return srv.bus
}

// hearHeads lets the hub look at what the other instances say they have written.
func (srv *server) hearHeads() {
	if srv.bus == nil {
		return
	}
	srv.bus.Subscribe(bus.TopicHead, func(payload []byte) {
		if at, err := strconv.ParseInt(string(payload), 10, 64); err == nil {
			srv.hub.Wake(store.Position(at))
		}
	})
	srv.bus.OnConnect(srv.hub.Doubt)
}

// busRuns are what the bus needs to run.
func (srv *server) busRuns() (runs []func(context.Context) error) {
	if srv.bus == nil {
		return nil
	}
	if srv.cfg.Redis != "" {
		runs = append(runs, srv.announce)
	}
	return append(runs, srv.bus.Run)
}

// announce tells the other instances what this one has committed.
func (srv *server) announce(ctx context.Context) error {
	tail := srv.services.store.Tail()
	defer tail.Close()
	for {
		b, err := tail.Next(ctx)
		if ctx.Err() != nil || errors.Is(err, store.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(b.Rows) > 0 {
			srv.bus.Publish(bus.TopicHead, strconv.AppendInt(nil, int64(b.Last), 10))
		}
	}
}

// followers are the packages that keep in memory what the store says. What they
// keep otherwise never changes.
func (s *services) followers() []clientsync.Follower {
	return []clientsync.Follower{followSessions{s.sessions}, followData{s.data, s.store}, followRooms{s.rooms}}
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
	f.rooms.Follow(rows)
	return nil
}

func (f followRooms) Forget() { f.rooms.ForgetAll() }

type followPresence struct{ presence *ephemeral.Presence }

func (f followPresence) Follow(_ *store.Read, rows []store.StreamRow) error {
	f.presence.Follow(rows)
	return nil
}

func (f followPresence) Forget() { f.presence.Forget() }
