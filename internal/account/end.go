package account

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"stoa/internal/reader"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/store/mediadb"
	"stoa/internal/store/userdb"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// CheckNewPassword refuses a password that can't be stored, or that is too short. It
// makes no other checks of its strength.
//
// Errors: M_INVALID_PARAM, M_WEAK_PASSWORD.
func (a *Accounts) CheckNewPassword(password string) error {
	if err := checkPassword(password); err != nil {
		return err
	}
	if utf8.RuneCountInString(password) < a.minPassword {
		return mxerr.WeakPassword("The password must have at least %d characters", a.minPassword)
	}
	return nil
}

// checkPassword refuses a password that can't be stored.
func checkPassword(password string) error {
	if password == "" {
		return mxerr.InvalidParam("The password must not be empty")
	}
	if len(password) > MaxPasswordBytes {
		return mxerr.InvalidParam("The password must not be longer than %d bytes", MaxPasswordBytes)
	}
	return nil
}

// CheckPassword returns the account if its password is right. A wrong password, an
// unknown user, a deactivated account, and an account without a password all give the
// same M_FORBIDDEN after the same time.
//
// It returns M_LIMIT_EXCEEDED when too many passwords are being checked.
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

// rehash replaces a hash of an older form, now that the password is known. If it fails,
// the next login tries again.
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

// PasswordChange describes a change of a password.
type PasswordChange struct {
	User     store.UserNum
	Password string
	// Logout deletes all devices except the one to keep (empty = none).
	Logout bool
	Keep   id.DeviceID
	// Allow is the permission for the change; nil for an operator.
	Allow Allow
}

// SetPassword sets an account's password. It invalidates login tokens and completed
// interactive authentication, and deletes devices if requested.
//
// Spec: client-server-api#password-management
func (a *Accounts) SetPassword(ctx context.Context, p PasswordChange) error {
	if err := a.CheckNewPassword(p.Password); err != nil {
		return err
	}
	hash, err := a.hasher.Hash(ctx, p.Password)
	if err != nil {
		return err
	}
	err = a.Change(ctx, p.User, func(r *store.Read, c *store.Change) error {
		if err := p.Allow.apply(r, c); err != nil {
			return err
		}
		userdb.SetPassword(c, p.User, hash)
		if !p.Logout {
			return nil
		}
		return deleteDevices(r, c, p.User, func(d string) bool { return d != p.Keep.String() })
	})
	if err != nil {
		return fmt.Errorf("set password of user number %d: %w", p.User, err)
	}
	a.drop(p.User)
	return nil
}

// Deactivate deactivates an account for good. It deletes password, tokens, devices, keys,
// push rules and other account data, and enqueues a job that leaves its rooms in the same
// commit. With erase it also deletes the profile, and hides the events from users who did
// not receive them.
//
// It is idempotent, and completes an earlier call: leaving rooms, erasing.
//
// Spec: client-server-api#account-deactivation
func (a *Accounts) Deactivate(ctx context.Context, user id.UserID, erase bool, allow Allow) error {
	account, err := a.Account(ctx, user)
	if err != nil {
		return err
	}
	leave := room.LeaveAllJob(user)
	err = a.Change(ctx, account.Num, func(r *store.Read, c *store.Change) error {
		if err := allow.apply(r, c); err != nil {
			return err
		}
		now, err := userdb.AccountByNum(r, account.Num)
		if err != nil {
			return err
		}
		userdb.Deactivate(c, account.Num)
		userdb.DeleteBelongings(c, account.Num)
		mediadb.DropNamesByUser(c, a.server.String(), account.Num, erase)
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
