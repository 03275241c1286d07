package account

import (
	"context"
	"errors"
	"fmt"

	"stoa/internal/email"
	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/matrix/mxerr"
)

// MaxAddresses bounds the confirmed addresses of an account.
const MaxAddresses = 20

func errThreepidInUse() error {
	return mxerr.ThreepidInUse("This address belongs to an account already")
}

// Threepids returns the confirmed addresses of an account.
//
// Spec: client-server-api#adding-account-administrative-contact-information
func Threepids(ctx context.Context, a *Accounts, user store.UserNum) (list []userdb.Threepid, err error) {
	err = a.store.Read(ctx, func(r *store.Read) (err error) {
		list, err = userdb.Threepids(r, user, MaxAddresses)
		return err
	})
	return list, err
}

// ByEmail returns the account that has an address, or store.ErrNotFound.
func ByEmail(ctx context.Context, a *Accounts, address email.Address) (found Account, err error) {
	err = a.store.Read(ctx, func(r *store.Read) error {
		owned, err := userdb.ThreepidOf(r, userdb.MediumEmail, address.String())
		if err == nil {
			found, err = Of(r, owned.User)
		}
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return Account{}, store.ErrNotFound // the same for all addresses
	}
	if err != nil {
		return Account{}, fmt.Errorf("account of an address: %w", err)
	}
	return found, nil
}

// AddEmail gives an account a confirmed address.
//
// Errors: M_THREEPID_IN_USE, M_USER_LIMIT_EXCEEDED, and those of allow.
func AddEmail(ctx context.Context, a *Accounts, user store.UserNum, address email.Address, validatedTS int64, allow Allow) error {
	err := a.Change(ctx, user, func(r *store.Read, c *store.Change) error {
		if err := allow.apply(r, c); err != nil {
			return err
		}
		now, err := userdb.Threepids(r, user, MaxAddresses)
		if err != nil {
			return err
		}
		if len(now) >= MaxAddresses {
			return mxerr.UserLimitExceeded("You have %d addresses: delete one of them first", len(now))
		}
		userdb.AddThreepid(c, userdb.Threepid{Medium: userdb.MediumEmail, Address: address.String(), User: user, ValidatedTS: validatedTS})
		return nil
	})
	if errors.Is(err, userdb.ErrThreepidInUse) {
		return errThreepidInUse()
	}
	if err != nil {
		return fmt.Errorf("add an address to user number %d: %w", user, err)
	}
	return nil
}

// DeleteThreepid takes an address from an account. It ignores addresses that the account
// does not have.
func DeleteThreepid(ctx context.Context, a *Accounts, user store.UserNum, medium, address string) error {
	err := a.Change(ctx, user, func(_ *store.Read, c *store.Change) error {
		userdb.DeleteThreepid(c, user, medium, address)
		return nil
	})
	if err != nil {
		return fmt.Errorf("delete an address of user number %d: %w", user, err)
	}
	return nil
}
