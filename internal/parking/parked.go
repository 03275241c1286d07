package parking

import (
	"bytes"
	"context"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Parkable is a ResponseWriter whose request may be parked.
type Parkable interface {
	http.ResponseWriter
	// Unwrap is the ResponseWriter of the server.
	Unwrap() http.ResponseWriter
	// Park is called once the request is parked. The handler no longer writes the answer; its form comes from the Responder, which
	// must not keep the request.
	Park() Responder
}

// Responder has the form of a route's answers.
type Responder interface {
	// Head returns the header lines of each answer, after the status line.
	Head() string
	// Error returns the answer to an error: its status, additional header lines, and its body; nil if there is none.
	Error(err error, took time.Duration) (status int, head string, body []byte)
	// String is the pattern of the route.
	String() string
}

// Parked is a parked request.
type Parked struct {
	conn      *connection
	form      Responder
	since     time.Time
	readAhead []byte // data of the client's next request
	ended     bool   // answered or closed

	onWorker bool // a worker works on it

	mu     sync.Mutex // guards all below; those of the connection and the workers may be taken under it
	resume func(here bool)
	woken  bool
}

// Park takes a GET without a body, or a POST whose body was read, out of net/http and calls serve with it. serve waits, and in the end calls Answer, Fail or
// Close, once; Shutdown waits for that. Park returns false if the connection can't be taken out; the request then continues as it
// is. After true the handler returns at once, and uses neither the request nor its ResponseWriter.
func Park(w http.ResponseWriter, r *http.Request, serve func(*Parked)) bool {
	parked, ok := take(w, r)
	if ok {
		parked.guard(func() { serve(parked) })
	}
	return ok
}

// guard calls f; a panic ends this request only.
func (p *Parked) guard(f func()) {
	defer func() {
		if fault := recover(); fault != nil {
			p.conn.listener.opt.Log.Error("panic in a parked request", "route", p.form.String(), "err", fault, "stack", string(debug.Stack()))
			p.Close()
		}
	}()
	f()
}

// mayPark reports whether nothing of a request is left to read: it is a GET without a body, or a POST with a body of a known length, which
// the caller has read.
func mayPark(r *http.Request) bool {
	return r.Method == http.MethodGet && r.ContentLength == 0 || r.Method == http.MethodPost && r.ContentLength > 0
}

func take(w http.ResponseWriter, r *http.Request) (*Parked, bool) {
	x, ok := w.(Parkable)
	if !ok {
		return nil, false
	}
	if w, ok := x.Unwrap().(*response); ok { // it is parked already
		w.parked = true
		return &Parked{conn: w.conn, form: x.Park(), since: time.Now(), onWorker: true}, true
	}
	from, isParkable := r.Context().Value(originKey{}).(origin)
	if !isParkable || from.raw == nil || r.ProtoMajor != 1 || r.ProtoMinor != 1 || r.TLS != nil || r.Close || !mayPark(r) {
		return nil, false
	}
	p := from.listener
	p.requests.Add(1)
	conn, buffers, err := http.NewResponseController(w).Hijack()
	if err != nil {
		p.requests.Done()
		return nil, false
	}
	again, _ := conn.(*returnedConn)
	if again != nil {
		conn = again.Conn
	}
	form := x.Park()
	path := form.String() // usually; a copy of the request's own path would keep its first line in memory
	if r.URL.Path != path {
		path = strings.Clone(r.URL.Path)
	}
	parked := &Parked{conn: newConnection(p, conn, from.raw, path), form: form, since: time.Now()}
	if again != nil {
		parked.readAhead = again.readAhead
	}
	if n := buffers.Reader.Buffered(); n > 0 {
		sent, _ := buffers.Reader.Peek(n) // never fails
		parked.readAhead = slices.Concat(sent, parked.readAhead)
	}
	// net/http set a deadline for reading the request, and another for its answer. An error means that the client has gone, which
	// the wait or the answer will notice.
	_ = conn.SetDeadline(time.Time{})
	return parked, true
}

// Wait makes a worker call resume, once: with true after Wake, which may have come before, or if the client sends something and so
// expects an answer; with false if the client has gone.
func (p *Parked) Wait(resume func(here bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.woken || len(p.readAhead) > 0 {
		p.woken = false
		p.schedule(resume)
		return
	}
	p.resume = resume
	if !p.conn.wait(p) {
		p.conn.listener.workers.Submit(p.onActivity)
	}
}

// schedule makes a worker call resume.
func (p *Parked) schedule(resume func(here bool)) {
	p.conn.listener.workers.Submit(func() {
		p.onWorker = true
		p.guard(func() { resume(true) })
	})
}

// Context is the context of the current work on the request: until it waits that of its handler, but never cancelled, then that of
// a worker; see Blocking.
func (p *Parked) Context() context.Context {
	if p.onWorker {
		return p.conn.context
	}
	return context.Background()
}

// Wake ends Wait, now or when it is called. It does not block.
func (p *Parked) Wake() {
	if resume := p.end(true); resume != nil {
		p.schedule(resume)
	}
}

// end ends the current wait; if there is none and wake is set, it ends the next. A caller that gets resume has to call it.
func (p *Parked) end(wake bool) (resume func(here bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	resume, p.resume = p.resume, nil
	p.woken = p.woken || wake && resume == nil
	if resume != nil {
		p.conn.endWait()
	}
	return resume
}

// onActivity ends the wait because there may be something to read.
func (p *Parked) onActivity() {
	resume := p.end(false)
	if resume == nil {
		return
	}
	p.onWorker = true
	p.guard(func() {
		var b [256]byte
		n, open := p.conn.read(b[:])
		if n == 0 && open {
			p.Wait(resume) // it was for data that was already read
			return
		}
		p.readAhead = bytes.Clone(b[:n])
		resume(open)
	})
}

// Answer writes the answer, whose body is JSON; the connection then waits for its next request. An error means that the client has
// gone.
func (p *Parked) Answer(body []byte) error { return p.write(http.StatusOK, "", body) }

// write writes an answer. extra are additional header lines.
func (p *Parked) write(status int, extra string, body []byte) error {
	isLast := p.conn.listener.IsWindingDown()
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
	if err := p.conn.write(p.Context(), head, body); err != nil {
		p.Close()
		return err
	}
	p.ended = true
	if isLast {
		p.conn.close()
		return nil
	}
	p.conn.waited = time.Since(p.since) >= longWait
	p.conn.awaitNext(p.readAhead)
	return nil
}

// longWait is the time after which a parked request counts as having waited for long. A client that got news sooner may well get
// news again.
const longWait = time.Second

// ParkAtOnce reports whether a request should be parked at once if it has to wait: the last request on its connection waited for
// long, so this one probably will, or the connection is parked already.
func ParkAtOnce(r *http.Request) bool {
	from, ok := r.Context().Value(originKey{}).(origin)
	return ok && from.waited
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
		p.conn.close()
	}
}
