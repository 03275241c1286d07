// Table registration_tokens. Written by package account.

package userdb

import "stoa/internal/store"

// RegistrationToken allows a number of registrations.
type RegistrationToken struct {
	Hash        string // SHA-256 in hexadecimal
	Name        string // for administrators
	UsesAllowed int64  // 0 = any number
	Used        int64
	CreatedTS   int64 // ms since 1970
	ExpiresTS   int64 // 0 = never
}

var (
	selectRegistrationToken = store.Prepare(`SELECT hash, name, uses_allowed, used, created_ts, expires_ts FROM registration_tokens WHERE hash = $1`)
	selectRegistrationList  = store.Prepare(`SELECT hash, name, uses_allowed, used, created_ts, expires_ts FROM registration_tokens ORDER BY name LIMIT $1`)
	insertRegistrationToken = store.Prepare(`INSERT INTO registration_tokens (hash, name, uses_allowed, used, created_ts, expires_ts) VALUES ($1, $2, $3, 0, $4, $5)`)
	useRegistrationToken    = store.Prepare(`UPDATE registration_tokens SET used = used + 1
		WHERE hash = $1 AND (uses_allowed = 0 OR used < uses_allowed) AND (expires_ts = 0 OR expires_ts > $2)`)
	deleteRegistrationToken = store.Prepare(`DELETE FROM registration_tokens WHERE name = $1`)
)

func scanRegistrationToken(row *store.Row) (t RegistrationToken) {
	row.Scan(&t.Hash, &t.Name, &t.UsesAllowed, &t.Used, &t.CreatedTS, &t.ExpiresTS)
	return t
}

// RegistrationTokenByHash returns a token by its hash, even if used up or expired.
func RegistrationTokenByHash(r *store.Read, hash string) (RegistrationToken, error) {
	return store.QueryOne(r, selectRegistrationToken, scanRegistrationToken, hash)
}

// RegistrationTokens returns tokens by name.
func RegistrationTokens(r *store.Read, limit int) ([]RegistrationToken, error) {
	return store.Query(r, selectRegistrationList, scanRegistrationToken, limit)
}

// AddRegistrationToken adds a token; ErrDuplicate if its name or hash exists.
func AddRegistrationToken(tx *store.Tx, t RegistrationToken) error {
	_, err := tx.Exec(insertRegistrationToken, t.Hash, t.Name, t.UsesAllowed, t.CreatedTS, t.ExpiresTS)
	return err
}

// RevokeRegistrationToken deletes a token by name, or returns ErrNotFound.
func RevokeRegistrationToken(tx *store.Tx, name string) error {
	return tx.ExecOne(deleteRegistrationToken, store.ErrNotFound, name)
}

// UseRegistrationToken counts one use of a token. The change fails with ErrTokenUsed if
// it has no use left at the time now (ms since 1970).
func UseRegistrationToken(c *store.Change, hash string, now int64) {
	c.ExecOne(useRegistrationToken, ErrTokenUsed, hash, now)
}
