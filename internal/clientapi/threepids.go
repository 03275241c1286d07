package clientapi

import (
	"encoding/json"
	"net/http"

	"stoa/internal/account"
	"stoa/internal/auth"
	"stoa/internal/email"
	"stoa/internal/httpkit"
	"stoa/internal/mail"
	"stoa/internal/store/userdb"
	"stoa/internal/threepid"
	"stoa/matrix/mxerr"
)

// noMail is the text for people of a server that sends none.
const noMail = "This server sends no mail, so it can't confirm email addresses"

// noSMS is the text for people for telephone numbers.
const noSMS = "This server sends no text messages, so it can't confirm telephone numbers"

type threepidShown struct {
	Medium      string `json:"medium"`
	Address     string `json:"address"`
	ValidatedAt int64  `json:"validated_at"`
	AddedAt     int64  `json:"added_at"`
}

type threepidList struct {
	Threepids []threepidShown `json:"threepids"`
}

// threepids serves GET /_matrix/client/v3/account/3pid.
//
// Spec: client-server-api#adding-account-administrative-contact-information
func (a *API) threepids(r *http.Request) (threepidList, error) {
	out := threepidList{Threepids: []threepidShown{}}
	caller, err := a.auth.Caller(r)
	if err != nil {
		return out, err
	}
	list, err := account.Threepids(r.Context(), a.accounts, caller.UserNum)
	for _, t := range list {
		out.Threepids = append(out.Threepids, threepidShown{t.Medium, t.Address, t.ValidatedTS, t.AddedTS})
	}
	return out, err
}

// tokenRequest is the body of the requests for a mail. Clients may name an identity server,
// which is ignored: this server confirms addresses itself.
type tokenRequest struct {
	ClientSecret  *string `json:"client_secret"`
	Email         *string `json:"email"`
	SendAttempt   *int64  `json:"send_attempt"`
	NextLink      *string `json:"next_link"`
	IDServer      *string `json:"id_server"`
	IDAccessToken *string `json:"id_access_token"`
}

type tokenRequested struct {
	SID string `json:"sid"`
}

// requestToken reads the body of a request for a mail, and sends the mail.
func (a *API) requestToken(r *http.Request, want threepid.Request, off *mxerr.Error) (out tokenRequested, err error) {
	var body tokenRequest
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return out, err
	}
	if body.ClientSecret == nil || body.Email == nil || body.SendAttempt == nil {
		return out, mxerr.MissingParam("client_secret, email and send_attempt are needed")
	}
	if err := threepid.CheckSecret(*body.ClientSecret); err != nil {
		return out, err
	}
	if want.Address, err = email.Parse(*body.Email); err != nil {
		return out, mxerr.InvalidParam("This is no email address: %s", err).Because(err)
	}
	if want.Purpose == userdb.PurposeRegister && a.opt.Registration == RegistrationClosed {
		return out, errRegistrationClosed()
	}
	if !a.addresses.Enabled() {
		return out, off
	}
	if err := a.auth.TakeMail(r, want.Address); err != nil {
		return out, err
	}
	want.Secret, want.SendAttempt, want.Language = *body.ClientSecret, *body.SendAttempt, mail.LanguageOf(r.Header.Get("Accept-Language"))
	if body.NextLink != nil {
		want.NextLink = *body.NextLink
	}
	out.SID, err = a.addresses.Begin(r.Context(), want)
	return out, err
}

// addEmailToken serves POST /_matrix/client/v3/account/3pid/email/requestToken.
//
// Spec: client-server-api#adding-account-administrative-contact-information
func (a *API) addEmailToken(r *http.Request) (tokenRequested, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return tokenRequested{}, err
	}
	return a.requestToken(r, threepid.Request{Purpose: userdb.PurposeAdd, User: caller.UserNum, UserID: caller.UserID}, mxerr.ThreepidMediumNotSupported(noMail))
}

// registerEmailToken serves POST /_matrix/client/v3/register/email/requestToken.
//
// Spec: client-server-api#legacy-account-registration
func (a *API) registerEmailToken(r *http.Request) (tokenRequested, error) {
	return a.requestToken(r, threepid.Request{Purpose: userdb.PurposeRegister}, mxerr.ThreepidDenied(noMail))
}

// passwordEmailToken serves POST /_matrix/client/v3/account/password/email/requestToken.
//
// Spec: client-server-api#password-management
func (a *API) passwordEmailToken(r *http.Request) (tokenRequested, error) {
	return a.requestToken(r, threepid.Request{Purpose: userdb.PurposePassword}, mxerr.ThreepidDenied(noMail))
}

// phoneRequest reads the body of a request for a text message.
func phoneRequest(r *http.Request) error {
	var body struct {
		ClientSecret  *string `json:"client_secret"`
		Country       *string `json:"country"`
		PhoneNumber   *string `json:"phone_number"`
		SendAttempt   *int64  `json:"send_attempt"`
		NextLink      *string `json:"next_link"`
		IDServer      *string `json:"id_server"`
		IDAccessToken *string `json:"id_access_token"`
	}
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return err
	}
	if body.ClientSecret == nil || body.Country == nil || body.PhoneNumber == nil || body.SendAttempt == nil {
		return mxerr.MissingParam("client_secret, country, phone_number and send_attempt are needed")
	}
	return threepid.CheckSecret(*body.ClientSecret)
}

// addPhoneToken serves POST /_matrix/client/v3/account/3pid/msisdn/requestToken.
//
// Spec: client-server-api#adding-account-administrative-contact-information
func (a *API) addPhoneToken(r *http.Request) (tokenRequested, error) {
	if _, err := a.auth.Caller(r); err != nil {
		return tokenRequested{}, err
	}
	if err := phoneRequest(r); err != nil {
		return tokenRequested{}, err
	}
	return tokenRequested{}, mxerr.ThreepidMediumNotSupported(noSMS)
}

// registerPhoneToken serves POST /_matrix/client/v3/register/msisdn/requestToken.
//
// Spec: client-server-api#legacy-account-registration
func (a *API) registerPhoneToken(r *http.Request) (tokenRequested, error) {
	if err := phoneRequest(r); err != nil {
		return tokenRequested{}, err
	}
	return tokenRequested{}, mxerr.ThreepidDenied(noSMS)
}

// passwordPhoneToken serves POST /_matrix/client/v3/account/password/msisdn/requestToken.
//
// Spec: client-server-api#password-management
func (a *API) passwordPhoneToken(r *http.Request) (tokenRequested, error) {
	return a.registerPhoneToken(r)
}

// addThreepid serves POST /_matrix/client/v3/account/3pid/add.
//
// Spec: client-server-api#adding-account-administrative-contact-information
func (a *API) addThreepid(r *http.Request) (httpkit.Empty, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return httpkit.Empty{}, err
	}
	var body struct {
		Auth         json.RawMessage `json:"auth"`
		ClientSecret *string         `json:"client_secret"`
		SID          *string         `json:"sid"`
	}
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return httpkit.Empty{}, err
	}
	if body.ClientSecret == nil || body.SID == nil {
		return httpkit.Empty{}, mxerr.MissingParam("client_secret and sid are needed")
	}
	in := auth.Interaction{
		Operation: "POST account/3pid/add " + *body.SID, Caller: &caller, Flows: auth.PasswordFlows, Auth: body.Auth, Request: []any{*body.SID, *body.ClientSecret},
	}
	if done, err := a.auth.Answered(r.Context(), in, &httpkit.Empty{}); done || err != nil {
		return httpkit.Empty{}, err
	}
	proof, err := a.auth.Interact(r, in)
	if err != nil {
		return httpkit.Empty{}, err
	}
	return httpkit.Empty{}, auth.Spent(a.addresses.Add(r.Context(), caller.UserNum, *body.SID, *body.ClientSecret, proof.Allow(httpkit.Empty{})))
}

// identityCredentials name a session of an identity server.
type identityCredentials struct {
	ClientSecret  *string `json:"client_secret"`
	IDServer      *string `json:"id_server"`
	IDAccessToken *string `json:"id_access_token"`
	SID           *string `json:"sid"`
}

func (c identityCredentials) check() error {
	if c.ClientSecret == nil || c.IDServer == nil || c.IDAccessToken == nil || c.SID == nil {
		return mxerr.MissingParam("client_secret, id_server, id_access_token and sid are needed")
	}
	return nil
}

// addThreepidByIdentityServer serves POST /_matrix/client/v3/account/3pid, which is deprecated: this server
// believes no identity server.
//
// Spec: client-server-api#adding-account-administrative-contact-information
func (a *API) addThreepidByIdentityServer(r *http.Request) (httpkit.Empty, error) {
	if _, err := a.auth.Caller(r); err != nil {
		return httpkit.Empty{}, err
	}
	var body struct {
		Credentials *identityCredentials `json:"three_pid_creds"`
	}
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return httpkit.Empty{}, err
	}
	if body.Credentials == nil {
		return httpkit.Empty{}, mxerr.MissingParam("three_pid_creds is missing")
	}
	if err := body.Credentials.check(); err != nil {
		return httpkit.Empty{}, err
	}
	return httpkit.Empty{}, mxerr.ThreepidAuthFailed("This server believes no identity server; addresses are added with account/3pid/add")
}

// bindThreepid serves POST /_matrix/client/v3/account/3pid/bind: this server believes no identity server.
//
// Spec: client-server-api#adding-account-administrative-contact-information
func (a *API) bindThreepid(r *http.Request) (httpkit.Empty, error) {
	if _, err := a.auth.Caller(r); err != nil {
		return httpkit.Empty{}, err
	}
	var body identityCredentials
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return httpkit.Empty{}, err
	}
	if err := body.check(); err != nil {
		return httpkit.Empty{}, err
	}
	return httpkit.Empty{}, mxerr.ServerNotTrusted("This server believes no identity server, so it binds nothing")
}

type unbound struct {
	IDServerUnbindResult string `json:"id_server_unbind_result"`
}

// noIdentityServer is the answer where nothing was bound.
var noIdentityServer = unbound{IDServerUnbindResult: "no-support"}

// namedThreepid reads the body that names an identifier.
func namedThreepid(r *http.Request) (medium, address string, err error) {
	var body struct {
		IDServer *string `json:"id_server"`
		Medium   *string `json:"medium"`
		Address  *string `json:"address"`
	}
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return "", "", err
	}
	if body.Medium == nil || body.Address == nil {
		return "", "", mxerr.MissingParam("medium and address are needed")
	}
	if *body.Medium != "email" && *body.Medium != "msisdn" {
		return "", "", mxerr.InvalidParam("medium must be email or msisdn")
	}
	return *body.Medium, *body.Address, nil
}

// deleteThreepid serves POST /_matrix/client/v3/account/3pid/delete.
//
// Spec: client-server-api#adding-account-administrative-contact-information
func (a *API) deleteThreepid(r *http.Request) (unbound, error) {
	caller, err := a.auth.Caller(r)
	if err != nil {
		return unbound{}, err
	}
	medium, address, err := namedThreepid(r)
	if err != nil {
		return unbound{}, err
	}
	if parsed, err := email.Parse(address); medium == userdb.MediumEmail && err == nil {
		err := account.DeleteThreepid(r.Context(), a.accounts, caller.UserNum, medium, parsed.String())
		return noIdentityServer, err
	}
	return noIdentityServer, nil // no account has such an identifier
}

// unbindThreepid serves POST /_matrix/client/v3/account/3pid/unbind: this server has bound nothing.
//
// Spec: client-server-api#adding-account-administrative-contact-information
func (a *API) unbindThreepid(r *http.Request) (unbound, error) {
	if _, err := a.auth.Caller(r); err != nil {
		return unbound{}, err
	}
	_, _, err := namedThreepid(r)
	return noIdentityServer, err
}
