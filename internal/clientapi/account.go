package clientapi

import (
	"net/http"

	"stoa/matrix/id"
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

type threepidList struct {
	Threepids []struct{} `json:"threepids"`
}

// threepids serves GET /_matrix/client/v3/account/3pid: no account has any,
// since none can be added.
//
// Spec: client-server-api#adding-account-administrative-contact-information
func (a *API) threepids(r *http.Request) (threepidList, error) {
	_, err := a.auth.Caller(r)
	return threepidList{Threepids: []struct{}{}}, err
}
