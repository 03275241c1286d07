// Table openid_tokens. Written by package auth.

package userdb

import "stoa/internal/store"

// maxOpenIDTokens bounds the tokens of a user: the oldest make room for new ones.
const maxOpenIDTokens = 100

var (
	selectOpenIDToken = store.Prepare(`SELECT u.user_id FROM openid_tokens t
		JOIN devices d ON d.user_num = t.user_num AND d.device_id = t.device_id
		JOIN users u ON u.num = t.user_num
		WHERE t.hash = $1 AND t.expires_ts > $2 AND u.deactivated = 0 AND u.locked = 0`)
	insertOpenIDToken  = store.Prepare(`INSERT INTO openid_tokens (hash, user_num, device_id, expires_ts) VALUES ($1, $2, $3, $4)`)
	expireOpenIDTokens = store.Prepare(`DELETE FROM openid_tokens WHERE expires_ts <= $1`)
	trimOpenIDTokens   = store.Prepare(`DELETE FROM openid_tokens WHERE hash IN
		(SELECT hash FROM openid_tokens WHERE user_num = $1 ORDER BY expires_ts DESC LIMIT 1000 OFFSET $2)`)
	deleteOpenIDTokensOfDevice = store.Prepare(`DELETE FROM openid_tokens WHERE user_num = $1 AND device_id = $2`)
)

// OpenIDToken returns the user ID of the user whom a token proves, or ErrNotFound. It is valid while its device
// exists and the account is neither locked nor deactivated.
func OpenIDToken(r *store.Read, hash []byte, now int64) (string, error) {
	return store.QueryOne(r, selectOpenIDToken, (*store.Row).Text, hash, now)
}

// AddOpenIDToken adds a token of a device, and deletes expired ones and the user's oldest. The caller adds the user's
// head to the same change, and knows that the device exists.
func AddOpenIDToken(c *store.Change, hash []byte, user store.UserNum, deviceID string, now, expiresTS int64) {
	c.Exec(expireOpenIDTokens, now)
	c.Exec(trimOpenIDTokens, user, maxOpenIDTokens-1)
	c.Exec(insertOpenIDToken, hash, user, deviceID, expiresTS)
}
