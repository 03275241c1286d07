package clientapi

import (
	"encoding/json"
	"net/http"
	"slices"

	"stoa/internal/account"
	"stoa/internal/auth"
	"stoa/internal/httpkit"
	"stoa/internal/store/userdb"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// registerBody is the body of POST /register.
type registerBody struct {
	Auth         json.RawMessage `json:"auth"`
	Type         string          `json:"type"` // of application services only
	Username     *string         `json:"username"`
	Password     *string         `json:"password"`
	InhibitLogin bool            `json:"inhibit_login"`
	auth.Device
}

// registered is the answer: with inhibit_login, the user ID alone.
type registered struct {
	UserID id.UserID `json:"user_id"`
	*auth.Issued
}

// MarshalJSON leaves everything but the user ID out when there was no login.
func (r registered) MarshalJSON() ([]byte, error) {
	if r.Issued != nil {
		return json.Marshal(r.Issued)
	}
	return json.Marshal(map[string]any{"user_id": r.UserID})
}

// UnmarshalJSON reads what MarshalJSON has written.
func (r *registered) UnmarshalJSON(text []byte) error {
	var issued auth.Issued
	if err := json.Unmarshal(text, &issued); err != nil {
		return err
	}
	r.UserID = issued.UserID
	if issued.AccessToken != "" {
		r.Issued = &issued
	}
	return nil
}

// register serves POST /_matrix/client/v3/register.
//
// The username is checked before authentication, so that nobody authenticates
// for a name that they can't have; it is decided by the commit.
//
// Spec: client-server-api#legacy-account-registration
func (a *API) register(r *http.Request) (registered, error) {
	q, err := httpkit.ParseQuery(r)
	if err != nil {
		return registered{}, err
	}
	kind, err := q.Enum("kind", "user", "guest")
	if err != nil {
		return registered{}, err
	}
	var body registerBody
	if err := httpkit.ReadJSON(r, &body); err != nil {
		return registered{}, err
	}
	switch {
	case kind == "guest":
		return registered{}, mxerr.GuestAccessForbidden("Guest accounts are not supported on this server")
	case body.Type == auth.LoginApplicationService:
		return registered{}, mxerr.Forbidden("No application service has this token")
	case a.opt.Registration == RegistrationClosed:
		return registered{}, errRegistrationClosed()
	}
	in := auth.Interaction{Operation: "POST register", Flows: a.registrationFlows(), Terms: a.opt.Terms, EmailFor: userdb.PurposeRegister, Auth: body.Auth, Request: body.withoutAuth()}
	var before registered
	if done, err := a.auth.Answered(r.Context(), in, &before); done || err != nil {
		return before, err
	}
	if body.Username != nil {
		if err := a.accounts.Available(r.Context(), *body.Username); err != nil {
			return registered{}, err
		}
	}
	proof, err := a.auth.Interact(r, in)
	if err != nil {
		return registered{}, err
	}
	if body.Password == nil {
		return registered{}, mxerr.MissingParam("The password is missing")
	}
	if err := a.auth.TakeRegistration(r); err != nil {
		return registered{}, err
	}
	wish := account.Registration{Password: *body.Password, Token: proof.RegistrationToken, Email: proof.Email, ValidatedTS: proof.ValidatedTS}
	if err := a.accounts.CheckNewPassword(*body.Password); err != nil {
		return registered{}, err
	}
	if body.Username != nil {
		wish.Username = *body.Username
	}
	device := &body.Device
	if body.InhibitLogin {
		device = nil
	}
	out, err := a.makeAccount(r, wish, device, proof)
	if err != nil { // the same request may have been faster
		if done, _ := a.auth.Answered(r.Context(), in, &before); done {
			return before, nil
		}
	}
	return out, auth.Spent(err)
}

// withoutAuth is what the request asks for, however it was authenticated.
func (body registerBody) withoutAuth() registerBody {
	body.Auth = nil
	return body
}

func errRegistrationClosed() error { return mxerr.Forbidden("Registration is disabled on this server") }

// registrationFlows are what the registration mode and the terms ask for.
func (a *API) registrationFlows() []auth.Flow {
	var stages []string
	if a.opt.Registration == RegistrationToken {
		stages = append(stages, auth.StageRegistrationToken)
	}
	if len(a.opt.Terms) > 0 {
		stages = append(stages, auth.StageTerms)
	}
	byMail := auth.Flow{Stages: append(slices.Clone(stages), auth.StageEmail)}
	switch {
	case a.opt.RegistrationEmail == EmailRequired:
		return []auth.Flow{byMail}
	case a.opt.RegistrationEmail == EmailOptional && a.addresses.Enabled():
		// The dummy stage keeps one flow from being a part of the other.
		return []auth.Flow{{Stages: append(slices.Clone(stages), auth.StageDummy)}, byMail}
	case len(stages) == 0:
		stages = append(stages, auth.StageDummy)
	}
	return []auth.Flow{{Stages: stages}}
}

// makeAccount commits an account, its first device if one is wanted, and the
// end of the session that allowed it, as one.
func (a *API) makeAccount(r *http.Request, wish account.Registration, device *auth.Device, proof *auth.Proof) (registered, error) {
	begun, err := a.accounts.Begin(r.Context(), wish)
	if err != nil {
		return registered{}, err
	}
	out := registered{UserID: begun.UserID}
	if device != nil {
		issued, err := a.auth.Open(r, begun.Change, begun.UserID, begun.Num, *device)
		if err != nil {
			return registered{}, err
		}
		out.Issued = &issued
	}
	if proof != nil {
		if err := proof.Keep(begun.Change, out); err != nil {
			return registered{}, err
		}
	}
	return out, a.accounts.Complete(r.Context(), begun)
}

type availability struct {
	Available bool `json:"available"`
}

// registerAvailable serves GET /_matrix/client/v3/register/available.
//
// Spec: client-server-api#legacy-account-registration
func (a *API) registerAvailable(r *http.Request) (availability, error) {
	q, err := httpkit.ParseQuery(r)
	if err != nil {
		return availability{}, err
	}
	username, err := q.Required("username")
	if err != nil {
		return availability{}, err
	}
	return availability{Available: true}, a.accounts.Available(r.Context(), username)
}

type validity struct {
	Valid bool `json:"valid"`
}

// registrationTokenValidity serves GET /_matrix/client/v1/register/m.login.registration_token/validity.
//
// Spec: client-server-api#token-authenticated-registration
func (a *API) registrationTokenValidity(r *http.Request) (out validity, err error) {
	q, err := httpkit.ParseQuery(r)
	if err != nil {
		return out, err
	}
	token, err := q.Required("token")
	if err != nil {
		return out, err
	}
	if a.opt.Registration != RegistrationToken {
		return out, errRegistrationClosed()
	}
	if err := a.auth.TakeTokenGuess(r); err != nil {
		return out, err
	}
	out.Valid, err = a.accounts.RegistrationTokenValid(r.Context(), token)
	return out, err
}
