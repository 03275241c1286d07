package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"stoa/internal/account"
	"stoa/internal/auth"
	"stoa/internal/cluster"
	"stoa/internal/config"
	"stoa/internal/history"
	"stoa/internal/mail"
	"stoa/internal/media"
	"stoa/internal/notice"
	"stoa/internal/room"
	"stoa/internal/serverkey"
	"stoa/internal/store"
	"stoa/internal/threepid"
	"stoa/internal/userdata"
	"stoa/matrix/id"
)

// Services are the assembled packages that the server and commands share.
type Services struct {
	Config   *config.Config
	Store    *store.Store
	Sessions *auth.Sessions
	Accounts *account.Accounts
	Rooms    *room.Rooms
	History  *history.Reader
	Data     *userdata.Data
	Rules    *userdata.Rules  // push rules, compiled
	Cluster  *cluster.Cluster // only a Server joins it
	Mail     *mail.Mailer
	Notices  *notice.Notices

	Addresses *threepid.Threepids

	// Media opens the media, once. It makes their folder.
	Media func() (*media.Media, error)

	clock   func() time.Time
	busName string // of this process among those on the database
	owned   bool   // Close closes the store
}

// OpenServices opens the store and builds the services on it. It starts no goroutines.
func OpenServices(ctx context.Context, opt Options) (*Services, error) {
	opt.setDefaults()
	if err := os.MkdirAll(opt.Config.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory (data_dir): %w", err)
	}
	s := &Services{Config: opt.Config, Store: opt.Store, Sessions: auth.NewSessions(), busName: busName(), owned: opt.Store == nil}
	if s.owned {
		var err error
		if s.Store, err = openStore(ctx, opt, s.busName); err != nil {
			return nil, err
		}
	}
	if opt.Clock == nil {
		opt.Clock = s.Store.Now
	}
	s.clock = opt.Clock
	s.Media = sync.OnceValues(func() (*media.Media, error) { return newMedia(opt, s.Store) })
	if err := s.build(ctx, opt); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func openStore(ctx context.Context, opt Options, busName string) (*store.Store, error) {
	cfg := opt.Config
	st, err := store.Open(ctx, store.Options{
		URL:            cfg.Database,
		ServerName:     cfg.ServerName.String(),
		Log:            opt.Log,
		UnsafeDatabase: cfg.UnsafeDatabase,
		CacheBytes:     shareOfMemory(192<<20, 32),
		NotifyChannel:  notifyChannel(cfg),
		NotifyName:     busName,
	})
	if err != nil {
		return nil, adviseStore(opt, err)
	}
	return st, nil
}

// build builds the services on the store.
func (s *Services) build(ctx context.Context, opt Options) error {
	cfg := opt.Config
	signer, err := serverkey.Load(ctx, s.Store, cfg.ServerName, cfg.SecretKey.Reveal(), opt.Clock())
	if err != nil {
		return err
	}
	s.Cluster, err = cluster.New(cluster.Options{
		Store: s.Store, Name: cfg.Instance, Listen: cfg.ClusterListen, Version: opt.Version, Log: opt.Log,
	})
	if err != nil {
		return err
	}
	s.Rules = userdata.NewRules(s.Store)
	s.Rooms, err = room.New(room.Options{
		Store: s.Store, Signer: signer, DefaultVersion: cfg.RoomVersion, Clock: opt.Clock, Log: opt.Log,
		Profiles: account.Directory{Store: s.Store}, PushRules: s.Rules,
		ResidentBytes: shareOfMemory(96<<20, 64), EventBytes: int(shareOfMemory(32<<20, 64)),
		IsHome: func(roomID id.RoomID) bool { return s.Cluster.IsHome(roomID.String()) },
	})
	if err != nil {
		return err
	}
	s.History = history.New(s.Store, s.Rooms)
	s.Data = userdata.New(userdata.Options{Store: s.Store, Rules: s.Rules, Rooms: s.Rooms})
	s.Accounts = account.New(account.Options{
		Store: s.Store, ServerName: cfg.ServerName, Sessions: s.Sessions, RoomsWait: opt.roomsWait, Hasher: opt.Hasher,
		MinPassword: int(cfg.PasswordMinLength), NameNew: bool(cfg.LocalpartAsDisplayName), Clock: opt.Clock, Log: opt.Log,
	})
	s.Notices = notice.New(notice.Options{
		Store: s.Store, Accounts: s.Accounts, Rooms: s.Rooms, Tags: s.Data, Name: cfg.NoticeName, MayLeave: cfg.NoticeMayLeave,
	})
	if s.Mail, err = newMailer(s, opt); err != nil {
		return err
	}
	s.Addresses = threepid.New(threepid.Options{
		Store: s.Store, Accounts: s.Accounts, Mail: s.Mail, PublicURL: cfg.PublicURL, NextLinkHosts: cfg.MailNextLinkHosts,
	})
	return nil
}

// Close closes the store, unless the options provided it.
func (s *Services) Close() error {
	if !s.owned {
		return nil
	}
	return s.Store.Close()
}

// adviseStore adds to an error of opening the store how to fix it.
func adviseStore(opt Options, err error) error {
	switch {
	case errors.Is(err, store.ErrInUse):
		return fmt.Errorf("%w\nAnother server has %s open; stop it first, or give this one another data_dir", err, opt.Config.Database)
	case errors.Is(err, store.ErrOtherServer):
		return fmt.Errorf("%w\nSet STOA_SERVER_NAME to the name that the database belongs to, or give another data_dir or database", err)
	case errors.Is(err, store.ErrTooOld):
		return fmt.Errorf("%w\nA newer stoa has upgraded the database and this one (%s) can't work with it any more: start that version or a newer one", err, opt.Version)
	case errors.Is(err, store.ErrOldInstances):
		return fmt.Errorf("%w\nUpgrade or stop them first; an instance that was killed counts for 6 s more. 'stoa cluster status' lists them", err)
	case errors.Is(err, store.ErrUnsafe):
		return fmt.Errorf("%w\nTurn fsync and synchronous_commit on in PostgreSQL, or set STOA_UNSAFE_DATABASE=true if messages may be lost", err)
	}
	return err
}
