// Package outbound sends HTTP requests to addresses that strangers name: links that users post, push gateways.
//
// It owns the rule which network addresses may be reached, and the limits of such a request: time, redirects, header and
// body bytes. It never uses a proxy from the environment, never keeps a cookie, and never follows a redirect without the
// checks of the first request. What an answer means is the caller's.
//
// The invariant that matters: the address that was checked is the address that is dialled. A name is looked up once for a
// connection, so an answer of the DNS that changes between check and use gains nothing.
package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

var (
	// ErrPrivate says that a host has no address that may be reached.
	ErrPrivate = errors.New("the address is private, or is not for public use")
	// ErrURL says that a URL is not of a form that is fetched: its scheme, user information, host or port.
	ErrURL = errors.New("the URL is not one to fetch")
	// ErrRedirects says that an answer was a redirect, and that this was one too many.
	ErrRedirects = errors.New("too many redirects")
	// ErrTooLarge says that a body has more bytes than MaxBody.
	ErrTooLarge = errors.New("the answer is too large")
)

// Resolver looks up the addresses of a host. A *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Options are what a Client needs. The zero value is usable.
type Options struct {
	// AllowPrivate permits private, loopback and link-local addresses.
	AllowPrivate bool
	// RootCAs are the authorities to trust; nil = those of the system.
	RootCAs *x509.CertPool
	// Resolver looks hosts up; nil = that of the system.
	Resolver Resolver
	// Check refuses URLs beside the rules of this package, also those of redirects; nil = none.
	Check func(*url.URL) error
	// Dial connects to an address that was checked, as IP:PORT; nil = a plain TCP connection.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Timeout bounds a request with all its redirects and its body; 0 = 30 s.
	Timeout time.Duration
	// MaxRedirects is how many redirects are followed; with 0, a redirect is ErrRedirects.
	MaxRedirects int
	// MaxHeader bounds the header of an answer, in bytes; 0 = 64 KiB.
	MaxHeader int64
	// MaxBody bounds the body of an answer, in bytes after decompression; 0 = 1 MiB.
	MaxBody int64
	// MaxPerHost bounds the connections to one host, and IdlePerHost those that are kept for later; 0 = 16 and 1.
	MaxPerHost, IdlePerHost int
	// UserAgent is sent unless a request has one.
	UserAgent string
}

// Bounds that callers don't choose.
const (
	usualTimeout   = 30 * time.Second
	connectTimeout = 5 * time.Second // to one address, and for the TLS handshake
	maxAddresses   = 4               // of a host that are tried
	usualMaxHeader = 64 << 10
	usualMaxBody   = 1 << 20
	usualPerHost   = 16
	idleTimeout    = 90 * time.Second
	maxIdle        = 64
)

// Client sends requests. Its methods may be called at the same time.
type Client struct {
	opt  Options
	http http.Client
}

// New makes a Client.
func New(opt Options) *Client {
	if opt.Resolver == nil {
		opt.Resolver = net.DefaultResolver
	}
	if opt.Dial == nil {
		opt.Dial = (&net.Dialer{}).DialContext
	}
	setDefault(&opt.Timeout, usualTimeout)
	setDefault(&opt.MaxHeader, usualMaxHeader)
	setDefault(&opt.MaxBody, usualMaxBody)
	setDefault(&opt.MaxPerHost, usualPerHost)
	setDefault(&opt.IdlePerHost, 1)
	c := &Client{opt: opt}
	c.http = http.Client{
		Timeout:       opt.Timeout,
		CheckRedirect: c.redirect,
		Transport: &http.Transport{
			Proxy:                  nil, // a proxy would look the name up again
			DialContext:            c.dial,
			TLSClientConfig:        &tls.Config{RootCAs: opt.RootCAs, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    connectTimeout,
			ForceAttemptHTTP2:      true,
			MaxResponseHeaderBytes: opt.MaxHeader,
			MaxConnsPerHost:        opt.MaxPerHost,
			MaxIdleConnsPerHost:    opt.IdlePerHost,
			MaxIdleConns:           maxIdle,
			IdleConnTimeout:        idleTimeout,
		},
	}
	return c
}

func setDefault[T int | int64 | time.Duration](v *T, usual T) {
	if *v == 0 {
		*v = usual
	}
}

// Do sends a request. The caller closes the body, whose reading gives ErrTooLarge past MaxBody. Errors are those of this
// package, wrapped, and those of the network; they name hosts and addresses, so they are for the log and not for strangers.
func (c *Client) Do(r *http.Request) (*http.Response, error) {
	if err := c.check(r.URL); err != nil {
		return nil, err
	}
	if c.opt.UserAgent != "" && r.Header.Get("User-Agent") == "" {
		r = r.Clone(r.Context())
		r.Header.Set("User-Agent", c.opt.UserAgent)
	}
	res, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	res.Body = &body{res.Body, c.opt.MaxBody}
	return res, nil
}

// Close closes the connections that are kept for later.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// redirect checks the next request of a chain.
func (c *Client) redirect(next *http.Request, before []*http.Request) error {
	if len(before) > c.opt.MaxRedirects {
		return ErrRedirects
	}
	next.Header.Del("Referer") // where a link was found is nobody's business
	return c.check(next.URL)
}

// check checks what can be said of a URL without a look-up.
func (c *Client) check(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%w: its scheme is neither http nor https", ErrURL)
	case u.User != nil:
		return fmt.Errorf("%w: it has a user name", ErrURL)
	case u.Hostname() == "":
		return fmt.Errorf("%w: it has no host", ErrURL)
	case c.opt.Check != nil:
		return c.opt.Check(u)
	}
	return nil
}

// dial looks a host up, checks its addresses, and connects to the first of those that pass and answer.
func (c *Client) dial(ctx context.Context, network, hostPort string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrURL, err)
	}
	if refusedPorts[port] && !c.opt.AllowPrivate {
		return nil, fmt.Errorf("%w: port %s is not one of HTTP", ErrURL, port)
	}
	list, err := c.addresses(ctx, host)
	if err != nil {
		return nil, err
	}
	var failed error
	for _, a := range list {
		conn, err := c.connect(ctx, network, a, port)
		if err == nil {
			return conn, nil
		}
		if failed = errors.Join(failed, err); ctx.Err() != nil {
			break
		}
	}
	return nil, failed
}

func (c *Client) connect(ctx context.Context, network string, a netip.Addr, port string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	return c.opt.Dial(ctx, network, net.JoinHostPort(a.String(), port))
}

// addresses gives the addresses of a host that may be reached; there is one at least.
func (c *Client) addresses(ctx context.Context, host string) (list []netip.Addr, err error) {
	found := []netip.Addr{}
	if a, err := netip.ParseAddr(host); err == nil {
		found = append(found, a)
	} else if endsInNumber(host) {
		return nil, fmt.Errorf("%w: %q is neither an address nor a name", ErrURL, host)
	} else if found, err = c.opt.Resolver.LookupNetIP(ctx, "ip", c.rooted(host)); err != nil {
		return nil, err
	}
	for _, a := range found {
		if a = a.Unmap(); c.mayReach(a) && len(list) < maxAddresses {
			list = append(list, a)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: %w", host, ErrPrivate)
	}
	return list, nil
}

// rooted keeps a host from being looked up in the search domains of this machine's network.
func (c *Client) rooted(host string) string {
	if c.opt.AllowPrivate || host[len(host)-1] == '.' {
		return host
	}
	return host + "."
}

// body bounds how much is read.
type body struct {
	io.ReadCloser
	left int64
}

func (b *body) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, ErrTooLarge
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1] // one byte more tells whether there is more
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n - 1, ErrTooLarge
	}
	return n, err
}
