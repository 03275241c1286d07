package httpkit

import (
	"fmt"
	"net/http"

	"stoa/internal/parking"
	"stoa/matrix/mxerr"
)

// UnservedHeader tells another instance that this one did nothing with a request, because
// it can't reach the database. Another instance can serve it.
const UnservedHeader = "X-Stoa-Unserved"

// behind waits until this instance knows everything that was acknowledged before the
// request came. If that fails, it answers the request and returns true.
func (m *Mux) behind(x *exchange, r *http.Request) bool {
	if m.barrier == nil || x.route.NoBarrier {
		return false
	}
	var err error
	parking.Blocking(r.Context(), func() { err = m.barrier(r.Context()) })
	switch {
	case err == nil:
		return false
	case r.Context().Err() != nil:
		x.fail(r.Context().Err())
	default:
		if IsFromPeer(r) {
			x.w.Header()[UnservedHeader] = []string{"true"}
		}
		x.fail(mxerr.TryAgain("The server can't reach its database; try again").Because(fmt.Errorf("wait for what is newest: %w", err)))
	}
	return true
}
