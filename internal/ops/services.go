package ops

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"stoa/internal/account"
	"stoa/internal/auth"
	"stoa/internal/cluster"
	"stoa/internal/config"
	"stoa/internal/room"
	"stoa/internal/serverkey"
	"stoa/internal/store"
	"stoa/internal/userdata"
	"stoa/matrix/id"
	"stoa/matrix/signing"
)

// services are the packages that commands and the server share, put together.
type services struct {
	publicURL string
	busName   string // of this process among those on the database
	store     *store.Store
	signer    *signing.Signer
	sessions  *auth.Sessions
	accounts  *account.Accounts
	rooms     *room.Rooms
	data      *userdata.Data
	cluster   *cluster.Cluster // joined by the server only
}

// openServices opens the store and builds what stands on it. It starts nothing
// that waits.
func openServices(ctx context.Context, cfg *config.Config, log *slog.Logger) (*services, error) {
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory (data_dir): %w", err)
	}
	name := busName()
	st, err := store.Open(ctx, store.Options{
		URL:            cfg.Database,
		ServerName:     cfg.ServerName.String(),
		Log:            log,
		UnsafeDatabase: cfg.UnsafeDatabase,
		NotifyChannel:  notifyChannel(cfg),
		NotifyName:     name,
	})
	if err != nil {
		return nil, adviseStore(cfg, err)
	}
	s := &services{publicURL: cfg.PublicURL, busName: name, store: st, sessions: auth.NewSessions()}
	if s.signer, err = serverkey.Load(ctx, st, cfg.ServerName, cfg.SecretKey.Reveal(), time.Now()); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	s.cluster, err = cluster.New(cluster.Options{
		Store: st, Name: cfg.Instance, Listen: cfg.ClusterListen, Version: Version(), Log: log,
	})
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	s.data = userdata.New(userdata.Options{
		Store:         st,
		RulesChanged:  func(user id.UserID) { s.rooms.PushRulesChanged(user) },
		RulesFollowed: func(user id.UserID) { s.rooms.FollowRules(user) },
	})
	s.rooms, err = room.New(room.Options{
		Store: st, Signer: s.signer, DefaultVersion: cfg.RoomVersion, Log: log,
		Profiles: account.Directory{Store: st}, PushRules: userdata.ForRooms{Data: s.data},
		IsHome: func(roomID id.RoomID) bool { return s.cluster.IsHome(roomID.String()) },
	})
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	s.accounts = account.New(account.Options{
		Store: st, ServerName: cfg.ServerName, Sessions: s.sessions, Rooms: s.rooms, Log: log,
	})
	return s, nil
}

func (s *services) close() error { return s.store.Close() }

// adviseStore says what to do about a store that did not open.
func adviseStore(cfg *config.Config, err error) error {
	switch {
	case errors.Is(err, store.ErrInUse):
		return fmt.Errorf("%w\nAnother server has %s open; stop it first, or give this one another data_dir", err, cfg.Database)
	case errors.Is(err, store.ErrOtherServer):
		return fmt.Errorf("%w\nSet STOA_SERVER_NAME to the name that the database belongs to, or give another data_dir or database", err)
	case errors.Is(err, store.ErrTooOld):
		return fmt.Errorf("%w\nA newer stoa has upgraded the database and this one (%s) can't work with it any more: start that version or a newer one", err, Version())
	case errors.Is(err, store.ErrOldInstances):
		return fmt.Errorf("%w\nUpgrade or stop them first; an instance that was killed counts for 6 s more. 'stoa cluster status' lists them", err)
	case errors.Is(err, store.ErrUnsafe):
		return fmt.Errorf("%w\nTurn fsync and synchronous_commit on in PostgreSQL, or set STOA_UNSAFE_DATABASE=true if messages may be lost", err)
	}
	return err
}
