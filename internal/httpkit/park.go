package httpkit

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// A request that waits for long holds two buffers, two goroutines with their stacks, and itself, together some 25 KiB.
// Parking takes its connection out of net/http, so that it holds one small struct instead and no goroutine, and gives the
// connection back to the server once the request is answered, for the next request on it.

// parking is the listener of a Server: it accepts new connections, and those that come back.
type parking struct {
	net.Listener
	accepted chan accepted
	returned chan net.Conn
	closed   chan struct{}
	start    func() // begins to accept, once
	end      func() // closes closed, once
	parked   sync.WaitGroup
	watcher  *watcher // nil where connections can't be watched: nothing is parked then
}

type accepted struct {
	conn net.Conn
	err  error
}

func newParking(l net.Listener, log *slog.Logger) *parking {
	p := &parking{Listener: l, accepted: make(chan accepted), returned: make(chan net.Conn), closed: make(chan struct{})}
	p.start = sync.OnceFunc(func() { go p.accept() })
	p.end = sync.OnceFunc(func() { close(p.closed) })
	var err error
	if p.watcher, err = newWatcher(); err != nil {
		log.Warn("requests that wait take more memory than they need: their connections can't be watched", "err", err)
	}
	return p
}

// accept hands new connections to Accept until the listener closes.
func (p *parking) accept() {
	for {
		c, err := p.Listener.Accept()
		select {
		case p.accepted <- accepted{c, err}:
		case <-p.closed:
			if c != nil {
				_ = c.Close() // nobody serves it any more
			}
		}
		if errors.Is(err, net.ErrClosed) {
			return
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
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *parking) Close() error {
	p.end()
	return p.Listener.Close()
}

// wait waits until no request is parked, or ctx ends.
func (p *parking) wait(ctx context.Context) error {
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
	waited  bool // its last request waited for long
}

// connContext notes where the requests of a connection come from.
func (p *parking) connContext(ctx context.Context, c net.Conn) context.Context {
	again, ok := c.(*comeback)
	return context.WithValue(ctx, parkingKey{}, origin{p, ok && again.waited})
}

// waitedLong is how long a request was parked if it waited for long. A client that got news sooner may well get news again.
const waitedLong = time.Second

// Waited reports whether the last request on the connection of a request waited for long, as this one then will.
func Waited(r *http.Request) bool {
	from, ok := r.Context().Value(parkingKey{}).(origin)
	return ok && from.waited
}

// Parked is the connection of a request that waits outside of net/http.
type Parked struct {
	conn    net.Conn
	raw     syscall.RawConn
	parking *parking
	head    string
	times   *Times
	log     *slog.Logger
	since   time.Time
	isEarly bool
	closed  bool

	mu     sync.Mutex // guards all below; the watcher's may be taken under it
	resume func(here bool)
	woken  bool
	watch  uint64 // the watcher's name for the wait
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
			p.log.Error("panic in a parked request", "err", fault, "stack", string(debug.Stack()))
			p.Close()
		}
	}()
	f()
}

func take(w http.ResponseWriter, r *http.Request) (*Parked, bool) {
	x, ok := w.(*exchange)
	from, isParkable := r.Context().Value(parkingKey{}).(origin)
	if !ok || !isParkable || from.parking.watcher == nil || r.ProtoMajor != 1 || r.ProtoMinor != 1 || r.TLS != nil || r.Close || r.ContentLength != 0 ||
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
	if again, ok := conn.(*comeback); ok {
		conn = again.Conn
	}
	parked := &Parked{conn: conn, parking: p, head: x.mux.parked, times: &x.mux.times, log: x.mux.log, since: time.Now()}
	// If the client has sent its next request already, more than a byte would have to be kept for it, which is not worth it.
	// net/http set a deadline for reading the request, and another for its answer.
	parked.raw, err = rawConn(parked.unwrapped())
	parked.isEarly = err != nil || buffers.Reader.Buffered() > 0 || conn.SetDeadline(time.Time{}) != nil
	x.status = http.StatusOK
	return parked, true
}

// parkedHead makes the part of an answer's head that is the same for all parked requests.
func (m *Mux) parkedHead() string {
	head := "HTTP/1.1 200 OK\r\n" +
		"Access-Control-Allow-Headers: " + corsHeaders[0] + "\r\n" +
		"Access-Control-Allow-Methods: " + corsMethods[0] + "\r\n" +
		"Access-Control-Allow-Origin: " + corsOrigin[0] + "\r\n" +
		"Access-Control-Expose-Headers: " + corsExpose[0] + "\r\n" +
		"Content-Type: application/json\r\n"
	if m.instance != nil {
		head += "X-Stoa-Instance: " + m.instance[0] + "\r\n"
	}
	return head
}

// Wait has resume called in a goroutine of its own, once: with true after Wake, which may have come before, or if the client
// sends something, which wants an answer then; with false if the client has gone.
func (p *Parked) Wait(resume func(here bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.woken && !p.isEarly {
		p.resume = resume
		if p.watch = p.parking.watcher.add(p); p.watch != 0 {
			return
		}
		p.resume, p.isEarly = nil, true
	}
	p.woken = false
	go p.guard(func() { resume(true) })
}

// Wake ends Wait, now or when it is called. It does not block.
func (p *Parked) Wake() {
	if resume := p.end(true); resume != nil {
		go p.guard(func() { resume(true) })
	}
}

// end ends the wait, if there is one that nobody has ended; if not, and wake is set, it ends the next.
func (p *Parked) end(wake bool) (resume func(here bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	resume, p.resume = p.resume, nil
	if resume != nil {
		p.parking.watcher.remove(p)
	} else {
		p.woken = p.woken || wake
	}
	return resume
}

// stirred ends the wait because the client did something, so that there is something to read.
func (p *Parked) stirred() {
	resume := p.end(false)
	if resume == nil {
		return
	}
	go p.guard(func() {
		var b [1]byte
		n, _ := p.conn.Read(b[:]) // an error means that the client has gone
		p.isEarly = n > 0
		resume(n > 0)
	})
}

// Answer writes the answer, whose body is JSON, and gives the connection back to its server. An error means that the client
// has gone.
func (p *Parked) Answer(body []byte) error {
	head := make([]byte, 0, len(p.head)+96)
	head = append(head, p.head...)
	head = append(head, "Content-Length: "...)
	head = strconv.AppendInt(head, int64(len(body)), 10)
	if p.isEarly {
		head = append(head, "\r\nConnection: close"...)
	}
	head = append(head, "\r\nDate: "...)
	head = time.Now().UTC().AppendFormat(head, http.TimeFormat)
	head = append(head, "\r\n\r\n"...)
	pieces := net.Buffers{head}
	for len(body) > answerPiece {
		pieces = append(pieces, body[:answerPiece])
		body = body[answerPiece:]
	}
	pieces = append(pieces, body)
	for len(pieces) > 0 {
		// The time limit is that of a piece, as for answers that are not parked.
		err := p.conn.SetWriteDeadline(time.Now().Add(p.times.Answer))
		next := pieces[:min(2, len(pieces))]
		pieces = pieces[len(next):]
		if err == nil {
			_, err = next.WriteTo(p.unwrapped())
		}
		if err != nil {
			p.Close()
			return err
		}
	}
	if p.isEarly || p.conn.SetDeadline(time.Time{}) != nil {
		p.Close()
		return nil
	}
	p.closed = true // for this request
	defer p.parking.parked.Done()
	select {
	case p.parking.returned <- &comeback{Conn: p.conn, times: p.times, idle: true, waited: time.Since(p.since) >= waitedLong}:
	case <-p.parking.closed:
		return p.conn.Close()
	}
	return nil
}

// comeback is a connection that was parked and is served again. net/http takes it for a new one, on which the header of a
// request has to come soon; but it is one between requests, which may be idle for longer.
type comeback struct {
	net.Conn
	times  *Times
	idle   bool
	waited bool // its last request waited for long
}

// longAgo is later than any time by which net/http ends a read.
var longAgo = time.Unix(1000, 0)

// SetReadDeadline implements net.Conn. While the connection is idle its deadline is that of idle ones, whatever is asked.
func (c *comeback) SetReadDeadline(t time.Time) error {
	if c.idle && t.After(longAgo) {
		t = time.Now().Add(c.times.Idle)
	}
	return c.Conn.SetReadDeadline(t)
}

// Read implements net.Conn. With its first byte a request begins.
func (c *comeback) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.idle && n > 0 {
		c.idle = false
		err = errors.Join(err, c.Conn.SetReadDeadline(time.Now().Add(c.times.Header)))
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

// rawConn is what the system knows of a connection.
func rawConn(c net.Conn) (syscall.RawConn, error) {
	if s, ok := c.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// unwrapped is the connection as net.Buffers knows it, to write several pieces at once.
func (p *Parked) unwrapped() net.Conn {
	switch c := p.conn.(type) {
	case *boundedTCP:
		return c.TCPConn
	case *boundedConn:
		return c.Conn
	}
	return p.conn
}

// Fail logs an error for which there is no answer, and closes the connection: the client asks again.
func (p *Parked) Fail(err error) {
	p.log.Error("parked request failed", "err", err)
	p.Close()
}

// Close closes the connection without an answer.
func (p *Parked) Close() {
	if !p.closed {
		p.closed = true
		_ = p.conn.Close() // whether it was open makes no difference
		p.parking.parked.Done()
	}
}

// Fail answers a request with an error, for handlers that write their answers themselves.
func Fail(w http.ResponseWriter, r *http.Request, err error) { exchangeOf(w, r).fail(err) }
