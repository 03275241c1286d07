package clientapi

import (
	"context"
	"math"
	"net/http"
	"time"

	"stoa/internal/clientsync"
	"stoa/internal/httpkit"
	"stoa/internal/parking"
	"stoa/internal/streamcache"
	"stoa/internal/token"
	"stoa/matrix/mxerr"
)

// sync serves GET /_matrix/client/v3/sync.
//
// Spec: client-server-api#get_matrixclientv3sync
func (a *API) sync(r *http.Request) (syncing, error) {
	req, err := a.parseSync(r)
	if err != nil {
		return syncing{}, err
	}
	waiting, err := a.syncs.Begin(r.Context(), req)
	return syncing{waiting}, err
}

// syncing is a /sync on its way to its answer.
type syncing struct{ waiting *streamcache.Pending }

// ServeHTTP waits for the answer and writes it. A request that waits for long is parked, or is likely to: the next of a
// client that did.
func (s syncing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var answer *streamcache.Answer
	var err error
	if !parking.ParkAtOnce(r) {
		answer, err = s.waiting.WaitBriefly(r.Context())
	}
	if answer == nil && err == nil {
		if parking.Park(w, r, s.wait) {
			return
		}
		answer, err = s.waiting.Wait(r.Context())
	}
	if err != nil {
		httpkit.Fail(w, r, err)
		return
	}
	answer.ServeHTTP(w, r)
}

// wait waits for the answer on a parked connection. The request has ended, so what is done has no deadline but its own.
func (s syncing) wait(line *parking.Parked) {
	s.waiting.Parked(line, func(answer *streamcache.Answer, err error) {
		switch {
		case err != nil:
			line.Fail(err)
		case answer == nil:
			line.Close()
		default:
			// An error means that the client has gone; the same token brings the same things again.
			_ = line.Answer(answer.Body())
			answer.Release()
		}
	})
}

// parseSync reads what a client asks.
func (a *API) parseSync(r *http.Request) (*clientsync.Request, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return nil, err
	}
	query, err := httpkit.ParseQuery(r)
	if err != nil {
		return nil, err
	}
	req := clientsync.Request{Device: caller.Device}
	if since := query.Get("since"); since != "" {
		stream, err := token.ParseStream(since)
		if err != nil {
			return nil, mxerr.InvalidParam("since is not a token of this server").Because(err)
		}
		req.Since = &stream
	}
	timeout, err := query.Int("timeout", 0, 0, math.MaxInt64/int64(time.Millisecond))
	if err != nil {
		return nil, err
	}
	req.Timeout = time.Duration(timeout) * time.Millisecond
	if req.FullState, err = query.Bool("full_state", false); err != nil {
		return nil, err
	}
	if req.StateAfter, err = query.Bool("use_state_after", false); err != nil {
		return nil, err
	}
	if req.Presence, err = query.Enum("set_presence", "online", "unavailable", "offline"); err != nil {
		return nil, err
	}
	if req.Filter, err = a.syncs.Filter(r.Context(), req.Device, query.Get("filter")); err != nil {
		return nil, err
	}
	req.Lasts = func(ctx context.Context) error { return a.auth.Lasts(ctx, req.UserNum, string(req.DeviceID)) }
	return &req, nil
}
