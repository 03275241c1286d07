package clientapi

import (
	"encoding/json"
	"net/http"

	"stoa/internal/auth"
	"stoa/internal/httpkit"
	"stoa/matrix/mxerr"
)

// loginFlowsAnswer is constant. Application services log in with the token of
// their registration; none can be registered yet, so that type is not offered.
var loginFlowsAnswer = httpkit.Raw(`{"flows":[{"type":"m.login.password"},{"type":"m.login.token","get_login_token":true}]}`)

// loginFlows serves GET /_matrix/client/v3/login.
//
// Spec: client-server-api#legacy-login
func (a *API) loginFlows(*http.Request) (httpkit.Raw, error) { return loginFlowsAnswer, nil }

type loggedIn struct {
	auth.Issued
	WellKnown discovery `json:"well_known"`
}

// login serves POST /_matrix/client/v3/login.
//
// Spec: client-server-api#legacy-login
func (a *API) login(r *http.Request) (loggedIn, error) {
	var body auth.Login
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return loggedIn{}, err
	}
	issued, err := a.auth.Login(r, body)
	return loggedIn{Issued: issued, WellKnown: a.discovery()}, err
}

type refreshed struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	ExpiresInMS  int64  `json:"expires_in_ms"`
}

// refresh serves POST /_matrix/client/v3/refresh.
//
// Spec: client-server-api#refreshing-access-tokens
func (a *API) refresh(r *http.Request) (refreshed, error) {
	var body struct {
		RefreshToken *string `json:"refresh_token"`
	}
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return refreshed{}, err
	}
	if body.RefreshToken == nil {
		return refreshed{}, mxerr.MissingParam("The refresh token is missing")
	}
	issued, err := a.auth.Refresh(r.Context(), *body.RefreshToken)
	return refreshed{AccessToken: issued.AccessToken, RefreshToken: issued.RefreshToken, ExpiresInMS: issued.ExpiresInMS}, err
}

// loginToken serves POST /_matrix/client/v1/login/get_token.
//
// Spec: client-server-api#legacy-login
func (a *API) loginToken(r *http.Request) (out auth.LoginTokenMade, err error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return out, err
	}
	var body struct {
		Auth json.RawMessage `json:"auth"`
	}
	if err := httpkit.ReadOptionalJSON(r, &body); err != nil {
		return out, err
	}
	proof, err := a.auth.Interact(r, auth.Interaction{
		Operation: "POST login/get_token", Caller: &caller, Flows: auth.PasswordFlows, Auth: body.Auth,
	})
	if err != nil {
		return out, err
	}
	return a.auth.MakeLoginToken(r.Context(), caller, proof)
}

// logout serves POST /_matrix/client/v3/logout.
//
// Spec: client-server-api#using-access-tokens
func (a *API) logout(r *http.Request) (httpkit.Empty, error) {
	caller, err := a.auth.CallerEvenLocked(r)
	if err != nil {
		return httpkit.Empty{}, err
	}
	return httpkit.Empty{}, a.accounts.DeleteDevices(r.Context(), caller.UserNum, nil, caller.DeviceID)
}

// logoutAll serves POST /_matrix/client/v3/logout/all.
//
// Spec: client-server-api#using-access-tokens
func (a *API) logoutAll(r *http.Request) (httpkit.Empty, error) {
	caller, err := a.auth.CallerEvenLocked(r)
	if err != nil {
		return httpkit.Empty{}, err
	}
	return httpkit.Empty{}, a.accounts.DeleteAllDevices(r.Context(), caller.UserNum)
}
