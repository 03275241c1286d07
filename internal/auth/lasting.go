package auth

import (
	"context"
	"errors"
	"fmt"

	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/matrix/mxerr"
)

// Lasts tells a request that waits whether its session does: nil, or the error that the next request would get. The store is
// asked, since who waits may hear of a change before Sessions does. A session goes on when its tokens are refreshed.
//
// Errors: M_UNKNOWN_TOKEN, M_USER_LOCKED.
//
// Spec: client-server-api#using-access-tokens
func (a *Auth) Lasts(ctx context.Context, user store.UserNum, deviceID string) error {
	var locked bool
	err := a.store.Read(ctx, func(r *store.Read) error {
		account, err := userdb.AccountByNum(r, user)
		if err != nil {
			return err
		}
		if account.Deactivated {
			return store.ErrNotFound
		}
		locked = account.Locked
		_, err = userdb.DeviceByID(r, user, deviceID)
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return mxerr.UnknownToken(false)
	case err != nil:
		return fmt.Errorf("look for device %s of user number %d: %w", deviceID, user, err)
	case locked:
		return mxerr.UserLocked("This account has been locked")
	}
	return nil
}
