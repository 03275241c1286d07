package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"

	"stoa/internal/bus"
	"stoa/internal/config"
	"stoa/internal/ephemeral"
	"stoa/internal/store"
)

// busName returns a unique name for this process. Instance names can be equal by mistake,
// and commands also open the store of a server.
func busName() string { return rand.Text() }

// notifyChannel is the PostgreSQL channel for announcements of commits; empty if the
// instances use Redis.
func notifyChannel(cfg *config.Config) string {
	if cfg.Redis != "" {
		return ""
	}
	return bus.HeadChannel
}

// makeBus connects this instance to the others, unless the database is SQLite.
func (srv *Server) makeBus() error {
	s := srv.services
	if !s.Store.Shared() {
		return nil
	}
	var err error
	opt := bus.Options{Log: srv.opt.Log, Registerer: srv.registry}
	if url := srv.opt.Config.Redis; url != "" {
		srv.bus, err = bus.NewRedis(url, srv.opt.Config.ServerName.String(), opt)
	} else {
		srv.bus, err = bus.NewPostgres(s.Store, s.busName, opt)
	}
	if err != nil {
		return fmt.Errorf("connect the instances: %w", err)
	}
	return nil
}

// peerBus is the bus to the other instances, nil if there can be none.
func (srv *Server) peerBus() ephemeral.Bus {
	if srv.bus == nil {
		return nil
	}
	return srv.bus
}

// topicJob is the topic of wake-ups for jobs: another instance has enqueued a job that it
// does not own.
const topicJob = "job"

// topicLimits is the topic of the users' actions, for the limits that all instances
// share.
const topicLimits = "limits"

// announceJob wakes the owner of a job that this instance has enqueued.
func (srv *Server) announceJob() {
	if srv.bus != nil {
		srv.bus.Publish(topicJob, nil)
	}
}

// subscribePeers lets the stream and the readers react to announcements of the other
// instances.
func (srv *Server) subscribePeers() {
	if srv.bus == nil {
		return
	}
	srv.bus.Subscribe(bus.TopicHead, func(payload []byte) {
		if at, err := strconv.ParseInt(string(payload), 10, 64); err == nil {
			srv.stream.Wake(store.Position(at))
			srv.reader.Wake(store.Position(at))
		}
	})
	srv.bus.Subscribe(topicJob, func([]byte) { srv.reader.WakeJobs() })
	srv.bus.OnConnect(srv.stream.Doubt)
}

// busRuns returns the goroutines of the bus.
func (srv *Server) busRuns() (runs []func(context.Context) error) {
	if srv.bus == nil {
		return nil
	}
	if srv.opt.Config.Redis != "" {
		runs = append(runs, srv.announce)
	}
	return append(runs, srv.bus.Run)
}

// announce announces this instance's commits to the other instances.
func (srv *Server) announce(ctx context.Context) error {
	tail := srv.services.Store.Subscribe()
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
