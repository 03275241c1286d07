package server

import (
	"context"
	"encoding/json"

	"stoa/internal/clientsync"
	"stoa/internal/e2ee"
	"stoa/internal/parking"
	"stoa/internal/slidingsync"
	"stoa/internal/store"
	"stoa/internal/streamcache"
	"stoa/internal/userdata"
	"stoa/internal/who"
)

// newStream builds the stream in memory.
func (srv *Server) newStream(p parts) *streamcache.Cache {
	s := srv.services
	return streamcache.New(streamcache.Options{
		Store: s.Store, Clock: srv.opt.Clock, Log: srv.opt.Log, Registerer: srv.registry,
		TypingHashes: p.typing,
		Replicate:    s.Cluster.Replicate,
		Blocking:     parking.Blocking,
		RingBytes:    int(shareOfMemory(64<<20, 64)),
		EventBytes:   int(shareOfMemory(16<<20, 128)),
		UserBytes:    int(shareOfMemory(512<<20, 8)),
		Followers:    append(s.followers(), followPresence{p.presence}),
	})
}

// newRenderer builds the renderer of /sync answers.
func (srv *Server) newRenderer(p parts) *clientsync.Renderer {
	s := srv.services
	return clientsync.New(clientsync.Options{
		Cache: srv.stream, Registry: srv.registry, Memory: p.answers,
		Sections: []clientsync.Section{
			clientsync.DeviceLists{}, clientsync.KeyCounts{}, clientsync.FallbackTypes{}, clientsync.PresenceEvents{Clock: srv.opt.Clock},
		},
		ToDevice:    syncToDevice{p.keys},
		Typing:      p.typing,
		Presence:    p.presence,
		AccountData: syncAccountData{s.Data},
		Filters:     syncFilters{s.Data},
		Unread:      newSyncUnread(s.Store, s.Rules),
	})
}

// newSliding builds the renderer of sliding syncs.
func (srv *Server) newSliding(p parts) *slidingsync.Renderer {
	s := srv.services
	return slidingsync.New(slidingsync.Options{
		Cache: srv.stream, History: s.History, Registry: srv.registry,
		ToDevice:    syncToDevice{p.keys},
		Typing:      p.typing,
		Presence:    p.presence,
		AccountData: syncAccountData{s.Data},
		Sections:    srv.renderer,
	})
}

// The following types adapt packages that don't know /sync to the interfaces of package
// clientsync.

type syncToDevice struct{ *e2ee.Keys }

func (s syncToDevice) Append(dst []byte, r *store.Read, v who.Device, after store.Slot, limit int) ([]byte, store.Slot, bool, error) {
	messages, last, more, err := s.ToDevice(r, v, after, limit)
	for i, m := range messages {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, m...)
	}
	return dst, last, more, err
}

type syncAccountData struct{ *userdata.Data }

func (s syncAccountData) Changed(r *store.Read, v who.User, after store.Slot) ([]streamcache.Datum, error) {
	var entries []userdata.Entry
	var err error
	if after == 0 {
		entries, err = s.All(r, v)
	} else {
		entries, err = s.After(r, v, after)
	}
	if err != nil {
		return nil, err
	}
	out := make([]streamcache.Datum, len(entries))
	for i, e := range entries {
		out[i] = streamcache.Datum{RoomID: e.RoomID, Type: e.Type, Content: e.Content}
	}
	return out, nil
}

type syncFilters struct{ data *userdata.Data }

func (s syncFilters) Filter(ctx context.Context, v who.User, filterID string) ([]byte, error) {
	var filter json.RawMessage
	filter, err := s.data.Filter(ctx, v, filterID)
	return filter, err
}
