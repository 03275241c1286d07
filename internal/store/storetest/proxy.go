package storetest

import (
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// Proxy stands between a store and its PostgreSQL, and can cut them off.
type Proxy struct {
	URL string // by way of the proxy

	t              testing.TB
	server, socket string

	mu       sync.Mutex // guards what follows
	listener net.Listener
	open     map[net.Conn]struct{}
	running  sync.WaitGroup
}

// socketName is what PostgreSQL calls its Unix socket in a folder.
const socketName = ".s.PGSQL.5432"

// NewProxy stands before the PostgreSQL of an address that URL gave.
func NewProxy(t testing.TB, address string) *Proxy {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "stoa-pg-proxy-") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	p := &Proxy{t: t, server: filepath.Join(q.Get("host"), socketName), socket: filepath.Join(dir, socketName), open: map[net.Conn]struct{}{}}
	q.Set("host", dir)
	u.RawQuery = q.Encode()
	p.URL = u.String()
	p.Mend()
	t.Cleanup(func() {
		p.Break()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return p
}

// Break ends all connections and takes no more.
func (p *Proxy) Break() {
	p.mu.Lock()
	if p.listener != nil {
		if err := p.listener.Close(); err != nil {
			p.t.Error(err)
		}
		p.listener = nil
	}
	for c := range p.open {
		_ = c.Close() // it may have ended by itself
	}
	p.mu.Unlock()
	p.running.Wait()
}

// Mend takes connections again.
func (p *Proxy) Mend() {
	p.t.Helper()
	l, err := net.Listen("unix", p.socket)
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	p.listener = l
	p.mu.Unlock()
	p.running.Go(func() {
		for {
			in, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				p.t.Error(err)
				return
			}
			p.running.Go(func() { p.carry(l, in) })
		}
	})
}

// carry connects one connection with the server until either ends.
func (p *Proxy) carry(l net.Listener, in net.Conn) {
	out, err := net.Dial("unix", p.server)
	if err != nil {
		p.t.Error(err)
		_ = in.Close() // nothing was said on it
		return
	}
	p.mu.Lock()
	broken := p.listener != l
	p.open[in], p.open[out] = struct{}{}, struct{}{}
	p.mu.Unlock()
	var both sync.WaitGroup
	end := func() {
		_ = in.Close() // closed twice, by whoever ends first and last
		_ = out.Close()
	}
	if broken {
		end()
	}
	both.Go(func() { defer end(); _, _ = io.Copy(out, in) }) // ends with either
	both.Go(func() { defer end(); _, _ = io.Copy(in, out) })
	both.Wait()
	p.mu.Lock()
	delete(p.open, in)
	delete(p.open, out)
	p.mu.Unlock()
}
