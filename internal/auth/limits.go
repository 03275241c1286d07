package auth

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"stoa/internal/httpkit"
	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/matrix/mxerr"
)

// rateLimit is a row of the table of limits on guessing and on creating accounts, which
// are exact over all instances. A test compares the table with docs/operations.md.
type rateLimit struct {
	name   string // in the database
	what   string
	per    string // what it is counted for
	every  time.Duration
	burst  int64
	reason string
}

// A whole institution may sit behind one address, so the limits of an address are wide.
// Those of a user from one address are narrow, and those of a user from everywhere are
// between, so that a stranger can't easily lock anyone out.
var (
	limitLogin = rateLimit{"login", "password attempts", "address", time.Second, 200,
		"a lecture hall logs in at once"}
	limitLoginUser = rateLimit{"login", "password attempts on one user", "user and address", 20 * time.Second, 10,
		"somebody who tries their old passwords"}
	limitLoginNet = rateLimit{"login", "password attempts on one user", "user and network (IPv4 /24, IPv6 /48)", 10 * time.Second, 20,
		"somebody with several machines; more addresses in the same network don't help an attacker"}
	limitLoginAny = rateLimit{"login", "password attempts on one user", "user, except at addresses of their devices", 5 * time.Second, 50,
		"attackers elsewhere can't lock the user out at an address where one of their devices was last seen"}
	limitRegister = rateLimit{"register", "accounts created", "address", 30 * time.Second, 60,
		"a lecture hall of 30, twice"}
	limitRegisterNet = rateLimit{"register", "accounts created", "network (IPv4 /24, IPv6 /48)", 10 * time.Second, 200,
		"several halls of a campus; more addresses in the same network don't help an attacker"}
	limitToken = rateLimit{"registration token", "registration tokens tried", "address", 10 * time.Second, 100,
		"two for each registration of a lecture hall"}
	limitSecret = rateLimit{"shared secret", "accounts created with the shared secret", "address", 50 * time.Millisecond, 200,
		"scripts create many accounts"}
	limitLoginToken = rateLimit{"login token", "login tokens created", "user", time.Minute, 3,
		"one for each new device"}
	limitOpenID = rateLimit{"openid token", "OpenID tokens created", "user", 5 * time.Second, 100,
		"one for each call and widget"}
	limitMail = rateLimit{"mail", "mails asked for", "address", time.Minute, 60,
		"a lecture hall of 30 registers by mail, twice"}
	limitMailTo = rateLimit{"mail to", "mails asked for", "recipient", 10 * time.Minute, 5,
		"somebody who does not find the first mails"}

	rateLimits = []rateLimit{limitMail, limitMailTo, limitLogin, limitLoginUser, limitLoginNet, limitLoginAny, limitRegister, limitRegisterNet, limitToken, limitSecret, limitLoginToken, limitOpenID}
)

// of is the bucket of a key.
func (l rateLimit) of(key string) userdb.Limit {
	return userdb.Limit{Name: l.name + " " + key, EveryMS: l.every.Milliseconds(), Burst: l.burst}
}

// from is the bucket of the client's address, with a prefix; none if the address is not
// known (a proxy on a Unix socket that does not forward it).
func (l rateLimit) from(r *http.Request, prefix string) []userdb.Limit {
	a := httpkit.ClientAddress(r)
	if !a.IsValid() {
		return nil
	}
	return []userdb.Limit{l.of(prefix + httpkit.AddressKey(a))}
}

// takePassword counts an attempt to prove to be a user by a password. familiar says that
// the request comes from where a device of the user was last seen: guesses from elsewhere
// don't lock the user out there.
func (a *Auth) takePassword(r *http.Request, user string, familiar bool) error {
	list := append(limitLogin.from(r, ""), limitLoginUser.from(r, user+" ")...)
	if !familiar {
		list = append(list, strangerLimits(r, user)...)
	}
	return a.take(r.Context(), list)
}

// strangerLimits are those of the attempts on one user from unfamiliar addresses, or on a
// name that no user has: to tell them apart would tell who is there.
func strangerLimits(r *http.Request, user string) []userdb.Limit {
	list := []userdb.Limit{limitLoginAny.of(user)}
	if from := httpkit.ClientAddress(r); from.IsValid() {
		list = append(list, limitLoginNet.of(user+" from "+httpkit.NetworkKey(from)))
	}
	return list
}

// devicesAsked is as many devices as a user may have.
const devicesAsked = 1000

// isFamiliar reports whether a request comes from the address at which a device of the
// user was last seen.
func (a *Auth) isFamiliar(r *http.Request, user store.UserNum) (familiar bool, err error) {
	from := httpkit.ClientAddress(r)
	if !a.limits || !from.IsValid() {
		return false, nil
	}
	err = a.store.Read(r.Context(), func(read *store.Read) error {
		devices, err := userdb.Devices(read, user, devicesAsked)
		for _, d := range devices {
			seen, err := netip.ParseAddr(d.SeenIP)
			familiar = familiar || err == nil && httpkit.AddressKey(seen) == httpkit.AddressKey(from)
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("read the addresses of devices: %w", err)
	}
	return familiar, nil
}

// forgive fills the buckets of a user who proved to be who they are. Nobody
// waits for it: if it is lost they fill by themselves.
func (a *Auth) forgive(r *http.Request, user string) {
	if !a.limits {
		return
	}
	c := store.NewChange()
	for _, l := range append(strangerLimits(r, user), limitLoginUser.from(r, user+" ")...) {
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
		if a.report {
			return nil
		}
		return mxerr.LimitExceeded(time.Duration(wait) * time.Millisecond)
	}
	return nil
}

// TakeRegistration counts an account that is about to be created from an address and
// its network.
func (a *Auth) TakeRegistration(r *http.Request) error {
	list := limitRegister.from(r, "")
	if from := httpkit.ClientAddress(r); from.IsValid() {
		list = append(list, limitRegisterNet.of(httpkit.NetworkKey(from)))
	}
	return a.take(r.Context(), list)
}

// TakeTokenGuess counts a registration token that is tried from an address.
func (a *Auth) TakeTokenGuess(r *http.Request) error {
	return a.take(r.Context(), limitToken.from(r, ""))
}

// TakeSharedSecret counts an attempt to register by the shared secret.
func (a *Auth) TakeSharedSecret(r *http.Request) error {
	return a.take(r.Context(), limitSecret.from(r, ""))
}
