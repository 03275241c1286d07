package clientsync

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
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

// Answer is a finished answer. It is written once.
type Answer struct {
	body *[]byte
}

// bodies are the buffers of answers, largeBodies those of answers from the store. A buffer that has grown beyond
// maxLargeBody is not kept.
var (
	bodies      = sync.Pool{New: func() any { return new([]byte) }}
	largeBodies = sync.Pool{New: func() any { return new([]byte) }}
)

const (
	maxBody      = 64 << 10
	maxLargeBody = 16 << 20
)

// Body is the JSON text. It may not be used after Release.
func (a *Answer) Body() []byte { return *a.body }

// Release gives the memory of the body back.
func (a *Answer) Release() {
	*a.body = (*a.body)[:0]
	switch size := cap(*a.body); {
	case size <= maxBody:
		bodies.Put(a.body)
	case size <= maxLargeBody:
		largeBodies.Put(a.body)
	}
	a.body = nil
}

var jsonType = []string{"application/json"}

// ServeHTTP writes the answer and releases it.
func (a *Answer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	header := w.Header()
	header["Content-Type"] = jsonType
	header["Content-Length"] = []string{strconv.Itoa(len(*a.body))}
	// An error means that the client has gone; the same token brings the same things again.
	_, _ = w.Write(*a.body)
	a.Release()
}
