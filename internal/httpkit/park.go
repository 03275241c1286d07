package httpkit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A request that waits for long holds two buffers, two goroutines with their stacks, and itself, together some 25 KiB.
// Parking takes its connection out of net/http, so that it holds two small structs instead and no goroutine. Once the request
// is answered, the next like it on the connection is served where it is (bay.go), and any other is given back to net/http.

// parking is the listener of a Server: it accepts new connections, and those that come back.
type parking struct {
	net.Listener
	accepted chan accepted
	returned chan net.Conn
	closed   chan struct{}   // it is closed to new connections
	ended    chan struct{}   // nothing more is accepted, and all that was has been handed on
	finished chan struct{}   // nobody comes back any more
	dropped  chan struct{}   // nobody takes what is accepted or comes back
	start    func()          // begins to accept, once
	end      func()          // closes closed, once
	finish   func()          // closes finished, once
	abandon  func()          // closes dropped, once
	close    func() error    // closes the Listener, once
	last     atomic.Bool     // every answer ends its connection
	parked   sync.WaitGroup  // counts the bays in which there is a request
	watcher  *watcher        // nil where connections can't be watched: nothing is parked then
	over     atomic.Bool     // no bay may be without a request any more
	workers  *Workers        // serve requests in bays
	working  context.Context // of the workers
	inBay    context.Context // of requests that are served in bays
	handler  http.Handler
	opt      parkingOptions
}

// parkingOptions are what parking is told by the server whose connections it keeps.
type parkingOptions struct {
	log *slog.Logger
	// header is how long the header of a request may take, answer a piece of an answer, and idle a connection between requests.
	header, answer, idle time.Duration
	// note adds to a context what the requests of a connection are to know of it.
	note func(context.Context, net.Conn) context.Context
}

// Parkable is a ResponseWriter whose request may be parked.
type Parkable interface {
	http.ResponseWriter
	// Unwrap is the ResponseWriter of the server.
	Unwrap() http.ResponseWriter
	// Park is called once the request is parked: its answer does not come from the handler any more. It returns what lasts
	// until that answer.
	Park() Responder
}

// Responder knows the form of the answer to a parked request.
type Responder interface {
	// Head is what is the same in the head of each answer, after its first line.
	Head() string
	// Error is an answer that tells of an error: its status, what its head has besides, and its body; nil if there is none.
	Error(err error, took time.Duration) (status int, head string, body []byte)
	// String names the route in the log.
	String() string
}

// Socketed is a connection around another that changes nothing of what is written, so that the inner one can be written to.
type Socketed interface{ Socket() net.Conn }

type accepted struct {
	conn net.Conn
	err  error
}

func newParking(l net.Listener, h http.Handler, workers *Workers, opt parkingOptions) *parking {
	p := &parking{Listener: l, handler: h, workers: workers, opt: opt, accepted: make(chan accepted), returned: make(chan net.Conn), closed: make(chan struct{}),
		ended: make(chan struct{}), finished: make(chan struct{}), dropped: make(chan struct{})}
	p.working = context.WithValue(context.Background(), workersKey{}, p.workers)
	p.inBay = context.WithValue(p.working, parkingKey{}, origin{waited: true})
	p.start = sync.OnceFunc(func() { go p.accept() })
	p.end = sync.OnceFunc(func() { close(p.closed) })
	p.close = sync.OnceValue(l.Close)
	p.finish = sync.OnceFunc(func() { close(p.finished) })
	p.abandon = sync.OnceFunc(func() { close(p.dropped) })
	var err error
	if p.watcher, err = newWatcher(); err != nil {
		opt.log.Warn("requests that wait take more memory than they need: their connections can't be watched", "err", err)
	}
	if p.watcher != nil {
		go p.closeIdleOnes()
	}
	return p
}

// accept hands new connections to Accept until the listener closes. What was
// accepted before is served: its request may be on the way.
func (p *parking) accept() {
	defer close(p.ended)
	for {
		c, err := p.Listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		select {
		case p.accepted <- accepted{c, err}:
		case <-p.dropped:
			if c != nil {
				_ = c.Close() // nobody serves it any more
			}
		}
	}
}

// Accept implements net.Listener.
func (p *parking) Accept() (net.Conn, error) {
	p.start()
	select {
	case a := <-p.accepted:
		return a.conn, a.err
	case c := <-p.returned:
		return c, nil
	case <-p.ended:
	}
	select {
	case c := <-p.returned:
		return c, nil
	case <-p.finished:
		return nil, net.ErrClosed
	}
}

func (p *parking) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// Close implements net.Listener.
func (p *parking) Close() error {
	p.end()
	return p.close() // net/http closes it again
}

// windDown makes every answer the last on its connection.
func (p *parking) windDown() { p.last.Store(true) }

func (p *parking) isWindingDown() bool { return p.last.Load() }

// shutdown waits until no request is parked, or ctx ends, and watches no connection any more.
func (p *parking) shutdown(ctx context.Context) error {
	defer p.watcher.close()
	done := make(chan struct{})
	go func() {
		p.parked.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

type parkingKey struct{}

// origin is where a connection comes from.
type origin struct {
	parking *parking
	raw     syscall.RawConn // nil for a connection that can't be parked
	waited  bool            // its last request waited for long, or the next is cheap to park
}

// connContext notes where the requests of a connection come from.
func (p *parking) connContext(ctx context.Context, c net.Conn) context.Context {
	from := origin{parking: p}
	if again, ok := c.(*comeback); ok {
		c, from.waited = again.Conn, again.waited
	}
	if system, ok := socketOf(c).(syscall.Conn); ok && p.watcher != nil {
		from.raw, _ = system.SyscallConn() // an error means that it is closed already
	}
	return p.opt.note(context.WithValue(ctx, parkingKey{}, from), c)
}

// waitedLong is how long a request was parked if it waited for long. A client that got news sooner may well get news again.
const waitedLong = time.Second

// Waited reports whether a request had better be parked at once, should it have to wait: the last one on its connection waited
// for long, as this one then will, or its connection is outside of net/http already.
func Waited(r *http.Request) bool {
	from, ok := r.Context().Value(parkingKey{}).(origin)
	return ok && from.waited
}

// Parked is a request that waits outside of net/http.
type Parked struct {
	bay   *bay
	form  Responder
	since time.Time
	early []byte // what the client has sent of its next request
	ended bool   // answered or closed

	pooled bool // a worker works on it

	mu     sync.Mutex // guards all below; those of the bay and the workers may be taken under it
	resume func(here bool)
	woken  bool
}

// Park takes a request without a body out of net/http, and has serve go on with it: serve waits, and at last calls Answer,
// Fail or Close, once, which the Server waits for when it drains. Park returns false if the connection can't be taken out,
// and the request goes on as it is. After true the handler returns at once, and uses neither the request nor its
// ResponseWriter any more.
func Park(w http.ResponseWriter, r *http.Request, serve func(*Parked)) bool {
	parked, ok := take(w, r)
	if ok {
		parked.guard(func() { serve(parked) })
	}
	return ok
}

// guard calls f, whose panic ends the request alone.
func (p *Parked) guard(f func()) {
	defer func() {
		if fault := recover(); fault != nil {
			p.bay.parking.opt.log.Error("panic in a parked request", "route", p.form.String(), "err", fault, "stack", string(debug.Stack()))
			p.Close()
		}
	}()
	f()
}

func take(w http.ResponseWriter, r *http.Request) (*Parked, bool) {
	x, ok := w.(Parkable)
	if !ok {
		return nil, false
	}
	if reply, ok := x.Unwrap().(*reply); ok {
		reply.parked = true
		return &Parked{bay: reply.bay, form: x.Park(), since: time.Now(), pooled: true}, true
	}
	from, isParkable := r.Context().Value(parkingKey{}).(origin)
	if !isParkable || from.raw == nil || r.ProtoMajor != 1 || r.ProtoMinor != 1 || r.TLS != nil || r.Close || r.ContentLength != 0 ||
		r.Method != http.MethodGet {
		return nil, false
	}
	p := from.parking
	p.parked.Add(1)
	conn, buffers, err := http.NewResponseController(w).Hijack()
	if err != nil {
		p.parked.Done()
		return nil, false
	}
	again, _ := conn.(*comeback)
	if again != nil {
		conn = again.Conn
	}
	form := x.Park()
	path := form.String() // mostly; what is kept of a request keeps its first line
	if r.URL.Path != path {
		path = strings.Clone(r.URL.Path)
	}
	parked := &Parked{bay: newBay(p, conn, from.raw, path), form: form, since: time.Now()}
	if again != nil {
		parked.early = again.early
	}
	if n := buffers.Reader.Buffered(); n > 0 {
		sent, _ := buffers.Reader.Peek(n) // never fails
		parked.early = slices.Concat(sent, parked.early)
	}
	// net/http set a deadline for reading the request, and another for its answer. An error means that the client has gone,
	// which the wait or the answer will notice.
	_ = conn.SetDeadline(time.Time{})
	return parked, true
}

// Wait has resume called in a goroutine of its own, once: with true after Wake, which may have come before, or if the client
// sends something, which wants an answer then; with false if the client has gone.
func (p *Parked) Wait(resume func(here bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.woken || len(p.early) > 0 {
		p.woken = false
		p.goOn(resume)
		return
	}
	p.resume = resume
	if !p.bay.goOn(waits, p) {
		p.bay.parking.workers.Take(p.stirred)
	}
}

// goOn has a worker call what Wait was given.
func (p *Parked) goOn(resume func(here bool)) {
	p.bay.parking.workers.Take(func() {
		p.pooled = true
		p.guard(func() { resume(true) })
	})
}

// Context is what work on the request is done with at the moment: until it waits that of its handler, but never cancelled,
// then that of a worker; see Blocking.
func (p *Parked) Context() context.Context {
	if p.pooled {
		return p.bay.context
	}
	return context.Background()
}

// Wake ends Wait, now or when it is called. It does not block.
func (p *Parked) Wake() {
	if resume := p.end(true); resume != nil {
		p.goOn(resume)
	}
}

// end ends the wait, if there is one that nobody has ended; if not, and wake is set, it ends the next. Whoever gets resume
// calls it.
func (p *Parked) end(wake bool) (resume func(here bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	resume, p.resume = p.resume, nil
	p.woken = p.woken || wake && resume == nil
	if resume != nil {
		p.bay.wakes()
	}
	return resume
}

// stirred ends the wait because the client did something, so that there is something to read.
func (p *Parked) stirred() {
	resume := p.end(false)
	if resume == nil {
		return
	}
	p.pooled = true
	p.guard(func() {
		var b [256]byte
		n, open := p.bay.read(b[:])
		if n == 0 && open {
			p.Wait(resume) // it was about what was read before
			return
		}
		p.early = bytes.Clone(b[:n])
		resume(open)
	})
}

// Answer writes the answer, whose body is JSON, and gives the connection back to its server. An error means that the client
// has gone.
func (p *Parked) Answer(body []byte) error { return p.write(http.StatusOK, "", body) }

// write writes an answer. extra are lines of its head.
func (p *Parked) write(status int, extra string, body []byte) error {
	isLast := p.bay.parking.isWindingDown()
	common := p.form.Head()
	head := make([]byte, 0, len(common)+len(extra)+128)
	head = append(head, "HTTP/1.1 "...)
	head = strconv.AppendInt(head, int64(status), 10)
	head = append(head, ' ')
	head = append(head, http.StatusText(status)...)
	head = append(head, "\r\n"...)
	head = append(head, common...)
	head = append(head, extra...)
	head = append(head, "Content-Length: "...)
	head = strconv.AppendInt(head, int64(len(body)), 10)
	if isLast {
		head = append(head, "\r\nConnection: close"...)
	}
	head = append(head, "\r\nDate: "...)
	head = time.Now().UTC().AppendFormat(head, http.TimeFormat)
	head = append(head, "\r\n\r\n"...)
	if err := p.bay.write(p.Context(), head, body); err != nil {
		p.Close()
		return err
	}
	p.ended = true
	if isLast {
		p.bay.close()
		return nil
	}
	p.bay.waited = time.Since(p.since) >= waitedLong
	p.bay.rest(p.early)
	return nil
}

// comeback is a connection that was parked and is served again. net/http takes it for a new one, on which the header of a
// request has to come soon; but it is one between requests, which may be idle for longer.
type comeback struct {
	net.Conn
	opt    *parkingOptions
	early  readAhead // of the next request: it is read before anything else
	idle   bool
	waited bool // its last request waited for long
}

// longAgo is later than any time by which net/http ends a read.
var longAgo = time.Unix(1000, 0)

// SetReadDeadline implements net.Conn. While the connection is idle its deadline is that of idle ones, whatever is asked.
func (c *comeback) SetReadDeadline(t time.Time) error {
	if c.idle && t.After(longAgo) {
		t = time.Now().Add(c.opt.idle)
	}
	return c.Conn.SetReadDeadline(t)
}

// Read implements net.Conn. With its first byte a request begins.
func (c *comeback) Read(b []byte) (int, error) {
	if n := c.early.take(b); n > 0 {
		return n, nil
	}
	n, err := c.Conn.Read(b)
	if c.idle && n > 0 {
		c.idle = false
		err = errors.Join(err, c.Conn.SetReadDeadline(time.Now().Add(c.opt.header)))
	}
	return n, err
}

// ReadFrom implements io.ReaderFrom, so that files are sent without a copy.
func (c *comeback) ReadFrom(r io.Reader) (int64, error) {
	if to, ok := c.Conn.(io.ReaderFrom); ok {
		return to.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{c.Conn}, r)
}

// CloseWrite ends what is written, by which net/http has a client read the last answer before the connection is closed.
func (c *comeback) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// socketOf is a connection as net knows it: to watch it, and to write several pieces at once.
func socketOf(c net.Conn) net.Conn {
	if around, ok := c.(Socketed); ok {
		return around.Socket()
	}
	return c
}

// Fail answers with an error.
func (p *Parked) Fail(err error) {
	status, head, body := p.form.Error(err, time.Since(p.since))
	if body == nil {
		p.Close()
		return
	}
	_ = p.write(status, head, body) // an error means that the client has gone
}

// Close closes the connection without an answer.
func (p *Parked) Close() {
	if !p.ended {
		p.ended = true
		p.bay.close()
	}
}
