// Package fedapi serves the server-server API over HTTP.
//
// It owns the list of its routes, and the form of requests and answers. It never touches the store, holds no state of
// its own, and never logs.
//
// The invariant: an endpoint is in the list only if it follows the specification. All others answer 404 M_UNRECOGNIZED.
//
// Spec: server-server-api
package fedapi

import (
	"net/http"

	"stoa/internal/auth"
	"stoa/internal/httpkit"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// Options are what the API needs.
type Options struct {
	Auth *auth.Auth
}

// API serves the server-server API.
type API struct{ opt Options }

// New makes an API.
func New(opt Options) *API { return &API{opt} }

const federation = "/_matrix/federation"

// Routes lists every endpoint that is served.
func (a *API) Routes() []httpkit.Route {
	return []httpkit.Route{
		// OpenID. Spec: server-server-api#openid
		{
			Method: "GET", Pattern: federation + "/v1/openid/userinfo", Handler: httpkit.Adapt(a.openIDUser),
			Limit: httpkit.LimitLookup, QueryToken: true,
		},
	}
}

type userInfo struct {
	Subject id.UserID `json:"sub"`
}

// openIDUser serves GET /_matrix/federation/v1/openid/userinfo.
//
// Spec: server-server-api#openid
func (a *API) openIDUser(r *http.Request) (userInfo, error) {
	token := httpkit.BearerToken(r)
	if token == "" {
		return userInfo{}, mxerr.MissingToken()
	}
	user, err := a.opt.Auth.OpenIDUser(r.Context(), token)
	return userInfo{user}, err
}
