package httpkit

import (
	"sync"
	"time"

	"stoa/matrix/mxerr"
)

// Limiter is a token bucket for each key, in memory. A nil Limiter has no limit. Limits
// that must be exact over all instances (login attempts) are in the store instead.
//
// It holds one time for each key: when its bucket will be full again. Keys are in two
// generations of at most maxKeys each. When the newer one is full the older one is
// dropped, so the memory is bounded and the least recently used keys are forgotten first.
type Limiter struct {
	every time.Duration // the time for one token to return
	burst time.Duration // every × size of the bucket
	clock func() time.Time

	mu         sync.Mutex // guards the generations; nothing is locked after it
	young, old map[string]time.Time
}

// maxKeys is the size of one generation of a Limiter.
const maxKeys = 50_000

// NewLimiter returns a Limiter that allows burst requests of a key at once, and perSecond
// of them in the long run. clock is time.Now if nil.
func NewLimiter(perSecond float64, burst int, clock func() time.Time) *Limiter {
	if clock == nil {
		clock = time.Now
	}
	every := time.Duration(float64(time.Second) / perSecond)
	return &Limiter{
		every: every, burst: every * time.Duration(burst), clock: clock,
		young: map[string]time.Time{}, old: map[string]time.Time{},
	}
}

// addressLimit is a row of the table of limits of addresses.
type addressLimit struct {
	class     Limit
	what      string
	burst     int
	perSecond float64
	reason    string
}

// addressLimits is the table. A test compares it with the one in docs/operations.md.
// Logins and registrations have narrower limits in the database; these bound how often
// those are looked up.
var addressLimits = []addressLimit{
	{LimitLogin, "requests that may guess a password: login, change of password, deactivation, authentication pages", 400, 10,
		"two requests of each person in a lecture hall"},
	{LimitRegister, "requests to register, including those that only ask for the list of stages", 200, 4, "four requests of each new account"},
	{LimitLookup, "requests without an account: profiles, room aliases, published rooms (GET), room summaries, checks of a user name or registration token",
		200, 20, "the first page of several people behind one address"},
}

// DefaultAddressLimits are the limits for each client address, for the classes of routes
// that need no account.
func DefaultAddressLimits(clock func() time.Time) map[Limit]*Limiter {
	limits := map[Limit]*Limiter{}
	for _, l := range addressLimits {
		limits[l.class] = NewLimiter(l.perSecond, l.burst, clock)
	}
	return limits
}

// Take takes one token of key, or returns M_LIMIT_EXCEEDED with the time until one is
// available.
//
// Spec: client-server-api#rate-limiting
func (l *Limiter) Take(key string) error { return l.TakeN(key, 1) }

// TakeN takes n tokens; at most a full bucket.
func (l *Limiter) TakeN(key string, n int) error {
	if l == nil {
		return nil
	}
	now := l.clock()
	cost := min(l.every*time.Duration(n), l.burst)
	l.mu.Lock()
	defer l.mu.Unlock()
	full, ok := l.fullAt(key, now)
	if wait := full.Add(cost).Sub(now) - l.burst; wait > 0 {
		return mxerr.LimitExceeded(wait)
	}
	l.set(key, full.Add(cost), ok)
	return nil
}

// check returns the error of Take, and takes nothing.
func (l *Limiter) check(key string) error {
	now := l.clock()
	l.mu.Lock()
	defer l.mu.Unlock()
	full, _ := l.fullAt(key, now)
	if wait := full.Add(l.every).Sub(now) - l.burst; wait > 0 {
		return mxerr.LimitExceeded(wait)
	}
	return nil
}

// add takes n tokens that were spent on another instance, or all that are left if there
// are fewer.
func (l *Limiter) add(key string, n int) {
	now := l.clock()
	l.mu.Lock()
	defer l.mu.Unlock()
	full, ok := l.fullAt(key, now)
	full = full.Add(min(l.every*time.Duration(n), l.burst))
	if most := now.Add(l.burst); full.After(most) {
		full = most
	}
	l.set(key, full, ok)
}

// fullAt returns when the bucket of a key will be full, and whether the key is in the
// young generation. The caller holds the lock.
func (l *Limiter) fullAt(key string, now time.Time) (full time.Time, ok bool) {
	if full, ok = l.young[key]; !ok {
		full = l.old[key]
	}
	if full.Before(now) {
		full = now
	}
	return full, ok
}

// set records when the bucket of a key will be full. The caller holds the lock.
func (l *Limiter) set(key string, full time.Time, young bool) {
	if !young && len(l.young) >= maxKeys {
		l.old, l.young = l.young, make(map[string]time.Time, maxKeys/8)
	}
	l.young[key] = full
}
