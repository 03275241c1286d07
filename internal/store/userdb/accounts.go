// Table users: the columns of accounts. Written by package account.

package userdb

import (
	"errors"

	"stoa/internal/store"
)

var (
	// ErrUserInUse says that the user ID has an account, or had one.
	ErrUserInUse = errors.New("store: user ID is in use")
	// ErrTokenUsed says that a registration or login token was used up, revoked or
	// expired in the meantime.
	ErrTokenUsed = errors.New("store: token is used up")
)

// Account is a registered local user.
type Account struct {
	User         store.UserNum
	UserID       string
	PasswordHash string // PHC string; empty = no password
	CreatedTS    int64  // ms since 1970
	Admin        bool
	Deactivated  bool
	Erased       bool
	Locked       bool
	Suspended    bool
	Credentials  int64 // counts the resets of what was allowed before: see EndCredentials
}

const accountColumns = `num, user_id, password_hash, created_ts, admin, deactivated, erased, locked, suspended, credentials`

func scanAccount(row *store.Row) (a Account) {
	row.Scan(&a.User, &a.UserID, &a.PasswordHash, &a.CreatedTS, &a.Admin, &a.Deactivated, &a.Erased, &a.Locked, &a.Suspended, &a.Credentials)
	return a
}

var (
	selectAccount    = store.Prepare(`SELECT ` + accountColumns + ` FROM users WHERE user_id = $1 AND account = 1`)
	selectAccountNum = store.Prepare(`SELECT ` + accountColumns + ` FROM users WHERE num = $1 AND account = 1`)
	selectAccounts   = store.Prepare(`SELECT ` + accountColumns + ` FROM users WHERE num > $1 AND account = 1 ORDER BY num LIMIT $2`)
	selectAnyAccount = store.Prepare(`SELECT num FROM users WHERE account = 1 LIMIT 1`)
	selectErased     = store.Prepare(`SELECT user_id FROM users WHERE erased = 1 AND {{intext user_id $1}}`)

	makeAccount = store.Prepare(`UPDATE users SET account = 1, password_hash = $2, admin = $3, created_ts = $4
		WHERE num = $1 AND local = 1 AND account = 0`)
	updatePassword  = store.Prepare(`UPDATE users SET password_hash = $2, credentials = credentials + 1 WHERE num = $1 AND account = 1 AND deactivated = 0`)
	replaceHash     = store.Prepare(`UPDATE users SET password_hash = $3 WHERE num = $1 AND password_hash = $2`)
	updateAdmin     = store.Prepare(`UPDATE users SET admin = $2 WHERE num = $1 AND account = 1 AND deactivated = 0`)
	updateLocked    = store.Prepare(`UPDATE users SET locked = $2 WHERE num = $1 AND account = 1 AND deactivated = 0`)
	updateSuspended = store.Prepare(`UPDATE users SET suspended = $2 WHERE num = $1 AND account = 1 AND deactivated = 0`)
	endAccount      = store.Prepare(`UPDATE users SET deactivated = 1, password_hash = NULL, admin = 0, credentials = credentials + 1
		WHERE num = $1 AND account = 1`)
	endCredentials = store.Prepare(`UPDATE users SET credentials = credentials + 1 WHERE num = $1`)
	updateErased   = store.Prepare(`UPDATE users SET erased = 1 WHERE num = $1`)
)

// AccountByID returns the account of a user ID, deactivated ones too; ErrNotFound
// if there never was one.
func AccountByID(r *store.Read, userID string) (Account, error) {
	return store.QueryOne(r, selectAccount, scanAccount, userID)
}

// AccountByNum is AccountByID by number.
func AccountByNum(r *store.Read, user store.UserNum) (Account, error) {
	return store.QueryOne(r, selectAccountNum, scanAccount, user)
}

// Accounts returns accounts in the order of their numbers, after a number (0 = the
// first).
func Accounts(r *store.Read, after store.UserNum, limit int) ([]Account, error) {
	return store.Query(r, selectAccounts, scanAccount, after, limit)
}

// HasAccounts reports whether any user was ever registered.
func HasAccounts(r *store.Read) (bool, error) {
	_, err := store.QueryOne(r, selectAnyAccount, (*store.Row).Int)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Erased returns those of the users who were erased: viewers who were not in the room at
// the time see their events redacted.
func Erased(r *store.Read, userIDs []string) ([]string, error) {
	return store.Query(r, selectErased, (*store.Row).Text, userIDs)
}

// AddAccount creates the account of a local user who has a row (see
// [store.Store.InternUsers]). The change fails with ErrUserInUse if there is or was one:
// an account is never deleted from its row, so no user ID is reused.
func AddAccount(c *store.Change, user store.UserNum, passwordHash string, admin bool, createdTS int64) {
	var hash *string // NULL: no password
	if passwordHash != "" {
		hash = &passwordHash
	}
	c.ExecOne(makeAccount, ErrUserInUse, user, hash, admin, createdTS)
	c.UserSlot(user, store.KindAccount)
}

// SetPassword replaces the password hash of an active account and ends its credentials,
// as EndCredentials does. The change fails with ErrNotFound if there is no such account.
func SetPassword(c *store.Change, user store.UserNum, passwordHash string) {
	c.ExecOne(updatePassword, store.ErrNotFound, user, passwordHash)
}

// ReplacePasswordHash replaces a hash by another one of the same password, unless the
// password was changed in the meantime.
func ReplacePasswordHash(c *store.Change, user store.UserNum, old, hash string) {
	c.Exec(replaceHash, user, old, hash)
}

// SetAdmin makes an active account an administrator or an ordinary one.
func SetAdmin(c *store.Change, user store.UserNum, admin bool) {
	c.ExecOne(updateAdmin, store.ErrNotFound, user, admin)
	c.UserSlot(user, store.KindAccount)
}

// SetLocked locks or unlocks an active account.
func SetLocked(c *store.Change, user store.UserNum, locked bool) {
	c.ExecOne(updateLocked, store.ErrNotFound, user, locked)
	c.UserSlot(user, store.KindAccount)
}

// SetSuspended suspends an active account, or ends its suspension.
func SetSuspended(c *store.Change, user store.UserNum, suspended bool) {
	c.ExecOne(updateSuspended, store.ErrNotFound, user, suspended)
	c.UserSlot(user, store.KindAccount)
}

// EndCredentials invalidates the user's permissions without a session: login tokens, and
// completed stages of interactive authentication.
func EndCredentials(c *store.Change, user store.UserNum) { c.Exec(endCredentials, user) }

// Deactivate deactivates an account for good: without a password, and without
// administrator rights. [DeleteBelongings] deletes its data. It is idempotent.
func Deactivate(c *store.Change, user store.UserNum) {
	c.ExecOne(endAccount, store.ErrNotFound, user)
	c.UserSlot(user, store.KindAccount)
}

// Erase marks an account as erased and deletes its profile.
func Erase(c *store.Change, user store.UserNum) {
	c.Exec(updateErased, user)
	c.Exec(deleteProfile, user)
	c.UserSlot(user, store.KindProfile)
}
