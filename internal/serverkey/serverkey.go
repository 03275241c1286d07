// Package serverkey loads the server's signing key, and creates one if there is none.
//
// It owns the table of signing keys and the stored form of a key, which is sealed with
// STOA_SECRET_KEY if that is set. It never publishes keys and never signs.
//
// The invariant: a server never gets a second identity by accident. If a key exists but
// can't be opened, Load fails.
//
// Spec: server-server-api#publishing-keys
package serverkey

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"stoa/internal/sealed"
	"stoa/internal/store"
	"stoa/internal/store/keydb"
	"stoa/matrix/id"
	"stoa/matrix/signing"
)

// ErrSealed says that a key is sealed, and that its secret is missing or different.
var ErrSealed = errors.New("the signing key in the database is encrypted")

var (
	errNoSecret    = fmt.Errorf("%w and secret_key is not set; set STOA_SECRET_KEY to the one that it was encrypted with", ErrSealed)
	errOtherSecret = fmt.Errorf("%w with another secret_key; set STOA_SECRET_KEY to the one that it was encrypted with", ErrSealed)
)

// Load returns the server's signer: the oldest key in use, or a new one if there is none.
// secret seals keys in the store; if it is empty they are stored unencrypted. Load seals
// an unencrypted key once there is a secret.
func Load(ctx context.Context, s *store.Store, server id.ServerName, secret string, now time.Time) (*signing.Signer, error) {
	var signer *signing.Signer
	err := s.Write(ctx, func(tx *store.Tx) error {
		// Instances that start at the same time on an empty database create one key.
		if err := tx.Lock("signing_keys"); err != nil {
			return err
		}
		rows, err := keydb.SigningKeys(&tx.Read)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			row, err := generate(secret, now)
			if err != nil {
				return err
			}
			if err := keydb.AddSigningKey(tx, row); err != nil {
				return err
			}
			rows = append(rows, row)
		}
		for i, row := range rows {
			seed, err := open(row, secret)
			if err != nil {
				return fmt.Errorf("%s: %w", row.KeyID, err)
			}
			if secret != "" && sealed.IsPlain(row.Seed) {
				stored, err := sealed.Seal(secret, purpose, row.KeyID, seed)
				if err != nil {
					return err
				}
				if err := keydb.ResealSigningKey(tx, row.KeyID, stored); err != nil {
					return err
				}
			}
			if i > 0 {
				continue // the oldest signs
			}
			keyID, err := id.ParseKeyID(row.KeyID)
			if err != nil {
				return err
			}
			key, err := signing.NewKey(keyID, seed)
			if err != nil {
				return err
			}
			signer = signing.NewSigner(server, key)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("load signing key: %w", err)
	}
	return signer, nil
}

// purpose is that of package sealed. It is part of what is in the store.
const purpose = "stoa signing key"

// generate creates a key with an ID of 6 random letters and digits.
func generate(secret string, now time.Time) (keydb.SigningKey, error) {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_" // 63: a byte modulo 63 is even enough for a name
	var b [6]byte
	rand.Read(b[:]) // never fails
	for i := range b {
		b[i] = letters[int(b[i])%len(letters)]
	}
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed)
	row := keydb.SigningKey{KeyID: "ed25519:" + string(b[:]), CreatedTS: now.UnixMilli()}
	var err error
	row.Seed, err = sealed.Seal(secret, purpose, row.KeyID, seed)
	return row, err
}

func open(row keydb.SigningKey, secret string) ([]byte, error) {
	seed, err := sealed.Open(secret, purpose, row.KeyID, row.Seed)
	switch {
	case errors.Is(err, sealed.ErrNoSecret):
		return nil, errNoSecret
	case errors.Is(err, sealed.ErrOtherSecret):
		return nil, errOtherSecret
	case errors.Is(err, sealed.ErrForm), err == nil && len(seed) != ed25519.SeedSize:
		return nil, errors.New("the key is in a form that this version can't read")
	}
	return seed, err
}
