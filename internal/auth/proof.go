package auth

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"stoa/internal/account"
	"stoa/internal/email"
	"stoa/internal/httpkit"
	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/matrix/mxerr"
)

// Proof is what a completed interaction proved. It is good for one change, while the
// credentials of the user whom it proved stay what they are.
type Proof struct {
	// User is the account that the password stage proved; zero without one.
	User account.Account
	// RegistrationToken is the token of that stage; empty without one. It may
	// have been used up since.
	RegistrationToken account.TokenHash
	// Email is the address of the email stage; zero without one. ValidatedTS is when it
	// was confirmed.
	Email       email.Address
	ValidatedTS int64

	auth    *Auth
	session *uiaSession // nil: everything was in one request
	email   *confirmedEmail
	request []byte
}

// proof reads what the stages proved; account.ErrStale if the credentials that one
// of them was completed with are not those of today.
func (a *Auth) proof(ctx context.Context, s *uiaSession, in Interaction) (*Proof, error) {
	p := &Proof{auth: a}
	if s.id != "" {
		var err error
		if p.request, err = json.Marshal(in.Request); err != nil {
			return nil, fmt.Errorf("encode an authenticated request: %w", err)
		}
		p.session = s
	}
	for _, stage := range s.stages {
		switch stage.Name {
		case StagePassword:
			user, err := a.accounts.Named(ctx, stage.Result)
			if err != nil {
				return nil, fmt.Errorf("user of a completed stage: %w", err)
			}
			if user.Credentials != stage.Credentials || user.Deactivated {
				return nil, account.ErrStale
			}
			p.User = user
		case StageRegistrationToken:
			p.RegistrationToken = account.TokenHash(stage.Result)
		case StageEmail:
			confirmed, err := parseConfirmedEmail(stage.Result)
			if err != nil {
				return nil, err
			}
			p.email, p.Email, p.ValidatedTS = &confirmed, confirmed.address, confirmed.validatedTS
			if in.EmailFor != userdb.PurposePassword {
				continue
			}
			user, err := account.ByEmail(ctx, a.accounts, confirmed.address)
			if errors.Is(err, store.ErrNotFound) || err == nil && (user.Credentials != stage.Credentials || user.Deactivated) {
				return nil, account.ErrStale
			}
			if err != nil {
				return nil, fmt.Errorf("user of a completed stage: %w", err)
			}
			p.User = user
		}
	}
	return p, nil
}

// Spend uses a proof up in the commit of what it was for, so that it can't serve
// twice, and keeps the answer for the client that asks again. It is called in the
// snapshot of a change on the head of the proved user; if another request was faster
// the change fails with userdb.ErrTokenUsed.
//
// Errors: account.ErrStale, M_USER_DEACTIVATED, M_USER_LOCKED.
func (p *Proof) Spend(r *store.Read, c *store.Change, answer any) error {
	if p.User.Num != 0 {
		if err := account.CheckStanding(r, p.User); err != nil {
			return err
		}
	}
	if p.email != nil {
		if err := p.email.spend(r, c, p.User.Num); err != nil {
			return err
		}
	}
	return p.keep(c, answer)
}

// Keep is Spend for a proof that names no user.
func (p *Proof) Keep(c *store.Change, answer any) error {
	if p.email != nil {
		userdb.UseThreepidSession(c, p.email.sid)
	}
	return p.keep(c, answer)
}

// keep keeps the answer for the client that asks again.
func (p *Proof) keep(c *store.Change, answer any) error {
	if p.session == nil {
		return nil
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("encode the answer of an authenticated request: %w", err)
	}
	sealed := seal(p.session.id, p.session.operation, p.request, text)
	userdb.FinishUIASession(c, p.session.hash[:], sealed, p.auth.clock().UnixMilli())
	return nil
}

// Allow is Spend in the form that package account takes.
func (p *Proof) Allow(answer any) account.Allow {
	return func(r *store.Read, c *store.Change) error { return p.Spend(r, c, answer) }
}

// Spent gives the errors of a change that spends a proof as clients are told of them:
// M_FORBIDDEN if the proof was spent by another request, or ended before the commit.
func Spent(err error) error {
	if errors.Is(err, userdb.ErrTokenUsed) || errors.Is(err, account.ErrStale) {
		return mxerr.Forbidden("This authentication session has ended: begin again").Because(err)
	}
	return err
}

// Answered tells whether a session of interactive authentication has served the same
// request already, and decodes the answer that it had.
func (a *Auth) Answered(ctx context.Context, in Interaction, answer any) (bool, error) {
	if len(in.Auth) == 0 || string(in.Auth) == "null" {
		return false, nil
	}
	var try attempt
	if err := httpkit.DecodeJSON(in.Auth, &try); err != nil || try.Session == nil {
		return false, err
	}
	row, _, err := a.uiaSession(ctx, *try.Session)
	if errors.Is(err, store.ErrNotFound) || err == nil && len(row.Result) == 0 {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	request, err := json.Marshal(in.Request)
	if err != nil {
		return false, fmt.Errorf("encode an authenticated request: %w", err)
	}
	operation := digest(in.Operation)
	text, ok := unseal(*try.Session, operation, request, row.Result)
	if !ok || row.Operation != operation || in.user() != row.User {
		return false, nil // it served another one
	}
	return true, json.Unmarshal(text, answer)
}

// sealer encrypts by the secret of a session, which only the client has.
func sealer(session string) cipher.AEAD {
	key := sha256.Sum256([]byte("stoa: answer of an authenticated request\x00" + session))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key has the right length
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// sealFormat is the first byte of a sealed answer.
const sealFormat = 'a'

// seal encrypts an answer so that only who has the session and repeats the request
// can read it: it may hold tokens, of which the store keeps only hashes.
func seal(session, operation string, request, answer []byte) []byte {
	aead := sealer(session)
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce) // never fails
	return aead.Seal(append([]byte{sealFormat}, nonce...), nonce, answer, append([]byte(operation), request...))
}

func unseal(session, operation string, request, sealed []byte) ([]byte, bool) {
	aead := sealer(session)
	if len(sealed) < 1+aead.NonceSize() || sealed[0] != sealFormat {
		return nil, false
	}
	nonce := sealed[1 : 1+aead.NonceSize()]
	answer, err := aead.Open(nil, nonce, sealed[1+aead.NonceSize():], append([]byte(operation), request...))
	return answer, err == nil
}
