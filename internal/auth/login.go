package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"stoa/internal/account"
	"stoa/internal/email"
	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// Login types.
//
// Spec: client-server-api#legacy-login
const (
	LoginPassword           = "m.login.password"
	LoginToken              = "m.login.token"
	LoginApplicationService = "m.login.application_service"
)

// Login is a request for tokens.
type Login struct {
	Type  string  `json:"type"`
	Token *string `json:"token"` // m.login.token
	Claim         // m.login.password
	Device
}

// Device is the device that a login or a registration asks for.
type Device struct {
	DeviceID     *string `json:"device_id"`                   // nil or empty: the server picks one
	InitialName  *string `json:"initial_device_display_name"` // for a new device only
	RefreshToken bool    `json:"refresh_token"`               // the client can refresh
}

// Issued is what a login gives out. It is shown once and kept by its hashes.
type Issued struct {
	UserID       id.UserID   `json:"user_id"`
	AccessToken  string      `json:"access_token"`
	DeviceID     id.DeviceID `json:"device_id"`
	RefreshToken string      `json:"refresh_token,omitempty"`
	ExpiresInMS  int64       `json:"expires_in_ms,omitempty"`
}

// Login checks who someone is and gives them tokens for a device.
//
// Errors: M_FORBIDDEN, M_USER_LOCKED, M_USER_DEACTIVATED (while this ran),
// M_LIMIT_EXCEEDED, M_MISSING_PARAM, M_INVALID_PARAM; M_UNKNOWN (400) for an unknown
// type.
//
// Spec: client-server-api#legacy-login
func (a *Auth) Login(r *http.Request, l Login) (Issued, error) {
	switch l.Type {
	case LoginPassword:
		return a.loginByPassword(r, l)
	case LoginToken:
		return a.loginByToken(r, l)
	case LoginApplicationService:
		if !HasToken(r) {
			return Issued{}, mxerr.MissingToken()
		}
		return Issued{}, mxerr.Forbidden("No application service has this token")
	case "":
		return Issued{}, mxerr.MissingParam("The login type is missing")
	}
	return Issued{}, mxerr.Unknown("Bad login type").WithStatus(http.StatusBadRequest)
}

// maxChecks is how often a password is checked again that may have been changed
// since it was.
const maxChecks = 3

func (a *Auth) loginByPassword(r *http.Request, l Login) (Issued, error) {
	user, err := a.checkPassword(r, l.Claim)
	for try := 1; err == nil; try++ {
		var issued Issued
		issued, err = a.open(r, user, l.Device, nil)
		if !errors.Is(err, account.ErrStale) || try == maxChecks {
			return issued, err
		}
		user, err = a.accounts.CheckPassword(r.Context(), user.UserID.String(), *l.Password)
	}
	return Issued{}, err
}

// open commits a new session of a user who has proved to be one: what was proved is
// still good when it is committed, else the error is account.ErrStale.
func (a *Auth) open(r *http.Request, user account.Account, device Device, spend func(*store.Change)) (issued Issued, err error) {
	err = a.accounts.Change(r.Context(), user.Num, func(read *store.Read, c *store.Change) (err error) {
		if err := account.CheckStanding(read, user); err != nil {
			return err
		}
		if spend != nil {
			spend(c)
		}
		if issued, err = a.Open(r, c, user.UserID, user.Num, device); err != nil {
			return err
		}
		return checkNewDevice(read, user.Num, issued.DeviceID.String())
	})
	if err != nil {
		return Issued{}, fmt.Errorf("log %s in: %w", user.UserID, err)
	}
	a.sessions.Drop(user.Num) // the device's earlier tokens are gone
	return issued, nil
}

// claimed finds whom a claim means: a name for [account.Accounts.Named], empty if it is an
// address that no account has. counted is what attempts count for if that is nobody.
func claimed(ctx context.Context, a *Auth, claim Claim) (name, counted string, err error) {
	name, address, err := claim.name()
	if err != nil {
		return "", "", err
	}
	if name != "" {
		return name, digest(strings.ToLower(name)), nil // in a bounded form
	}
	known, err := email.Parse(address)
	if err != nil {
		return "", digest("address " + address), nil
	}
	found, err := account.ByEmail(ctx, a.accounts, known)
	if errors.Is(err, store.ErrNotFound) {
		return "", digest("address " + known.String()), nil
	}
	return found.UserID.String(), digest(found.UserID.String()), err
}

// checkPassword counts an attempt and checks it.
func (a *Auth) checkPassword(r *http.Request, claim Claim) (account.Account, error) {
	if _, _, err := claim.name(); err != nil {
		return account.Account{}, err
	}
	if claim.Password == nil {
		return account.Account{}, mxerr.MissingParam("The password is missing")
	}
	name, counted, err := claimed(r.Context(), a, claim)
	if err != nil {
		return account.Account{}, err
	}
	familiar := false
	if known, err := a.accounts.Named(r.Context(), name); err == nil {
		counted = known.UserID.String() // however it is written
		if familiar, err = a.isFamiliar(r, known.Num); err != nil {
			return account.Account{}, err
		}
	} else if !errors.Is(err, store.ErrNotFound) {
		return account.Account{}, err
	}
	if err := a.takePassword(r, counted, familiar); err != nil {
		return account.Account{}, err
	}
	user, err := a.accounts.CheckPassword(r.Context(), name, *claim.Password)
	if err == nil {
		a.forgive(r, counted)
	}
	return user, err
}

func errLoginToken() error { return mxerr.Forbidden("Invalid login token") }

// loginByToken uses a login token up.
func (a *Auth) loginByToken(r *http.Request, l Login) (Issued, error) {
	if l.Token == nil {
		return Issued{}, mxerr.MissingParam("The login token is missing")
	}
	if len(*l.Token) > maxTokenBytes {
		return Issued{}, errLoginToken()
	}
	hash := HashOf(*l.Token)
	now := a.clock().UnixMilli()
	var user account.Account
	err := a.store.Read(r.Context(), func(read *store.Read) error {
		num, err := userdb.LoginToken(read, hash[:], now)
		if err == nil {
			user, err = account.Of(read, num)
		}
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return Issued{}, errLoginToken()
	}
	if err != nil {
		return Issued{}, fmt.Errorf("look up login token: %w", err)
	}
	issued, err := a.open(r, user, l.Device, func(c *store.Change) { userdb.UseLoginToken(c, hash[:], now) })
	if errors.Is(err, userdb.ErrTokenUsed) || errors.Is(err, account.ErrStale) {
		err = errLoginToken()
	}
	return issued, err
}

// Open puts a device and its tokens into a change: that of a new account, or one on
// the user's head. They are good once it is committed.
//
// Errors: M_INVALID_PARAM.
func (a *Auth) Open(r *http.Request, c *store.Change, userID id.UserID, user store.UserNum, want Device) (Issued, error) {
	out := Issued{UserID: userID, AccessToken: newAccessToken(userID.String()), DeviceID: id.DeviceID(newDeviceID())}
	if want.DeviceID != nil && *want.DeviceID != "" {
		var err error
		if out.DeviceID, err = id.ParseDeviceID(*want.DeviceID); err != nil {
			return out, mxerr.InvalidParam("The device ID is not allowed: %s", err).Because(err)
		}
	}
	device := userdb.Device{ID: out.DeviceID.String(), CreatedTS: a.clock().UnixMilli(), SeenIP: address(r)}
	if want.InitialName != nil && *want.InitialName != "" {
		if err := account.CheckDeviceName(*want.InitialName); err != nil {
			return out, err
		}
		device.DisplayName = want.InitialName
	}
	userdb.PutDevice(c, user, device)
	var expires int64
	if want.RefreshToken {
		out.RefreshToken = newToken(refreshPrefix)
		out.ExpiresInMS = a.lifetime.Milliseconds()
		expires = a.clock().Add(a.lifetime).UnixMilli()
		hash := HashOf(out.RefreshToken)
		userdb.AddRefreshToken(c, hash[:], user, device.ID, 0)
	}
	hash := HashOf(out.AccessToken)
	userdb.AddAccessToken(c, hash[:], user, device.ID, 0, expires)
	return out, nil
}

// checkNewDevice refuses one device too many, and an ID that no new device may have.
//
// Errors: M_FORBIDDEN (see [account.CheckDeviceID]), M_USER_LIMIT_EXCEEDED.
func checkNewDevice(r *store.Read, user store.UserNum, device string) error {
	_, err := userdb.DeviceByID(r, user, device)
	if !errors.Is(err, store.ErrNotFound) {
		return err // it is there and is taken over, or can't be read
	}
	if err := account.CheckDeviceID(r, user, device); err != nil {
		return err
	}
	n, err := userdb.CountDevices(r, user)
	if err == nil && n >= account.MaxDevices {
		return mxerr.UserLimitExceeded("You have %d devices: log out of one of them first", n).
			With("info_uri", "https://spec.matrix.org/latest/client-server-api/#device-management")
	}
	return err
}

// Refresh gives new tokens for a refresh token. The old ones stay good until
// one of the new ones is used, so that an answer that got lost can be had again.
//
// Errors: M_UNKNOWN_TOKEN, with soft_logout if the token was good once; M_USER_LOCKED.
//
// Spec: client-server-api#refreshing-access-tokens
func (a *Auth) Refresh(ctx context.Context, token string) (Issued, error) {
	if token == "" || len(token) > maxTokenBytes {
		return Issued{}, mxerr.UnknownToken(false)
	}
	hash := HashOf(token)
	lookUp := func(r *store.Read) (row userdb.Session, err error) {
		row, err = userdb.RefreshToken(r, hash[:])
		switch {
		case errors.Is(err, store.ErrNotFound):
			return row, mxerr.UnknownToken(false)
		case err != nil:
			return row, fmt.Errorf("look up refresh token: %w", err)
		case row.Locked:
			return row, mxerr.UserLocked("This account has been locked")
		case row.Generation < row.Confirmed:
			return row, mxerr.UnknownToken(true)
		}
		return row, nil
	}
	var row userdb.Session
	err := a.store.Read(ctx, func(r *store.Read) (err error) {
		row, err = lookUp(r)
		return err
	})
	if err != nil {
		return Issued{}, err
	}
	out := Issued{
		DeviceID: id.DeviceID(row.DeviceID), AccessToken: newAccessToken(row.UserID), RefreshToken: newToken(refreshPrefix),
		ExpiresInMS: a.lifetime.Milliseconds(),
	}
	access, refresh := HashOf(out.AccessToken), HashOf(out.RefreshToken)
	err = a.accounts.Change(ctx, row.User, func(r *store.Read, c *store.Change) (err error) {
		if row, err = lookUp(r); err != nil {
			return err
		}
		now := a.clock()
		if row.Generation > row.Confirmed { // this token is new and is used now
			userdb.ConfirmGeneration(c, row.User, row.DeviceID, row.Generation)
		}
		userdb.BeginGeneration(c, row.User, row.DeviceID, row.Generation, now.UnixMilli())
		userdb.AddAccessToken(c, access[:], row.User, row.DeviceID, row.Generation+1, now.Add(a.lifetime).UnixMilli())
		userdb.AddRefreshToken(c, refresh[:], row.User, row.DeviceID, row.Generation+1)
		return nil
	})
	if errors.Is(err, userdb.ErrTokenUsed) {
		return Issued{}, mxerr.UnknownToken(true)
	}
	if err != nil {
		return Issued{}, fmt.Errorf("refresh tokens of %s: %w", row.UserID, err)
	}
	a.sessions.Drop(row.User)
	return out, nil
}

// loginTokenLifetime is that of a token made for another device to log in.
const loginTokenLifetime = 2 * time.Minute

// LoginTokenMade is a token for another device to log in.
type LoginTokenMade struct {
	Token      string `json:"login_token"`
	LifetimeMS int64  `json:"expires_in_ms"`
}

// MakeLoginToken makes a token that is good for one login as the caller. The
// interaction that allowed it can't allow another.
//
// Spec: client-server-api#legacy-login
func (a *Auth) MakeLoginToken(ctx context.Context, caller who.Caller, proof *Proof) (LoginTokenMade, error) {
	if err := a.take(ctx, []userdb.Limit{limitLoginToken.of(caller.UserID.String())}); err != nil {
		return LoginTokenMade{}, err
	}
	made := LoginTokenMade{Token: newToken(loginPrefix), LifetimeMS: loginTokenLifetime.Milliseconds()}
	hash := HashOf(made.Token)
	err := a.accounts.Change(ctx, caller.UserNum, func(r *store.Read, c *store.Change) error {
		if err := proof.Spend(r, c, made); err != nil {
			return err
		}
		now := a.clock()
		user, err := userdb.AccountByNum(r, caller.UserNum)
		if err != nil {
			return err
		}
		userdb.AddLoginToken(c, hash[:], user, now.UnixMilli(), now.Add(loginTokenLifetime).UnixMilli())
		return nil
	})
	if err != nil {
		return LoginTokenMade{}, Spent(err)
	}
	return made, nil
}
