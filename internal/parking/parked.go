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
	// Park is called once the request is parked. Its answer does not come from the handler any more: it has the form that Park
	// returns, which must not hold on to the request.
	Park() Responder
}

// Responder knows the form of the answers of a route.
type Responder interface {
	// Head has the lines that the head of each answer has, after its first.
	Head() string
	// Error is the answer for an error: its status, lines that its head has besides, and its body; nil if there is none.
	Error(err error, took time.Duration) (status int, head string, body []byte)
	// String is the pattern of the route.
	String() string
}

// Parked is a parked request.
type Parked struct {
	conn  *connection
	form  Responder
	since time.Time
	early []byte // what the client has sent of its next request
	ended bool   // answered or closed

	onWorker bool // a worker works on it

	mu     sync.Mutex // guards all below; those of the connection and the workers may be taken under it
	resume func(here bool)
	woken  bool
}

// Park takes a request without a body out of net/http, and has serve go on with it: serve waits, and at last calls Answer,
// Fail or Close, once; Shutdown waits for that. Park returns false if the connection can't be taken out, and the request goes on as
// it is. After true the handler returns at once, and uses neither the request nor its ResponseWriter any more.
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
			p.conn.listener.opt.Log.Error("panic in a parked request", "route", p.form.String(), "err", fault, "stack", string(debug.Stack()))
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
	if w, ok := x.Unwrap().(*response); ok { // it is parked already
		w.parked = true
		return &Parked{conn: w.conn, form: x.Park(), since: time.Now(), onWorker: true}, true
	}
	from, isParkable := r.Context().Value(originKey{}).(origin)
	if !isParkable || from.raw == nil || r.ProtoMajor != 1 || r.ProtoMinor != 1 || r.TLS != nil || r.Close || r.ContentLength != 0 ||
		r.Method != http.MethodGet {
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
	path := form.String() // mostly; what is kept of a request keeps its first line
	if r.URL.Path != path {
		path = strings.Clone(r.URL.Path)
	}
	parked := &Parked{conn: newConnection(p, conn, from.raw, path), form: form, since: time.Now()}
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

// Wait has a worker call resume, once: with true after Wake, which may have come before, or if the client sends something, since it
// wants an answer then; with false if the client has gone.
func (p *Parked) Wait(resume func(here bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.woken || len(p.early) > 0 {
		p.woken = false
		p.schedule(resume)
		return
	}
	p.resume = resume
	if !p.conn.wait(p) {
		p.conn.listener.workers.Take(p.noticed)
	}
}

// schedule has a worker call resume.
func (p *Parked) schedule(resume func(here bool)) {
	p.conn.listener.workers.Take(func() {
		p.onWorker = true
		p.guard(func() { resume(true) })
	})
}

// Context is what work on the request is done with at the moment: until it waits that of its handler, but never cancelled,
// then that of a worker; see Blocking.
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

// end ends the wait, if there is one that has not ended; if not, and wake is set, it ends the next. A caller that gets resume has to
// call it.
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

// noticed ends the wait because the client did something, so that there is something to read.
func (p *Parked) noticed() {
	resume := p.end(false)
	if resume == nil {
		return
	}
	p.onWorker = true
	p.guard(func() {
		var b [256]byte
		n, open := p.conn.read(b[:])
		if n == 0 && open {
			p.Wait(resume) // it was about what was read before
			return
		}
		p.early = bytes.Clone(b[:n])
		resume(open)
	})
}

// Answer writes the answer, whose body is JSON, and has the connection wait for its next request. An error means that the client has
// gone.
func (p *Parked) Answer(body []byte) error { return p.write(http.StatusOK, "", body) }

// write writes an answer. extra are lines of its head.
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
	p.conn.waited = time.Since(p.since) >= waitedLong
	p.conn.awaitNext(p.early)
	return nil
}

// waitedLong is how long a request was parked if it waited for long. A client that got news sooner may well get news again.
const waitedLong = time.Second

// Waited reports whether a request had better be parked at once, should it have to wait: the last one on its connection waited
// for long, as this one then will, or its connection is parked already.
func Waited(r *http.Request) bool {
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
