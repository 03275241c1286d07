package ops

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"stoa/internal/auth"
	"stoa/internal/bus"
	"stoa/internal/clientapi"
	"stoa/internal/clientsync"
	"stoa/internal/cluster"
	"stoa/internal/config"
	"stoa/internal/directory"
	"stoa/internal/e2ee"
	"stoa/internal/ephemeral"
	"stoa/internal/httpkit"
	"stoa/internal/store"
	"stoa/internal/telemetry"
	"stoa/internal/webui"
	"stoa/matrix/mxerr"
)

func (t *terminal) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the server until it is told to stop (Ctrl-C or SIGTERM)",
		Long: "Runs the server. It needs no settings: data goes to ./data, clients connect to\n" +
			"http://127.0.0.1:8008. stoa.example.yaml shows all settings.",
		Example: "  stoa serve\n  STOA_SERVER_NAME=example.org stoa serve --config /etc/stoa.yaml",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, warnings, err := config.Load(t.config, t.environ)
			if err != nil {
				return fmt.Errorf("the settings are not right:\n%w", err)
			}
			log, closeLog, err := telemetry.NewLog(cfg)
			if err != nil {
				return err
			}
			for _, w := range warnings {
				log.Warn("setting ignored", "err", w)
			}
			sockets, err := inherit()
			if err != nil {
				return err
			}
			telemetry.CollectLess()
			ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			err = t.serve(ctx, stop, cfg, log, sockets)
			return errors.Join(err, closeLog.Close())
		},
	}
}

// serve runs a server until ctx ends, then drains it. stopped is called once
// the drain begins, so that a second signal ends the process at once.
func (t *terminal) serve(ctx context.Context, stopped func(), cfg *config.Config, log *slog.Logger, sockets inherited) error {
	began := time.Now()
	s, err := openServices(ctx, cfg, log)
	if err != nil {
		return err
	}
	srv, err := newServer(cfg, log, s)
	if err != nil {
		return errors.Join(err, s.close())
	}
	if err := s.cluster.Join(ctx, srv.client, srv.report); err != nil {
		return errors.Join(err, srv.stop(log), s.close())
	}
	if err := s.store.CheckSchema(ctx); err != nil { // it may have changed before the others knew of this instance
		return errors.Join(adviseStore(cfg, err), srv.stop(log), s.close())
	}
	if err := srv.listen(sockets); err != nil {
		return errors.Join(err, srv.stop(log), s.close())
	}
	srv.start()
	log.Info("server started", "server", cfg.ServerName.String(), "addr", srv.clientAddr(), "instance", cfg.Instance,
		"version", Version(), "took_ms", time.Since(began).Milliseconds())
	tell(log, tellReady)
	srv.warn(log)
	if err := t.adviseFirstStart(ctx, cfg, s); err != nil {
		log.Warn("look for users", "err", err)
	}

	select {
	case <-ctx.Done():
		log.Info("server stopping", "instance", cfg.Instance)
	case err = <-srv.failed:
		log.Error("a listener failed; server stopping", "err", err)
	}
	stopped()
	tell(log, tellStopping)
	err = errors.Join(err, srv.stop(log), s.close())
	log.Info("server stopped", "instance", cfg.Instance)
	return err
}

// server is what listens and what runs beside requests.
type server struct {
	cfg      *config.Config
	log      *slog.Logger
	services *services
	registry *prometheus.Registry
	health   *telemetry.Health
	draining atomic.Bool
	asked    asked
	failed   <-chan error // gets the first failure of what runs

	client, federation, control http.Handler

	hub        *clientsync.Hub
	bus        *bus.Bus                      // nil on SQLite: nobody else is there
	background []func(context.Context) error // run beside requests, until the last has been answered
	halt       context.CancelFunc            // ends them

	servers []*httpkit.Server // in the order in which they are opened, the client's first
	runs    errorGroup
}

// newServer puts the packages together: each gets what it needs in its options,
// and nothing is set later. This function is the one place where that is done.
func newServer(cfg *config.Config, log *slog.Logger, s *services) (*server, error) {
	srv := &server{cfg: cfg, log: log, services: s, registry: telemetry.NewRegistry(), health: &telemetry.Health{}}

	callers := auth.New(auth.Options{
		Store: s.store, Accounts: s.accounts, Sessions: s.sessions, Log: log, RateLimits: bool(cfg.RateLimits),
	})
	for _, c := range []prometheus.Collector{s.store, s.accounts, s.rooms, callers, s.cluster} {
		if err := srv.registry.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	keys := e2ee.New(e2ee.Options{Store: s.store, ServerName: cfg.ServerName, Clock: time.Now, Log: log})
	if err := srv.makeBus(); err != nil {
		return nil, err
	}
	typing := ephemeral.NewTyping(s.store, time.Now, func(num store.RoomNum, began bool) { srv.hub.WakeTyping(num, began) }, srv.others())
	presence := ephemeral.NewPresence(s.store, time.Now, log, srv.others())
	srv.hub = clientsync.New(clientsync.Options{
		Store: s.store, Log: log, Registerer: srv.registry,
		Sections: []clientsync.Section{
			clientsync.DeviceLists{}, clientsync.KeyCounts{}, clientsync.FallbackTypes{}, clientsync.PresenceEvents{Clock: time.Now},
		},
		ToDevice:    syncToDevice{keys},
		Typing:      typing,
		Presence:    syncPresence{presence},
		AccountData: syncAccountData{s.data},
		Filters:     syncFilters{s.data},
		Unread:      newSyncUnread(s.store, s.data),
		Hand:        s.cluster.Hand,
		Followers:   append(s.followers(), followPresence{presence}),
	})
	srv.hearHeads()
	s.cluster.OnHanded(srv.hub.TakeHanded)
	chores := housekeeping{every: housekeepingEvery, log: log, chores: []chore{
		{"stream and transaction IDs", func(ctx context.Context) error { return s.store.Maintain(ctx, store.Retention{}) }},
		{"claimed one-time keys", keys.Expire},
	}}
	srv.background = []func(context.Context) error{s.cluster.Run, srv.hub.Run, typing.Run, presence.Run, s.rooms.Run, chores.run, telemetry.ReturnMemory}
	srv.background = append(srv.background, srv.busRuns()...)
	api := clientapi.New(clientapi.Options{
		ServerName:   cfg.ServerName,
		PublicURL:    cfg.PublicURL,
		RoomVersion:  cfg.RoomVersion,
		Registration: clientapi.Registration(cfg.Registration),
		SharedSecret: cfg.RegistrationSharedSecret.Reveal(),
		Terms:        terms(cfg.Terms),
		Support:      support(cfg),
		Auth:         callers,
		Accounts:     s.accounts,
		Keys:         keys,
		Data:         s.data,
		Rooms:        s.rooms,
		Directory:    directory.New(directory.Options{Store: s.store, Rooms: s.rooms, Clock: time.Now}),
		Clock:        time.Now,
		Typing:       typing,
		Presence:     presence,
		Receipts:     ephemeral.NewReceipts(s.store, s.rooms, readMarks{s.data}, time.Now),
		Hub:          srv.hub,
	})
	pages, err := webui.Routes(webui.Options{
		ServerName: cfg.ServerName, PublicURL: cfg.PublicURL,
		MayRegister: cfg.Registration != config.RegistrationClosed, Terms: terms(cfg.Terms), Auth: callers,
	})
	if err != nil {
		return nil, fmt.Errorf("build pages: %w", err)
	}

	opts := httpkit.Options{
		Log: log, Instance: cfg.Instance, TrustedProxies: cfg.TrustedProxies, Translate: translate,
	}
	control, err := httpkit.NewMux(opts, controlRoutes(s))
	if err != nil {
		return nil, fmt.Errorf("build control routes: %w", err)
	}
	// What the other servers will ask is not served yet: all of it is answered
	// with 404 M_UNRECOGNIZED.
	federation, err := httpkit.NewMux(opts)
	if err != nil {
		return nil, fmt.Errorf("build federation routes: %w", err)
	}
	opts.Registerer = srv.registry
	opts.Forward = s.cluster
	if s.store.IsPostgres() {
		opts.Barrier = srv.hub.Barrier
	}
	if cfg.RateLimits {
		opts.AddressLimits = httpkit.DefaultAddressLimits(time.Now)
	}
	client, err := httpkit.NewMux(opts, api.Routes(), clientapi.LegacyRoutes(slices.Concat(api.Routes(), pages)), pages, srv.readiness())
	if err != nil {
		return nil, fmt.Errorf("build client routes: %w", err)
	}
	srv.client, srv.federation, srv.control = client, federation, control

	srv.health.Add("store", func(ctx context.Context) error {
		return s.store.Read(ctx, func(*store.Read) error { return nil })
	})
	srv.health.Add("cluster", func(context.Context) error { return s.cluster.Healthy() })
	srv.health.Add("draining", func(context.Context) error {
		if srv.draining.Load() {
			return errors.New("the server is stopping")
		}
		return nil
	})
	return srv, nil
}

// translate gives errors of the store the answer that makes a client try again.
func translate(err error) *mxerr.Error {
	busy := mxerr.LimitExceeded(time.Second).WithStatus(http.StatusServiceUnavailable)
	switch {
	case errors.Is(err, store.ErrBusy), errors.Is(err, store.ErrConflict):
		return busy
	case errors.Is(err, store.ErrUnreachable), errors.Is(err, store.ErrSnapshotTooOld):
		return mxerr.TryAgain("The server can't reach its database; try again")
	case errors.Is(err, store.ErrClosed), errors.Is(err, store.ErrOutcomeUnknown):
		return mxerr.TryAgain("The server could not finish this request; try again")
	}
	return nil
}

// report is what the other instances are told of this one.
func (srv *server) report() cluster.Report {
	return cluster.Report{Rooms: srv.services.rooms.Resident(), Position: srv.hub.Head(), Bus: srv.bus == nil || srv.bus.Healthy()}
}

// listen opens all listeners, so that a server which says that it has started
// can be reached everywhere. What was opened before it started takes the place of
// an address.
func (srv *server) listen(sockets inherited) error {
	cfg := srv.cfg
	if err := srv.open(sockets[socketClient], cfg.ClientListen, srv.client, nil); err != nil {
		return fmt.Errorf("client_listen: %w", err)
	}
	if sockets[socketFederation] != nil && cfg.TLSCert == "" {
		return errors.New("a socket for federation was opened for this server, and it needs tls_cert and tls_key")
	}
	if cfg.FederationListen != "" || sockets[socketFederation] != nil {
		pair, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
		if err != nil {
			return fmt.Errorf("load tls_cert and tls_key: %w", err)
		}
		t := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
		if err := srv.open(sockets[socketFederation], cfg.FederationListen, srv.federation, t); err != nil {
			return fmt.Errorf("federation_listen: %w", err)
		}
	}
	if cfg.AdminListen != "" || sockets[socketAdmin] != nil {
		admin := http.NewServeMux()
		admin.Handle("/", telemetry.AdminHandler(srv.registry, srv.health))
		admin.Handle("GET /cluster", clusterPage(srv.services))
		if err := srv.open(sockets[socketAdmin], cfg.AdminListen, named(cfg.Instance, admin), nil); err != nil {
			return fmt.Errorf("admin_listen: %w", err)
		}
	}
	l, err := listenControl(cfg)
	if err != nil {
		// A path that is too long for a socket, or a second instance on the same
		// folder: the server works, only commands don't reach it.
		srv.log.Warn("commands can't reach this server", "err", err)
		return nil
	}
	srv.servers = append(srv.servers, httpkit.NewServer(l, srv.control, nil, srv.log))
	return nil
}

// named sends the name of the instance with all answers, as a Mux does.
func named(instance string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Stoa-Instance", instance)
		h.ServeHTTP(w, r)
	})
}

func (srv *server) open(l net.Listener, address string, h http.Handler, t *tls.Config) error {
	if l == nil {
		var err error
		if l, err = httpkit.Listen(address); err != nil {
			return err
		}
	}
	srv.servers = append(srv.servers, httpkit.NewServer(l, h, t, srv.log))
	return nil
}

// clientAddr is where clients connect, as a port given as 0 turned out.
func (srv *server) clientAddr() string {
	a := srv.servers[0].Addr()
	if _, ok := a.(*net.UnixAddr); ok {
		return "unix:" + a.String()
	}
	return a.String()
}

// start serves all listeners.
func (srv *server) start() {
	ctx, halt := context.WithCancel(context.Background()) // requests that are drained still need what runs
	srv.halt = halt
	for _, f := range srv.background {
		srv.runs.run(func() error { return f(ctx) })
	}
	for _, s := range srv.servers {
		srv.runs.run(s.Serve)
	}
	srv.failed = srv.runs.failed()
}

// warn tells what an operator should change.
func (srv *server) warn(log *slog.Logger) {
	cfg := srv.cfg
	if cfg.AdminListen != "" && !telemetry.IsLoopback(cfg.AdminListen) {
		log.Warn("admin_listen is open to other machines, and asks nobody who they are", "addr", cfg.AdminListen)
	}
	if cfg.SecretKey == "" {
		log.Warn("secret_key is not set: signing keys lie in the database in the clear")
	}
	if !cfg.RateLimits {
		log.Warn("rate_limits are off: passwords can be guessed at full speed")
	}
	if cfg.FederationAllowPrivate {
		log.Warn("federation_allow_private is on: outsiders can make this server ask private addresses")
	}
}

// adviseFirstStart says what to do next as long as there is no user.
func (t *terminal) adviseFirstStart(ctx context.Context, cfg *config.Config, s *services) error {
	some, err := s.accounts.Any(ctx)
	if err != nil || some {
		return err
	}
	_, err = fmt.Fprintf(t.err, `
There is no user yet. Make the first one, an administrator, in another terminal:

    %s

It prints a password. Log in with any Matrix client on the homeserver

    %s

`, t.again("user create --admin alice"), cfg.PublicURL)
	return err
}
