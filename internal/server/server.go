// Package server assembles the packages of a server, and starts and stops it.
//
// It owns the order of construction, the adapters between independent packages, the
// listeners, and the drain. Each package gets its dependencies in its options; none are
// set later. It never implements a request or a command: the domain packages do.
//
// The invariant: nothing is served before the store is open, the schema is checked and
// the instance has joined the cluster, and no acknowledged change is lost when the server
// stops.
package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"stoa/internal/account"
	"stoa/internal/auth"
	"stoa/internal/blob"
	"stoa/internal/bus"
	"stoa/internal/clientapi"
	"stoa/internal/clientsync"
	"stoa/internal/cluster"
	"stoa/internal/config"
	"stoa/internal/directory"
	"stoa/internal/e2ee"
	"stoa/internal/ephemeral"
	"stoa/internal/fedapi"
	"stoa/internal/httpkit"
	"stoa/internal/media"
	"stoa/internal/parking"
	"stoa/internal/preview"
	"stoa/internal/push"
	"stoa/internal/reader"
	"stoa/internal/search"
	"stoa/internal/slidingsync"
	"stoa/internal/store"
	"stoa/internal/streamcache"
	"stoa/internal/telemetry"
	"stoa/internal/webui"
	"stoa/matrix/mxerr"
)

// Options configure a server. Only Config is required.
type Options struct {
	Config *config.Config
	// Log is the log; nil = none.
	Log *slog.Logger
	// Version is the version that operators and other instances see.
	Version string
	// Control returns the routes of the control socket in the data directory; nil = no
	// such socket.
	Control func(*Services) []httpkit.Route

	// Store is used instead of the one in Config, and not closed at the end; nil = open
	// and close the one in Config.
	Store *store.Store
	// Clock is the clock; nil = that of the database, so that all instances have the same
	// time.
	Clock func() time.Time
	// GatewayCAs are the authorities to trust for push gateways; nil = those of the system.
	GatewayCAs *x509.CertPool
	// GatewayTimeout bounds requests to push gateways; 0 = the default.
	GatewayTimeout time.Duration
	// Hasher hashes passwords; nil = the default.
	Hasher *account.Hasher

	// Media changes the options of package media; nil = nothing. Tests break disks and
	// buckets with it.
	Media func(*media.Options)

	// roomsWait bounds how long requests wait for their jobs in rooms. It is set for a
	// server and 0 for commands.
	roomsWait time.Duration
}

// roomsWait bounds how long a request waits for the jobs in rooms that it enqueues. Most
// are done within milliseconds.
const roomsWait = 10 * time.Second

func (o *Options) setDefaults() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Server owns the listeners and the background goroutines.
type Server struct {
	opt      Options
	services *Services
	registry *prometheus.Registry
	health   *telemetry.Health
	draining atomic.Bool
	asked    healthChecks
	failed   <-chan error // receives the first failure of the goroutines

	client, federation, control http.Handler // control is nil if Options.Control is

	auth       *auth.Auth
	workers    *parking.WorkerPool
	stream     *streamcache.Cache
	renderer   *clientsync.Renderer
	sliding    *slidingsync.Renderer
	reader     *reader.Runner
	media      *media.Media
	bus        *bus.Bus                      // nil on SQLite, which has one instance
	background []func(context.Context) error // run beside requests, until the last was answered
	halt       context.CancelFunc            // ends them

	headerLimits *httpkit.HeaderLimits // nil without rate limits

	servers []*httpkit.Server // in the order in which they open, the client listener first
	runs    errorGroup
}

// New opens the store and builds a server. It starts no goroutines; Open and Start do.
func New(ctx context.Context, opt Options) (*Server, error) {
	opt.setDefaults()
	opt.roomsWait = roomsWait
	s, err := OpenServices(ctx, opt)
	if err != nil {
		return nil, err
	}
	opt.Clock = s.clock
	srv := &Server{opt: opt, services: s, registry: telemetry.NewRegistry(), health: &telemetry.Health{}, workers: parking.NewWorkerPool()}
	if err := srv.build(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return srv, nil
}

// Services returns the packages that the server shares with commands.
func (srv *Server) Services() *Services { return srv.services }

// Handler is the handler of the client listener.
func (srv *Server) Handler() http.Handler { return srv.client }

// Auth identifies callers.
func (srv *Server) Auth() *auth.Auth { return srv.auth }

// Metrics returns the metrics of this server.
func (srv *Server) Metrics() prometheus.Gatherer { return srv.registry }

// Failed returns a channel with the first failure of the goroutines that Start began.
func (srv *Server) Failed() <-chan error { return srv.failed }

// parts are the packages of a server that commands don't need.
type parts struct {
	limits   *httpkit.UserLimits // nil if they are off
	answers  *httpkit.AnswerBudget
	callers  *auth.Auth
	keys     *e2ee.Keys
	typing   *ephemeral.Typing
	presence *ephemeral.Presence
	media    *media.Media
	push     *push.Push
	previews *preview.Previews
	search   *search.Search
}

func (srv *Server) build() error {
	s, opt := srv.services, srv.opt
	if err := srv.makeBus(); err != nil {
		return err
	}
	p := parts{
		callers: auth.New(auth.Options{
			Store: s.Store, Accounts: s.Accounts, Sessions: s.Sessions, Clock: opt.Clock, Log: opt.Log, RateLimits: opt.Config.RateLimits != config.LimitsOff, OnlyReport: opt.Config.RateLimits == config.LimitsReport,
		}),
		answers:  httpkit.NewAnswerBudget(answerBudget()),
		keys:     e2ee.New(e2ee.Options{Store: s.Store, ServerName: opt.Config.ServerName, Clock: opt.Clock, Log: opt.Log}),
		typing:   ephemeral.NewTyping(s.Store, opt.Clock, srv.peerBus()),
		presence: ephemeral.NewPresence(s.Store, opt.Clock, opt.Log, srv.peerBus()),
	}
	if cfg := opt.Config; cfg.RateLimits != config.LimitsOff && cfg.UserLimits != config.LimitsOff {
		p.limits = httpkit.NewUserLimits(cfg.UserLimits == config.LimitsReport || cfg.RateLimits == config.LimitsReport, opt.Clock)
		if err := srv.registry.Register(p.limits); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	srv.auth, srv.stream = p.callers, srv.newStream(p)
	srv.renderer = srv.newRenderer(p)
	srv.sliding = srv.newSliding(p)
	var err error
	if p.media, err = s.Media(); err != nil {
		return err
	}
	p.push = srv.newPush()
	p.previews = srv.newPreviews(p)
	p.search = search.New(search.Options{Store: s.Store, History: s.History})
	srv.reader, err = reader.New(reader.Options{
		Store: s.Store, Cluster: s.Cluster, Announce: srv.announceJob, Log: opt.Log,
		Readers: []reader.Reader{
			p.push.Reader(),
			p.search.Reader(),
		},
		Kinds: slices.Concat(
			s.Rooms.Jobs(),
			s.Mail.Jobs(),
			p.search.Jobs(),
			s.Notices.Jobs(),
			p.push.Jobs(),
			p.media.Jobs(),
			srv.housekeeping(p),
		),
	})
	if err != nil {
		return err
	}
	srv.subscribe(p)
	srv.background = srv.backgroundOf(p)
	for _, c := range []prometheus.Collector{s.Store, s.Accounts, s.Rooms, s.Rules, p.callers, p.keys, p.push, s.Cluster, s.Mail, srv.reader, p.media, p.previews} {
		if err := srv.registry.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	srv.watchHealth(p)
	return srv.buildHandlers(p)
}

// subscribe sends the stream in memory the changes that it can't read from the store.
// Nothing runs yet.
func (srv *Server) subscribe(p parts) {
	p.typing.OnChange(srv.stream.WakeTyping)
	srv.services.Cluster.OnReplicated(srv.stream.ReceiveGroups)
	srv.subscribePeers()
	if srv.bus != nil && p.limits != nil {
		srv.bus.Subscribe(topicLimits, p.limits.Hear)
	}
}

// backgroundOf returns the goroutines that run beside requests.
func (srv *Server) backgroundOf(p parts) []func(context.Context) error {
	s := srv.services
	runs := []func(context.Context) error{s.Cluster.Run, srv.stream.Run, p.typing.Run, p.presence.Run, srv.reader.Run, p.push.Run, p.media.Run, telemetry.ReturnMemory}
	if srv.bus != nil && p.limits != nil {
		runs = append(runs, func(ctx context.Context) error {
			return p.limits.Share(ctx, func(text []byte) { srv.bus.Publish(topicLimits, text) })
		})
	}
	return append(runs, srv.busRuns()...)
}

// buildHandlers builds the handlers of all listeners.
func (srv *Server) buildHandlers(p parts) (err error) {
	opt := httpkit.Options{
		Log: srv.opt.Log, Instance: srv.opt.Config.Instance, TrustedProxies: srv.opt.Config.TrustedProxies, Translate: translate,
	}
	if srv.opt.Control != nil {
		if srv.control, err = httpkit.NewMux(opt, srv.opt.Control(srv.services)); err != nil {
			return fmt.Errorf("build control routes: %w", err)
		}
	}
	// Of federation, only what needs no other server is served yet.
	if srv.federation, err = httpkit.NewMux(opt, fedRoutes(p)); err != nil {
		return fmt.Errorf("build federation routes: %w", err)
	}
	if srv.client, err = srv.clientMux(opt, p); err != nil {
		return fmt.Errorf("build client routes: %w", err)
	}
	return nil
}

// clientMux serves the client-server API, the web pages, and health checks.
func (srv *Server) clientMux(opt httpkit.Options, p parts) (http.Handler, error) {
	cfg := srv.opt.Config
	pages, err := webui.Routes(webui.Options{
		ServerName: cfg.ServerName, PublicURL: cfg.PublicURL,
		MayRegister: cfg.Registration != config.RegistrationClosed, Terms: terms(cfg.Terms), Auth: p.callers,
		Mail: srv.services.Mail, BounceSecret: cfg.MailBounceSecret.Reveal(), Threepids: srv.services.Addresses,
	})
	if err != nil {
		return nil, err
	}
	opt.Registerer = srv.registry
	opt.Forward = srv.services.Cluster
	opt.QueryTokens = bool(cfg.QueryAccessTokens)
	opt.Identify = p.callers.Name
	opt.Share = cfg.RateLimits == config.LimitsOn
	opt.Bodies, opt.Answers = bodyBudget(), p.answers
	if opt.Share {
		srv.headerLimits = httpkit.NewHeaderLimits(bodyBudget()/2, cfg.TrustedProxies)
		if err := srv.registry.Register(srv.headerLimits); err != nil {
			return nil, err
		}
	}
	if srv.services.Store.Shared() {
		opt.Barrier = srv.stream.Barrier
	}
	if cfg.RateLimits != config.LimitsOff {
		opt.AddressLimits = httpkit.DefaultAddressLimits(srv.opt.Clock)
		opt.ReportLimits = cfg.RateLimits == config.LimitsReport
	}
	opt.UserLimits = p.limits
	api := clientapi.WithRates(srv.newAPI(p).Routes())
	media := srv.mediaRoutes(p)
	return httpkit.NewMux(opt, api, media, clientapi.UnstableRoutes(slices.Concat(api, media)), clientapi.LegacyRoutes(slices.Concat(api, pages)), pages, fedRoutes(p), srv.readiness())
}

// fedRoutes are the routes of the server-server API. The client listener serves them too, for servers without a
// federation listener and behind a proxy.
func fedRoutes(p parts) []httpkit.Route { return fedapi.New(fedapi.Options{Auth: p.callers}).Routes() }

const (
	// mostBodies bounds the memory of request bodies in progress: 64 of the largest
	// ordinary ones.
	mostBodies = 64 << 20
	// bodiesPart is the part of the process's memory that they may use if that is less.
	bodiesPart = 16
)

// bodyBudget is the memory for request bodies.
func bodyBudget() int64 { return shareOfMemory(mostBodies, bodiesPart) }

const (
	// mostAnswers bounds the memory of large answers in progress: 32 pages of events that
	// are being read.
	mostAnswers = 128 << 20
	// answersPart is the part of the process's memory that they may use if that is less.
	answersPart = 8
)

// answerBudget is the memory for large answers.
func answerBudget() int64 { return shareOfMemory(mostAnswers, answersPart) }

func (srv *Server) newAPI(p parts) *clientapi.API {
	s, cfg, clock := srv.services, srv.opt.Config, srv.opt.Clock
	return clientapi.New(clientapi.Options{
		ServerName:   cfg.ServerName,
		PublicURL:    cfg.PublicURL,
		RoomVersion:  cfg.RoomVersion,
		Registration: clientapi.Registration(cfg.Registration),
		SharedSecret: cfg.RegistrationSharedSecret.Reveal(),
		Terms:        terms(cfg.Terms),
		Support:      support(cfg),
		TURNURIs:     cfg.TURNURIs,
		TURNSecret:   cfg.TURNSecret.Reveal(),
		LiveKitURL:   cfg.RTCLiveKitURL,
		Limits:       p.limits,
		Auth:         p.callers,
		Accounts:     s.Accounts,
		Keys:         p.keys,
		Data:         s.Data,
		Push:         p.push,
		Rooms:        s.Rooms,
		History:      s.History,
		Search:       p.search,
		Reports:      srv.newReports(),
		Notices:      s.Notices,
		Directory:    directory.New(directory.Options{Store: s.Store, Rooms: s.Rooms, History: s.History, Clock: clock}),
		Clock:        clock,
		Typing:       p.typing,
		Presence:     p.presence,
		Receipts:     ephemeral.NewReceipts(s.Store, s.History, s.Data, clock),
		Sync:         srv.renderer,
		Sliding:      srv.sliding,
		Stream:       srv.stream,

		Addresses:         s.Addresses,
		RegistrationEmail: clientapi.RegistrationEmail(cfg.RegistrationEmail),
	})
}

// watchHealth adds the conditions under which this instance should get requests.
func (srv *Server) watchHealth(p parts) {
	srv.media = p.media
	srv.health.Add("media", func(context.Context) error { return p.media.Healthy() })
	srv.health.Add("store", func(ctx context.Context) error {
		return srv.services.Store.Read(ctx, func(*store.Read) error { return nil })
	})
	srv.health.Add("disk", func(ctx context.Context) error { return store.Healthy(ctx, srv.services.Store) })
	srv.health.Add("cluster", func(context.Context) error { return srv.services.Cluster.Healthy() })
	srv.health.Add("draining", func(context.Context) error {
		if srv.draining.Load() {
			return errors.New("the server is stopping")
		}
		return nil
	})
}

// translate maps errors of the store to errors that make a client retry.
func translate(err error) *mxerr.Error {
	busy := mxerr.LimitExceeded(time.Second).WithStatus(http.StatusServiceUnavailable)
	switch {
	case errors.Is(err, store.ErrBusy), errors.Is(err, store.ErrConflict):
		return busy
	case errors.Is(err, store.ErrUnreachable), errors.Is(err, store.ErrSnapshotTooOld):
		return mxerr.TryAgain("The server can't reach its database; try again")
	case errors.Is(err, store.ErrFull):
		return mxerr.New(http.StatusInsufficientStorage, mxerr.CodeUnknown, "The disk of the server is full. Nothing can be saved until its administrator makes room.")
	case errors.Is(err, blob.ErrFull):
		return mxerr.New(http.StatusInsufficientStorage, mxerr.CodeUnknown, "The server has no room for uploads. Its administrator must make room.")
	case errors.Is(err, blob.ErrUnreachable):
		return mxerr.TryAgain("The server can't reach its storage for media; try again")
	case errors.Is(err, store.ErrDamaged):
		return mxerr.New(http.StatusServiceUnavailable, mxerr.CodeUnknown, "The database of the server is damaged. Its administrator must repair it.")
	case errors.Is(err, store.ErrClosed), errors.Is(err, store.ErrOutcomeUnknown):
		return mxerr.TryAgain("The server could not finish this request; try again")
	case errors.Is(err, store.ErrDeactivated):
		return mxerr.UnknownToken(false) // as for the next request of this session
	}
	return nil
}

// report describes this instance to the others.
func (srv *Server) report() cluster.Report {
	return cluster.Report{Rooms: srv.services.Rooms.Resident(), Position: srv.stream.Head(), Bus: srv.bus == nil || srv.bus.Healthy()}
}

// Join adds this instance to the cluster.
func (srv *Server) Join(ctx context.Context) error {
	if err := srv.services.Cluster.Join(ctx, srv.client, srv.report); err != nil {
		return err
	}
	// The schema may have changed before the other instances knew of this one.
	return adviseStore(srv.opt, srv.services.Store.CheckSchema(ctx))
}

// Start starts the background goroutines, and serves the listeners that Listen opened.
func (srv *Server) Start() {
	ctx, halt := context.WithCancel(context.Background()) // requests still need these goroutines during the drain
	srv.halt = halt
	for _, f := range srv.background {
		srv.runs.run(func() error { return f(ctx) })
	}
	for _, s := range srv.servers {
		srv.runs.run(s.Serve)
	}
	srv.failed = srv.runs.failed()
}
