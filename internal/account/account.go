// Package account manages local users: their registration, passwords, profiles,
// devices and registration tokens, and their deactivation.
//
// It owns the rules for user names and passwords, and the steps of a deactivation:
// first the account can no longer be used, then it leaves its rooms. It never decides
// who may call it, issues no tokens (package auth does), and writes no events: a change
// of an account enqueues a job of package room in the same commit.
//
// The invariant: a user ID is registered only once, whatever happens to the account.
package account

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"stoa/internal/reader"
	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// Sessions drops a user's tokens from its cache.
type Sessions interface{ Drop(user store.UserNum) }

// Options configure Accounts.
type Options struct {
	Store      *store.Store
	ServerName id.ServerName
	// Hasher hashes passwords; nil = NewHasher(DefaultCost, 0).
	Hasher *Hasher
	// Sessions is called when sessions end or change; nil when no server runs.
	Sessions Sessions
	// RoomsWait bounds how long a change of a profile, or a deactivation, waits for its
	// job in rooms, which is done in any case. 0 = no wait, for commands.
	RoomsWait time.Duration
	// MinPassword is the shortest length of a new password in characters; 0 = any.
	MinPassword int
	// NameNew gives new accounts their localpart as display name.
	NameNew bool
	// Clock is the clock; nil = time.Now.
	Clock func() time.Time
	// Log is the log, which gets no secrets; nil = none.
	Log *slog.Logger
}

// Accounts manages the local users. Its methods may be called concurrently.
type Accounts struct {
	store    *store.Store
	server   id.ServerName
	hasher   *Hasher
	sessions Sessions
	wait     time.Duration
	nameNew  bool

	minPassword int // in characters
	clock       func() time.Time
	log         *slog.Logger
}

// New returns an Accounts.
func New(opt Options) *Accounts {
	a := &Accounts{
		store: opt.Store, server: opt.ServerName, hasher: opt.Hasher, sessions: opt.Sessions,
		wait: opt.RoomsWait, nameNew: opt.NameNew, minPassword: opt.MinPassword, clock: opt.Clock, log: opt.Log,
	}
	if a.hasher == nil {
		a.hasher = NewHasher(DefaultCost, 0)
	}
	if a.clock == nil {
		a.clock = time.Now
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	return a
}

// Account is a registered user.
type Account struct {
	UserID      id.UserID
	Num         store.UserNum
	Created     time.Time
	HasPassword bool
	Admin       bool
	Deactivated bool
	Erased      bool
	Locked      bool
	Suspended   bool
	// Credentials identifies the credentials under which a proof of being this user is
	// valid: see [userdb.EndCredentials].
	Credentials int64

	passwordHash string
}

func fromRow(row userdb.Account) (Account, error) {
	userID, err := id.ParseUserID(row.UserID)
	if err != nil {
		return Account{}, fmt.Errorf("account %d: %w", row.User, err)
	}
	return Account{
		UserID: userID, Num: row.User, Created: time.UnixMilli(row.CreatedTS),
		HasPassword: row.PasswordHash != "", Admin: row.Admin, Deactivated: row.Deactivated,
		Erased: row.Erased, Locked: row.Locked, Suspended: row.Suspended, Credentials: row.Credentials, passwordHash: row.PasswordHash,
	}, nil
}

// IsLocal reports whether a user ID belongs to this server.
func (a *Accounts) IsLocal(user id.UserID) bool { return user.ServerName() == a.server }

// Account returns the account of a local user, even if deactivated, or store.ErrNotFound.
func (a *Accounts) Account(ctx context.Context, user id.UserID) (Account, error) {
	var row userdb.Account
	err := a.store.Read(ctx, func(r *store.Read) (err error) {
		row, err = userdb.AccountByID(r, user.String())
		return err
	})
	if err != nil {
		return Account{}, fmt.Errorf("account of %s: %w", user, err)
	}
	return fromRow(row)
}

// Of is AccountByNum in a snapshot.
func Of(r *store.Read, user store.UserNum) (Account, error) {
	row, err := userdb.AccountByNum(r, user)
	if err != nil {
		return Account{}, err
	}
	return fromRow(row)
}

// AccountByNum is Account by the user's number.
func (a *Accounts) AccountByNum(ctx context.Context, user store.UserNum) (account Account, err error) {
	err = a.store.Read(ctx, func(r *store.Read) (err error) {
		account, err = Of(r, user)
		return err
	})
	if err != nil {
		return Account{}, fmt.Errorf("account of user number %d: %w", user, err)
	}
	return account, nil
}

// Named finds an account by a user ID or a localpart, as a person may type it, in upper
// or lower case; store.ErrNotFound if there is none.
//
// Spec: client-server-api#matrix-user-id
func (a *Accounts) Named(ctx context.Context, name string) (Account, error) {
	full := name
	if !strings.HasPrefix(name, "@") {
		full = "@" + name + ":" + a.server.String()
	}
	user, err := id.ParseUserID(full)
	if err != nil || !a.IsLocal(user) {
		return Account{}, store.ErrNotFound
	}
	found, err := a.Account(ctx, user) // a historical user ID may have capitals
	if lower := strings.ToLower(user.Localpart()); errors.Is(err, store.ErrNotFound) && lower != user.Localpart() {
		if user, err = id.NewUserID(lower, a.server); err != nil {
			return Account{}, store.ErrNotFound
		}
		return a.Account(ctx, user)
	}
	return found, err
}

// accountsPage bounds a page of List.
const accountsPage = 1000

// List returns a page of accounts after a number (0 = the first), in the order of their
// numbers.
func (a *Accounts) List(ctx context.Context, after store.UserNum, limit int) ([]Account, error) {
	var out []Account
	err := a.store.Read(ctx, func(r *store.Read) error {
		rows, err := userdb.Accounts(r, after, min(limit, accountsPage))
		if err != nil {
			return err
		}
		for _, row := range rows {
			account, err := fromRow(row)
			if err != nil {
				return err
			}
			out = append(out, account)
		}
		return nil
	})
	return out, err
}

// Any reports whether any user was ever registered.
func (a *Accounts) Any(ctx context.Context) (any bool, err error) {
	err = a.store.Read(ctx, func(r *store.Read) error {
		any, err = userdb.HasAccounts(r)
		return err
	})
	return any, err
}

// SetAdmin makes an account an administrator or an ordinary one.
func (a *Accounts) SetAdmin(ctx context.Context, user store.UserNum, admin bool) error {
	return a.mark(ctx, user, func(c *store.Change) { userdb.SetAdmin(c, user, admin) })
}

// SetLocked locks or unlocks an account. A locked one keeps its tokens, but can only log
// out.
//
// Spec: client-server-api#account-locking
func (a *Accounts) SetLocked(ctx context.Context, user store.UserNum, locked bool) error {
	return a.mark(ctx, user, func(c *store.Change) { userdb.SetLocked(c, user, locked) })
}

// SetSuspended suspends an account or ends its suspension. A suspended one can read, but
// not act on other users.
//
// Spec: client-server-api#account-suspension
func (a *Accounts) SetSuspended(ctx context.Context, user store.UserNum, suspended bool) error {
	return a.mark(ctx, user, func(c *store.Change) { userdb.SetSuspended(c, user, suspended) })
}

func (a *Accounts) mark(ctx context.Context, user store.UserNum, fill func(*store.Change)) error {
	err := a.Change(ctx, user, func(_ *store.Read, c *store.Change) error {
		fill(c)
		return nil
	})
	if err != nil {
		return fmt.Errorf("mark user number %d: %w", user, err)
	}
	a.drop(user)
	return nil
}

func (a *Accounts) drop(user store.UserNum) {
	if a.sessions != nil {
		a.sessions.Drop(user)
	}
}

// changeTries bounds how often a change is rebuilt after its user's head has moved. Each
// time another change has succeeded, so the bound is generous.
const changeTries = 100

// Change commits the change that build fills, fenced by the user's head: the user's
// account and devices are unchanged between build's reads and the commit. build runs
// again if the head has moved. It may leave the change empty.
func (a *Accounts) Change(ctx context.Context, user store.UserNum, build func(*store.Read, *store.Change) error) error {
	for try := 1; ; try++ {
		c := store.NewChange()
		err := a.store.Read(ctx, func(r *store.Read) error {
			if err := build(r, c); err != nil || c.Empty() {
				return err
			}
			head, err := r.UserHead(user)
			c.User(user, head)
			return err
		})
		if err != nil || c.Empty() {
			return err
		}
		if _, err = a.store.Commit(ctx, c); !errors.Is(err, store.ErrConflict) || try == changeTries {
			return err
		}
	}
}

// ErrStale says that the credentials of an account have changed since something was
// allowed.
var ErrStale = errors.New("account: credentials have changed")

// CheckStanding checks, in the snapshot of a change on the user's head, that the account
// is active, and that a proof of being its user that was given for the account then is
// still valid.
//
// Errors: ErrStale, M_USER_DEACTIVATED, M_USER_LOCKED.
func CheckStanding(r *store.Read, then Account) error {
	now, err := userdb.AccountByNum(r, then.Num)
	switch {
	case err != nil:
		return err
	case now.Deactivated:
		return mxerr.UserDeactivated("This account has been deactivated")
	case now.Locked:
		return mxerr.UserLocked("This account has been locked")
	case now.Credentials != then.Credentials:
		return ErrStale
	}
	return nil
}

// Allow adds the use of a permission to a change, and fails if the permission has ended.
// nil is for an operator, who needs none. It is called in the snapshot of a change on the
// user's head.
type Allow func(*store.Read, *store.Change) error

// apply calls Allow if there is one.
func (allow Allow) apply(r *store.Read, c *store.Change) error {
	if allow == nil {
		return nil
	}
	return allow(r, c)
}

// awaitRooms waits for a bounded time until a job is done. The job does not depend on the
// wait.
func (a *Accounts) awaitRooms(ctx context.Context, j reader.Job) {
	if a.wait == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, a.wait)
	defer cancel()
	if err := reader.Wait(ctx, a.store, j.Kind, j.Key); err != nil {
		a.log.Debug("rooms are not up to date yet", "user_id", j.Key, "err", err)
	}
}

// errNoAccount is the error for a failed login; it does not give the reason.
func errNoAccount() *mxerr.Error { return mxerr.Forbidden("Invalid username or password") }
