package clientapi

import (
	"net/http"

	"stoa/internal/auth"
	"stoa/internal/httpkit"
)

// requestOpenIDToken serves POST /_matrix/client/v3/user/{userId}/openid/request_token.
//
// Spec: client-server-api#openid
func (a *API) requestOpenIDToken(r *http.Request) (auth.OpenIDToken, error) {
	if _, err := a.owner(r); err != nil {
		return auth.OpenIDToken{}, err
	}
	caller, err := a.auth.Caller(r)
	if err != nil {
		return auth.OpenIDToken{}, err
	}
	if _, err := httpkit.ReadObject(r, httpkit.MaxBody); err != nil {
		return auth.OpenIDToken{}, err
	}
	return a.auth.MakeOpenIDToken(r.Context(), caller)
}
