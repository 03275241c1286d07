package httpkit

import (
	"net/http"
	"net/netip"
	"strings"
)

// ClientAddress is the address that a request comes from: that of the peer, or
// the one that a trusted proxy forwarded. It is the zero value for a peer on a
// unix socket that forwarded none.
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

// AddressKey is the key of a rate limit for an address: IPv6 counts by its /64,
// since that is what one customer has.
func AddressKey(a netip.Addr) string {
	if a.Is6() && !a.Is4In6() {
		p, err := a.Prefix(64)
		if err == nil {
			return p.String()
		}
	}
	return a.Unmap().String()
}

// believeProxy replaces the peer's address by the forwarded one if the peer is
// a trusted proxy: the last of X-Forwarded-For that no trusted proxy has.
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
				return // what stands before an unreadable entry can't be believed
			}
			r.RemoteAddr = a.String()
			if !m.isTrusted(a) {
				return
			}
		}
	}
}

// parseForwarded reads an entry: an address, perhaps with a port.
func parseForwarded(s string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap(), true
	}
	ap, err := netip.ParseAddrPort(s)
	return ap.Addr().Unmap(), err == nil
}

// trustsPeer says whether the peer may say who the client is: a trusted proxy, or whoever comes by a unix socket.
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
