// Tables access_tokens, refresh_tokens, login_tokens. Written by package auth. Only the
// SHA-256 of a token is stored.

package userdb

import "stoa/internal/store"

// Session is the session of an access token.
type Session struct {
	User       store.UserNum
	UserID     string
	DeviceID   string
	ExpiresTS  int64 // ms since 1970; 0 = never
	SeenTS     int64 // when the last use of the device was recorded
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

// AccessToken returns the session of an access token of an existing device and an active
// account, or ErrNotFound. Expired and revoked tokens (Generation < Confirmed) are
// returned too.
func AccessToken(r *store.Read, hash []byte) (Session, error) {
	return store.QueryOne(r, selectAccessToken, scanSession, hash)
}

// RefreshToken is AccessToken for refresh tokens, which don't expire. The last revoked
// one is kept, to distinguish its use from that of an unknown token.
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

// BeginGeneration prepares for the tokens that follow a generation: it deletes unused
// ones that an earlier refresh of the same generation issued. The change fails with
// ErrTokenUsed if the device has a newer generation by now.
func BeginGeneration(c *store.Change, user store.UserNum, deviceID string, from, seenTS int64) {
	c.ExecOne(requireGeneration, ErrTokenUsed, user, deviceID, from, seenTS)
	c.Exec(deleteLaterAccessTokens, user, deviceID, from)
	c.Exec(deleteLaterRefreshTokens, user, deviceID, from)
}

// ConfirmGeneration revokes the tokens of earlier generations, because one of this
// generation was used.
func ConfirmGeneration(c *store.Change, user store.UserNum, deviceID string, generation int64) {
	c.Exec(confirmGeneration, user, deviceID, generation)
	noteSessions(c, user)
	c.Exec(deleteEarlierAccessTokens, user, deviceID, generation)
	c.Exec(deleteEarlierRefreshTokens, user, deviceID, generation-1)
}

// noteSessions makes all instances drop the user's tokens from their caches.
func noteSessions(c *store.Change, user store.UserNum) { c.UserSlot(user, store.KindAccount) }

// LoginToken returns the user of a login token, or ErrNotFound. It is valid as long as
// the account's Credentials are those at its creation.
func LoginToken(r *store.Read, hash []byte, now int64) (store.UserNum, error) {
	return store.QueryOne(r, selectLoginToken, store.Num[store.UserNum], hash, now)
}

// AddLoginToken adds a login token for the account's current Credentials, and deletes
// expired ones. The caller adds the user's head to the same change.
func AddLoginToken(c *store.Change, hash []byte, account Account, now, expiresTS int64) {
	c.Exec(expireLoginTokens, now)
	c.Exec(insertLoginToken, hash, account.User, account.Credentials, expiresTS)
}

// UseLoginToken deletes a login token. The change fails with ErrTokenUsed if it does not
// exist.
func UseLoginToken(c *store.Change, hash []byte, now int64) {
	c.ExecOne(useLoginToken, ErrTokenUsed, hash, now)
}
