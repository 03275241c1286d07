package httpkit

import (
	"crypto/rand"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"stoa/internal/parking"
)

// Times are the timeouts of a connection.
type Times struct {
	Header time.Duration // until the header of a request is complete; also for TLS handshakes
	Body   time.Duration // until the body of a request is complete, plus a second for each 16 KiB of it
	Answer time.Duration // until the client has taken a piece of the answer of at most 256 KiB
	Idle   time.Duration // of a connection between requests
}

// DefaultTimes are the timeouts of servers.
var DefaultTimes = Times{Header: 10 * time.Second, Body: 30 * time.Second, Answer: 30 * time.Second, Idle: 120 * time.Second}

// slowestRate is the rate of a slow client that still makes progress, in bytes per
// second.
const slowestRate = 16 << 10

// The cross-origin headers of every answer. The slices are shared, and full, so that an
// append copies them.
//
// Spec: client-server-api#web-browser-clients
var (
	corsOrigin  = []string{"*"}
	corsMethods = []string{"GET, POST, PUT, DELETE, PATCH, HEAD, OPTIONS"}
	corsHeaders = []string{"X-Requested-With, Content-Type, Authorization"}
	corsExpose  = []string{"Retry-After, X-Request-Id, X-Stoa-Instance, X-Stoa-Home"}
	jsonType    = []string{"application/json"}
)

// exchange is one request and its answer: the ResponseWriter that handlers get.
type exchange struct {
	w      http.ResponseWriter
	r      *http.Request
	mux    *Mux
	route  *mountedRoute
	start  time.Time
	status int // 0 before the header is written
	body   requestBody
	whole  wholeBody

	// What the request has taken until it ends:
	key    string // of its holder
	holder *holder
	bytes  int64 // of its body
	slot   bool  // of its holder

	answerBytes int64 // memory of a large answer, see AnswerBudget
	counted     bool  // answerBytes is the size of the answer
}

var exchanges = sync.Pool{New: func() any { return new(exchange) }}

// ServeHTTP serves one request.
func (m *Mux) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := exchanges.Get().(*exchange)
	*x = exchange{w: w, r: r, mux: m, route: m.unknown, start: m.clock()}
	defer x.end()
	h := w.Header()
	h["Access-Control-Allow-Origin"] = corsOrigin
	h["Access-Control-Allow-Methods"] = corsMethods
	h["Access-Control-Allow-Headers"] = corsHeaders
	h["Access-Control-Expose-Headers"] = corsExpose
	if m.instance != nil {
		h["X-Stoa-Instance"] = m.instance
	}
	if r.ContentLength != 0 {
		x.body.begin(w, r, m.times.Body)
	}
	m.believeProxyHeader(r)
	m.believeProxy(r)
	route, err := m.lookup(r)
	refused := m.takeQueryToken(r, err == nil && route.QueryToken)
	if r.Method == http.MethodOptions {
		x.route = m.preflight
		m.preflight.handler.ServeHTTP(x, r)
		return
	}
	x.route = route
	if err != nil {
		x.fail(err)
		return
	}
	if refused != nil {
		x.fail(refused)
		return
	}
	if r.URL.RawQuery != "" { // even if the handler does not read it
		if _, err := ParseQuery(r); err != nil {
			x.fail(err)
			return
		}
	}
	class := x.route.Limit
	if err := x.limitAddress(); err != nil {
		x.fail(err)
		return
	}
	if err := x.admit(); err != nil {
		x.fail(err)
		return
	}
	load := &m.inFlight[class]
	if class != LimitProbe {
		if load.now.Add(1) > load.max.Load() {
			load.now.Add(-1)
			x.fail(m.admission.refuse(refusedSlots))
			return
		}
		defer load.now.Add(-1)
	}
	if m.forwarded(x, r) || m.behind(x, r) {
		return
	}
	if err := x.reserve(); err != nil {
		x.fail(err)
		return
	}
	x.route.handler.ServeHTTP(x, r)
}

// limitAddress counts the request against the limit of its address. If the route has a
// Rate, users with a valid token count against that instead, since many of them may share
// an address. A bad token counts as none.
func (x *exchange) limitAddress() error {
	m, r := x.mux, x.r
	if IsFromPeer(r) {
		return nil
	}
	if !x.route.Token && x.route.Rate != RateNone && m.identify != nil && BearerToken(r) != "" {
		if user, err := m.identify(r); err == nil {
			x.key = user
			return m.userLimits.Take(x.route.Rate, user, 1)
		}
	}
	class := x.route.Limit
	err := m.limiters[class].Take(AddressKey(ClientAddress(r)))
	if err == nil {
		return nil
	}
	m.limited[class].Add(1)
	if m.onlyReport {
		return nil
	}
	return err
}

// admit identifies the caller if the route requires it, reads the body, and takes a slot
// for the caller. For a request that another instance has forwarded, that one has already
// done so.
func (x *exchange) admit() error {
	m, r := x.mux, x.r
	if IsFromPeer(r) || x.route.Limit == LimitProbe {
		return nil
	}
	own, limit := int64(addressBodies), x.route.MaxBody
	if x.route.Token && m.identify != nil {
		var err error
		if x.key, err = m.identify(r); err != nil {
			return err
		}
		own = userBodies
	} else if x.key != "" { // see limitAddress
		own = userBodies
	} else if a := ClientAddress(r); a.IsValid() {
		x.key = AddressKey(a)
	}
	x.holder = m.admission.enter(x.key)
	if r.ContentLength != 0 && !x.route.Stream {
		if err := x.arrive(limit, own); err != nil {
			return err
		}
		r.Body = &x.whole
	}
	if x.route.Token && m.identify != nil {
		if err := m.userLimits.request(x.route.Rate, x.key, len(x.whole.text)); err != nil {
			return err
		}
	}
	if err := m.admission.slot(x.holder, x.route.Limit); err != nil {
		return err
	}
	x.slot = x.holder != nil && m.admission.shared
	return nil
}

// charge counts bytes of the body.
func (x *exchange) charge(n, own int64) error {
	if err := x.mux.admission.take(x.holder, n, own); err != nil {
		x.w.Header()["Connection"] = closeConnection // otherwise net/http would first read the rest of the body
		return err
	}
	x.bytes += n
	return nil
}

// end answers a panic, counts the request and releases the exchange.
func (x *exchange) end() {
	x.sized(0)
	if x.holder != nil || x.bytes > 0 {
		x.mux.admission.leave(x.key, x.holder, x.bytes, x.route.Limit, x.slot)
	}
	x.whole.giveBack()
	if p := recover(); p != nil {
		if p == http.ErrAbortHandler {
			x.count(statusAborted)
			panic(p)
		}
		x.mux.metrics.panics.Add(1)
		id := x.mux.requestID.next()
		x.mux.log.Error("panic in a handler", "request_id", id, "method", x.r.Method, "route", x.route.Pattern,
			"err", p, "stack", string(debug.Stack()))
		if x.status != 0 {
			x.count(statusAborted)
			panic(http.ErrAbortHandler) // a part of the answer was sent: close the connection
		}
		x.writeFault(id)
	}
	status := x.status
	if status == 0 { // net/http answers 200 if nothing was written
		status = http.StatusOK
	}
	x.count(status)
	if x.r.Body == &x.whole {
		x.r.Body = http.NoBody // the exchange is reused
	}
	*x = exchange{}
	exchanges.Put(x)
}

func (x *exchange) count(status int) {
	took := x.mux.clock().Sub(x.start)
	x.route.counts.observe(status, took)
	if x.mux.log.Enabled(x.r.Context(), slog.LevelDebug) {
		x.mux.log.Debug("request", "method", x.r.Method, "route", x.route.Pattern, "status", status,
			"took_ms", took.Milliseconds(), "addr", x.r.RemoteAddr)
	}
}

func (x *exchange) Header() http.Header { return x.w.Header() }

func (x *exchange) WriteHeader(status int) {
	if x.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		x.answering(status)
		x.extendAnswer()
	}
	x.w.WriteHeader(status)
}

func (x *exchange) Write(p []byte) (written int, err error) {
	if x.status == 0 {
		x.answering(http.StatusOK)
	}
	if !x.counted { // large answers are written in one call
		x.counted = true
		x.sized(len(p))
	}
	for first := true; first || len(p) > 0; first = false {
		piece := p[:min(len(p), parking.MaxWrite)]
		x.extendAnswer()
		n, err := x.w.Write(piece)
		written += n
		if err != nil {
			x.countSlow(err)
			return written, err
		}
		p = p[n:]
	}
	return written, nil
}

// answering begins the answer. It restores the request's own body, whose type tells
// net/http how to continue with the connection.
func (x *exchange) answering(status int) {
	x.status = status
	if x.body.conn != nil {
		x.r.Body = x.body.ReadCloser
	}
}

// ReadFrom lets net/http use sendfile. It extends the timeout with each piece.
func (x *exchange) ReadFrom(src io.Reader) (total int64, err error) {
	if x.status == 0 {
		x.answering(http.StatusOK)
	}
	for {
		x.extendAnswer()
		n, err := io.CopyN(x.w, src, parking.MaxWrite)
		total += n
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			x.countSlow(err)
			return total, err
		}
	}
}

// Unwrap lets http.ResponseController reach the connection.
func (x *exchange) Unwrap() http.ResponseWriter { return x.w }

// extendAnswer gives the client time for the next piece of the answer.
func (x *exchange) extendAnswer() {
	limit := x.mux.times.Answer
	if x.body.conn != nil && !x.body.ended {
		limit += x.mux.times.Body // net/http first reads the rest of the body
	}
	if d, ok := x.w.(interface{ SetWriteDeadline(time.Time) error }); ok {
		// A connection without deadlines (HTTP/2 on an unusual transport) has its own
		// flow control.
		_ = d.SetWriteDeadline(time.Now().Add(limit))
	}
}

// requestBody bounds the time for a body to arrive. The timeout begins after the header,
// so it also applies if no handler reads the body and net/http discards it. It ends with
// the body, so that a long poll may wait.
type requestBody struct {
	io.ReadCloser
	conn    interface{ SetReadDeadline(time.Time) error }
	start   time.Time
	limit   time.Duration // for a body of unknown length
	read    int64
	granted int64 // bytes for which the deadline was extended
	ended   bool
}

func (b *requestBody) begin(w http.ResponseWriter, r *http.Request, limit time.Duration) {
	conn, ok := w.(interface{ SetReadDeadline(time.Time) error })
	if !ok {
		return
	}
	*b = requestBody{ReadCloser: r.Body, conn: conn, start: time.Now(), limit: limit}
	b.extend()
	r.Body = b
}

func (b *requestBody) extend() {
	b.granted = b.read + 4*slowestRate
	// A connection without deadlines is read as the body comes.
	_ = b.conn.SetReadDeadline(b.start.Add(b.limit + time.Duration(b.read/slowestRate)*time.Second))
}

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	if err == io.EOF {
		b.ended = true
		_ = b.conn.SetReadDeadline(time.Time{}) // as in extend
	} else if b.read > b.granted {
		b.extend()
	}
	return n, err
}

// exchangeOf returns the exchange of a ResponseWriter. A handler outside a Mux gets one
// of its own.
func exchangeOf(w http.ResponseWriter, r *http.Request) *exchange {
	if x, ok := w.(*exchange); ok {
		return x
	}
	return &exchange{w: w, r: r, mux: bareMux(), route: bareMux().unknown, start: time.Now()}
}

var bareMux = sync.OnceValue(func() *Mux {
	m, err := NewMux(Options{})
	if err != nil {
		panic(err) // impossible without routes and registry
	}
	return m
})

// requestIDs assigns an ID to each fault, with which its log line can be found.
type requestIDs struct {
	prefix string
	last   atomic.Uint64
}

func (g *requestIDs) init(instance string) {
	var b [4]byte
	rand.Read(b[:]) // never fails
	g.prefix = hex.EncodeToString(b[:]) + "-"
	if instance != "" {
		g.prefix = instance + "-" + g.prefix
	}
}

func (g *requestIDs) next() string { return g.prefix + strconv.FormatUint(g.last.Add(1), 10) }
