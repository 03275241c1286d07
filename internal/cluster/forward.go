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
	return p.ask(r.Context(), l.ctx.Done(), &question{
		method: r.Method, uri: r.URL.RequestURI(), host: r.Host, header: r.Header, address: r.RemoteAddr, body: body,
	})
}

// attempts bounds the connections on which it is tried to send a request. It is sent
// on one of them at most.
const attempts = 3

// ask asks a peer, until ctx or gone ends; a ping has no gone. What did not leave this
// instance is a dialError, what was not begun otherwise errRefused.
func (p *peer) ask(ctx context.Context, gone <-chan struct{}, q *question) (*answer, error) {
	for range attempts {
		if ended(gone) {
			return nil, errRefused
		}
		line, err := p.connect(ctx, gone)
		if err != nil {
			return nil, err
		}
		a, err := line.ask(ctx, gone, q)
		if !errors.Is(err, errUnsent) {
			return a, err
		}
	}
	return nil, &dialError{errUnsent}
}

// hopHeaders belong to one connection, or were read here.
var hopHeaders = []string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Expect",
	"Content-Length", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", addressHeader,
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
