package store

// Accounts (columns of users), profiles of local users, registration tokens.
// Written by package account.

import "errors"

var (
	// ErrUserInUse says that the user ID has an account, or had one.
	ErrUserInUse = errors.New("store: user ID is in use")
	// ErrTokenUsed says that a registration or login token was used up, revoked
	// or expired meanwhile.
	ErrTokenUsed = errors.New("store: token is used up")
)

// Account is a local user whom somebody registered.
type Account struct {
	User         UserNum
	UserID       string
	PasswordHash string // PHC string; empty = no password
	CreatedTS    int64  // ms since 1970
	Admin        bool
	Deactivated  bool
	Erased       bool
	Locked       bool
	Suspended    bool
}

const accountColumns = `num, user_id, password_hash, created_ts, admin, deactivated, erased, locked, suspended`

func scanAccount(row *Row) (a Account) {
	row.Scan(&a.User, &a.UserID, &a.PasswordHash, &a.CreatedTS, &a.Admin, &a.Deactivated, &a.Erased, &a.Locked, &a.Suspended)
	return a
}

var (
	selectAccount    = Prepare(`SELECT ` + accountColumns + ` FROM users WHERE user_id = $1 AND account = 1`)
	selectAccountNum = Prepare(`SELECT ` + accountColumns + ` FROM users WHERE num = $1 AND account = 1`)
	selectAccounts   = Prepare(`SELECT ` + accountColumns + ` FROM users WHERE num > $1 AND account = 1 ORDER BY num LIMIT $2`)
	selectAnyAccount = Prepare(`SELECT num FROM users WHERE account = 1 LIMIT 1`)
	selectErased     = Prepare(`SELECT user_id FROM users WHERE erased = 1 AND {{intext user_id $1}}`)

	makeAccount = Prepare(`UPDATE users SET account = 1, password_hash = $2, admin = $3, created_ts = $4
		WHERE num = $1 AND local = 1 AND account = 0`)
	updatePassword  = Prepare(`UPDATE users SET password_hash = $2 WHERE num = $1 AND account = 1 AND deactivated = 0`)
	replaceHash     = Prepare(`UPDATE users SET password_hash = $3 WHERE num = $1 AND password_hash = $2`)
	updateAdmin     = Prepare(`UPDATE users SET admin = $2 WHERE num = $1 AND account = 1 AND deactivated = 0`)
	updateLocked    = Prepare(`UPDATE users SET locked = $2 WHERE num = $1 AND account = 1 AND deactivated = 0`)
	updateSuspended = Prepare(`UPDATE users SET suspended = $2 WHERE num = $1 AND account = 1 AND deactivated = 0`)
	endAccount      = Prepare(`UPDATE users SET deactivated = 1, password_hash = NULL, admin = 0
		WHERE num = $1 AND account = 1 AND deactivated = 0`)
	updateErased = Prepare(`UPDATE users SET erased = 1 WHERE num = $1`)

	selectUserHead     = Prepare(`SELECT head FROM users WHERE num = $1`)
	selectProfile      = Prepare(`SELECT field, value FROM profiles WHERE user_num = $1 ORDER BY field`)
	selectProfileField = Prepare(`SELECT value FROM profiles WHERE user_num = $1 AND field = $2`)
	upsertProfileField = Prepare(`INSERT INTO profiles (user_num, field, value) VALUES ($1, $2, $3)
		ON CONFLICT (user_num, field) DO UPDATE SET value = excluded.value`)
	deleteProfileField = Prepare(`DELETE FROM profiles WHERE user_num = $1 AND field = $2`)
	deleteProfile      = Prepare(`DELETE FROM profiles WHERE user_num = $1`)
)

// Account returns the account of a user ID, deactivated ones too; ErrNotFound
// if there never was one.
func (r *Read) Account(userID string) (Account, error) {
	return QueryOne(r, selectAccount, scanAccount, userID)
}

// AccountByNum is Account by number.
func (r *Read) AccountByNum(user UserNum) (Account, error) {
	return QueryOne(r, selectAccountNum, scanAccount, user)
}

// Accounts returns accounts in the order of their numbers, from the one after
// a number (0 = the first).
func (r *Read) Accounts(after UserNum, limit int) ([]Account, error) {
	return Query(r, selectAccounts, scanAccount, after, limit)
}

// HasAccounts says whether anyone was ever registered.
func (r *Read) HasAccounts() (bool, error) {
	_, err := QueryOne(r, selectAnyAccount, (*Row).Int)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Erased returns those of the users whose events are shown redacted to who was
// not in the room when they were sent.
func (r *Read) Erased(userIDs []string) ([]string, error) {
	return Query(r, selectErased, (*Row).Text, userIDs)
}

// UserHead returns the head of a user, for a change that is built on it.
func (r *Read) UserHead(user UserNum) (Head, error) {
	return QueryOne(r, selectUserHead, Num[Head], user)
}

// AddAccount makes an account of a local user who has a row (see
// [Store.InternUsers]). The change fails with ErrUserInUse if there is or was
// one: a row stays an account for good, so no user ID is given out twice.
func (c *Change) AddAccount(user UserNum, passwordHash string, admin bool, createdTS int64) {
	var hash *string // NULL: no password
	if passwordHash != "" {
		hash = &passwordHash
	}
	c.ExecOne(makeAccount, ErrUserInUse, user, hash, admin, createdTS)
	c.UserSlot(user, KindAccount)
}

// SetPassword replaces the password hash of an active account, else the change
// fails with ErrNotFound.
func (c *Change) SetPassword(user UserNum, passwordHash string) {
	c.ExecOne(updatePassword, ErrNotFound, user, passwordHash)
}

// ReplacePasswordHash replaces one hash of a password by another of the same
// password, unless the password was changed meanwhile.
func (c *Change) ReplacePasswordHash(user UserNum, old, hash string) {
	c.Exec(replaceHash, user, old, hash)
}

// SetAdmin makes an active account an admin or an ordinary one.
func (c *Change) SetAdmin(user UserNum, admin bool) {
	c.ExecOne(updateAdmin, ErrNotFound, user, admin)
	c.UserSlot(user, KindAccount)
}

// SetLocked locks or unlocks an active account.
func (c *Change) SetLocked(user UserNum, locked bool) {
	c.ExecOne(updateLocked, ErrNotFound, user, locked)
	c.UserSlot(user, KindAccount)
}

// SetSuspended suspends an active account, or ends that.
func (c *Change) SetSuspended(user UserNum, suspended bool) {
	c.ExecOne(updateSuspended, ErrNotFound, user, suspended)
	c.UserSlot(user, KindAccount)
}

// Deactivate ends an active account for good: no password, no admin. What
// hangs on it is deleted beside it, see [Change.DeleteBelongings].
func (c *Change) Deactivate(user UserNum) {
	c.ExecOne(endAccount, ErrNotFound, user)
	c.UserSlot(user, KindAccount)
}

// Erase marks an account as erased and deletes its profile.
func (c *Change) Erase(user UserNum) {
	c.Exec(updateErased, user)
	c.Exec(deleteProfile, user)
	c.UserSlot(user, KindProfile)
}

// ProfileField is one field of a profile.
type ProfileField struct {
	Name  string
	Value string // JSON
}

func scanProfileField(row *Row) (f ProfileField) {
	row.Scan(&f.Name, &f.Value)
	return f
}

// Profile returns all fields of a user's profile, by name. Their number is
// bounded by the limit on a profile's size.
func (r *Read) Profile(user UserNum) ([]ProfileField, error) {
	return Query(r, selectProfile, scanProfileField, user)
}

// ProfileField returns the JSON of one field, or ErrNotFound.
func (r *Read) ProfileField(user UserNum, field string) (string, error) {
	return QueryOne(r, selectProfileField, (*Row).Text, user, field)
}

// SetProfileField sets one field to a JSON value.
func (c *Change) SetProfileField(user UserNum, field, value string) {
	c.Exec(upsertProfileField, user, field, value)
	c.UserSlot(user, KindProfile)
}

// DeleteProfileField deletes one field, if it is there.
func (c *Change) DeleteProfileField(user UserNum, field string) {
	c.Exec(deleteProfileField, user, field)
	c.UserSlot(user, KindProfile)
}

// RegistrationToken lets some people register.
type RegistrationToken struct {
	Hash        string // SHA-256 in hexadecimal
	Name        string // how admins speak of it
	UsesAllowed int64  // 0 = any number
	Used        int64
	CreatedTS   int64 // ms since 1970
	ExpiresTS   int64 // 0 = never
}

var (
	selectRegistrationToken = Prepare(`SELECT hash, name, uses_allowed, used, created_ts, expires_ts FROM registration_tokens WHERE hash = $1`)
	selectRegistrationList  = Prepare(`SELECT hash, name, uses_allowed, used, created_ts, expires_ts FROM registration_tokens ORDER BY name LIMIT $1`)
	insertRegistrationToken = Prepare(`INSERT INTO registration_tokens (hash, name, uses_allowed, used, created_ts, expires_ts) VALUES ($1, $2, $3, 0, $4, $5)`)
	useRegistrationToken    = Prepare(`UPDATE registration_tokens SET used = used + 1
		WHERE hash = $1 AND (uses_allowed = 0 OR used < uses_allowed) AND (expires_ts = 0 OR expires_ts > $2)`)
	deleteRegistrationToken = Prepare(`DELETE FROM registration_tokens WHERE name = $1`)
)

func scanRegistrationToken(row *Row) (t RegistrationToken) {
	row.Scan(&t.Hash, &t.Name, &t.UsesAllowed, &t.Used, &t.CreatedTS, &t.ExpiresTS)
	return t
}

// RegistrationToken returns a token by its hash, used up and expired ones too.
func (r *Read) RegistrationToken(hash string) (RegistrationToken, error) {
	return QueryOne(r, selectRegistrationToken, scanRegistrationToken, hash)
}

// RegistrationTokens returns tokens by name.
func (r *Read) RegistrationTokens(limit int) ([]RegistrationToken, error) {
	return Query(r, selectRegistrationList, scanRegistrationToken, limit)
}

// AddRegistrationToken adds a token; ErrDuplicate if its name or hash exists.
func (tx *Tx) AddRegistrationToken(t RegistrationToken) error {
	_, err := tx.Exec(insertRegistrationToken, t.Hash, t.Name, t.UsesAllowed, t.CreatedTS, t.ExpiresTS)
	return err
}

// RevokeRegistrationToken deletes a token by name, or gives ErrNotFound.
func (tx *Tx) RevokeRegistrationToken(name string) error {
	return tx.ExecOne(deleteRegistrationToken, ErrNotFound, name)
}

// UseRegistrationToken counts one use of a token. The change fails with
// ErrTokenUsed if none is left at the time now (ms since 1970).
func (c *Change) UseRegistrationToken(hash string, now int64) {
	c.ExecOne(useRegistrationToken, ErrTokenUsed, hash, now)
}
