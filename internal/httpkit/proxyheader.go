package httpkit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"

	"github.com/pires/go-proxyproto"
)

// A balancer that passes on connections, and not requests, can't put the address of a client into each request. It says it
// once, before the first byte of the client: by the PROXY protocol, version 2. Who may say so is asked for each request, as
// with X-Forwarded-For.

// maxProxyHeader bounds what a balancer may say before a connection, in bytes: addresses take 52, the rest are extensions.
const maxProxyHeader = 4 << 10

// proxyHeader is what stands before the first request of a connection; its zero value is nothing.
type proxyHeader struct {
	read   bool
	early  readAhead      // what came after it and was read with it
	client netip.AddrPort // zero: nothing was said
}

// from reads from a connection. Its first call looks for the header, and waits until it is whole.
func (p *proxyHeader) from(c net.Conn, b []byte) (int, error) {
	if !p.read {
		n, err := c.Read(b)
		if n == 0 {
			return n, err
		}
		p.read = true
		if !mayBeProxyHeader(b[:n]) {
			return n, err
		}
		if err := p.parse(c, b[:n]); err != nil {
			return 0, err
		}
	}
	if n := p.early.take(b); n > 0 {
		return n, nil
	}
	return c.Read(b)
}

// readAhead is what was read of a connection before its time.
type readAhead []byte

// take moves of it to b what fits; 0 if there is nothing left.
func (a *readAhead) take(b []byte) int {
	n := copy(b, *a)
	if *a = (*a)[n:]; len(*a) == 0 {
		*a = nil
	}
	return n
}

func mayBeProxyHeader(begin []byte) bool {
	n := min(len(begin), len(proxyproto.SIGV2))
	return bytes.Equal(begin[:n], proxyproto.SIGV2[:n])
}

func (p *proxyHeader) parse(c net.Conn, begin []byte) error {
	all := io.LimitedReader{R: c, N: maxProxyHeader}
	r := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(bytes.Clone(begin)), &all), maxProxyHeader)
	header, err := proxyproto.Read(r)
	if err != nil && !errors.Is(err, proxyproto.ErrNoProxyProtocol) {
		return fmt.Errorf("read the PROXY header: %w", err)
	}
	rest, err := r.Peek(r.Buffered())
	if err != nil {
		return err
	}
	p.early = bytes.Clone(rest)
	if header == nil || header.Command.IsLocal() { // the balancer's own
		return nil
	}
	if from, _, ok := header.TCPAddrs(); ok {
		p.client = from.AddrPort()
	}
	return nil
}

// proxyHeaderOf is where a connection keeps it; nil of one that has none.
func proxyHeaderOf(c net.Conn) *proxyHeader {
	switch c := c.(type) {
	case *boundedTCP:
		return &c.proxy
	case *boundedConn:
		return &c.proxy
	case interface{ NetConn() net.Conn }: // TLS
		return proxyHeaderOf(c.NetConn())
	}
	return nil
}

type proxyHeaderKey struct{}

// noteProxyHeader lets the requests of a connection know its proxyHeader, unless it was read and says nothing.
func noteProxyHeader(ctx context.Context, c net.Conn) context.Context {
	p := proxyHeaderOf(c)
	if p == nil || p.read && !p.client.IsValid() {
		return ctx
	}
	return context.WithValue(ctx, proxyHeaderKey{}, p)
}

// believeProxyHeader replaces the peer's address by what it said of the connection, if it is a trusted proxy.
func (m *Mux) believeProxyHeader(r *http.Request) {
	p, ok := r.Context().Value(proxyHeaderKey{}).(*proxyHeader)
	if ok && p.client.IsValid() && m.trustsPeer(r) {
		r.RemoteAddr = p.client.String()
	}
}
