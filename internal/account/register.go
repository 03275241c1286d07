package account

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"stoa/internal/email"
	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// Registration describes a new account.
type Registration struct {
	// Username is the requested localpart; capitals become lower case. If it is empty,
	// the server picks one.
	Username string
	// Password may be empty; then the account has none.
	Password string
	Admin    bool
	// Token is a registration token, of which this counts one use; empty = none.
	Token TokenHash
	// Email is a confirmed address of the account; zero = none.
	Email       email.Address
	ValidatedTS int64 // when it was confirmed
}

// Begun is an account that the commit of its change creates. The caller may add to the
// change: a device, tokens.
type Begun struct {
	UserID id.UserID
	Num    store.UserNum
	Change *store.Change
}

// UserID returns the user ID for a requested username; M_INVALID_USERNAME if it is
// invalid.
//
// Spec: appendices#user-identifiers
func (a *Accounts) UserID(username string) (id.UserID, error) {
	user, err := id.NewUserID(asciiLower(username), a.server)
	if err != nil {
		return user, mxerr.InvalidUsername("A username may only have a-z, 0-9, and the characters . _ = - / +, and with the server name at most %d bytes", id.MaxLength).Because(err)
	}
	return user, nil
}

// asciiLower converts only A-Z, so that no other character becomes a permitted one.
func asciiLower(s string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'A' && c <= 'Z' {
			return c + 'a' - 'A'
		}
		return c
	}, s)
}

// Available checks whether a username can be registered: M_INVALID_USERNAME or
// M_USER_IN_USE if not.
func (a *Accounts) Available(ctx context.Context, username string) error {
	user, err := a.UserID(username)
	if err != nil {
		return err
	}
	if user.Localpart() == ServerUser {
		return errInUse()
	}
	_, err = a.Account(ctx, user)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err == nil:
		return errInUse()
	}
	return err
}

func errInUse() error { return mxerr.UserInUse("Desired user ID is already taken") }

// Begin prepares an account. Complete commits it.
//
// Errors: M_INVALID_USERNAME, M_USER_IN_USE, M_INVALID_PARAM and M_WEAK_PASSWORD.
func (a *Accounts) Begin(ctx context.Context, reg Registration) (*Begun, error) {
	if reg.Username == "" {
		reg.Username = randomUsername()
	}
	if err := a.Available(ctx, reg.Username); err != nil {
		return nil, err
	}
	user, err := a.UserID(reg.Username)
	if err != nil {
		return nil, err
	}
	hash := ""
	if reg.Password != "" {
		if err := a.CheckNewPassword(reg.Password); err != nil {
			return nil, err
		}
		if hash, err = a.hasher.Hash(ctx, reg.Password); err != nil {
			return nil, err
		}
	}
	nums, err := a.store.InternUsers(ctx, func(string) bool { return true }, user.String())
	if err != nil {
		return nil, fmt.Errorf("number of %s: %w", user, err)
	}
	b := &Begun{UserID: user, Num: nums[0], Change: store.NewChange()}
	now := a.clock().UnixMilli()
	userdb.AddAccount(b.Change, b.Num, hash, reg.Admin, now)
	displayName := ""
	if a.nameNew {
		displayName = user.Localpart()
		name, err := json.Marshal(displayName)
		if err != nil {
			return nil, err
		}
		userdb.SetProfileField(b.Change, b.Num, FieldDisplayName, string(name))
	}
	userdb.SetWords(b.Change, b.Num, searchWords(user, displayName))
	if reg.Token != "" {
		userdb.UseRegistrationToken(b.Change, string(reg.Token), now)
	}
	if !reg.Email.IsZero() {
		userdb.AddThreepid(b.Change, userdb.Threepid{Medium: userdb.MediumEmail, Address: reg.Email.String(), User: b.Num, ValidatedTS: reg.ValidatedTS})
	}
	return b, nil
}

// Complete commits a registration.
//
// Errors: M_USER_IN_USE, M_THREEPID_IN_USE, M_FORBIDDEN (the registration token was used up
// in the meantime).
func (a *Accounts) Complete(ctx context.Context, b *Begun) error {
	_, err := a.store.Commit(ctx, b.Change)
	switch {
	case errors.Is(err, userdb.ErrUserInUse):
		return errInUse()
	case errors.Is(err, userdb.ErrThreepidInUse):
		return errThreepidInUse()
	case errors.Is(err, userdb.ErrTokenUsed):
		return mxerr.Forbidden("The registration token can't be used any more")
	case err != nil:
		return fmt.Errorf("register %s: %w", b.UserID, err)
	}
	a.drop(b.Num)
	return nil
}

// Register creates an account without a device, for commands and imports.
func (a *Accounts) Register(ctx context.Context, reg Registration) (id.UserID, error) {
	b, err := a.Begin(ctx, reg)
	if err != nil {
		return id.UserID{}, err
	}
	return b.UserID, a.Complete(ctx, b)
}

// randomUsername makes a localpart of 12 letters and digits, 60 bits.
func randomUsername() string {
	const letters = "abcdefghijkmnopqrstuvwxyz2345678"
	b := make([]byte, 12)
	rand.Read(b) // never fails
	for i := range b {
		b[i] = letters[b[i]%32]
	}
	return string(b)
}
