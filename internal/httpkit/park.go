package httpkit

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"time"
)

// A request that waits for long holds two buffers, two goroutines with their stacks, and itself, together some 25 KiB.
// Parking takes its connection out of net/http, so that it holds one small goroutine instead, and gives the connection back
// to the server once the request is answered, for the next request on it.

// parking is the listener of a Server: it accepts new connections, and those that come back.
type parking struct {
	net.Listener
	accepted chan accepted
	returned chan net.Conn
	closed   chan struct{}
	start    func() // begins to accept, once
	end      func() // closes closed, once
	parked   sync.WaitGroup
}

type accepted struct {
	conn net.Conn
	err  error
}

func newParking(l net.Listener) *parking {
	p := &parking{Listener: l, accepted: make(chan accepted), returned: make(chan net.Conn), closed: make(chan struct{})}
	p.start = sync.OnceFunc(func() { go p.accept() })
	p.end = sync.OnceFunc(func() { close(p.closed) })
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

// connContext notes on which listener the requests of a connection came in.
func (p *parking) connContext(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, parkingKey{}, p)
}

// Parked is the connection of a request that waits outside of net/http. One goroutine waits with it; any may wake it.
type Parked struct {
	conn    net.Conn
	parking *parking
	head    string
	times   *Times
	log     *slog.Logger
	early   [1]byte
	isEarly bool
	closed  bool
}

// Park takes a request without a body out of net/http, and lets serve go on with it in a goroutine, which the Server waits
// for when it drains: serve waits, and at last calls Answer, Fail or Close, once. Park returns false if the connection can't
// be taken out, and the request goes on as it is. After true the handler returns at once, and uses neither the request nor
// its ResponseWriter any more.
func Park(w http.ResponseWriter, r *http.Request, serve func(*Parked)) bool {
	parked, ok := take(w, r)
	if ok {
		go parked.serve(serve)
	}
	return ok
}

func (p *Parked) serve(serve func(*Parked)) {
	defer func() {
		if fault := recover(); fault != nil {
			p.log.Error("panic in a parked request", "err", fault, "stack", string(debug.Stack()))
			p.Close()
		}
	}()
	serve(p)
}

func take(w http.ResponseWriter, r *http.Request) (*Parked, bool) {
	x, ok := w.(*exchange)
	p, isParkable := r.Context().Value(parkingKey{}).(*parking)
	if !ok || !isParkable || r.ProtoMajor != 1 || r.ProtoMinor != 1 || r.TLS != nil || r.Close || r.ContentLength != 0 ||
		r.Method != http.MethodGet {
		return nil, false
	}
	p.parked.Add(1)
	conn, buffers, err := http.NewResponseController(w).Hijack()
	if err != nil {
		p.parked.Done()
		return nil, false
	}
	if again, ok := conn.(*comeback); ok {
		conn = again.Conn
	}
	parked := &Parked{conn: conn, parking: p, head: x.mux.parked, times: &x.mux.times, log: x.mux.log}
	if buffers.Reader.Buffered() > 0 {
		// The client has sent its next request already. More than a byte would have to be kept for it, which is not worth it.
		parked.isEarly = true
	}
	// net/http set a deadline for reading the request, and another for its answer.
	if err := conn.SetDeadline(time.Time{}); err != nil {
		parked.isEarly = true
	}
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

// Wait waits until Wake, or until the client does something else than wait: false if it has gone.
func (p *Parked) Wait() bool {
	if p.isEarly {
		return true
	}
	n, err := p.conn.Read(p.early[:])
	if n > 0 {
		p.isEarly = true
		return true
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	return p.conn.SetReadDeadline(time.Time{}) == nil // for the next Wait
}

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// Wake ends Wait, now or when it is called. It does not block.
func (p *Parked) Wake() {
	// An error means that the connection is closed, which ends Wait too.
	_ = p.conn.SetReadDeadline(longAgo)
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
	case p.parking.returned <- &comeback{Conn: p.conn, times: p.times, idle: true}:
	case <-p.parking.closed:
		return p.conn.Close()
	}
	return nil
}

// comeback is a connection that was parked and is served again. net/http takes it for a new one, on which the header of a
// request has to come soon; but it is one between requests, which may be idle for longer.
type comeback struct {
	net.Conn
	times *Times
	idle  bool
}

// SetReadDeadline implements net.Conn. While the connection is idle its deadline is that of idle ones, whatever is asked.
func (c *comeback) SetReadDeadline(t time.Time) error {
	if c.idle && t != longAgo && !t.IsZero() {
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

// unwrapped is the connection as net.Buffers knows it, to write several pieces at once.
func (p *Parked) unwrapped() net.Conn {
	if tcp, ok := p.conn.(*boundedTCP); ok {
		return tcp.TCPConn
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
