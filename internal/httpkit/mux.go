package httpkit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"sort"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"stoa/matrix/mxerr"
)

// Limit is the class of a route. It determines the bound on requests in progress, and the
// rate limit for each client address.
type Limit uint8

const (
	// LimitPlain is for requests that are answered as soon as possible.
	LimitPlain Limit = iota
	// LimitLongPoll is for requests that may wait for an event.
	LimitLongPoll
	// LimitLogin is for requests with which a client could guess a password or a token.
	LimitLogin
	// LimitRegister is for requests that may create an account.
	LimitRegister
	// LimitLookup is for requests that need no account.
	LimitLookup
	// LimitProbe is for the health checks of balancers and clients. They have no limit,
	// since they have no body and cost very little.
	LimitProbe

	limitClasses = int(LimitProbe) + 1
)

// String is the class as the label of a metric.
func (l Limit) String() string {
	switch l {
	case LimitLongPoll:
		return "long_poll"
	case LimitLogin:
		return "login"
	case LimitRegister:
		return "register"
	case LimitLookup:
		return "lookup"
	case LimitProbe:
		return "probe"
	default:
		return "plain"
	}
}

// Route is one line of an API's list of routes.
//
// Pattern is a path whose segments are literal, "{name}" for one nonempty segment, or a
// final "{name...}" for the rest (without its leading slash, possibly empty). A pattern
// that ends in "/" matches only a path that does. A literal segment takes precedence over
// a value. A route for GET also serves HEAD.
type Route struct {
	Method  string
	Pattern string
	Handler http.Handler
	Limit   Limit
	// Token says that the caller must have an access token, which is checked before the
	// body is read; see Options.Identify.
	Token bool
	// QueryToken says that the parameter access_token of the query is what the endpoint is
	// about, whatever Options.QueryTokens says. The handler finds it with BearerToken.
	QueryToken bool
	// Rate is the user limit for the request; see Options.UserLimits. On a route without
	// Token it applies instead of the limit of the address to callers who have a valid
	// access token.
	Rate Rate
	// Large reports whether the answer to a request may be large, so that it must wait for
	// memory; nil = never. See Options.Answers.
	Large func(*http.Request) bool
	// MaxBody is the limit of the body in bytes. 0 is MaxBody, or 64 KiB if
	// Options.Identify is set and the route has no Token.
	MaxBody int64
	// Stream says that the handler reads the body in pieces, as it arrives, and limits
	// its size. The body takes nothing of the budget for bodies, and the request has its
	// slot while the body arrives.
	Stream bool
	// Home is the name of the path value that identifies the changed object, if the
	// object's home should serve the request; see Options.Forward.
	Home string
	// NoBarrier says that the answer does not depend on data that another instance may
	// have changed; see Options.Barrier.
	NoBarrier bool
}

// Options configure a Mux. The zero value works.
type Options struct {
	// Log gets one line for each fault and, at level debug, for each request.
	Log *slog.Logger
	// Instance is sent as X-Stoa-Instance; empty = no header.
	Instance string
	// Registerer registers the request metrics; nil = none.
	Registerer prometheus.Registerer
	// TrustedProxies are the peers whose X-Forwarded-For is trusted. Peers on a Unix
	// socket are always trusted.
	TrustedProxies []netip.Prefix
	// Clock is the clock; nil = time.Now.
	Clock func() time.Time
	// Translate maps an error of a lower layer, such as a full queue of the store, to an
	// errcode. nil or a nil result means a fault.
	Translate func(error) *mxerr.Error
	// AddressLimits are the rate limits for each client address by class; a class without
	// an entry has none. See DefaultAddressLimits.
	AddressLimits map[Limit]*Limiter
	// ReportLimits counts the requests above AddressLimits, and refuses none.
	ReportLimits bool
	// QueryTokens accepts access tokens in the query. They are always removed from it.
	QueryTokens bool
	// Times are the timeouts for bodies and answers; zero = DefaultTimes.
	Times Times
	// InFlight bounds the requests of a class in progress; a class without an entry uses
	// defaultInFlight.
	InFlight map[Limit]int
	// Share also bounds the requests in progress of one user, or of one address without a
	// token.
	Share bool
	// UserLimits limits routes with Token and a Rate; nil = no limits.
	UserLimits *UserLimits
	// Bodies bounds the memory of the bodies in progress, in bytes; 0 = 64 MiB.
	Bodies int64
	// Answers bounds the memory of large answers in progress; nil = one of 128 MiB.
	Answers *AnswerBudget
	// Identify returns the name of the caller of a route with Token, or the error for the
	// answer. It is called before the body is read. Handlers look up further details
	// themselves. nil = no check.
	Identify func(*http.Request) (user string, err error)
	// Forward gets requests of routes with a Home; nil = this instance serves all.
	Forward Forwarder
	// Barrier waits until this instance knows everything that was acknowledged before the
	// call, or fails after at most 10 s. It is called before the handler of each route
	// without NoBarrier; nil = there is no other instance.
	Barrier func(ctx context.Context) error
}

// defaultInFlight bounds the requests of a class in progress; further ones get 503. Long
// polls only need memory, so many may wait.
var defaultInFlight = [limitClasses]int64{
	LimitPlain:    4096,
	LimitLongPoll: 100_000,
	LimitLogin:    256,
	LimitRegister: 256,
	LimitLookup:   1024,
}

// Mux finds the route of a request and serves it. It is built with all routes and
// immutable afterwards.
type Mux struct {
	queryTokens bool
	log         *slog.Logger
	instance    []string
	trusted     []netip.Prefix
	clock       func() time.Time
	translate   func(error) *mxerr.Error
	times       Times
	forward     Forwarder
	barrier     func(ctx context.Context) error
	identify    func(*http.Request) (string, error)
	admission   admission
	answers     *AnswerBudget
	userLimits  *UserLimits
	limiters    [limitClasses]*Limiter
	limited     [limitClasses]atomic.Uint64 // by limiters
	onlyReport  bool                        // limiters refuse nothing
	inFlight    [limitClasses]struct{ now, max atomic.Int64 }
	requestID   requestIDs
	parked      string // the start of answers to parked requests; see parkedHead
	metrics     *metrics
	root        node
	unknown     *mountedRoute // counts requests without a route
	preflight   *mountedRoute // counts OPTIONS
}

// mountedRoute is a Route in a Mux.
type mountedRoute struct {
	Route
	mux     *Mux
	names   []string // of the path values, in order
	handler http.Handler
	counts  *routeCounts
}

// node is one segment of the tree of patterns.
type node struct {
	literal map[string]*node
	value   *node
	rest    []*mountedRoute // of a final {name...}
	routes  []*mountedRoute // that end here, one for each method
}

// NewMux returns a Mux with some routes. An error names the route that is malformed or a
// duplicate.
func NewMux(opts Options, routes ...[]Route) (*Mux, error) {
	m := &Mux{
		log: opts.Log, trusted: opts.TrustedProxies, clock: opts.Clock, translate: opts.Translate,
		forward: opts.Forward, barrier: opts.Barrier, identify: opts.Identify, userLimits: opts.UserLimits, queryTokens: opts.QueryTokens,
		onlyReport: opts.ReportLimits,
		admission:  admission{budget: opts.Bodies, shared: opts.Share, holders: map[string]*holder{}},
	}
	if m.admission.budget == 0 {
		m.admission.budget = bodyBudget
	}
	if m.answers = opts.Answers; m.answers == nil {
		m.answers = NewAnswerBudget(0)
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	if m.clock == nil {
		m.clock = time.Now
	}
	if m.times = opts.Times; m.times == (Times{}) {
		m.times = DefaultTimes
	}
	if opts.Instance != "" {
		m.instance = []string{opts.Instance}
	}
	for class := range m.inFlight {
		m.inFlight[class].max.Store(defaultInFlight[class])
		if n, ok := opts.InFlight[Limit(class)]; ok {
			m.inFlight[class].max.Store(int64(n))
		}
		m.limiters[class] = opts.AddressLimits[Limit(class)]
	}
	m.requestID.init(opts.Instance)
	m.parked = m.parkedHead()
	m.metrics = newMetrics(m)
	m.unknown = &mountedRoute{mux: m, Route: Route{Pattern: "unknown"}, handler: Adapt(unrecognized)}
	m.unknown.counts = m.metrics.route("", "unknown")
	m.preflight = &mountedRoute{mux: m, Route: Route{Method: http.MethodOptions, Pattern: "any"}, handler: http.HandlerFunc(preflight)}
	m.preflight.counts = m.metrics.route(http.MethodOptions, "any")
	for _, list := range routes {
		for _, r := range list {
			if err := m.add(r); err != nil {
				return nil, fmt.Errorf("route %s %s: %w", r.Method, r.Pattern, err)
			}
		}
	}
	if opts.Registerer != nil {
		if err := opts.Registerer.Register(m.metrics); err != nil {
			return nil, fmt.Errorf("register request metrics: %w", err)
		}
	}
	return m, nil
}

func unrecognized(*http.Request) (Empty, error) { return Empty{}, mxerr.Unrecognized() }

// preflight answers OPTIONS on any path; the cross-origin headers are already set.
func preflight(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }

func (m *Mux) add(r Route) error {
	if r.Method == "" || r.Handler == nil || !strings.HasPrefix(r.Pattern, "/") {
		return errors.New("a method, a pattern beginning with / and a handler are needed")
	}
	if int(r.Limit) >= limitClasses {
		return fmt.Errorf("unknown limit class %d", r.Limit)
	}
	if r.Home != "" && !strings.Contains(r.Pattern, "{"+r.Home+"}") {
		return fmt.Errorf("its home is %q, which is no value of the path", r.Home)
	}
	if r.MaxBody == 0 {
		r.MaxBody = MaxBody
		if m.identify != nil && !r.Token {
			r.MaxBody = openBody
		}
	}
	ready := &mountedRoute{Route: r, mux: m, handler: r.Handler, counts: m.metrics.route(r.Method, r.Pattern)}
	at := &m.root
	segments := strings.Split(r.Pattern[1:], "/")
	for i, segment := range segments {
		name, isValue := strings.CutPrefix(segment, "{")
		if !isValue {
			if at.literal == nil {
				at.literal = map[string]*node{}
			}
			next := at.literal[segment]
			if next == nil {
				next = &node{}
				at.literal[segment] = next
			}
			at = next
			continue
		}
		name, closed := strings.CutSuffix(name, "}")
		if !closed || name == "" {
			return fmt.Errorf("segment %q is not {name}", segment)
		}
		if all, ok := strings.CutSuffix(name, "..."); ok {
			if i != len(segments)-1 {
				return fmt.Errorf("segment %q must be the last", segment)
			}
			ready.names = append(ready.names, all)
			return insert(&at.rest, ready)
		}
		if len(ready.names) == maxValues-1 {
			return fmt.Errorf("more than %d values", maxValues-1)
		}
		ready.names = append(ready.names, name)
		if at.value == nil {
			at.value = &node{}
		}
		at = at.value
	}
	return insert(&at.routes, ready)
}

func insert(list *[]*mountedRoute, r *mountedRoute) error {
	for _, other := range *list {
		if other.Method == r.Method {
			return errors.New("stands twice")
		}
	}
	*list = append(*list, r)
	return nil
}

// maxValues bounds the values of one pattern.
const maxValues = 8

// match is a search in the tree, with the values found so far.
type match struct {
	path    string // the path without its first slash
	escaped bool   // whether path still has percent escapes
	values  [maxValues]string
	n       int
}

// find returns the routes of the path, or nil. It tries a literal segment first.
func (s *match) find(at *node, path string) []*mountedRoute {
	segment, rest, more := strings.Cut(path, "/")
	if s.escaped {
		var err error
		if segment, err = url.PathUnescape(segment); err != nil {
			return nil
		}
	}
	if next := at.literal[segment]; next != nil {
		if !more {
			if next.routes != nil {
				return next.routes
			}
		} else if found := s.find(next, rest); found != nil {
			return found
		}
	}
	if at.value != nil && segment != "" {
		s.values[s.n] = segment
		s.n++
		if !more {
			if at.value.routes != nil {
				return at.value.routes
			}
		} else if found := s.find(at.value, rest); found != nil {
			return found
		}
		s.n--
	}
	if at.rest == nil {
		return nil
	}
	if s.escaped {
		var err error
		if path, err = url.PathUnescape(path); err != nil {
			return nil
		}
	}
	s.values[s.n] = path
	s.n++
	return at.rest
}

// lookup finds the route of a request and sets its path values. The error is the answer
// if there is none.
func (m *Mux) lookup(r *http.Request) (*mountedRoute, error) {
	s := match{path: r.URL.Path}
	if r.URL.RawPath != "" {
		s.path, s.escaped = r.URL.RawPath, true
	}
	if !strings.HasPrefix(s.path, "/") {
		return m.unknown, mxerr.Unrecognized()
	}
	routes := s.find(&m.root, s.path[1:])
	if routes == nil {
		return m.unknown, mxerr.Unrecognized()
	}
	found := ofMethod(routes, r.Method)
	if found == nil {
		return m.unknown, mxerr.UnrecognizedMethod()
	}
	for i, name := range found.names {
		value := s.values[i]
		if !isText(value) {
			return found, mxerr.InvalidParam("The path value %s is not valid UTF-8 text", name)
		}
		r.SetPathValue(name, value)
	}
	return found, nil
}

func ofMethod(routes []*mountedRoute, method string) *mountedRoute {
	for _, r := range routes {
		if r.Method == method {
			return r
		}
	}
	if method == http.MethodHead {
		return ofMethod(routes, http.MethodGet)
	}
	return nil
}

// isText reports whether s is UTF-8 without NUL. No identifier may contain anything else,
// and a database can't store it in a text column.
func isText(s string) bool {
	return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
}

// Patterns lists "METHOD pattern" of all routes, sorted.
func (m *Mux) Patterns() []string {
	var all []string
	var walk func(*node)
	walk = func(n *node) {
		for _, list := range [][]*mountedRoute{n.routes, n.rest} {
			for _, r := range list {
				all = append(all, r.Method+" "+r.Pattern)
			}
		}
		for _, next := range n.literal {
			walk(next)
		}
		if n.value != nil {
			walk(n.value)
		}
	}
	walk(&m.root)
	sort.Strings(all)
	return all
}
