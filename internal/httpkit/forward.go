package httpkit

import (
	"context"
	"net/http"
)

// Forwarder has requests served by the instance that is home of what they change.
type Forwarder interface {
	// Forward answers the request with what another instance made of it, or
	// returns false: then it is to be served here, and its body is whole. key is
	// what it changes.
	Forward(w http.ResponseWriter, r *http.Request, key string) bool
}

type fromPeerKey struct{}

// FromPeer marks a request that another instance has forwarded, for a client of
// the address ("" if it has none). It is served here whatever its home is, and
// the limits of its address were counted there.
func FromPeer(r *http.Request, address string) *http.Request {
	r = r.WithContext(context.WithValue(r.Context(), fromPeerKey{}, true))
	r.RemoteAddr = address
	r.Header.Del("X-Forwarded-For") // it was looked at there
	return r
}

// IsFromPeer says whether another instance has forwarded the request.
func IsFromPeer(r *http.Request) bool { return r.Context().Value(fromPeerKey{}) != nil }

// forwarded has the request served by its home, if its route has one and that is
// another instance.
func (m *Mux) forwarded(x *exchange, r *http.Request) bool {
	if m.forward == nil || x.route.Home == "" || IsFromPeer(r) {
		return false
	}
	key := r.PathValue(x.route.Home)
	// A room can be named by an alias too. What that stands for is found by the
	// handler, and any instance may write.
	return key != "" && key[0] != '#' && m.forward.Forward(x, r, key)
}
