package httpkit

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// bay is the place of a connection outside of net/http. There it waits for its answer, and then for the next request of its
// client. A client that has waited mostly asks the same again: such a request is served without going back to net/http, which
// takes a third of the whole work of an answer to make a connection of its own, and to part with it.
type bay struct {
	conn    net.Conn
	raw     syscall.RawConn
	parking *parking
	path    string          // of the requests that are served here
	address string          // of the peer
	context context.Context // of requests that are served here
	number  uint64          // the watcher's name for it, 0 = it can't be watched
	waited  bool            // the last request waited for long; for whoever goes on with it

	mu       sync.Mutex // guards all below; nothing is taken after it
	state    bayState
	hasNews  bool    // the client did something since what it sent was read
	isGone   bool    // the last thing that it did was to close its side
	waiter   *Parked // in state waits
	restedAt time.Time
}

// bayState says who goes on with a connection.
type bayState uint8

const (
	busy  bayState = iota // whoever serves its request
	waits                 // its Parked, when it is woken or the client does something
	rests                 // the next request
)

// newBay makes a bay for a connection with a request, which parking.parked counts already. One that can't be watched is left to
// net/http again after its answer, and who waits on it learns only then that its client has gone.
func newBay(p *parking, c net.Conn, raw syscall.RawConn, path string) *bay {
	b := &bay{conn: c, raw: raw, parking: p, path: path, address: c.RemoteAddr().String(), context: p.opt.note(p.inBay, c)}
	b.number = p.watcher.add(b)
	return b
}

// goOn leaves the connection to a Parked that waits or to the next request. It returns false if the client did something
// already; the caller goes on with it then.
func (b *bay) goOn(state bayState, p *Parked) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.hasNews {
		return false
	}
	b.state, b.waiter = state, p
	return true
}

// wakes takes the connection back from the Parked that waited.
func (b *bay) wakes() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state, b.waiter = busy, nil
}

// stirred is called when the client did something. isGone says that it will do nothing any more.
func (b *bay) stirred(isGone bool) {
	b.mu.Lock()
	state, p := b.state, b.waiter
	b.hasNews = true
	b.isGone = b.isGone || isGone
	b.state, b.waiter = busy, nil
	if state == rests {
		b.parking.parked.Add(1)
	}
	b.mu.Unlock()
	switch state {
	case waits:
		b.parking.workers.Take(p.stirred)
	case rests:
		b.parking.workers.Take(b.serve)
	}
}

// read reads what the client has sent, without waiting. It is not open if the client has gone.
func (b *bay) read(into []byte) (n int, open bool) {
	b.mu.Lock()
	b.hasNews = b.isGone // before what is read now; the end is not told again
	b.mu.Unlock()
	n, open = readAtOnce(b.raw, into)
	if n == len(into) { // there may be more, which is not told again either
		b.mu.Lock()
		b.hasNews = true
		b.mu.Unlock()
	}
	return n, open
}

// onePiece is the most that is written in one piece with its head: the kernel mostly takes as much at once.
const onePiece = 64 << 10

var pieces = sync.Pool{New: func() any { return new([]byte) }}

// write writes an answer, or the next part of one. Each piece of it has its time, as those of answers of net/http. A worker who
// has to wait for the client lets another work.
//
// A deadline is set only if the kernel does not take all at once: those of thousands of connections, of which none is ever
// reached, would cost more than a system call.
func (b *bay) write(ctx context.Context, head, body []byte) (err error) {
	if len(head)+len(body) <= onePiece {
		piece := pieces.Get().(*[]byte)
		defer pieces.Put(piece)
		*piece = append(append((*piece)[:0], head...), body...)
		n, err := writeAtOnce(b.raw, *piece)
		if err != nil || n == len(*piece) {
			return err
		}
		head, body = (*piece)[n:], nil
	}
	Blocking(ctx, func() { err = b.writeSlowly(head, body) })
	return err
}

// writeSlowly writes what the kernel does not take at once.
func (b *bay) writeSlowly(head, body []byte) error {
	parts := net.Buffers{head}
	for len(body) > answerPiece {
		parts = append(parts, body[:answerPiece])
		body = body[answerPiece:]
	}
	parts = append(parts, body)
	for len(parts) > 0 {
		err := b.conn.SetWriteDeadline(time.Now().Add(b.parking.opt.answer))
		next := parts[:min(2, len(parts))]
		parts = parts[len(next):]
		if err == nil {
			_, err = next.WriteTo(socketOf(b.conn))
		}
		if err != nil {
			return err
		}
	}
	return b.conn.SetWriteDeadline(time.Time{})
}

// rest ends a request: the bay waits for the next. early is what was read of it.
func (b *bay) rest(early []byte) {
	if len(early) > 0 || b.number == 0 {
		b.giveBack(early)
		return
	}
	b.mu.Lock()
	rested := false
	switch {
	case b.parking.over.Load():
		b.mu.Unlock()
		b.close()
		return
	case !b.hasNews:
		rested = true
		b.state, b.restedAt = rests, time.Now()
	}
	b.mu.Unlock()
	if rested {
		b.parking.parked.Done()
	} else {
		b.parking.workers.Take(b.serve)
	}
}

// giveBack ends a request: net/http goes on with the connection.
func (b *bay) giveBack(early []byte) {
	defer b.parking.parked.Done()
	b.parking.watcher.remove(b)
	back := &comeback{Conn: b.conn, opt: &b.parking.opt, early: early, idle: len(early) == 0, waited: b.waited}
	select {
	case b.parking.returned <- back:
	case <-b.parking.dropped:
		_ = b.conn.Close() // whether it was open makes no difference
	}
}

// close ends a request and its connection.
func (b *bay) close() {
	defer b.parking.parked.Done()
	b.leave()
}

func (b *bay) leave() {
	b.parking.watcher.forget(b)
	_ = b.conn.Close() // whether it was open makes no difference
}

// closeIdle closes the connections without a request, and from now on each after its answer. None is given back any more.
func (p *parking) closeIdle() {
	p.over.Store(true)
	p.closeRested(0)
	p.finish()
}

// closeRested closes the connections that have had no request for some time.
func (p *parking) closeRested(least time.Duration) {
	if p.watcher == nil {
		return
	}
	for _, b := range p.watcher.all() {
		b.mu.Lock()
		isIdle := b.state == rests && time.Since(b.restedAt) >= least
		if isIdle {
			b.state = busy
		}
		b.mu.Unlock()
		if isIdle {
			b.leave()
		}
	}
}

// closeIdleOnes closes connections that have been idle for too long, until the server closes.
func (p *parking) closeIdleOnes() {
	look := time.NewTicker(max(p.opt.idle/8, time.Millisecond))
	defer look.Stop()
	for {
		select {
		case <-look.C:
			p.closeRested(p.opt.idle)
		case <-p.closed:
			return
		}
	}
}

// maxHere bounds the header of a request that is served in a bay.
const maxHere = 4 << 10

// opening is what it takes to read a request.
type opening struct {
	raw    [maxHere]byte
	source bytes.Reader
	reader *bufio.Reader
}

var openings = sync.Pool{New: func() any { return &opening{reader: bufio.NewReaderSize(nil, maxHere)} }}

// serve serves the request that has come, or gives it to net/http.
func (b *bay) serve() {
	o := openings.Get().(*opening)
	n, open := b.read(o.raw[:])
	if !open {
		openings.Put(o)
		b.close()
		return
	}
	if n == 0 {
		openings.Put(o)
		b.rest(nil)
		return
	}
	r := o.request(o.raw[:n], b.path)
	if r == nil {
		early := bytes.Clone(o.raw[:n])
		openings.Put(o)
		b.giveBack(early)
		return
	}
	openings.Put(o)
	r = r.WithContext(b.context)
	r.RemoteAddr = b.address
	answer := reply{bay: b, header: make(http.Header, 8)}
	ok := b.handle(&answer, r)
	switch {
	case answer.parked:
	case !ok || answer.finish() != nil || answer.isLast:
		b.close()
	default:
		b.waited = false
		b.rest(nil)
	}
}

// handle calls the handler. It returns false if there is no answer.
func (b *bay) handle(w *reply, r *http.Request) (ok bool) {
	defer func() {
		if fault := recover(); fault != nil && fault != http.ErrAbortHandler {
			b.parking.opt.log.Error("panic in a handler", "err", fault, "stack", string(debug.Stack()))
		}
	}()
	b.parking.handler.ServeHTTP(w, r)
	return true
}

var headEnd = []byte("\r\n\r\n")

// request reads a request that is here whole, and is nothing but a GET of a path; nil if it is anything else. What it does not
// take goes to net/http, so it takes only what net/http would without doubt take the same way.
func (o *opening) request(raw []byte, path string) *http.Request {
	rest, isGet := bytes.CutPrefix(raw, []byte("GET "))
	if !isGet || len(rest) <= len(path) || string(rest[:len(path)]) != path || rest[len(path)] != ' ' && rest[len(path)] != '?' ||
		bytes.Index(raw, headEnd) != len(raw)-len(headEnd) {
		return nil
	}
	line, lines, _ := bytes.Cut(raw[:len(raw)-len("\r\n")], []byte("\r\n"))
	if !bytes.HasSuffix(line, []byte(" HTTP/1.1")) || !isPrintable(line) || !isPlainHead(lines) {
		return nil
	}
	o.source.Reset(raw)
	o.reader.Reset(&o.source)
	r, err := http.ReadRequest(o.reader)
	if err != nil || r.URL.Path != path || r.URL.Host != "" || r.ContentLength != 0 || r.Close {
		return nil
	}
	return r
}

// isPlainHead reports whether the lines of a head, each with its end, are well formed, name the host once, and say nothing of a
// body or the connection.
func isPlainHead(lines []byte) bool {
	hosts := 0
	for len(lines) > 0 {
		line, rest, _ := bytes.Cut(lines, []byte("\r\n"))
		lines = rest
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || len(name) == 0 {
			return false
		}
		for _, c := range name {
			if c != '-' && !('a' <= c && c <= 'z') && !('A' <= c && c <= 'Z') && !('0' <= c && c <= '9') {
				return false
			}
		}
		if !isPrintable(value) {
			return false
		}
		value = bytes.TrimSpace(value)
		switch {
		case is(name, "Host"):
			hosts++
			if !isPlainHost(value) {
				return false
			}
		case is(name, "Connection"):
			if !is(value, "keep-alive") {
				return false
			}
		case is(name, "Content-Length"), is(name, "Transfer-Encoding"), is(name, "Trailer"), is(name, "Expect"), is(name, "Upgrade"):
			return false
		}
	}
	return hosts == 1
}

func isPrintable(text []byte) bool {
	for _, c := range text {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

func is(name []byte, known string) bool {
	return len(name) == len(known) && strings.EqualFold(string(name), known)
}

func isPlainHost(host []byte) bool {
	for _, c := range host {
		if c != '-' && c != '.' && c != ':' && c != '[' && c != ']' && c != '_' &&
			!('a' <= c && c <= 'z') && !('A' <= c && c <= 'Z') && !('0' <= c && c <= '9') {
			return false
		}
	}
	return len(host) > 0
}

// reply is the ResponseWriter of a request that is served in a bay.
type reply struct {
	bay    *bay
	header http.Header
	status int
	body   []byte // what waits until its length is known
	begun  bool   // the head is out
	parked bool   // its Parked answers
	isLast bool   // the connection ends with it
	left   int    // what is to come of the body, after the head
	failed error
}

// Header implements http.ResponseWriter.
func (w *reply) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *reply) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
}

// Write implements http.ResponseWriter. What is written before its length is known is kept until the answer ends.
func (w *reply) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	switch {
	case w.failed != nil:
	case w.begun && len(p) > w.left:
		w.failed = http.ErrContentLength
	case w.begun:
		w.left -= len(p)
		w.failed = w.bay.write(w.bay.context, p, nil)
	case w.header["Content-Length"] == nil:
		w.body = append(w.body, p...)
	default:
		w.begin(p)
	}
	if w.failed != nil {
		return 0, w.failed
	}
	return len(p), nil
}

// begin writes the head, and what there is of the body.
func (w *reply) begin(body []byte) {
	w.begun = true
	if w.bay.parking.isWindingDown() {
		w.header["Connection"] = closeConnection
	}
	w.isLast = w.header.Get("Connection") == "close"
	length, err := strconv.Atoi(w.header.Get("Content-Length"))
	if err != nil || length < len(body) {
		w.failed = http.ErrContentLength
		return
	}
	w.left = length - len(body)
	if w.header["Content-Type"] == nil && len(body) > 0 {
		w.header["Content-Type"] = []string{http.DetectContentType(body)}
	}
	var head bytes.Buffer
	head.Grow(512)
	head.WriteString("HTTP/1.1 ")
	head.WriteString(strconv.Itoa(w.status))
	head.WriteByte(' ')
	head.WriteString(http.StatusText(w.status))
	head.WriteString("\r\n")
	if w.header["Date"] == nil {
		head.WriteString("Date: ")
		head.Write(time.Now().UTC().AppendFormat(head.AvailableBuffer(), http.TimeFormat))
		head.WriteString("\r\n")
	}
	_ = w.header.Write(&head) // a buffer takes everything
	head.WriteString("\r\n")
	w.failed = w.bay.write(w.bay.context, head.Bytes(), body)
}

// finish writes what is left of the answer.
func (w *reply) finish() error {
	w.WriteHeader(http.StatusOK)
	if !w.begun {
		if w.header["Content-Length"] == nil {
			w.header["Content-Length"] = []string{strconv.Itoa(len(w.body))}
		}
		w.begin(w.body)
	}
	w.isLast = w.isLast || w.left > 0
	return w.failed
}
