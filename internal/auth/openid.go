package auth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// openIDLifetime is that of a token with which a user proves to another service who they are.
const openIDLifetime = time.Hour

// OpenIDToken is a token for another service. It is good for nothing but OpenIDUser.
type OpenIDToken struct {
	Token      string        `json:"access_token"`
	Type       string        `json:"token_type"`
	ServerName id.ServerName `json:"matrix_server_name"`
	ExpiresIn  int64         `json:"expires_in"` // seconds
}

// MakeOpenIDToken makes a token that proves who the caller is. It ends with the caller's device.
//
// Errors: M_LIMIT_EXCEEDED, M_UNKNOWN_TOKEN.
//
// Spec: client-server-api#openid
func (a *Auth) MakeOpenIDToken(ctx context.Context, caller who.Caller) (OpenIDToken, error) {
	if err := a.take(ctx, []userdb.Limit{limitOpenID.of(caller.UserID.String())}); err != nil {
		return OpenIDToken{}, err
	}
	made := OpenIDToken{
		Token: newToken(openIDPrefix), Type: "Bearer", ServerName: caller.UserID.ServerName(), ExpiresIn: int64(openIDLifetime.Seconds()),
	}
	hash := HashOf(made.Token)
	err := a.accounts.Change(ctx, caller.UserNum, func(r *store.Read, c *store.Change) error {
		if _, err := userdb.DeviceByID(r, caller.UserNum, caller.DeviceID.String()); errors.Is(err, store.ErrNotFound) {
			return mxerr.UnknownToken(false) // it was logged out meanwhile
		} else if err != nil {
			return err
		}
		now := a.clock()
		userdb.AddOpenIDToken(c, hash[:], caller.UserNum, caller.DeviceID.String(), now.UnixMilli(), now.Add(openIDLifetime).UnixMilli())
		return nil
	})
	if err != nil {
		return OpenIDToken{}, fmt.Errorf("make an OpenID token of %s: %w", caller.UserID, err)
	}
	return made, nil
}

// OpenIDUser returns the user whom a token of MakeOpenIDToken proves.
//
// Errors: M_UNKNOWN_TOKEN.
//
// Spec: server-server-api#openid
func (a *Auth) OpenIDUser(ctx context.Context, token string) (user id.UserID, err error) {
	if len(token) > maxTokenBytes {
		return user, mxerr.UnknownToken(false)
	}
	hash := HashOf(token)
	var found string
	err = a.store.ReadCommitted(ctx, func(r *store.Read) (err error) {
		found, err = userdb.OpenIDToken(r, hash[:], a.clock().UnixMilli())
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return user, mxerr.UnknownToken(false)
	}
	if err != nil {
		return user, fmt.Errorf("look up an OpenID token: %w", err)
	}
	return id.ParseUserID(found)
}
