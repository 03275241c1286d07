package clientapi

import (
	"encoding/json"
	"net/http"

	"stoa/internal/account"
	"stoa/internal/httpkit"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// maxProfileBody is the limit of a body that sets one field: the largest
// profile, written with as many escapes as JSON has.
const maxProfileBody = 8 * account.MaxProfileBytes

// profileUser gives the user of the path, who must be of this server: profiles
// of other servers are asked for over federation.
func (a *API) profileUser(r *http.Request) (id.UserID, error) {
	user, err := id.ParseUserID(r.PathValue("userId"))
	if err != nil {
		return user, mxerr.InvalidParam("%s", err).Because(err)
	}
	if !a.accounts.IsLocal(user) {
		return user, mxerr.NotFound("Profile not found")
	}
	return user, nil
}

// profile serves GET /_matrix/client/v3/profile/{userId}.
//
// Spec: client-server-api#profiles
func (a *API) profile(r *http.Request) (account.Profile, error) {
	user, err := a.profileUser(r)
	if err != nil {
		return nil, err
	}
	return a.accounts.Profile(r.Context(), user)
}

// profileField serves GET /_matrix/client/v3/profile/{userId}/{keyName}.
//
// Spec: client-server-api#profiles
func (a *API) profileField(r *http.Request) (account.Profile, error) {
	user, err := a.profileUser(r)
	if err != nil {
		return nil, err
	}
	field := r.PathValue("keyName")
	value, err := a.accounts.ProfileField(r.Context(), user, field)
	return account.Profile{field: value}, err
}

// ownProfile gives the caller, who must be the user of the path.
func (a *API) ownProfile(r *http.Request) (who.Caller, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return caller, err
	}
	user, err := id.ParseUserID(r.PathValue("userId"))
	if err != nil {
		return caller, mxerr.InvalidParam("%s", err).Because(err)
	}
	if user != caller.UserID {
		return caller, mxerr.Forbidden("You can only change your own profile")
	}
	return caller, caller.MayAct()
}

// setProfileField serves PUT /_matrix/client/v3/profile/{userId}/{keyName}.
//
// Spec: client-server-api#profiles
func (a *API) setProfileField(r *http.Request) (httpkit.Empty, error) {
	caller, err := a.ownProfile(r)
	if err != nil {
		return httpkit.Empty{}, err
	}
	body := map[string]json.RawMessage{}
	if err := httpkit.ReadJSONLimit(r, &body, maxProfileBody); err != nil {
		return httpkit.Empty{}, err
	}
	field := r.PathValue("keyName")
	value, ok := body[field]
	if !ok {
		return httpkit.Empty{}, mxerr.MissingParam("The body has no property %q", field)
	}
	return httpkit.Empty{}, a.accounts.SetProfileField(r.Context(), caller.UserID, caller.UserNum, field, value)
}

// deleteProfileField serves DELETE /_matrix/client/v3/profile/{userId}/{keyName}.
//
// Spec: client-server-api#profiles
func (a *API) deleteProfileField(r *http.Request) (httpkit.Empty, error) {
	caller, err := a.ownProfile(r)
	if err != nil {
		return httpkit.Empty{}, err
	}
	return httpkit.Empty{}, a.accounts.DeleteProfileField(r.Context(), caller.UserID, caller.UserNum, r.PathValue("keyName"))
}
