package httpkit

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// freeHeader is what is read of a header before it counts: every connection has a
	// buffer of that size.
	freeHeader = 4 << 10
	// headerBytes bounds the memory of incomplete headers, in bytes, if NewHeaderLimits is
	// given no bound.
	headerBytes = 32 << 20
	// addressHeaders bounds those of one address.
	addressHeaders = 2 << 20
	// addressConnections bounds the connections of one address on which no request has
	// arrived yet: a lecture of 2,000 that connects at the same moment.
	addressConnections = 2048
)

// HeaderLimits bound what connections take before the header of their request is complete, and
// nothing else can bound it: bytes of headers, in total and for each address, and the
// connections of an address on which no request has arrived. Connections above a bound are
// closed. Servers may share them; nil has no bounds.
type HeaderLimits struct {
	budget  int64
	most    int // connections of an address
	trusted []netip.Prefix

	mu   sync.Mutex // guards the fields below; nothing is locked after it
	used int64
	of   map[string]*headersOfAddress

	refused [2]atomic.Uint64 // connections, headers
}

// headersOfAddress is what one address has.
type headersOfAddress struct {
	connections int
	bytes       int64
}

// NewHeaderLimits returns HeaderLimits with a bound on the bytes of headers; 0 = 32 MiB.
// Connections of trusted proxies and of Unix sockets have no bounds: many clients share
// them.
func NewHeaderLimits(budget int64, trusted []netip.Prefix) *HeaderLimits {
	if budget == 0 {
		budget = headerBytes
	}
	return &HeaderLimits{budget: budget, most: addressConnections, trusted: trusted, of: map[string]*headersOfAddress{}}
}

// headerRead is the part of one connection. The zero value has no bounds.
type headerRead struct {
	all *HeaderLimits
	key string

	// counting says that the header of a request is awaited or read.
	counting atomic.Bool
	// holds says that something of all is taken.
	holds atomic.Bool
	read  int64 // bytes of the header; used by the goroutine that reads

	// guarded by all.mu:
	isNew bool
	bytes int64 // that were taken
}

// begin takes a place for a new connection, and reports whether there is one.
func (p *headerRead) begin(all *HeaderLimits, c net.Conn) bool {
	if all == nil {
		return true
	}
	peer, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil { // a Unix socket
		return true
	}
	address := peer.Addr().Unmap()
	for _, t := range all.trusted {
		if t.Contains(address) {
			return true
		}
	}
	key := AddressKey(address)
	all.mu.Lock()
	defer all.mu.Unlock()
	a := all.of[key]
	if a == nil {
		a = &headersOfAddress{}
		all.of[key] = a
	}
	if a.connections >= all.most {
		all.refused[0].Add(1)
		return false
	}
	a.connections++
	p.all, p.key, p.isNew = all, key, true
	p.holds.Store(true)
	p.counting.Store(true)
	return true
}

// errHeaders ends a connection.
var errHeaders = errors.New("httpkit: too many incomplete headers")

// count counts what was read. The connection must be closed after an error.
func (p *headerRead) count(n int, err error) (int, error) {
	if !p.counting.Load() {
		return n, err
	}
	p.read += int64(n)
	if p.read > freeHeader && !p.take(p.read-freeHeader) {
		return 0, errHeaders
	}
	return n, err
}

// take takes bytes, so many in all.
func (p *headerRead) take(bytes int64) bool {
	p.all.mu.Lock()
	defer p.all.mu.Unlock()
	if !p.counting.Load() { // it was closed
		return false
	}
	a := p.all.of[p.key]
	if a == nil {
		a = &headersOfAddress{}
		p.all.of[p.key] = a
	}
	more := bytes - p.bytes
	free := p.all.budget - p.all.used - more
	if free < 0 || a.bytes+more > min(addressHeaders, free) {
		p.all.refused[1].Add(1)
		p.all.forget(p.key)
		return false
	}
	a.bytes += more
	p.all.used += more
	p.bytes = bytes
	p.holds.Store(true)
	return true
}

// await says that the next request is awaited. Like end, it is for the goroutine that
// reads.
func (p *headerRead) await() {
	if p.all != nil {
		p.read = 0
		p.counting.Store(true)
	}
}

// end returns what the connection has taken, since a header is complete.
func (p *headerRead) end() {
	if p.counting.Store(false); p.holds.Load() {
		p.giveBack()
	}
}

// close returns what the connection has taken, since it ends.
func (p *headerRead) close() {
	if p.counting.Store(false); p.all != nil {
		p.giveBack()
	}
}

func (p *headerRead) giveBack() {
	p.all.mu.Lock()
	defer p.all.mu.Unlock()
	if !p.holds.Swap(false) {
		return
	}
	a := p.all.of[p.key]
	if p.isNew {
		a.connections--
	}
	a.bytes -= p.bytes
	p.all.used -= p.bytes
	p.isNew, p.bytes = false, 0
	p.all.forget(p.key)
}

// forget drops an address that has nothing. The caller holds the lock.
func (all *HeaderLimits) forget(key string) {
	if *all.of[key] == (headersOfAddress{}) {
		delete(all.of, key)
	}
}

// headerReadOf returns the part of a connection; nil if it has none.
func headerReadOf(c net.Conn) *headerRead {
	switch c := c.(type) {
	case *boundedTCP:
		return &c.headerRead
	case *boundedConn:
		return &c.headerRead
	case interface{ NetConn() net.Conn }: // TLS, or one that was parked
		return headerReadOf(c.NetConn())
	}
	return nil
}

var (
	descHeaders = prometheus.NewDesc("stoa_httpkit_header_bytes",
		"Memory of incomplete headers of requests, beyond the first 4 KiB of each.", nil, nil)
	descRefusedConnections = prometheus.NewDesc("stoa_httpkit_refused_connections_total",
		"Connections closed before their request was complete, by reason: too many of one address without a request (new), or too many bytes of headers (headers).", []string{"reason"}, nil)
)

// Describe implements prometheus.Collector.
func (all *HeaderLimits) Describe(ch chan<- *prometheus.Desc) {
	ch <- descHeaders
	ch <- descRefusedConnections
}

// Collect implements prometheus.Collector.
func (all *HeaderLimits) Collect(ch chan<- prometheus.Metric) {
	all.mu.Lock()
	used := all.used
	all.mu.Unlock()
	ch <- prometheus.MustNewConstMetric(descHeaders, prometheus.GaugeValue, float64(used))
	for i, reason := range []string{"new", "headers"} {
		ch <- prometheus.MustNewConstMetric(descRefusedConnections, prometheus.CounterValue, float64(all.refused[i].Load()), reason)
	}
}
