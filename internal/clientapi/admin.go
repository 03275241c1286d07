package clientapi

import (
	"context"
	"errors"
	"net/http"

	"stoa/internal/account"
	"stoa/internal/httpkit"
	"stoa/internal/store"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

type connection struct {
	IP       string `json:"ip,omitempty"`
	LastSeen int64  `json:"last_seen,omitempty"`
}

type deviceSession struct {
	Connections []connection `json:"connections"`
}

type deviceInfo struct {
	Sessions []deviceSession `json:"sessions"`
}

type whoisAnswer struct {
	UserID  id.UserID             `json:"user_id"`
	Devices map[string]deviceInfo `json:"devices"`
}

// whois serves GET /_matrix/client/v3/admin/whois/{userId}: for oneself, and
// for admins. An access token is a device's, so each device has one session.
//
// Spec: client-server-api#server-administration
func (a *API) whois(r *http.Request) (whoisAnswer, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return whoisAnswer{}, err
	}
	num := caller.UserNum
	user := caller.UserID
	if r.PathValue("userId") != caller.UserID.String() {
		target, err := a.administered(r, caller)
		if err != nil {
			return whoisAnswer{}, err
		}
		user, num = target.UserID, target.Num
	}
	devices, err := a.accounts.Devices(r.Context(), num)
	out := whoisAnswer{UserID: user, Devices: make(map[string]deviceInfo, len(devices))}
	for _, d := range devices {
		out.Devices[d.ID] = deviceInfo{[]deviceSession{{[]connection{{IP: d.SeenIP, LastSeen: d.SeenTS}}}}}
	}
	return out, err
}

// administered gives the account of the path, which an admin asks about. Who is
// no admin is refused before anything is looked up.
func (a *API) administered(r *http.Request, caller who.Caller) (account.Account, error) {
	if err := caller.RequireAdmin(); err != nil {
		return account.Account{}, err
	}
	user, err := id.ParseUserID(r.PathValue("userId"))
	if err != nil {
		return account.Account{}, mxerr.InvalidParam("%s", err).Because(err)
	}
	if !a.accounts.IsLocal(user) {
		return account.Account{}, mxerr.InvalidParam("User does not belong to the local server")
	}
	target, err := a.accounts.Account(r.Context(), user)
	if errors.Is(err, store.ErrNotFound) {
		err = mxerr.NotFound("User not found")
	}
	return target, err
}

// moderated gives the active account of the path, which is no admin's: admins
// don't moderate each other, or themselves.
func (a *API) moderated(r *http.Request) (account.Account, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return account.Account{}, err
	}
	target, err := a.administered(r, caller)
	switch {
	case err != nil:
		return target, err
	case target.Deactivated:
		return target, mxerr.NotFound("User not found")
	case target.Admin:
		return target, mxerr.Forbidden("The account of a server administrator can't be locked or suspended")
	}
	return target, nil
}

type lockStatus struct {
	Locked bool `json:"locked"`
}

// locked serves GET /_matrix/client/v1/admin/lock/{userId}.
//
// Spec: client-server-api#account-locking
func (a *API) locked(r *http.Request) (lockStatus, error) {
	target, err := a.moderated(r)
	return lockStatus{Locked: target.Locked}, err
}

// setLocked serves PUT /_matrix/client/v1/admin/lock/{userId}.
//
// Spec: client-server-api#account-locking
func (a *API) setLocked(r *http.Request) (lockStatus, error) {
	to, err := a.moderate(r, "locked", a.accounts.SetLocked)
	return lockStatus{Locked: to}, err
}

type suspendStatus struct {
	Suspended bool `json:"suspended"`
}

// suspended serves GET /_matrix/client/v1/admin/suspend/{userId}.
//
// Spec: client-server-api#account-suspension
func (a *API) suspended(r *http.Request) (suspendStatus, error) {
	target, err := a.moderated(r)
	return suspendStatus{Suspended: target.Suspended}, err
}

// setSuspended serves PUT /_matrix/client/v1/admin/suspend/{userId}.
//
// Spec: client-server-api#account-suspension
func (a *API) setSuspended(r *http.Request) (suspendStatus, error) {
	to, err := a.moderate(r, "suspended", a.accounts.SetSuspended)
	return suspendStatus{Suspended: to}, err
}

// moderate sets a mark of the account of the path as the body's key says.
func (a *API) moderate(r *http.Request, key string, set func(context.Context, store.UserNum, bool) error) (to bool, err error) {
	target, err := a.moderated(r)
	if err != nil {
		return false, err
	}
	body := map[string]any{}
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return false, err
	}
	value, ok := body[key]
	if !ok {
		return false, mxerr.MissingParam("%s is missing", key)
	}
	if to, ok = value.(bool); !ok {
		return false, mxerr.BadJSON("%s must be true or false", key)
	}
	return to, set(r.Context(), target.Num, to)
}
