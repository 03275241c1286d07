package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"stoa/internal/account"
	"stoa/internal/email"
	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/matrix/mxerr"
)

// threepidCredentials name a session in which an address was confirmed. The identity
// server that clients may name beside it is ignored.
type threepidCredentials struct {
	SID          *string `json:"sid"`
	ClientSecret *string `json:"client_secret"`
}

// confirmedEmail is what the email stage proved: a session in which an address was
// confirmed. It is used up in the commit of what it allows.
type confirmedEmail struct {
	sid         string
	address     email.Address
	validatedTS int64
}

// String is the form in which a completed stage keeps it.
func (c confirmedEmail) String() string {
	return c.sid + " " + strconv.FormatInt(c.validatedTS, 10) + " " + c.address.String()
}

func parseConfirmedEmail(text string) (c confirmedEmail, err error) {
	parts := strings.SplitN(text, " ", 3)
	if len(parts) != 3 {
		return c, errors.New("a completed email stage is in a form that this version can't read")
	}
	c.sid = parts[0]
	if c.validatedTS, err = strconv.ParseInt(parts[1], 10, 64); err != nil {
		return c, fmt.Errorf("a completed email stage: %w", err)
	}
	c.address, err = email.Parse(parts[2])
	return c, err
}

// tryEmail checks that an address was confirmed, for what the interaction wants. For a new
// password it also gives the account that has the address.
func tryEmail(ctx context.Context, a *Auth, in Interaction, try attempt) (c confirmedEmail, user account.Account, err error) {
	creds := try.ThreepidCreds
	if creds == nil {
		creds = try.OldThreepidCreds
	}
	if creds == nil || creds.SID == nil || creds.ClientSecret == nil {
		return c, user, mxerr.MissingParam("threepid_creds with sid and client_secret is missing")
	}
	var s userdb.ThreepidSession
	err = a.store.Read(ctx, func(r *store.Read) (err error) {
		s, err = userdb.ThreepidSessionByID(r, *creds.SID)
		return err
	})
	secret := sha256.Sum256([]byte(*creds.ClientSecret))
	failed := func(text string) error { return &stageFailure{mxerr.ThreepidAuthFailed("%s", text)} }
	switch {
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return c, user, fmt.Errorf("read the session of an address: %w", err)
	case err != nil, s.Purpose != in.EmailFor, subtle.ConstantTimeCompare(s.Secret, secret[:]) != 1:
		return c, user, failed("There is no such session, or it has expired")
	case s.ValidatedTS == 0:
		return c, user, failed("The address is not confirmed yet: open the link in the mail")
	}
	c = confirmedEmail{sid: s.SID, validatedTS: s.ValidatedTS}
	if c.address, err = email.Parse(s.Address); err != nil {
		return c, user, err
	}
	if in.EmailFor != userdb.PurposePassword {
		return c, user, nil
	}
	user, err = account.ByEmail(ctx, a.accounts, c.address)
	if errors.Is(err, store.ErrNotFound) {
		err = failed("No account has this address any more")
	}
	return c, user, err
}

// spend uses the session of an address up. If the address proved whose account it is, the
// account must still have it.
func (c confirmedEmail) spend(r *store.Read, change *store.Change, user store.UserNum) error {
	if user != 0 {
		owned, err := userdb.ThreepidOf(r, userdb.MediumEmail, c.address.String())
		if errors.Is(err, store.ErrNotFound) || err == nil && owned.User != user {
			return account.ErrStale
		}
		if err != nil {
			return err
		}
	}
	userdb.UseThreepidSession(change, c.sid)
	return nil
}

// TakeMail counts a mail that somebody asks for, by the address of the client and that of
// the recipient.
func (a *Auth) TakeMail(r *http.Request, to email.Address) error {
	return a.take(r.Context(), append(limitMail.from(r, ""), limitMailTo.of(digest(to.String()))))
}
