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

// maxAnswer bounds the answers, which are buffered whole. Requests that write a room are
// answered with a few IDs.
const maxAnswer = 1 << 20

// Forward implements httpkit.Forwarder for requests that write the room of key.
//
// This instance serves a request itself if the home can't be reached, stops, is
// overloaded, or can't reach the database. If the connection breaks while the home has
// the request, its outcome is unknown. If it has a transaction ID, whose unique row
// prevents a second event, this instance serves it; otherwise it answers 503.
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
		p.again() // it may know by now that its lease has expired
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

// serveHere records that this instance serves a request.
func (c *Cluster) serveHere(w http.ResponseWriter, why outcome) {
	c.metrics.outcome(why)
	w.Header()[homeHeader] = []string{c.opt.Name}
}

// homeHeader has the name of the instance that served a forwarded request.
const homeHeader = "X-Stoa-Home"

// answer is a home's answer.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// send sends a request to a peer, and waits until the link to it ends.
func (p *peer) send(l *link, r *http.Request, body []byte) (*answer, error) {
	return p.ask(r.Context(), l.ctx.Done(), &question{
		method: r.Method, uri: r.URL.RequestURI(), host: r.Host, header: r.Header, address: r.RemoteAddr, body: body,
	})
}

// attempts bounds the connections that are tried for a request. At most one of them sends
// it.
const attempts = 3

// ask sends a request to a peer, and waits until ctx or gone ends; a ping has no gone. It
// returns a dialError if the request did not leave this instance, and errRefused if the
// peer did not begin it.
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

// hopHeaders belong to one connection, or were processed by this instance.
var hopHeaders = []string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Expect",
	"Content-Length", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", addressHeader,
}

// write writes the answer to the client. The headers of all answers are already set.
func (a *answer) write(w http.ResponseWriter, home string) {
	h := w.Header()
	for name, values := range a.header {
		if name != "X-Stoa-Instance" && name != "Date" {
			h[name] = values
		}
	}
	h[homeHeader] = []string{home}
	w.WriteHeader(a.status)
	// An error means that the client has disconnected.
	_, _ = w.Write(a.body)
}
