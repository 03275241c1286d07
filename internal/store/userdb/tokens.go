// Tables access_tokens, refresh_tokens, login_tokens. Written by package auth. A
// token is kept as its SHA-256 only.

package userdb

import "stoa/internal/store"

// Session is what an access token stands for.
type Session struct {
	User       store.UserNum
	UserID     string
	DeviceID   string
	ExpiresTS  int64 // ms since 1970; 0 = never
	SeenTS     int64 // when the device was last noted as seen
	Generation int64 // of the token
	Confirmed  int64 // generation of the device: tokens of earlier ones are revoked
	Admin      bool
	Locked     bool
	Suspended  bool
}

var (
	selectAccessToken = store.Prepare(`SELECT t.user_num, u.user_id, t.device_id, t.expires_ts, d.seen_ts, t.generation, d.generation,
			u.admin, u.locked, u.suspended
		FROM access_tokens t
		JOIN devices d ON d.user_num = t.user_num AND d.device_id = t.device_id
		JOIN users u ON u.num = t.user_num
		WHERE t.hash = $1 AND u.deactivated = 0`)
	selectRefreshToken = store.Prepare(`SELECT t.user_num, u.user_id, t.device_id, CAST(0 AS BIGINT), d.seen_ts, t.generation, d.generation,
			u.admin, u.locked, u.suspended
		FROM refresh_tokens t
		JOIN devices d ON d.user_num = t.user_num AND d.device_id = t.device_id
		JOIN users u ON u.num = t.user_num
		WHERE t.hash = $1 AND u.deactivated = 0`)

	insertAccessToken  = store.Prepare(`INSERT INTO access_tokens (hash, user_num, device_id, generation, expires_ts) VALUES ($1, $2, $3, $4, $5)`)
	insertRefreshToken = store.Prepare(`INSERT INTO refresh_tokens (hash, user_num, device_id, generation) VALUES ($1, $2, $3, $4)`)

	deleteAccessTokensOfDevice  = store.Prepare(`DELETE FROM access_tokens WHERE user_num = $1 AND device_id = $2`)
	deleteRefreshTokensOfDevice = store.Prepare(`DELETE FROM refresh_tokens WHERE user_num = $1 AND device_id = $2`)
	deleteLaterAccessTokens     = store.Prepare(`DELETE FROM access_tokens WHERE user_num = $1 AND device_id = $2 AND generation > $3`)
	deleteLaterRefreshTokens    = store.Prepare(`DELETE FROM refresh_tokens WHERE user_num = $1 AND device_id = $2 AND generation > $3`)
	deleteEarlierAccessTokens   = store.Prepare(`DELETE FROM access_tokens WHERE user_num = $1 AND device_id = $2 AND generation < $3`)
	deleteEarlierRefreshTokens  = store.Prepare(`DELETE FROM refresh_tokens WHERE user_num = $1 AND device_id = $2 AND generation < $3`)
	confirmGeneration           = store.Prepare(`UPDATE devices SET generation = $3 WHERE user_num = $1 AND device_id = $2 AND generation < $3`)
	requireGeneration           = store.Prepare(`UPDATE devices SET seen_ts = $4 WHERE user_num = $1 AND device_id = $2 AND generation = $3`)

	selectLoginToken = store.Prepare(`SELECT t.user_num FROM login_tokens t JOIN users u ON u.num = t.user_num
		WHERE t.hash = $1 AND t.expires_ts > $2 AND t.credentials = u.credentials AND u.deactivated = 0`)
	insertLoginToken  = store.Prepare(`INSERT INTO login_tokens (hash, user_num, credentials, expires_ts) VALUES ($1, $2, $3, $4)`)
	useLoginToken     = store.Prepare(`DELETE FROM login_tokens WHERE hash = $1 AND expires_ts > $2`)
	expireLoginTokens = store.Prepare(`DELETE FROM login_tokens WHERE expires_ts <= $1`)
)

func scanSession(row *store.Row) (s Session) {
	row.Scan(&s.User, &s.UserID, &s.DeviceID, &s.ExpiresTS, &s.SeenTS, &s.Generation, &s.Confirmed, &s.Admin, &s.Locked, &s.Suspended)
	return s
}

// AccessToken returns what an access token stands for, or ErrNotFound; the device is
// there and the account not deactivated. Expired and revoked ones (Generation < Confirmed) are returned too.
func AccessToken(r *store.Read, hash []byte) (Session, error) {
	return store.QueryOne(r, selectAccessToken, scanSession, hash)
}

// RefreshToken is AccessToken for refresh tokens; they don't expire. The last
// revoked one is kept, so that its use can be told from that of a foreign one.
func RefreshToken(r *store.Read, hash []byte) (Session, error) {
	return store.QueryOne(r, selectRefreshToken, scanSession, hash)
}

// AddAccessToken adds a token of a device.
func AddAccessToken(c *store.Change, hash []byte, user store.UserNum, deviceID string, generation, expiresTS int64) {
	c.Exec(insertAccessToken, hash, user, deviceID, generation, expiresTS)
}

// AddRefreshToken adds a refresh token of a device.
func AddRefreshToken(c *store.Change, hash []byte, user store.UserNum, deviceID string, generation int64) {
	c.Exec(insertRefreshToken, hash, user, deviceID, generation)
}

// BeginGeneration makes room for tokens that follow a generation: those that an
// earlier refresh of the same generation issued, and nobody used, are deleted.
// The change fails with ErrTokenUsed if the device has moved on meanwhile.
func BeginGeneration(c *store.Change, user store.UserNum, deviceID string, from, seenTS int64) {
	c.ExecOne(requireGeneration, ErrTokenUsed, user, deviceID, from, seenTS)
	c.Exec(deleteLaterAccessTokens, user, deviceID, from)
	c.Exec(deleteLaterRefreshTokens, user, deviceID, from)
}

// ConfirmGeneration revokes the tokens of earlier generations, since one of
// this generation was used.
func ConfirmGeneration(c *store.Change, user store.UserNum, deviceID string, generation int64) {
	c.Exec(confirmGeneration, user, deviceID, generation)
	noteSessions(c, user)
	c.Exec(deleteEarlierAccessTokens, user, deviceID, generation)
	c.Exec(deleteEarlierRefreshTokens, user, deviceID, generation-1)
}

// noteSessions tells all instances to forget what they know of a user's tokens.
func noteSessions(c *store.Change, user store.UserNum) { c.UserSlot(user, store.KindAccount) }

// LoginToken returns whom a login token logs in, or ErrNotFound. It is good under
// the credentials that it was made under.
func LoginToken(r *store.Read, hash []byte, now int64) (store.UserNum, error) {
	return store.QueryOne(r, selectLoginToken, store.Num[store.UserNum], hash, now)
}

// AddLoginToken adds a login token made under the account's credentials, and deletes
// expired ones. The caller names the user's head in the same change.
func AddLoginToken(c *store.Change, hash []byte, account Account, now, expiresTS int64) {
	c.Exec(expireLoginTokens, now)
	c.Exec(insertLoginToken, hash, account.User, account.Credentials, expiresTS)
}

// UseLoginToken deletes a login token. The change fails with ErrTokenUsed if it
// is gone.
func UseLoginToken(c *store.Change, hash []byte, now int64) {
	c.ExecOne(useLoginToken, ErrTokenUsed, hash, now)
}
