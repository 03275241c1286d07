// Package threepid confirms that email addresses belong to the people who give them.
//
// It owns the sessions in which an address is confirmed: what the mail holds, how long it
// is good, and where people go afterwards. It grants nothing: packages account and auth
// use a confirmed session up in the commit of what it allows. It sends nothing itself; the
// mail is enqueued in the commit that begins the session.
//
// The invariant that matters: nobody learns from an answer, or from the time that it takes,
// whether an address belongs to an account. Who asks for an address that can't be used
// gets a session that can't be confirmed, and the address a mail that says so.
package threepid

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"stoa/internal/account"
	"stoa/internal/email"
	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

const (
	// lifetime is how long a link is good, and passwordLifetime that of a link for a new
	// password.
	lifetime         = 24 * time.Hour
	passwordLifetime = time.Hour
	// keep is how long a session is kept at least once it is confirmed.
	keep = time.Hour
	// maxNextLink bounds the link on which people go on, in bytes.
	maxNextLink = 1024
	// maxSecret bounds what clients call their secret (the specification's bound).
	maxSecret = 255
)

// The names of the mails.
const (
	textAdd      = "add"
	textRegister = "register"
	textPassword = "password"
	textUnknown  = "unknown"
	textInUse    = "in_use"
)

// ConfirmPath is the path of the page that the link in a mail opens.
const ConfirmPath = "/_stoa/mail/confirm"

// Mailer sends mails. Package mail implements it.
type Mailer interface {
	Enabled() bool
	Enqueue(c *store.Change, to email.Address, text, language string, values map[string]string, lifetime time.Duration) error
	// Works notes in a change that mails to an address arrive.
	Works(c *store.Change, address email.Address)
}

// Options configure Threepids.
type Options struct {
	Store    *store.Store
	Accounts *account.Accounts
	Mail     Mailer
	// PublicURL is the address of the server, without a slash at its end.
	PublicURL string
	// NextLinkHosts are those to which people may be sent on.
	NextLinkHosts []string
}

// Threepids confirms addresses. Its methods may be called concurrently.
type Threepids struct{ opt Options }

// New returns Threepids.
func New(opt Options) *Threepids { return &Threepids{opt} }

// Enabled reports whether addresses can be confirmed: mail can be sent.
func (t *Threepids) Enabled() bool { return t.opt.Mail.Enabled() }

// Request asks for a mail that confirms an address.
type Request struct {
	Purpose userdb.Purpose
	Address email.Address
	// Secret is that of the client, with which it uses the session later.
	Secret string
	// SendAttempt is greater than that of the request before if the client wants another
	// mail.
	SendAttempt int64
	// NextLink is where the person goes afterwards; empty = nowhere.
	NextLink string
	// Language is that of the mail.
	Language string
	// User is who adds the address; 0 for other purposes.
	User   store.UserNum
	UserID id.UserID
}

// hashOf is the hash of a secret or token.
func hashOf(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

// sid names the session of a request: the same for each of its attempts.
func (r Request) sid() string {
	text := strings.Join([]string{"stoa session", strconv.Itoa(int(r.Purpose)), strconv.FormatInt(int64(r.User), 10), r.Address.String(), r.Secret}, "\x00")
	return base64.RawURLEncoding.EncodeToString(hashOf(text))[:32]
}

func (r Request) lifetime() time.Duration {
	if r.Purpose == userdb.PurposePassword {
		return passwordLifetime
	}
	return lifetime
}

// CheckSecret refuses a client secret of a wrong form.
func CheckSecret(secret string) error {
	const allowed = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.=_-"
	if secret == "" || len(secret) > maxSecret || strings.Trim(secret, allowed) != "" {
		return mxerr.InvalidParam("client_secret must have 1 to %d of the characters 0-9, a-z, A-Z, . = _ -", maxSecret)
	}
	return nil
}

// checkNextLink refuses a link to a host that is not allowed.
func (t *Threepids) checkNextLink(link string) error {
	if link == "" {
		return nil
	}
	u, err := url.Parse(link)
	if err != nil || len(link) > maxNextLink || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || strings.ContainsFunc(link, func(r rune) bool { return r <= ' ' || r == 0x7f }) ||
		!slices.Contains(t.opt.NextLinkHosts, strings.ToLower(u.Host)) {
		return mxerr.InvalidParam("This server does not send people to this next_link: its administrators must allow the host")
	}
	return nil
}

// Begin begins a session, or takes part in one with the same address and secret, and sends
// the mail unless that attempt had one. It returns the session's ID.
//
// Errors: M_INVALID_PARAM; M_THREEPID_IN_USE if the address is the caller's own already.
//
// Spec: client-server-api#adding-account-administrative-contact-information
func (t *Threepids) Begin(ctx context.Context, r Request) (sid string, err error) {
	if err := CheckSecret(r.Secret); err != nil {
		return "", err
	}
	if err := t.checkNextLink(r.NextLink); err != nil {
		return "", err
	}
	owner, ownerID, err := t.owner(ctx, r.Address)
	if err != nil {
		return "", err
	}
	if r.Purpose == userdb.PurposeAdd && owner == r.User {
		return "", mxerr.ThreepidInUse("Your account has this address already")
	}
	session := userdb.ThreepidSession{
		SID: r.sid(), Purpose: r.Purpose, Address: r.Address.String(), User: r.User, Secret: hashOf(r.Secret), SendAttempt: r.SendAttempt, NextLink: r.NextLink,
	}
	token := rand.Text()
	values := map[string]string{"User": r.UserID.String(), "Link": t.opt.PublicURL + ConfirmPath + "?" + url.Values{"sid": {session.SID}, "token": {token}}.Encode()}
	if owner != 0 {
		values["User"] = ownerID
	}
	text := textFor(r.Purpose, owner != 0)
	if text != textInUse && text != textUnknown {
		session.Token = hashOf(token)
	}
	c := store.NewChange()
	userdb.BeginThreepidSession(c, session, r.lifetime().Milliseconds())
	if err := t.opt.Mail.Enqueue(c, r.Address, text, r.Language, values, r.lifetime()); err != nil {
		return "", fmt.Errorf("enqueue a mail: %w", err)
	}
	if _, err := t.opt.Store.Commit(ctx, c); err != nil && !errors.Is(err, userdb.ErrAlreadySent) {
		return "", fmt.Errorf("begin to confirm an address: %w", err)
	}
	return session.SID, nil
}

// textFor is the mail for an address that has, or has not, an account.
func textFor(p userdb.Purpose, owned bool) string {
	switch {
	case p == userdb.PurposePassword && owned:
		return textPassword
	case p == userdb.PurposePassword:
		return textUnknown
	case owned:
		return textInUse
	case p == userdb.PurposeRegister:
		return textRegister
	}
	return textAdd
}

// owner is the account that has an address; 0 = none.
func (t *Threepids) owner(ctx context.Context, address email.Address) (owner store.UserNum, userID string, err error) {
	found, err := account.ByEmail(ctx, t.opt.Accounts, address)
	if errors.Is(err, store.ErrNotFound) {
		return 0, "", nil
	}
	return found.Num, found.UserID.String(), err
}

// Pending is an address that somebody may confirm.
type Pending struct {
	Purpose userdb.Purpose
	Address string
	// User is whose account it concerns; zero for a new account.
	User id.UserID
	Done bool
	// NextLink is where the person goes afterwards; empty = nowhere.
	NextLink string
}

func errBadLink() error {
	return mxerr.NotFound("This link is not valid any more. Ask for another mail in your app")
}

// Pending returns what a link would confirm; M_NOT_FOUND if it confirms nothing.
func (t *Threepids) Pending(ctx context.Context, sid, token string) (p Pending, err error) {
	var s userdb.ThreepidSession
	err = t.opt.Store.Read(ctx, func(r *store.Read) (err error) {
		s, err = userdb.ThreepidSessionByID(r, sid)
		return err
	})
	if errors.Is(err, store.ErrNotFound) || err == nil && (len(s.Token) == 0 || string(s.Token) != string(hashOf(token))) {
		return p, errBadLink()
	}
	if err != nil {
		return p, fmt.Errorf("read a session: %w", err)
	}
	p = Pending{Purpose: s.Purpose, Address: s.Address, Done: s.ValidatedTS != 0, NextLink: s.NextLink}
	if t.checkNextLink(p.NextLink) != nil { // the setting has changed
		p.NextLink = ""
	}
	switch s.Purpose {
	case userdb.PurposeAdd:
		found, err := t.opt.Accounts.AccountByNum(ctx, s.User)
		if err != nil {
			return p, err
		}
		p.User = found.UserID
	case userdb.PurposePassword:
		address, err := email.Parse(s.Address)
		if err != nil {
			return p, err
		}
		found, err := account.ByEmail(ctx, t.opt.Accounts, address)
		if errors.Is(err, store.ErrNotFound) {
			return p, errBadLink() // it was taken from the account meanwhile
		}
		if err != nil {
			return p, err
		}
		p.User = found.UserID
	}
	return p, nil
}

// Confirm notes that the person with the link has confirmed. It may be called again.
//
// Errors: M_NOT_FOUND.
func (t *Threepids) Confirm(ctx context.Context, sid, token string) (Pending, error) {
	p, err := t.Pending(ctx, sid, token)
	if err != nil || p.Done {
		return p, err
	}
	address, err := email.Parse(p.Address)
	if err != nil {
		return p, err
	}
	c := store.NewChange()
	userdb.ConfirmThreepidSession(c, sid, hashOf(token), keep.Milliseconds())
	t.opt.Mail.Works(c, address)
	_, err = t.opt.Store.Commit(ctx, c)
	if errors.Is(err, userdb.ErrNotConfirmed) { // a later mail has another link
		return p, errBadLink()
	}
	if err != nil {
		return p, fmt.Errorf("confirm an address: %w", err)
	}
	p.Done = true
	return p, nil
}

// Add gives the caller's account the address of a confirmed session. allow is asked in the
// snapshot of the change.
//
// Errors: M_THREEPID_AUTH_FAILED, M_THREEPID_IN_USE; account.ErrStale and what else allow
// returns.
//
// Spec: client-server-api#adding-account-administrative-contact-information
func (t *Threepids) Add(ctx context.Context, user store.UserNum, sid, secret string, allow account.Allow) error {
	s, err := t.confirmed(ctx, user, sid, secret)
	if err != nil {
		return err
	}
	address, err := email.Parse(s.Address)
	if err != nil {
		return err
	}
	err = account.AddEmail(ctx, t.opt.Accounts, user, address, s.ValidatedTS, func(r *store.Read, c *store.Change) error {
		if allow != nil {
			if err := allow(r, c); err != nil {
				return err
			}
		}
		if _, err := t.still(r, s); err != nil {
			return err
		}
		userdb.UseThreepidSession(c, sid)
		return nil
	})
	return err
}

// confirmed returns a session of a user that was confirmed, for the client that began it.
func (t *Threepids) confirmed(ctx context.Context, user store.UserNum, sid, secret string) (s userdb.ThreepidSession, err error) {
	err = t.opt.Store.Read(ctx, func(r *store.Read) (err error) {
		s, err = userdb.ThreepidSessionByID(r, sid)
		return err
	})
	switch {
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return s, fmt.Errorf("read a session: %w", err)
	case err != nil, s.Purpose != userdb.PurposeAdd, s.User != user, string(s.Secret) != string(hashOf(secret)):
		return s, mxerr.ThreepidAuthFailed("There is no such session, or it has expired")
	case s.ValidatedTS == 0:
		return s, mxerr.ThreepidAuthFailed("The address is not confirmed yet: open the link in the mail")
	}
	return s, nil
}

// still checks in a snapshot that a session is as it was.
func (t *Threepids) still(r *store.Read, then userdb.ThreepidSession) (userdb.ThreepidSession, error) {
	now, err := userdb.ThreepidSessionByID(r, then.SID)
	if errors.Is(err, store.ErrNotFound) || err == nil && now.ValidatedTS != then.ValidatedTS {
		return now, mxerr.ThreepidAuthFailed("There is no such session, or it has expired")
	}
	return now, err
}

// Expire deletes expired sessions.
func (t *Threepids) Expire(ctx context.Context) error {
	return t.opt.Store.Write(ctx, userdb.ExpireThreepidSessions)
}
