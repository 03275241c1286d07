package server

import (
	"context"
	"encoding/json"

	"stoa/internal/clientsync"
	"stoa/internal/e2ee"
	"stoa/internal/ephemeral"
	"stoa/internal/httpkit"
	"stoa/internal/store"
	"stoa/internal/userdata"
	"stoa/matrix/id"
)

// newHub makes what answers /sync.
func (srv *Server) newHub(p parts) *clientsync.Hub {
	s := srv.services
	return clientsync.New(clientsync.Options{
		Store: s.Store, Clock: srv.opt.Clock, Log: srv.opt.Log, Registerer: srv.registry,
		Sections: []clientsync.Section{
			clientsync.DeviceLists{}, clientsync.KeyCounts{}, clientsync.FallbackTypes{}, clientsync.PresenceEvents{Clock: srv.opt.Clock},
		},
		ToDevice:    syncToDevice{p.keys},
		Typing:      p.typing,
		Presence:    syncPresence{p.presence},
		AccountData: syncAccountData{s.Data},
		Filters:     syncFilters{s.Data},
		Unread:      newSyncUnread(s.Store, s.Rules),
		Hand:        s.Cluster.Hand,
		Blocking:    httpkit.Blocking,
		Followers:   append(s.followers(), followPresence{p.presence}),
	})
}

// The packages behind /sync don't know it; these types give each the form that
// package clientsync asks for.

type syncToDevice struct{ keys *e2ee.Keys }

func keyDevice(v clientsync.Viewer) e2ee.Device {
	return e2ee.Device{UserID: v.UserID, User: v.UserNum, DeviceID: v.DeviceID}
}

func (s syncToDevice) Append(dst []byte, r *store.Read, v clientsync.Viewer, after store.Slot, limit int) ([]byte, store.Slot, bool, error) {
	messages, last, more, err := s.keys.ToDevice(r, keyDevice(v), after, limit)
	for i, m := range messages {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, m...)
	}
	return dst, last, more, err
}

func (s syncToDevice) Acknowledge(ctx context.Context, v clientsync.Viewer, upTo store.Slot) error {
	return s.keys.Acknowledge(ctx, keyDevice(v), upTo)
}

type syncPresence struct{ presence *ephemeral.Presence }

func (s syncPresence) Seen(ctx context.Context, v clientsync.Viewer, wish string) {
	s.presence.Seen(ctx, ephemeral.User{ID: v.UserID, Num: v.UserNum}, wish)
}

type syncAccountData struct{ data *userdata.Data }

func (s syncAccountData) Changed(r *store.Read, v clientsync.Viewer, after store.Slot) ([]clientsync.Datum, error) {
	user := userdata.User{ID: v.UserID, Num: v.UserNum}
	var entries []userdata.Entry
	var err error
	if after == 0 {
		entries, err = s.data.All(r, user)
	} else {
		entries, err = s.data.After(r, user, after)
	}
	if err != nil {
		return nil, err
	}
	out := make([]clientsync.Datum, len(entries))
	for i, e := range entries {
		out[i] = clientsync.Datum{RoomID: e.RoomID, Type: e.Type, Content: e.Content}
	}
	return out, nil
}

func (s syncAccountData) Ignored(r *store.Read, v clientsync.Viewer) ([]id.UserID, error) {
	return s.data.Ignored(r, v.UserNum)
}

type syncFilters struct{ data *userdata.Data }

func (s syncFilters) Filter(ctx context.Context, v clientsync.Viewer, filterID string) ([]byte, error) {
	var filter json.RawMessage
	filter, err := s.data.Filter(ctx, userdata.User{ID: v.UserID, Num: v.UserNum}, filterID)
	return filter, err
}

// readMarks keeps the marks of package ephemeral as account data.
type readMarks struct{ data *userdata.Data }

func (m readMarks) SetFullyRead(ctx context.Context, user ephemeral.User, roomID id.RoomID, eventID id.EventID) error {
	return m.data.SetFullyRead(ctx, userdata.User{ID: user.ID, Num: user.Num}, roomID, eventID)
}
