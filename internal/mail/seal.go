package mail

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
)

// The first byte of a mail in the outbox.
const (
	formatPlain  = 'p' // JSON
	formatSealed = 's' // salt, nonce, AES-256-GCM of JSON; its key by HKDF-SHA256
)

const saltBytes = 16

// seal encodes a mail for the outbox. Links in mails are secrets, so it is encrypted if
// there is a key.
func (m *Mailer) seal(key string, l letter) ([]byte, error) {
	text, err := json.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("encode a mail: %w", err)
	}
	if m.opt.SecretKey == "" {
		return append([]byte{formatPlain}, text...), nil
	}
	salt := make([]byte, saltBytes)
	rand.Read(salt) // never fails
	aead, err := m.cipherOf(salt)
	if err != nil {
		return nil, err
	}
	return aead.Seal(append([]byte{formatSealed}, salt...), nil, text, []byte(key)), nil
}

func (m *Mailer) open(key string, payload []byte) (l letter, err error) {
	switch {
	case len(payload) > 1 && payload[0] == formatPlain:
		return l, json.Unmarshal(payload[1:], &l)
	case len(payload) > 1+saltBytes && payload[0] == formatSealed:
		aead, err := m.cipherOf(payload[1 : 1+saltBytes])
		if err != nil {
			return l, err
		}
		text, err := aead.Open(nil, nil, payload[1+saltBytes:], []byte(key))
		if err != nil {
			return l, errors.New("a mail in the outbox is encrypted with another secret_key")
		}
		return l, json.Unmarshal(text, &l)
	}
	return l, errors.New("a mail in the outbox is in a form that this version can't read")
}

// cipherOf derives the cipher of one mail. The nonce is random and part of the sealed form.
func (m *Mailer) cipherOf(salt []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, []byte(m.opt.SecretKey), salt, "stoa mail", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
