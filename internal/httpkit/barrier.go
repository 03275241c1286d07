package httpkit

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"stoa/matrix/mxerr"
)

// barrierPatience is how long a request waits for what other instances have
// written, before it is told to try again.
const barrierPatience = 5 * time.Second

// UnservedHeader is on an answer to another instance that says: nothing was done,
// because this one does not reach the database. It can be served elsewhere.
const UnservedHeader = "X-Stoa-Unserved"

// behind waits until this instance has what was acknowledged before the request
// came. If it can't be had the request is answered, and behind is true.
func (m *Mux) behind(x *exchange, r *http.Request) bool {
	if m.barrier == nil || x.route.NoBarrier {
		return false
	}
	ctx, cancel := context.WithTimeout(r.Context(), barrierPatience)
	defer cancel()
	err := m.barrier(ctx, x.route.Limit == LimitLongPoll)
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
