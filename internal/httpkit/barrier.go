package httpkit

import (
	"fmt"
	"net/http"

	"stoa/internal/parking"
	"stoa/matrix/mxerr"
)

// UnservedHeader is on an answer to another instance that says: nothing was done,
// because this one does not reach the database. It can be served elsewhere.
const UnservedHeader = "X-Stoa-Unserved"

// behind waits until this instance has what was acknowledged before the request
// came. If it can't be had the request is answered, and behind is true.
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
