package push

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"stoa/internal/account"
	"stoa/internal/history"
	"stoa/internal/store"
	"stoa/internal/who"
	"stoa/matrix/pushrule"
)

// Rules has the push rules of users.
type Rules interface {
	// Compiled returns a local user's compiled rules, with those whom the user ignores.
	Compiled(r *store.Read, user who.User) (*pushrule.Rules, error)
}

// Unread counts unread events.
type Unread interface {
	// Unread is the number of events in all rooms of a user that notify and are unread.
	Unread(r *store.Read, user who.User) (int64, error)
}

// Client sends requests to addresses that users name. An *outbound.Client is one.
type Client interface {
	Do(r *http.Request) (*http.Response, error)
}

// Options are what a Push needs.
type Options struct {
	Store    *store.Store
	Accounts *account.Accounts
	Rules    Rules
	Unread   Unread
	History  *history.Reader
	// Client must follow no redirects.
	Client Client
	// AllowPrivate accepts gateways without TLS, as they are found in private networks.
	AllowPrivate bool
	// Timeout bounds a request; 0 = 10 s.
	Timeout time.Duration
	// Backoff is the pause between the tries of a pusher; zero = 2 s to 1 h.
	Backoff Backoff
	// MaxQueue bounds the notifications that wait for a pusher; 0 = 1,000.
	MaxQueue int
	Log      *slog.Logger // nil = none
}

// Push keeps pushers and notifies their gateways.
type Push struct {
	opt      Options
	store    *store.Store
	accounts *account.Accounts
	log      *slog.Logger
	metrics  metrics
	gateways *gateways
	answered answeredSet
	counts   shownCounts

	running  context.Context // of the requests; Run ends it
	stop     context.CancelFunc
	mu       sync.Mutex // guards ended, and that nothing is added to requests after it is set
	ended    bool
	requests sync.WaitGroup // the goroutines that make them
}

// New returns a Push. Its Reader and Jobs do the work; Run ends it.
func New(opt Options) *Push {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Timeout == 0 {
		opt.Timeout = 10 * time.Second
	}
	if opt.Backoff == (Backoff{}) {
		opt.Backoff = Backoff{2 * time.Second, time.Hour}
	}
	if opt.MaxQueue == 0 {
		opt.MaxQueue = maxQueue
	}
	p := &Push{opt: opt, store: opt.Store, accounts: opt.Accounts, log: opt.Log, metrics: newMetrics()}
	p.gateways = newGateways(opt.Store.Now)
	p.running, p.stop = context.WithCancel(context.Background()) // a request outlives the batch that begins it
	return p
}

// Run returns when ctx has ended and no request is under way any more. Those that are get a short time for their answers.
func (p *Push) Run(ctx context.Context) error {
	<-ctx.Done()
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	t := time.AfterFunc(stopTime, p.stop)
	defer t.Stop()
	p.requests.Wait()
	p.stop()
	return nil
}

// begin runs a function in a goroutine, unless the server stops.
func (p *Push) begin(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		p.requests.Go(f)
	}
	return !p.ended
}
