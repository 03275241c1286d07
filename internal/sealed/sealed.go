// Package sealed encrypts secrets that the store keeps, such as the signing key, with the secret of the settings.
//
// It owns their stored form, which begins with a format letter. It keeps nothing itself.
//
// The invariant: what was sealed for one purpose and name can't be opened for another.
package sealed

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
)

var (
	// ErrNoSecret says that a text is encrypted, and that there is no secret.
	ErrNoSecret = errors.New("sealed: the text is encrypted, and there is no secret")
	// ErrOtherSecret says that a text is encrypted with another secret.
	ErrOtherSecret = errors.New("sealed: the text is encrypted with another secret")
	// ErrForm says that this is no stored form of a text.
	ErrForm = errors.New("sealed: the text is in an unknown form")
)

// The format letters.
const (
	formatPlain  = 'p' // the text
	formatSealed = 's' // salt, nonce, AES-256-GCM of the text; its key by HKDF-SHA256
)

const saltBytes = 16

// Seal returns the stored form of a text. Without a secret it is not encrypted. purpose is a fixed text for each use of this
// package, name that of the row.
func Seal(secret, purpose, name string, text []byte) ([]byte, error) {
	if secret == "" {
		return append([]byte{formatPlain}, text...), nil
	}
	salt := make([]byte, saltBytes)
	rand.Read(salt) // never fails
	aead, err := cipherOf(secret, purpose, salt)
	if err != nil {
		return nil, err
	}
	return aead.Seal(append([]byte{formatSealed}, salt...), nil, text, []byte(name)), nil
}

// Open returns the text of a stored form.
//
// Errors: ErrNoSecret, ErrOtherSecret, ErrForm.
func Open(secret, purpose, name string, stored []byte) ([]byte, error) {
	switch {
	case IsPlain(stored):
		return stored[1:], nil
	case len(stored) <= 1+saltBytes || stored[0] != formatSealed:
		return nil, ErrForm
	case secret == "":
		return nil, ErrNoSecret
	}
	aead, err := cipherOf(secret, purpose, stored[1:1+saltBytes])
	if err != nil {
		return nil, err
	}
	text, err := aead.Open(nil, nil, stored[1+saltBytes:], []byte(name))
	if err != nil {
		return nil, ErrOtherSecret
	}
	return text, nil
}

// IsPlain reports whether a stored form is not encrypted.
func IsPlain(stored []byte) bool { return len(stored) > 1 && stored[0] == formatPlain }

// cipherOf derives the cipher of one text. The nonce is random and part of the sealed form.
func cipherOf(secret, purpose string, salt []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, []byte(secret), salt, purpose, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
