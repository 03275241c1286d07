package httpkit

import (
	"context"
	"net/http"
)

// Forwarder forwards requests to the instance that is the home of the changed object.
type Forwarder interface {
	// Forward answers the request with another instance's answer. It returns false if the
	// request is to be served here; its body is then unread. key is the changed object.
	Forward(w http.ResponseWriter, r *http.Request, key string) bool
}

type fromPeerKey struct{}

// FromPeer marks a request that another instance has forwarded for a client at the
// address ("" for none). It is served here, whatever its home. The other instance has
// applied the address limits.
func FromPeer(r *http.Request, address string) *http.Request {
	r = r.WithContext(context.WithValue(r.Context(), fromPeerKey{}, true))
	r.RemoteAddr = address
	r.Header.Del("X-Forwarded-For") // the other instance has used it
	return r
}

// IsFromPeer reports whether another instance has forwarded the request.
func IsFromPeer(r *http.Request) bool { return r.Context().Value(fromPeerKey{}) != nil }

// forwarded forwards the request if its route has a home and that is another instance.
func (m *Mux) forwarded(x *exchange, r *http.Request) bool {
	if m.forward == nil || x.route.Home == "" || IsFromPeer(r) {
		return false
	}
	key := r.PathValue(x.route.Home)
	// A room can also be named by an alias, which only the handler resolves. Any instance
	// may write the room.
	return key != "" && key[0] != '#' && m.forward.Forward(x, r, key)
}
