package cluster

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"sync"
	"time"

	"stoa/internal/httpkit"
)

const (
	// spareStreams are for pings, and for requests that the peer has cancelled while this
	// instance still serves them.
	spareStreams = 64
	// maxUnderWay bounds the bytes of the request bodies in progress on one connection.
	maxUnderWay = 64 << 20
	// goAwayTime is how long a peer may take to close the connection after a go-away
	// frame, once no request is in progress on it.
	goAwayTime = time.Second
)

// callee is a connection on which a peer sends requests and this instance answers.
type callee struct {
	handler http.Handler
	log     *slog.Logger
	conn    *tls.Conn
	out     outbox
	serving sync.WaitGroup

	// The following fields are guarded by the outbox's lock.
	streams  map[uint64]context.CancelFunc // under way; nil: given up by the peer
	last     uint64                        // the last stream that began
	bytes    int                           // of the bodies in progress
	draining bool
	grace    *time.Timer // closes the connection; nil: not running yet
}

// callees are the connections on which peers send requests.
type callees struct {
	runs sync.WaitGroup // one for each connection

	mu       sync.Mutex            // guards the fields below; locks of outboxes are taken after it
	shaking  map[net.Conn]struct{} // before the end of the handshake
	open     map[*callee]struct{}  // after it
	draining bool
}

// serve runs f for a connection, unless the instance drains. f closes the connection.
func (a *callees) serve(conn net.Conn, f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.draining {
		_ = conn.Close() // nothing was sent on it
		return
	}
	if a.shaking == nil {
		a.shaking = map[net.Conn]struct{}{}
	}
	a.shaking[conn] = struct{}{}
	a.runs.Go(func() {
		defer a.shook(conn)
		f()
	})
}

func (a *callees) shook(conn net.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.shaking, conn)
}

func (a *callees) add(e *callee) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.shaking, e.conn.NetConn())
	if a.open == nil {
		a.open = map[*callee]struct{}{}
	}
	a.open[e] = struct{}{}
	if a.draining {
		e.drain()
	}
}

func (a *callees) remove(e *callee) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.open, e)
}

// close closes all connections.
func (a *callees) close() {
	a.drain()
	a.mu.Lock()
	defer a.mu.Unlock()
	for e := range a.open {
		e.close()
	}
}

// drain lets all connections finish the requests in progress, and refuse new ones.
func (a *callees) drain() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.draining = true
	for conn := range a.shaking {
		_ = conn.Close() // no request was sent on it
	}
	for e := range a.open {
		e.drain()
	}
}

// answer serves a connection of a peer until it has ended, with all requests on it.
func (c *Cluster) answer(conn *tls.Conn, handler http.Handler) {
	e := &callee{handler: handler, log: c.log, conn: conn, streams: map[uint64]context.CancelFunc{}}
	e.out.init(conn, func() int { return len(e.streams) })
	c.callees.add(e)
	defer c.callees.remove(e)
	var writes sync.WaitGroup
	writes.Go(func() {
		if err := e.out.write(); err != nil {
			e.close()
		}
	})
	ctx, cancel := context.WithCancel(context.Background()) // of the connection, as in net/http
	err := e.read(ctx)
	cancel()
	if !errors.Is(err, io.EOF) {
		c.log.Debug("the connection of an instance has ended", "addr", conn.RemoteAddr().String(), "err", err)
	}
	e.close()
	writes.Wait()
	e.serving.Wait()
}

// read reads requests.
func (e *callee) read(ctx context.Context) error {
	in := bufio.NewReaderSize(e.conn, inbox)
	var limit time.Time
	late := func() {
		limit = time.Now().Add(httpkit.DefaultTimes.Header)
		_ = e.conn.SetReadDeadline(limit) // the next read returns an error
	}
	late()
	for {
		if in.Buffered() < headSize {
			// Set the deadline only when it is near, to save system calls.
			if now := time.Now(); e.last > 0 && limit.Sub(now) < httpkit.DefaultTimes.Idle-time.Second {
				limit = now.Add(httpkit.DefaultTimes.Idle)
				_ = e.conn.SetReadDeadline(limit) // as above
			}
		}
		f, err := readFrame(in, late)
		if err != nil {
			return err
		}
		switch f.kind {
		case kindRequest:
			err = e.begin(ctx, f)
		case kindCancel:
			err = e.cancel(f.stream)
		default:
			err = errMalformed
		}
		if err != nil {
			return err
		}
	}
}

// begin begins to serve a request, or refuses it.
func (e *callee) begin(ctx context.Context, f frame) error {
	q, err := parseRequest(f)
	if err != nil {
		return err
	}
	target, err := url.ParseRequestURI(q.uri)
	if !e.out.lock(nil, nil) {
		return errHungUp
	}
	if f.stream <= e.last {
		e.out.unlock()
		return errMalformed
	}
	e.last = f.stream
	// If this instance can't parse a URI, a client chose it: the connection is not at
	// fault.
	if err != nil || e.draining || len(e.streams) >= streams+spareStreams || e.bytes+len(q.body) > maxUnderWay {
		e.sign(kindRefused, f.stream)
		e.out.unlock()
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	e.streams[f.stream] = cancel
	e.bytes += len(q.body)
	e.out.unlock()
	r := (&http.Request{
		Method: q.method, URL: target, RequestURI: q.uri, Host: q.host, Header: q.header,
		Proto: protocolName, Body: http.NoBody, ContentLength: int64(len(q.body)),
	}).WithContext(ctx)
	if len(q.body) > 0 {
		r.Body = io.NopCloser(bytes.NewReader(q.body))
	}
	e.serving.Go(func() { e.serve(r, f.stream, cancel) })
	return nil
}

// sign appends a frame that has only a kind. The caller holds the outbox's lock.
func (e *callee) sign(k kind, stream uint64) {
	e.out.gathered = appendHead(e.out.gathered, k, stream)
}

// cancel cancels a request that the peer no longer needs.
func (e *callee) cancel(stream uint64) error {
	e.out.mu.Lock()
	defer e.out.mu.Unlock()
	if stream > e.last {
		return errMalformed
	}
	if cancel := e.streams[stream]; cancel != nil {
		cancel()
		e.streams[stream] = nil
	}
	return nil
}

// serve serves a request and sends the answer.
func (e *callee) serve(r *http.Request, stream uint64, cancel context.CancelFunc) {
	defer cancel()
	size := int(r.ContentLength)
	w := writers.Get().(*answerWriter)
	whole := e.handle(w, r)
	open := e.out.lock(r.Context().Done(), nil)
	if !open {
		e.out.mu.Lock() // the peer no longer needs the answer
	}
	if open && e.streams[stream] != nil {
		var err error
		if whole {
			e.out.gathered, err = appendAnswer(e.out.gathered, stream, &w.answer)
		}
		if !whole || err != nil {
			e.sign(kindBroken, stream)
		}
	}
	delete(e.streams, stream)
	e.bytes -= size
	e.leaveIfDone()
	e.out.unlock()
	w.giveBack()
}

// handle calls the handler. It returns false if it gave no answer that can be sent.
func (e *callee) handle(w *answerWriter, r *http.Request) (whole bool) {
	defer func() {
		if p := recover(); p != nil {
			whole = false
			if p != http.ErrAbortHandler {
				e.log.Error("panic in a handler", "err", p, "stack", string(debug.Stack()))
			}
		}
	}()
	e.handler.ServeHTTP(w, r)
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return !w.over
}

// drain tells the peer to send no more requests, and refuses any that arrive.
func (e *callee) drain() {
	e.out.mu.Lock()
	defer e.out.unlock()
	if e.draining || e.out.closed {
		return
	}
	e.draining = true
	e.sign(kindGoAway, 0)
	e.leaveIfDone()
}

// leaveIfDone closes the connection after a grace period if the peer was sent a go-away
// frame and no request is in progress. The caller holds the outbox's lock.
func (e *callee) leaveIfDone() {
	if e.draining && len(e.streams) == 0 && e.grace == nil && !e.out.closed {
		e.grace = time.AfterFunc(goAwayTime, e.close)
	}
}

// close closes the connection.
func (e *callee) close() {
	e.out.mu.Lock()
	if e.grace != nil {
		e.grace.Stop()
	}
	if !e.out.closed {
		e.out.shut()
	}
	e.out.mu.Unlock()
	_ = e.conn.NetConn().Close() // it may be closed already
}

// answerWriter is the http.ResponseWriter for a request of a peer. It buffers the whole
// answer.
type answerWriter struct {
	answer
	over bool // the answer was larger than maxAnswer
}

var writers = sync.Pool{New: func() any { return &answerWriter{answer: answer{header: http.Header{}}} }}

var errAnswerTooLarge = errors.New("the answer is too large")

// Header implements http.ResponseWriter.
func (w *answerWriter) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *answerWriter) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
}

// Write implements http.ResponseWriter.
func (w *answerWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if len(w.body)+len(p) > maxAnswer {
		w.over = true
		return 0, errAnswerTooLarge
	}
	w.body = append(w.body, p...)
	return len(p), nil
}

// keptAnswer is the largest buffer that is kept for reuse.
const keptAnswer = 16 << 10

func (w *answerWriter) giveBack() {
	if cap(w.body) > keptAnswer {
		return
	}
	clear(w.header)
	w.status, w.body, w.over = 0, w.body[:0], false
	writers.Put(w)
}
