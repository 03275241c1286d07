package clientsync

import (
	"context"
	"errors"
	"time"

	"stoa/internal/store"
	"stoa/internal/token"
	"stoa/internal/who"
	"stoa/matrix/eventfilter"
	"stoa/matrix/mxerr"
)

// Request is what a client asks of /sync.
//
// Spec: client-server-api#get_matrixclientv3sync
type Request struct {
	who.Device
	// Since is nil for an initial sync.
	Since      *token.Stream
	Filter     *eventfilter.Filter
	FullState  bool
	StateAfter bool
	// Timeout is how long to wait for news.
	Timeout time.Duration
	// Presence is set_presence: online, unavailable or offline.
	Presence string
	// Lasts reports whether the session of the request is still valid: nil, or the error to answer with. It is called when
	// something about the user's account or devices has changed. A nil function stands for a valid session.
	Lasts func(context.Context) error
}

// Filter returns the filter that a request names: its JSON, or the ID of a stored one; none is the filter that lets
// everything through.
//
// Spec: client-server-api#filtering
func (r *Renderer) Filter(ctx context.Context, v who.Device, filter string) (*eventfilter.Filter, error) {
	switch {
	case filter == "":
		return eventfilter.Everything(), nil
	case filter[0] == '{':
		return r.filters.inline(filter)
	case r.opt.Filters == nil:
		return nil, mxerr.InvalidParam("There is no filter with this ID")
	}
	return r.filters.get(v, filter, func() ([]byte, error) {
		text, err := r.opt.Filters.Filter(ctx, v.User, filter)
		if errors.Is(err, store.ErrNotFound) || mxerr.Is(err, mxerr.CodeNotFound) {
			return nil, mxerr.InvalidParam("There is no filter with this ID")
		}
		return text, err
	})
}
