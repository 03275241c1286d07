package clientapi

import (
	"encoding/json"
	"net/http"

	"stoa/internal/account"
	"stoa/internal/auth"
	"stoa/internal/httpkit"
	"stoa/matrix/mxerr"
)

type nonceAnswer struct {
	Nonce string `json:"nonce"`
}

// sharedSecretNonce serves GET /_synapse/admin/v1/register, which scripts of
// other servers' operators know. It is there only if a shared secret is set.
func (a *API) sharedSecretNonce(*http.Request) (nonceAnswer, error) {
	if a.secret == nil {
		return nonceAnswer{}, mxerr.Unrecognized()
	}
	return nonceAnswer{Nonce: a.secret.Nonce()}, nil
}

// sharedSecretRegister serves POST /_synapse/admin/v1/register: an account for
// whoever knows the shared secret, in every registration mode.
func (a *API) sharedSecretRegister(r *http.Request) (registered, error) {
	if a.secret == nil {
		return registered{}, mxerr.Unrecognized()
	}
	var body struct {
		account.SecretRegistration
		DisplayName  *string `json:"displayname"`
		InhibitLogin bool    `json:"inhibit_login"`
		auth.Device
	}
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return registered{}, err
	}
	if err := a.auth.TakeSharedSecret(r); err != nil {
		return registered{}, err
	}
	if err := a.secret.Check(body.SecretRegistration); err != nil {
		return registered{}, err
	}
	wish := account.Registration{Username: *body.Username, Password: *body.Password, Admin: body.Admin}
	device := &body.Device
	if body.InhibitLogin {
		device = nil
	}
	out, err := a.makeAccount(r, wish, device, nil)
	if err != nil || body.DisplayName == nil {
		return out, err
	}
	made, err := a.accounts.Account(r.Context(), out.UserID)
	if err != nil {
		return registered{}, err
	}
	name, err := json.Marshal(*body.DisplayName)
	if err != nil {
		return registered{}, err
	}
	return out, a.accounts.SetProfileField(r.Context(), out.UserID, made.Num, account.FieldDisplayName, name)
}
