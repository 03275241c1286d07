package clientapi

import (
	"math"
	"net/http"
	"time"

	"stoa/internal/clientsync"
	"stoa/internal/httpkit"
	"stoa/internal/token"
	"stoa/matrix/mxerr"
)

// sync serves GET /_matrix/client/v3/sync.
//
// Spec: client-server-api#get_matrixclientv3sync
func (a *API) sync(r *http.Request) (*clientsync.Answer, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return nil, err
	}
	query, err := httpkit.ParseQuery(r)
	if err != nil {
		return nil, err
	}
	req := clientsync.Request{Viewer: clientsync.Viewer{UserID: caller.UserID, UserNum: caller.UserNum, DeviceID: string(caller.DeviceID)}}
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
	if req.Filter, err = a.hub.Filter(r.Context(), req.Viewer, query.Get("filter")); err != nil {
		return nil, err
	}
	return a.hub.Sync(r.Context(), &req)
}
