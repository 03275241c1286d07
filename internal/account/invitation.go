package account

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// MaxRegistrationToken bounds a registration token, in bytes.
//
// Spec: client-server-api#token-authenticated-registration
const MaxRegistrationToken = 64

// registrationTokensListed bounds the list of registration tokens.
const registrationTokensListed = 1000

// RegistrationToken allows a number of registrations. The token itself is shown only
// once, when it is created; the store has only its hash.
type RegistrationToken struct {
	Name        string
	UsesAllowed int64 // 0 = any number
	Used        int64
	Created     time.Time
	Expires     time.Time // zero = never
}

// TokenHash is the SHA-256 of a registration token in hexadecimal, empty for none.
type TokenHash string

// HashRegistrationToken returns the hash of a token.
func HashRegistrationToken(token string) TokenHash {
	sum := sha256.Sum256([]byte(token))
	return TokenHash(hex.EncodeToString(sum[:]))
}

// CreateRegistrationToken creates a token with a name for listing and revoking it, and
// returns it. If token is "" it generates one.
func (a *Accounts) CreateRegistrationToken(ctx context.Context, t RegistrationToken, token string) (string, error) {
	if token == "" {
		var b [12]byte
		rand.Read(b[:]) // never fails
		token = base64.RawURLEncoding.EncodeToString(b[:])
	}
	if len(token) > MaxRegistrationToken || !id.IsOpaque(token) {
		return "", mxerr.InvalidParam("A registration token has 1 to %d of the characters A-Z, a-z, 0-9, - . _ ~", MaxRegistrationToken)
	}
	if t.Name == "" || len(t.Name) > 255 || strings.Contains(t.Name, "\x00") || t.UsesAllowed < 0 {
		return "", mxerr.InvalidParam("A registration token needs a name of at most 255 bytes, and no negative number of uses")
	}
	row := userdb.RegistrationToken{Hash: string(HashRegistrationToken(token)), Name: t.Name, UsesAllowed: t.UsesAllowed, CreatedTS: a.clock().UnixMilli()}
	if !t.Expires.IsZero() {
		row.ExpiresTS = t.Expires.UnixMilli()
	}
	err := a.store.Write(ctx, func(tx *store.Tx) error { return userdb.AddRegistrationToken(tx, row) })
	if errors.Is(err, store.ErrDuplicate) {
		return "", mxerr.InvalidParam("There is a registration token of this name, or the same token under another")
	}
	if err != nil {
		return "", fmt.Errorf("add registration token: %w", err)
	}
	return token, nil
}

// RegistrationTokens lists the tokens by name.
func (a *Accounts) RegistrationTokens(ctx context.Context) ([]RegistrationToken, error) {
	var out []RegistrationToken
	err := a.store.Read(ctx, func(r *store.Read) error {
		rows, err := userdb.RegistrationTokens(r, registrationTokensListed)
		for _, row := range rows {
			t := RegistrationToken{Name: row.Name, UsesAllowed: row.UsesAllowed, Used: row.Used, Created: time.UnixMilli(row.CreatedTS)}
			if row.ExpiresTS != 0 {
				t.Expires = time.UnixMilli(row.ExpiresTS)
			}
			out = append(out, t)
		}
		return err
	})
	return out, err
}

// RevokeRegistrationToken deletes a token by its name; store.ErrNotFound if
// there is none.
func (a *Accounts) RevokeRegistrationToken(ctx context.Context, name string) error {
	err := a.store.Write(ctx, func(tx *store.Tx) error { return userdb.RevokeRegistrationToken(tx, name) })
	if err != nil {
		return fmt.Errorf("revoke registration token: %w", err)
	}
	return nil
}

// RegistrationTokenValid reports whether a token could be used now.
//
// Spec: client-server-api#token-authenticated-registration
func (a *Accounts) RegistrationTokenValid(ctx context.Context, token string) (bool, error) {
	if len(token) > MaxRegistrationToken || !id.IsOpaque(token) {
		return false, nil
	}
	var t userdb.RegistrationToken
	err := a.store.Read(ctx, func(r *store.Read) (err error) {
		t, err = userdb.RegistrationTokenByHash(r, string(HashRegistrationToken(token)))
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	left := t.UsesAllowed == 0 || t.Used < t.UsesAllowed
	live := t.ExpiresTS == 0 || t.ExpiresTS > a.clock().UnixMilli()
	return err == nil && left && live, err
}
