package cluster

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"

	"stoa/internal/httpkit"
	"stoa/matrix/mxerr"
)

// maxAnswer bounds the answers that are taken whole before they are passed on.
// What writes a room answers with a few IDs.
const maxAnswer = 1 << 20

// Forward implements httpkit.Forwarder for requests that write the room of key.
//
// What could not be sent, or was not begun by a home that stops, has too much to do
// or does not reach the database, is served here. If the home is lost while it has the
// request, nobody knows whether it is done: it is served here too if it has a
// transaction ID, whose unique row decides, and else refused with a 503.
func (c *Cluster) Forward(w http.ResponseWriter, r *http.Request, key string) bool {
	if c.leases == nil {
		return false
	}
	p := c.home(key)
	var l *link
	if p != nil {
		l = p.link.Load()
	}
	if l == nil {
		c.serveHere(w, outcomeHome)
		return false
	}
	body, err := httpkit.ReadBody(r, httpkit.MaxBody)
	if err != nil {
		httpkit.Fail(w, r, err)
		return true
	}
	begin := c.opt.Clock()
	answer, err := p.send(l, r, body)
	var dial *dialError
	switch {
	case err == nil && answer.header.Get(httpkit.UnservedHeader) != "":
		p.again() // it may know by now that its lease is in doubt
		c.serveHere(w, outcomeUnreachable)
	case err == nil:
		c.metrics.took(c.opt.Clock().Sub(begin))
		c.metrics.outcome(outcomeForwarded)
		answer.write(w, p.Name)
		return true
	case r.Context().Err() != nil:
		c.metrics.outcome(outcomeGone)
		httpkit.Fail(w, r, r.Context().Err())
		return true
	case errors.Is(err, errRefused):
		c.serveHere(w, outcomeUnreachable)
	case errors.As(err, &dial):
		p.down(err)
		c.serveHere(w, outcomeUnreachable)
	case r.PathValue("txnId") != "":
		p.again()
		c.serveHere(w, outcomeRepeated)
	default:
		p.again()
		c.metrics.outcome(outcomeLost)
		httpkit.Fail(w, r, mxerr.TryAgain("The server could not finish this request; try again").Because(err))
		return true
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	return false
}

// serveHere notes that a request is served by this instance.
func (c *Cluster) serveHere(w http.ResponseWriter, why outcome) {
	c.metrics.outcome(why)
	w.Header()[homeHeader] = []string{c.opt.Name}
}

// homeHeader names the instance that has served a request with a home.
const homeHeader = "X-Stoa-Home"

// answer is what a home said.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// send asks a peer, until the link to it ends.
func (p *peer) send(l *link, r *http.Request, body []byte) (*answer, error) {
	return p.ask(r.Context(), l, &question{
		method: r.Method, uri: r.URL.RequestURI(), host: r.Host, header: r.Header, address: r.RemoteAddr, body: body,
	})
}

// attempts bounds the connections on which it is tried to send a request. It is sent
// on one of them at most.
const attempts = 3

// ask asks a peer, until ctx or the link ends; a ping has none. What did not leave this
// instance is a dialError, what was not begun otherwise errRefused.
func (p *peer) ask(ctx context.Context, l *link, q *question) (*answer, error) {
	gone := l.gone()
	for range attempts {
		if ended(gone) {
			return nil, errRefused
		}
		line, err := p.connect(ctx, gone)
		if err != nil {
			return nil, err
		}
		if line == nil {
			return p.overHTTP2(ctx, l, q)
		}
		a, err := line.ask(ctx, gone, q)
		if !errors.Is(err, errUnsent) {
			return a, err
		}
	}
	return nil, &dialError{errUnsent}
}

// overHTTP2 asks a peer of the release before.
func (p *peer) overHTTP2(ctx context.Context, l *link, q *question) (*answer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if l != nil {
		defer context.AfterFunc(l.ctx, func() { cancel(errSilent) })()
	}
	req, err := http.NewRequestWithContext(ctx, q.method, "https://"+p.Address+q.uri, bytes.NewReader(q.body))
	if err != nil {
		return nil, errors.Join(errRefused, err)
	}
	req.Host, req.Header, req.GetBody = q.host, outgoing(q), nil
	res, err := p.transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	a := &answer{status: res.StatusCode, header: res.Header}
	if a.body, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer+1)); err != nil {
		return nil, err
	}
	if len(a.body) > maxAnswer {
		return nil, errAnswerTooLarge
	}
	return a, nil
}

// hopHeaders belong to one connection, or were read here.
var hopHeaders = []string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Expect",
	"Content-Length", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", addressHeader,
}

// outgoing are the headers of a request as it is forwarded.
func outgoing(q *question) http.Header {
	h := make(http.Header, len(q.header)+1)
	for name, values := range q.header {
		h[name] = values
	}
	for _, name := range hopHeaders {
		delete(h, name)
	}
	h[addressHeader] = []string{q.address}
	return h
}

// write passes the answer on. The headers that every answer has are there already.
func (a *answer) write(w http.ResponseWriter, home string) {
	h := w.Header()
	for name, values := range a.header {
		if name != "X-Stoa-Instance" && name != "Date" {
			h[name] = values
		}
	}
	h[homeHeader] = []string{home}
	w.WriteHeader(a.status)
	// An error here means that the client has gone; there is nobody to tell.
	_, _ = w.Write(a.body)
}
