package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"stoa/internal/httpkit"
)

const (
	// pingPath answers 200 while an instance serves.
	pingPath = "/_stoa/ping"
	// addressHeader has the client address of a forwarded request. Only the listener
	// for instances trusts it.
	addressHeader = "X-Stoa-Client-Address"
	// streams bounds the requests in flight on one connection; the asking instance
	// serves more than that itself.
	streams = 4096
	// connections bounds the connections of other instances, one each, and of
	// unknown clients, which are closed within 10 s.
	connections = 1024
)

// listen opens the listener for other instances, and returns the address to announce.
func (c *Cluster) listen() (string, error) {
	address, host := c.opt.Listen, ""
	if address == "" {
		outward, err := c.leases.LocalAddress()
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
		if host, err = c.leases.LocalAddress(); err != nil {
			return "", errors.Join(err, l.Close())
		}
	}
	return net.JoinHostPort(host, port), nil
}

// serve serves handler to other instances until stopServing.
func (c *Cluster) serve(handler http.Handler) {
	handler = c.forPeers(handler)
	c.runs.Go(func() {
		for {
			conn, err := c.accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				c.failed <- fmt.Errorf("serve other instances on %s: %w", c.listener.Addr(), err)
				return
			}
			c.callees.serve(conn, func() { c.serveConn(conn, handler) })
		}
	})
}

// acceptPause is the wait before the next accept when the process has too many open files.
const acceptPause = 100 * time.Millisecond

// accept takes the next connection.
func (c *Cluster) accept() (net.Conn, error) {
	for {
		conn, err := c.listener.Accept()
		if !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) && !errors.Is(err, syscall.ECONNABORTED) {
			return conn, err
		}
		c.log.Warn("accept the connection of an instance", "err", err)
		select {
		case <-c.ctx.Done():
			return nil, net.ErrClosed
		case <-time.After(acceptPause):
		}
	}
}

// serveConn serves one connection until it ends.
func (c *Cluster) serveConn(raw net.Conn, handler http.Handler) {
	defer raw.Close() // whether it was open makes no difference
	conn := tls.Server(raw, c.identity.config(c.isKnown))
	ctx, cancel := context.WithTimeout(c.ctx, httpkit.DefaultTimes.Header)
	err := handshake(ctx, conn)
	cancel()
	if err != nil {
		c.log.Debug("the connection of an instance was refused", "addr", raw.RemoteAddr().String(), "err", err)
		return
	}
	c.answer(conn, handler)
}

// stopServing accepts no more connections and waits until the requests on the open ones
// are answered. When ctx ends it closes them.
func (c *Cluster) stopServing(ctx context.Context) error {
	err := c.listener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil // it may be called again
	}
	c.callees.drain()
	ended := make(chan struct{})
	go func() {
		c.callees.runs.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return err
	case <-ctx.Done():
		c.callees.close()
		return errors.Join(err, ctx.Err())
	}
}

// forPeers answers pings, receives replicated batches, and marks all other requests as
// forwarded.
func (c *Cluster) forPeers(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == pingPath {
			if !c.Acting() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return
		}
		if r.URL.Path == replicationPath {
			c.serveReplication(w, r)
			return
		}
		c.metrics.served.Add(1)
		address := r.Header.Get(addressHeader)
		r.Header.Del(addressHeader)
		handler.ServeHTTP(w, httpkit.FromPeer(r, address))
	})
}

// reread bounds how often unknown fingerprints make this instance read the table.
type reread struct {
	mu   sync.Mutex // guards last, and is held while the table is read
	last time.Time
}

const rereadEvery = 200 * time.Millisecond

// isKnown reports whether a fingerprint belongs to a live instance. It reads the table
// again if need be, since an instance may have joined after the last read.
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
			case c.soon <- struct{}{}: // let it get its rooms
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
