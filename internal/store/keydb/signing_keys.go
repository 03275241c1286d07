// Table signing_keys. Written by package serverkey.

package keydb

import "stoa/internal/store"

// SigningKey is one of the server's signing keys.
type SigningKey struct {
	KeyID     string
	Seed      []byte // as package serverkey sealed it
	CreatedTS int64  // ms since 1970
}

var (
	selectSigningKeys = store.Prepare(`SELECT key_id, seed, created_ts FROM signing_keys WHERE retired_ts IS NULL ORDER BY created_ts, key_id LIMIT 16`)
	insertSigningKey  = store.Prepare(`INSERT INTO signing_keys (key_id, seed, created_ts) VALUES ($1, $2, $3)`)
	updateSigningKey  = store.Prepare(`UPDATE signing_keys SET seed = $2 WHERE key_id = $1`)
)

// SigningKeys returns the signing keys in use, the oldest first.
func SigningKeys(r *store.Read) ([]SigningKey, error) {
	return store.Query(r, selectSigningKeys, func(row *store.Row) (k SigningKey) {
		k.KeyID, k.Seed, k.CreatedTS = row.Text(), append([]byte(nil), row.Bytes()...), row.Int()
		return k
	})
}

// AddSigningKey writes a new signing key. ErrDuplicate if its ID is taken.
func AddSigningKey(tx *store.Tx, k SigningKey) error {
	_, err := tx.Exec(insertSigningKey, k.KeyID, k.Seed, k.CreatedTS)
	return err
}

// ResealSigningKey replaces the sealed form of a signing key.
func ResealSigningKey(tx *store.Tx, keyID string, seed []byte) error {
	return tx.ExecOne(updateSigningKey, store.ErrNotFound, keyID, seed)
}
