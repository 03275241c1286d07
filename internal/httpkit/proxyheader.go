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

// A balancer for TCP connections can't add the client's address to each request. Instead
// it sends a header at the beginning of the connection: the PROXY protocol, version 2. As
// with X-Forwarded-For, each request checks whether the peer is trusted.

// maxProxyHeader bounds the header, in bytes: addresses take 52, the rest are extensions.
const maxProxyHeader = 4 << 10

// proxyHeader is the header of a connection; its zero value is none.
type proxyHeader struct {
	read   bool
	early  readAhead      // data after the header that was read with it
	client netip.AddrPort // zero: unknown
}

// from reads from a connection. The first call looks for the header, and waits until it
// is complete.
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

// readAhead is data that was read from a connection early.
type readAhead []byte

// take moves data into b; 0 if there is no more.
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
	if header == nil || header.Command.IsLocal() { // the balancer's own connection
		return nil
	}
	if from, _, ok := header.TCPAddrs(); ok {
		p.client = from.AddrPort()
	}
	return nil
}

// proxyHeaderOf returns the header of a connection; nil if it can have none.
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

// noteProxyHeader adds a connection's proxyHeader to the context of its requests, unless
// it was read and is empty.
func noteProxyHeader(ctx context.Context, c net.Conn) context.Context {
	p := proxyHeaderOf(c)
	if p == nil || p.read && !p.client.IsValid() {
		return ctx
	}
	return context.WithValue(ctx, proxyHeaderKey{}, p)
}

// believeProxyHeader replaces the peer's address by the one in the header, if the peer is
// a trusted proxy.
func (m *Mux) believeProxyHeader(r *http.Request) {
	p, ok := r.Context().Value(proxyHeaderKey{}).(*proxyHeader)
	if ok && p.client.IsValid() && m.trustsPeer(r) {
		r.RemoteAddr = p.client.String()
	}
}
