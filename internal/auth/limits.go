package auth

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"stoa/internal/httpkit"
	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/matrix/mxerr"
)

// The limits on guessing and on making accounts, exact over all instances. A
// whole institution may sit behind one address, so what counts an address alone
// is wide; what counts a user from one address is narrow, and what counts a
// user from everywhere is between, so that a stranger can't easily lock
// someone out.
const (
	loginEvery, loginBurst               = time.Second, 60            // attempts from one address
	loginUserEvery, loginUserBurst       = 20 * time.Second, 10       // on one user, from one address
	loginAnyEvery, loginAnyBurst         = 5 * time.Second, 50        // on one user, from anywhere
	registerEvery, registerBurst         = 30 * time.Second, 10       // accounts made from one address
	guessEvery, guessBurst               = 10 * time.Second, 10       // registration tokens tried from one address
	loginTokenEvery, loginTokenBurst     = time.Minute, 3             // login tokens made by one user
	sharedSecretEvery, sharedSecretBurst = 50 * time.Millisecond, 200 // from one address: scripts make many
)

func limit(name string, every time.Duration, burst int64) userdb.Limit {
	return userdb.Limit{Name: name, EveryMS: every.Milliseconds(), Burst: burst}
}

// fromAddress is a limit that counts where requests come from; none where that
// is not known (a proxy on a unix socket that does not tell).
func fromAddress(r *http.Request, what string, every time.Duration, burst int64) []userdb.Limit {
	a := httpkit.ClientAddress(r)
	if !a.IsValid() {
		return nil
	}
	return []userdb.Limit{limit(what+" "+httpkit.AddressKey(a), every, burst)}
}

// takePassword counts an attempt to prove to be a user by a password.
func (a *Auth) takePassword(r *http.Request, user string) error {
	list := fromAddress(r, "login", loginEvery, loginBurst)
	return a.take(r.Context(), append(list, userLimits(r, user)...))
}

// userLimits are those of the attempts on one user, or on a name that no user
// has: to tell them apart would tell who is there.
func userLimits(r *http.Request, user string) []userdb.Limit {
	list := fromAddress(r, "login "+user, loginUserEvery, loginUserBurst)
	return append(list, limit("login "+user, loginAnyEvery, loginAnyBurst))
}

// forgive fills the buckets of a user who proved to be who they are. Nobody
// waits for it: if it is lost they fill by themselves.
func (a *Auth) forgive(r *http.Request, user string) {
	if !a.limits {
		return
	}
	c := store.NewChange()
	for _, l := range userLimits(r, user) {
		userdb.ResetLimit(c, l.Name)
	}
	a.store.CommitAsync(c)
}

// take counts one request against limits, or answers M_LIMIT_EXCEEDED.
//
// Spec: client-server-api#rate-limiting
func (a *Auth) take(ctx context.Context, limits []userdb.Limit) error {
	if !a.limits || len(limits) == 0 {
		return nil
	}
	wait, err := userdb.TakeLimits(ctx, a.store, a.clock().UnixMilli(), limits...)
	if err != nil {
		return fmt.Errorf("count against limits: %w", err)
	}
	if wait > 0 {
		a.limited.Add(1)
		return mxerr.LimitExceeded(time.Duration(wait) * time.Millisecond)
	}
	return nil
}

// TakeRegistration counts an account that is about to be made from an address.
func (a *Auth) TakeRegistration(r *http.Request) error {
	return a.take(r.Context(), fromAddress(r, "register", registerEvery, registerBurst))
}

// TakeTokenGuess counts a registration token that is tried from an address.
func (a *Auth) TakeTokenGuess(r *http.Request) error {
	return a.take(r.Context(), fromAddress(r, "registration token", guessEvery, guessBurst))
}

// TakeSharedSecret counts an attempt to register by the shared secret.
func (a *Auth) TakeSharedSecret(r *http.Request) error {
	return a.take(r.Context(), fromAddress(r, "shared secret", sharedSecretEvery, sharedSecretBurst))
}
