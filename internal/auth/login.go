package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"stoa/internal/account"
	"stoa/internal/store"
	"stoa/internal/store/keydb"
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
// Errors: M_FORBIDDEN, M_USER_LOCKED, M_LIMIT_EXCEEDED, M_MISSING_PARAM,
// M_INVALID_PARAM; M_UNKNOWN (400) for an unknown type.
//
// Spec: client-server-api#legacy-login
func (a *Auth) Login(r *http.Request, l Login) (Issued, error) {
	c := store.NewChange()
	var user account.Account
	var err error
	switch l.Type {
	case LoginPassword:
		user, err = a.checkPassword(r, l.Claim)
	case LoginToken:
		user, err = a.checkLoginToken(r.Context(), l, c)
	case LoginApplicationService:
		if !HasToken(r) {
			return Issued{}, mxerr.MissingToken()
		}
		return Issued{}, mxerr.Forbidden("No application service has this token")
	case "":
		return Issued{}, mxerr.MissingParam("The login type is missing")
	default:
		return Issued{}, mxerr.Unknown("Bad login type").WithStatus(http.StatusBadRequest)
	}
	if err != nil {
		return Issued{}, err
	}
	if user.Locked {
		return Issued{}, mxerr.UserLocked("This account has been locked")
	}
	issued, err := a.Open(r, c, user.UserID, user.Num, l.Device)
	if err != nil {
		return Issued{}, err
	}
	_, err = a.store.Commit(r.Context(), c)
	if errors.Is(err, userdb.ErrTokenUsed) {
		return Issued{}, errLoginToken()
	}
	if err != nil {
		return Issued{}, fmt.Errorf("log %s in: %w", user.UserID, err)
	}
	a.sessions.Drop(user.Num) // the device's earlier tokens are gone
	return issued, nil
}

// checkPassword counts an attempt and checks it.
func (a *Auth) checkPassword(r *http.Request, claim Claim) (account.Account, error) {
	name, err := claim.name()
	if err != nil {
		return account.Account{}, err
	}
	if claim.Password == nil {
		return account.Account{}, mxerr.MissingParam("The password is missing")
	}
	counted := digest(strings.ToLower(name)) // nobody's: as if it were somebody's, but in a bounded form
	if known, err := a.accounts.Named(r.Context(), name); err == nil {
		counted = known.UserID.String() // however it is written
	} else if !errors.Is(err, store.ErrNotFound) {
		return account.Account{}, err
	}
	if err := a.takePassword(r, counted); err != nil {
		return account.Account{}, err
	}
	user, err := a.accounts.CheckPassword(r.Context(), name, *claim.Password)
	if err == nil {
		a.forgive(r, counted)
	}
	return user, err
}

func errLoginToken() error { return mxerr.Forbidden("Invalid login token") }

// checkLoginToken finds the user of a login token, whose use is put into the
// change.
func (a *Auth) checkLoginToken(ctx context.Context, l Login, c *store.Change) (account.Account, error) {
	if l.Token == nil {
		return account.Account{}, mxerr.MissingParam("The login token is missing")
	}
	if len(*l.Token) > maxTokenBytes {
		return account.Account{}, errLoginToken()
	}
	hash := HashOf(*l.Token)
	now := a.clock().UnixMilli()
	var user store.UserNum
	err := a.store.Read(ctx, func(r *store.Read) (err error) {
		user, err = userdb.LoginToken(r, hash[:], now)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return account.Account{}, errLoginToken()
	}
	if err != nil {
		return account.Account{}, fmt.Errorf("look up login token: %w", err)
	}
	userdb.UseLoginToken(c, hash[:], now)
	return a.accounts.AccountByNum(ctx, user)
}

// Open puts a device and its tokens into a change. They are good once it is
// committed.
//
// Errors: M_INVALID_PARAM, M_FORBIDDEN (the device ID is an identity key),
// M_USER_LIMIT_EXCEEDED.
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
	if err := a.checkNewDevice(r.Context(), user, device.ID); err != nil {
		return out, err
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

// checkNewDevice refuses one device too many, and one that is called like an
// identity key of the user, which would make signatures ambiguous.
func (a *Auth) checkNewDevice(ctx context.Context, user store.UserNum, device string) error {
	return a.store.Read(ctx, func(r *store.Read) error {
		_, err := userdb.DeviceByID(r, user, device)
		if !errors.Is(err, store.ErrNotFound) {
			return err // it is there and is taken over, or can't be read
		}
		identity, err := keydb.CrossSigningKeys(r, []store.UserNum{user})
		if err != nil {
			return err
		}
		for _, k := range identity {
			var public struct {
				Keys map[string]string `json:"keys"`
			}
			if err := json.Unmarshal([]byte(k.Keys), &public); err != nil {
				return fmt.Errorf("identity keys of user number %d: %w", user, err)
			}
			for _, key := range public.Keys {
				if key == device {
					return mxerr.Forbidden("The device ID is that of a cross-signing key")
				}
			}
		}
		n, err := userdb.CountDevices(r, user)
		if err == nil && n >= account.MaxDevices {
			return mxerr.UserLimitExceeded("You have %d devices: log out of one of them first", n).
				With("info_uri", "https://spec.matrix.org/latest/client-server-api/#device-management")
		}
		return err
	})
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
	var row userdb.Session
	err := a.store.Read(ctx, func(r *store.Read) (err error) {
		row, err = userdb.RefreshToken(r, hash[:])
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return Issued{}, mxerr.UnknownToken(false)
	case err != nil:
		return Issued{}, fmt.Errorf("look up refresh token: %w", err)
	case row.Locked:
		return Issued{}, mxerr.UserLocked("This account has been locked")
	case row.Generation < row.Confirmed:
		return Issued{}, mxerr.UnknownToken(true)
	}
	out := Issued{
		DeviceID: id.DeviceID(row.DeviceID), AccessToken: newAccessToken(row.UserID), RefreshToken: newToken(refreshPrefix),
		ExpiresInMS: a.lifetime.Milliseconds(),
	}
	now := a.clock()
	c := store.NewChange()
	if row.Generation > row.Confirmed { // this token is new and is used now
		userdb.ConfirmGeneration(c, row.User, row.DeviceID, row.Generation)
	}
	userdb.BeginGeneration(c, row.User, row.DeviceID, row.Generation, now.UnixMilli())
	access, refresh := HashOf(out.AccessToken), HashOf(out.RefreshToken)
	userdb.AddAccessToken(c, access[:], row.User, row.DeviceID, row.Generation+1, now.Add(a.lifetime).UnixMilli())
	userdb.AddRefreshToken(c, refresh[:], row.User, row.DeviceID, row.Generation+1)
	_, err = a.store.Commit(ctx, c)
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

// MakeLoginToken makes a token that is good for one login as the caller. The
// interaction that allowed it can't allow another.
//
// Spec: client-server-api#legacy-login
func (a *Auth) MakeLoginToken(ctx context.Context, caller who.Caller, proof *Proof) (token string, lifetime time.Duration, err error) {
	if err := a.End(ctx, proof); err != nil {
		return "", 0, err
	}
	if err := a.take(ctx, []userdb.Limit{limit("login token "+caller.UserID.String(), loginTokenEvery, loginTokenBurst)}); err != nil {
		return "", 0, err
	}
	token = newToken(loginPrefix)
	hash := HashOf(token)
	now := a.clock()
	err = a.store.Write(ctx, func(tx *store.Tx) error {
		return userdb.AddLoginToken(tx, hash[:], caller.UserNum, now.UnixMilli(), now.Add(loginTokenLifetime).UnixMilli())
	})
	if err != nil {
		return "", 0, fmt.Errorf("keep login token: %w", err)
	}
	return token, loginTokenLifetime, nil
}
