package store

// Table signing_keys. Written by package serverkey.

// SigningKey is one of the server's signing keys.
type SigningKey struct {
	KeyID     string
	Seed      []byte // as package serverkey sealed it
	CreatedTS int64  // ms since 1970
}

var (
	selectSigningKeys = Prepare(`SELECT key_id, seed, created_ts FROM signing_keys WHERE retired_ts IS NULL ORDER BY created_ts, key_id LIMIT 16`)
	insertSigningKey  = Prepare(`INSERT INTO signing_keys (key_id, seed, created_ts) VALUES ($1, $2, $3)`)
	updateSigningKey  = Prepare(`UPDATE signing_keys SET seed = $2 WHERE key_id = $1`)
)

// SigningKeys returns the signing keys in use, the oldest first.
func (r *Read) SigningKeys() ([]SigningKey, error) {
	return Query(r, selectSigningKeys, func(row *Row) (k SigningKey) {
		k.KeyID, k.Seed, k.CreatedTS = row.Text(), append([]byte(nil), row.Bytes()...), row.Int()
		return k
	})
}

// AddSigningKey writes a new signing key. ErrDuplicate if its ID is taken.
func (tx *Tx) AddSigningKey(k SigningKey) error {
	_, err := tx.Exec(insertSigningKey, k.KeyID, k.Seed, k.CreatedTS)
	return err
}

// ResealSigningKey replaces the sealed form of a signing key.
func (tx *Tx) ResealSigningKey(keyID string, seed []byte) error {
	return tx.ExecOne(updateSigningKey, ErrNotFound, keyID, seed)
}
