package httpkit

import (
	"net/http"
	"net/netip"
	"strings"
)

// ClientAddress is the address of the client: that of the peer, or the one that a trusted
// proxy forwarded. It is zero for a peer on a Unix socket that forwarded none.
func ClientAddress(r *http.Request) netip.Addr {
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		return ap.Addr().Unmap()
	}
	a, err := netip.ParseAddr(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap()
}

// AddressKey is the key of an address for a rate limit. IPv6 addresses count by their
// /64, which is what one customer has.
func AddressKey(a netip.Addr) string {
	if a.Is6() && !a.Is4In6() {
		p, err := a.Prefix(64)
		if err == nil {
			return p.String()
		}
	}
	return a.Unmap().String()
}

// NetworkKey is the key of the network of an address: an IPv4 /24 or an IPv6 /48, which
// providers give to one customer.
func NetworkKey(a netip.Addr) string {
	bits := 48
	if a = a.Unmap(); a.Is4() {
		bits = 24
	}
	p, err := a.Prefix(bits)
	if err != nil { // the zero Addr
		return a.String()
	}
	return "net " + p.String()
}

// believeProxy replaces the address of a trusted proxy by the forwarded one: the last in
// X-Forwarded-For that is not a trusted proxy itself.
func (m *Mux) believeProxy(r *http.Request) {
	forwarded := r.Header["X-Forwarded-For"]
	if len(forwarded) == 0 {
		return
	}
	if !m.trustsPeer(r) {
		return
	}
	for i := len(forwarded) - 1; i >= 0; i-- {
		rest := forwarded[i]
		for rest != "" {
			var last string
			if comma := strings.LastIndexByte(rest, ','); comma >= 0 {
				rest, last = rest[:comma], rest[comma+1:]
			} else {
				rest, last = "", rest
			}
			a, ok := parseForwarded(strings.TrimSpace(last))
			if !ok {
				return // entries before an unreadable one can't be trusted
			}
			r.RemoteAddr = a.String()
			if !m.isTrusted(a) {
				return
			}
		}
	}
}

// parseForwarded parses an entry: an address, optionally with a port.
func parseForwarded(s string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap(), true
	}
	ap, err := netip.ParseAddrPort(s)
	return ap.Addr().Unmap(), err == nil
}

// trustsPeer reports whether the peer may name the client's address: a trusted proxy, or
// any peer on a Unix socket.
func (m *Mux) trustsPeer(r *http.Request) bool {
	peer := ClientAddress(r)
	return !peer.IsValid() || m.isTrusted(peer)
}

func (m *Mux) isTrusted(a netip.Addr) bool {
	for _, p := range m.trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
