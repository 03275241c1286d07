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
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

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
			if secret != "" && row.Seed[0] == formatPlain {
				sealed, err := seal(row.KeyID, seed, secret)
				if err != nil {
					return err
				}
				if err := keydb.ResealSigningKey(tx, row.KeyID, sealed); err != nil {
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

// The format letters of a seed in the store.
const (
	formatPlain  = 'p' // the seed
	formatSealed = 's' // salt, nonce, AES-256-GCM of the seed; its key by HKDF-SHA256
)

const saltBytes = 16

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
	row.Seed, err = seal(row.KeyID, seed, secret)
	return row, err
}

func seal(keyID string, seed []byte, secret string) ([]byte, error) {
	if secret == "" {
		return append([]byte{formatPlain}, seed...), nil
	}
	salt := make([]byte, saltBytes)
	rand.Read(salt) // never fails
	aead, err := cipherOf(secret, salt)
	if err != nil {
		return nil, err
	}
	return aead.Seal(append([]byte{formatSealed}, salt...), nil, seed, []byte(keyID)), nil
}

func open(row keydb.SigningKey, secret string) ([]byte, error) {
	switch {
	case len(row.Seed) == 1+ed25519.SeedSize && row.Seed[0] == formatPlain:
		return row.Seed[1:], nil
	case len(row.Seed) > 1+saltBytes && row.Seed[0] == formatSealed:
		if secret == "" {
			return nil, errNoSecret
		}
		aead, err := cipherOf(secret, row.Seed[1:1+saltBytes])
		if err != nil {
			return nil, err
		}
		seed, err := aead.Open(nil, nil, row.Seed[1+saltBytes:], []byte(row.KeyID))
		if err != nil {
			return nil, errOtherSecret
		}
		return seed, nil
	}
	return nil, errors.New("the key is in a form that this version can't read")
}

// cipherOf derives the cipher of one key. The nonce is random and part of the sealed
// form.
func cipherOf(secret string, salt []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, []byte(secret), salt, "stoa signing key", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
