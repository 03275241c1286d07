package account

import (
	"context"
	"errors"
	"fmt"

	"stoa/internal/reader"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// CheckNewPassword refuses a password that can't be stored. It does not judge
// how strong a password is.
func CheckNewPassword(password string) error {
	if password == "" {
		return mxerr.InvalidParam("The password must not be empty")
	}
	if len(password) > MaxPasswordBytes {
		return mxerr.InvalidParam("The password must not be longer than %d bytes", MaxPasswordBytes)
	}
	return nil
}

// CheckPassword returns the account if the password is its own. A wrong one, an
// unknown user, and an account without a password are all the same M_FORBIDDEN,
// after the same time. So is a deactivated account, whose password is gone.
//
// It answers M_LIMIT_EXCEEDED when too many passwords are being checked.
func (a *Accounts) CheckPassword(ctx context.Context, name, password string) (Account, error) {
	found, err := a.Named(ctx, name)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return Account{}, err
	}
	ok, outdated, err := a.hasher.Check(ctx, found.passwordHash, password)
	if err != nil {
		return Account{}, fmt.Errorf("check password of %s: %w", found.UserID, err)
	}
	if !ok {
		return Account{}, errNoAccount()
	}
	if outdated {
		a.rehash(ctx, found, password)
	}
	return found, nil
}

// rehash replaces a hash of an older form, now that the password is known. It
// is an improvement, not a condition: if it fails the next login tries again.
func (a *Accounts) rehash(ctx context.Context, found Account, password string) {
	hash, err := a.hasher.Hash(ctx, password)
	if err == nil {
		c := store.NewChange()
		userdb.ReplacePasswordHash(c, found.Num, found.passwordHash, hash)
		_, err = a.store.Commit(ctx, c)
	}
	if err != nil {
		a.log.Warn("password hash of an older form is kept", "user_id", found.UserID.String(), "err", err)
	}
}

// SetPassword gives an account a new password. If logout is true, all its
// devices but the one to be kept (empty = none) are deleted.
//
// Spec: client-server-api#password-management
func (a *Accounts) SetPassword(ctx context.Context, user store.UserNum, password string, logout bool, keep id.DeviceID) error {
	if err := CheckNewPassword(password); err != nil {
		return err
	}
	hash, err := a.hasher.Hash(ctx, password)
	if err != nil {
		return err
	}
	err = a.change(ctx, user, func(r *store.Read, c *store.Change) error {
		userdb.SetPassword(c, user, hash)
		if !logout {
			return nil
		}
		return deleteDevices(r, c, user, func(d string) bool { return d != keep.String() })
	})
	if err != nil {
		return fmt.Errorf("set password of user number %d: %w", user, err)
	}
	a.drop(user)
	return nil
}

// Deactivate ends an account for good: password, tokens, devices, keys, push
// rules and other account data are deleted, and its rooms are left by a job of the
// same commit. With erase its profile goes too, and its events are hidden from
// those who did not have them.
//
// Done again it does what is left to do: leaving rooms, erasing.
//
// Spec: client-server-api#account-deactivation
func (a *Accounts) Deactivate(ctx context.Context, user id.UserID, erase bool) error {
	account, err := a.Account(ctx, user)
	if err != nil {
		return err
	}
	leave := room.LeaveAllJob(user)
	err = a.change(ctx, account.Num, func(r *store.Read, c *store.Change) error {
		now, err := userdb.AccountByNum(r, account.Num)
		if err != nil {
			return err
		}
		if !now.Deactivated {
			userdb.Deactivate(c, account.Num)
			userdb.DeleteBelongings(c, account.Num)
		}
		if erase && !now.Erased {
			userdb.Erase(c, account.Num)
		}
		return reader.Enqueue(c, leave)
	})
	if err != nil {
		return fmt.Errorf("deactivate %s: %w", user, err)
	}
	a.drop(account.Num)
	a.log.Info("account deactivated", "user_id", user.String(), "erased", erase)
	a.awaitRooms(ctx, leave)
	return nil
}
