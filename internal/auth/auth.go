package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"stoa/internal/account"
	"stoa/internal/httpkit"
	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// Options are what Auth needs.
type Options struct {
	Store    *store.Store
	Accounts *account.Accounts
	Sessions *Sessions
	// Clock is time.Now if nil.
	Clock func() time.Time
	// Log is where nothing secret goes; nil = nowhere.
	Log *slog.Logger
	// RateLimits turns the limits on guessing on.
	RateLimits bool
	// OnlyReport counts the requests above the limits, and refuses none.
	OnlyReport bool
	// TokenLifetime is that of access tokens of clients that can refresh them;
	// 0 = one hour. Tokens of other clients don't expire.
	TokenLifetime time.Duration
}

// Auth answers who is calling. All its methods may be called at the same time.
type Auth struct {
	store    *store.Store
	accounts *account.Accounts
	sessions *Sessions
	clock    func() time.Time
	log      *slog.Logger
	limits   bool
	report   bool
	lifetime time.Duration

	lookups, limited atomic.Uint64 // see Collect
}

const defaultLifetime = time.Hour

// New makes an Auth.
func New(opt Options) *Auth {
	a := &Auth{
		store: opt.Store, accounts: opt.Accounts, sessions: opt.Sessions, clock: opt.Clock, log: opt.Log,
		limits: opt.RateLimits, report: opt.OnlyReport, lifetime: opt.TokenLifetime,
	}
	if a.clock == nil {
		a.clock = time.Now
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.lifetime == 0 {
		a.lifetime = defaultLifetime
	}
	return a
}

// Caller tells who makes a request, by its access token.
//
// Errors: M_MISSING_TOKEN, M_UNKNOWN_TOKEN (with soft_logout if the token has
// expired, so that the client keeps its device), M_USER_LOCKED.
//
// Spec: client-server-api#using-access-tokens
func (a *Auth) Caller(r *http.Request) (who.Caller, error) {
	s, err := a.session(r)
	if err != nil {
		return who.Caller{}, err
	}
	if s.locked {
		return who.Caller{}, mxerr.UserLocked("This account has been locked")
	}
	return s.Caller, nil
}

// CallerEvenLocked is Caller for the endpoints that locked accounts may use:
// those that log out.
//
// Spec: client-server-api#account-locking
func (a *Auth) CallerEvenLocked(r *http.Request) (who.Caller, error) {
	s, err := a.session(r)
	if err != nil {
		return who.Caller{}, err
	}
	return s.Caller, nil
}

// Name gives the user ID of whoever makes a request, by its access token. It also gives that of a locked account, which
// [Auth.Caller] refuses.
func (a *Auth) Name(r *http.Request) (string, error) {
	s, err := a.session(r)
	if err != nil {
		return "", err
	}
	return s.UserID.String(), nil
}

// HasToken says whether a request brings an access token, be it valid or not.
func HasToken(r *http.Request) bool { return httpkit.BearerToken(r) != "" }

func (a *Auth) session(r *http.Request) (*session, error) {
	token := httpkit.BearerToken(r)
	if token == "" {
		return nil, mxerr.MissingToken()
	}
	if len(token) > maxTokenBytes {
		return nil, mxerr.UnknownToken(false)
	}
	hash := HashOf(token)
	now := a.clock().UnixMilli()
	s := a.sessions.find(hash)
	if s == nil {
		var err error
		if s, err = a.load(r.Context(), hash, now); err != nil {
			return nil, err
		}
	}
	if s.expires != 0 && s.expires <= now {
		return nil, mxerr.UnknownToken(true)
	}
	if seen := s.seen.Load(); now-seen >= seenEvery.Milliseconds() && s.seen.CompareAndSwap(seen, now) {
		a.noteSeen(s, r, now)
	}
	return s, nil
}

// load looks an access token up in the store. Its first use revokes the tokens
// of the refresh before.
func (a *Auth) load(ctx context.Context, hash Hash, now int64) (*session, error) {
	a.lookups.Add(1)
	generation := a.sessions.begin()
	var row userdb.Session
	err := a.store.ReadCommitted(ctx, func(r *store.Read) (err error) {
		row, err = userdb.AccessToken(r, hash[:])
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, mxerr.UnknownToken(false)
	}
	if err != nil {
		return nil, fmt.Errorf("look up access token: %w", err)
	}
	if row.Generation < row.Confirmed {
		return nil, mxerr.UnknownToken(true)
	}
	userID, err := id.ParseUserID(row.UserID)
	if err != nil {
		return nil, fmt.Errorf("user of access token: %w", err)
	}
	if row.Generation > row.Confirmed && (row.ExpiresTS == 0 || row.ExpiresTS > now) {
		if err := a.confirm(ctx, row, hash); err != nil {
			return nil, err
		}
		return a.load(ctx, hash, now) // what was read is from before the change
	}
	s := &session{
		Caller: who.Caller{
			Device: who.Device{User: who.User{UserID: userID, UserNum: row.User}, DeviceID: id.DeviceID(row.DeviceID)},
			Admin:  row.Admin, Suspended: row.Suspended,
		},
		expires: row.ExpiresTS,
		locked:  row.Locked,
	}
	s.seen.Store(row.SeenTS)
	a.store.NoteUser(row.UserID, row.User) // who sends is looked up next
	a.sessions.add(generation, hash, s)
	return s, nil
}

// confirm revokes the tokens that a refresh replaced, now that one of the new
// ones is used.
func (a *Auth) confirm(ctx context.Context, row userdb.Session, hash Hash) error {
	err := a.accounts.Change(ctx, row.User, func(r *store.Read, c *store.Change) error {
		now, err := userdb.AccessToken(r, hash[:])
		if errors.Is(err, store.ErrNotFound) || err == nil && now.Generation <= now.Confirmed {
			return nil // the session has ended, or somebody else was faster
		}
		if err == nil {
			userdb.ConfirmGeneration(c, now.User, now.DeviceID, now.Generation)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("revoke refreshed tokens: %w", err)
	}
	a.sessions.Drop(row.User)
	return nil
}

// seenEvery is how old a device's time of last use may get.
const seenEvery = time.Hour

// noteSeen writes when and from where a device was used, without waiting for
// it: if it is lost, the next start of the server notes it again.
func (a *Auth) noteSeen(s *session, r *http.Request, now int64) {
	c := store.NewChange()
	c.LowPriority = true
	userdb.SawDevice(c, s.UserNum, s.DeviceID.String(), now, address(r))
	a.store.CommitAsync(c)
}

// address is where a request comes from, as text; empty if unknown.
func address(r *http.Request) string {
	if a := httpkit.ClientAddress(r); a.IsValid() {
		return a.String()
	}
	return ""
}
