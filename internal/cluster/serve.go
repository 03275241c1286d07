package cluster

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"stoa/internal/httpkit"
)

const (
	// pingPath is how instances ask each other whether they serve.
	pingPath = "/_stoa/ping"
	// addressHeader has the address of the client of a forwarded request. It is
	// believed on the listener for instances only.
	addressHeader = "X-Stoa-Client-Address"
	// streams bounds the requests under way on one connection; who would ask for more
	// serves them itself.
	streams = 4096
	// connections bounds those of other instances, one each, and of strangers, who
	// are shown the door within 10 s.
	connections = 1024
)

// listen opens the listener for other instances, and gives the address that they
// are told.
func (c *Cluster) listen() (string, error) {
	address, host := c.opt.Listen, ""
	if address == "" {
		outward, err := c.leases.Outward()
		if err != nil {
			return "", err
		}
		address = net.JoinHostPort(outward, "0")
	}
	l, err := httpkit.Listen(address)
	if err != nil {
		return "", err
	}
	c.listener = newBounded(l, connections)
	host, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return "", errors.Join(fmt.Errorf("%s is no address of a network: %w", l.Addr(), err), l.Close())
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		if host, err = c.leases.Outward(); err != nil {
			return "", errors.Join(err, l.Close())
		}
	}
	return net.JoinHostPort(host, port), nil
}

// serve serves handler to other instances.
func (c *Cluster) serve(handler http.Handler) {
	handler = c.forPeers(handler)
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	c.server = &http.Server{
		Handler:   handler,
		TLSConfig: c.tlsConfig(c.isKnown),
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){
			protocolName: func(_ *http.Server, conn *tls.Conn, _ http.Handler) { c.answer(conn, handler) },
		},
		Protocols:         protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: streams},
		ReadHeaderTimeout: httpkit.DefaultTimes.Header,
		IdleTimeout:       httpkit.DefaultTimes.Idle,
		ErrorLog:          slog.NewLogLogger(c.log.Handler(), slog.LevelDebug),
	}
	c.server.RegisterOnShutdown(c.callees.drain)
	c.runs.Go(func() {
		err := c.server.Serve(tls.NewListener(c.listener, c.server.TLSConfig))
		if !errors.Is(err, http.ErrServerClosed) {
			c.failed <- fmt.Errorf("serve other instances on %s: %w", c.listener.Addr(), err)
		}
	})
}

// tlsConfig is the TLS configuration of both sides.
func (c *Cluster) tlsConfig(allowed func(fingerprint string) bool) *tls.Config {
	config := c.identity.config(allowed)
	if c.opt.before {
		config.NextProtos = []string{protocolBefore}
	}
	return config
}

// forPeers answers pings, takes what is handed over, and marks all else as forwarded.
func (c *Cluster) forPeers(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == pingPath {
			if !c.Acting() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return
		}
		if r.URL.Path == handPath {
			c.takeHanded(w, r)
			return
		}
		c.metrics.served.Add(1)
		address := r.Header.Get(addressHeader)
		r.Header.Del(addressHeader)
		handler.ServeHTTP(w, httpkit.FromPeer(r, address))
	})
}

// reread bounds how often strangers make this instance read the table.
type reread struct {
	mu   sync.Mutex // guards last, and is held while the table is read
	last time.Time
}

const rereadEvery = 200 * time.Millisecond

// isKnown says whether a fingerprint is that of a live instance. An instance may
// have joined since the table was last read.
func (c *Cluster) isKnown(fingerprint string) bool {
	if c.inView(fingerprint) {
		return true
	}
	c.reread.mu.Lock()
	defer c.reread.mu.Unlock()
	if c.inView(fingerprint) {
		return true
	}
	now := c.opt.Clock()
	if now.Sub(c.reread.last) < rereadEvery {
		return false
	}
	c.reread.last = now
	live, _, err := c.opt.Store.LiveInstances(c.ctx)
	if err != nil {
		c.log.Debug("look for an instance", "err", err)
		return false
	}
	for _, i := range live {
		if i.Fingerprint == fingerprint {
			select {
			case c.soon <- struct{}{}: // let it have its rooms
			default:
			}
			return true
		}
	}
	return false
}

func (c *Cluster) inView(fingerprint string) bool {
	v := c.view.Load()
	if v == nil {
		return false
	}
	for _, p := range v.peers {
		if p.Fingerprint == fingerprint {
			return true
		}
	}
	return false
}
