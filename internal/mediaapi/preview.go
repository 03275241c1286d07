package mediaapi

import (
	"encoding/json"
	"math"
	"net/http"

	"stoa/internal/httpkit"
	"stoa/matrix/mxerr"
)

// previewURL serves GET /_matrix/client/v1/media/preview_url and the deprecated GET /_matrix/media/v3/preview_url. A preview
// is always of now, whatever ts says.
//
// Spec: client-server-api#get_matrixclientv1mediapreview_url
// Spec: client-server-api#get_matrixmediav3preview_url
func (a *API) previewURL(r *http.Request) (json.RawMessage, error) {
	caller, err := a.opt.Auth.Caller(r)
	if err != nil {
		return nil, err
	}
	q, err := httpkit.ParseQuery(r)
	if err != nil {
		return nil, err
	}
	if _, err := q.Int("ts", 0, 0, math.MaxInt64); err != nil {
		return nil, err
	}
	link, ok := q.Lookup("url")
	if !ok {
		return nil, mxerr.MissingParam("url is missing")
	}
	if a.opt.Previews == nil {
		return nil, mxerr.Unrecognized()
	}
	return a.opt.Previews.Preview(r.Context(), caller.User, link, r.Header.Get("Accept-Language"))
}
