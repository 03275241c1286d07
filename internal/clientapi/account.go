package clientapi

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"

	"stoa/internal/account"
	"stoa/internal/auth"
	"stoa/internal/httpkit"
	"stoa/internal/store/userdb"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

type tokenOwner struct {
	UserID   id.UserID   `json:"user_id"`
	DeviceID id.DeviceID `json:"device_id,omitempty"`
	IsGuest  bool        `json:"is_guest"`
}

// whoami serves GET /_matrix/client/v3/account/whoami.
//
// Spec: client-server-api#current-account-information
func (a *API) whoami(r *http.Request) (tokenOwner, error) {
	caller, err := a.auth.Caller(r)
	return tokenOwner{UserID: caller.UserID, DeviceID: caller.DeviceID}, err
}

// callerIfAny gives the caller, or nil if the request has no access token.
func (a *API) callerIfAny(r *http.Request) (*who.Caller, error) {
	if !auth.HasToken(r) {
		return nil, nil
	}
	caller, err := a.auth.Caller(r)
	return &caller, err
}

// changePassword serves POST /_matrix/client/v3/account/password. Without an
// access token the password stage says whose password it is.
//
// Spec: client-server-api#password-management
func (a *API) changePassword(r *http.Request) (httpkit.Empty, error) {
	caller, err := a.callerIfAny(r)
	if err != nil {
		return httpkit.Empty{}, err
	}
	var body struct {
		Auth          json.RawMessage `json:"auth"`
		NewPassword   *string         `json:"new_password"`
		LogoutDevices *bool           `json:"logout_devices"`
	}
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return httpkit.Empty{}, err
	}
	if body.NewPassword == nil {
		return httpkit.Empty{}, mxerr.MissingParam("The new password is missing")
	}
	if err := a.accounts.CheckNewPassword(*body.NewPassword); err != nil {
		return httpkit.Empty{}, err
	}
	change := account.PasswordChange{Password: *body.NewPassword, Logout: body.LogoutDevices == nil || *body.LogoutDevices}
	in := auth.Interaction{
		Operation: "POST account/password", Caller: caller, Flows: a.passwordFlows(caller), EmailFor: userdb.PurposePassword, Auth: body.Auth,
		Request: []any{change.Password, change.Logout},
	}
	if done, err := a.auth.Answered(r.Context(), in, &httpkit.Empty{}); done || err != nil {
		return httpkit.Empty{}, err
	}
	proof, err := a.auth.Interact(r, in)
	if err != nil {
		return httpkit.Empty{}, err
	}
	change.User, change.Allow = proof.User.Num, proof.Allow(httpkit.Empty{})
	if caller != nil {
		change.Keep = caller.DeviceID
	}
	return httpkit.Empty{}, auth.Spent(a.accounts.SetPassword(r.Context(), change))
}

// passwordFlows are those that allow a new password: by the one before or, for people who
// are not logged in, by mail.
func (a *API) passwordFlows(caller *who.Caller) []auth.Flow {
	if caller != nil || !a.addresses.Enabled() {
		return auth.PasswordFlows
	}
	return append(slices.Clone(auth.PasswordFlows), auth.Flow{Stages: []string{auth.StageEmail}})
}

type deactivated struct {
	IDServerUnbindResult string `json:"id_server_unbind_result"`
}

// deactivate serves POST /_matrix/client/v3/account/deactivate. There are no
// identifiers to unbind from an identity server, so that always succeeds.
//
// Spec: client-server-api#account-deactivation
func (a *API) deactivate(r *http.Request) (deactivated, error) {
	caller, err := a.callerIfAny(r)
	if err != nil {
		return deactivated{}, err
	}
	var body struct {
		Auth     json.RawMessage `json:"auth"`
		IDServer *string         `json:"id_server"`
		Erase    bool            `json:"erase"`
	}
	if err := httpkit.ReadOptionalJSON(r, &body); err != nil {
		return deactivated{}, err
	}
	in := auth.Interaction{
		Operation: "POST account/deactivate " + strconv.FormatBool(body.Erase), Caller: caller,
		Flows: auth.PasswordFlows, Auth: body.Auth,
	}
	answer := deactivated{IDServerUnbindResult: "success"}
	if done, err := a.auth.Answered(r.Context(), in, &answer); done || err != nil {
		return answer, err
	}
	proof, err := a.auth.Interact(r, in)
	if err != nil {
		return deactivated{}, err
	}
	return answer, auth.Spent(a.accounts.Deactivate(r.Context(), proof.User.UserID, body.Erase, proof.Allow(answer)))
}
