package httpkit

import (
	"hash/maphash"
	"sync"
	"time"

	"stoa/matrix/mxerr"
)

// Limiter is a token bucket for each key, in memory. A nil Limiter has no limit. Limits
// that must be exact over all instances (login attempts) are in the store instead.
//
// It holds a hash and one time for each key: when its bucket will be full again. A full
// bucket is as good as none and is dropped. Keys are in two generations of at most maxKeys
// each. When the newer one has no room left the older one is dropped, so the memory is
// bounded and the least recently used keys are forgotten first.
type Limiter struct {
	every time.Duration // the time for one token to return
	burst time.Duration // every × size of the bucket
	clock func() time.Time
	seed  maphash.Seed
	began time.Time

	mu         sync.Mutex               // guards the fields below; nothing is locked after it
	young, old map[uint64]time.Duration // since began
	// sweepSize is the size of young at which full buckets are dropped, and swept the last
	// time that they were.
	sweepSize int
	swept     time.Time
}

const (
	// maxKeys is the size of one generation of a Limiter.
	maxKeys = 50_000
	// fewKeys are not worth a sweep.
	fewKeys = 1000
	// sweepEvery is the time after which the full buckets of a Limiter in use are dropped.
	sweepEvery = time.Minute
)

// NewLimiter returns a Limiter that allows burst requests of a key at once, and perSecond
// of them in the long run. clock is time.Now if nil.
func NewLimiter(perSecond float64, burst int, clock func() time.Time) *Limiter {
	if clock == nil {
		clock = time.Now
	}
	every := time.Duration(float64(time.Second) / perSecond)
	now := clock()
	return &Limiter{
		every: every, burst: every * time.Duration(burst), clock: clock, seed: maphash.MakeSeed(), began: now,
		young: map[uint64]time.Duration{}, old: map[uint64]time.Duration{}, sweepSize: fewKeys, swept: now,
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
	{LimitLookup, "requests without an account: profiles, room aliases, published rooms (GET), room summaries, checks of a user name, registration token or OpenID token",
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
	full, young := l.fullAt(key, now)
	if wait := full.Add(cost).Sub(now) - l.burst; wait > 0 {
		return mxerr.LimitExceeded(wait)
	}
	l.set(key, now, full.Add(cost), young)
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
	full, young := l.fullAt(key, now)
	full = full.Add(min(l.every*time.Duration(n), l.burst))
	if most := now.Add(l.burst); full.After(most) {
		full = most
	}
	l.set(key, now, full, young)
}

// fullAt returns when the bucket of a key will be full, and whether the key is in the
// young generation. The caller holds the lock.
func (l *Limiter) fullAt(key string, now time.Time) (full time.Time, young bool) {
	h := maphash.String(l.seed, key)
	after, young := l.young[h]
	if !young {
		after = l.old[h]
	}
	if full = l.began.Add(after); full.Before(now) {
		full = now
	}
	return full, young
}

// set records when the bucket of a key will be full. The caller holds the lock.
func (l *Limiter) set(key string, now, full time.Time, young bool) {
	if !young && len(l.young) >= fewKeys && (len(l.young) >= l.sweepSize || now.Sub(l.swept) >= sweepEvery) {
		l.sweep(now)
	}
	l.young[maphash.String(l.seed, key)] = full.Sub(l.began)
}

// sweep drops the full buckets, and the old generation if the young one has no room left.
// The maps are made anew, because a map does not return memory. The caller holds the lock.
func (l *Limiter) sweep(now time.Time) {
	l.young, l.old = notFull(l.young, now.Sub(l.began)), notFull(l.old, now.Sub(l.began))
	if len(l.young) >= maxKeys {
		l.old, l.young = l.young, map[uint64]time.Duration{}
	}
	l.sweepSize = min(max(2*len(l.young), fewKeys), maxKeys)
	l.swept = now
}

func notFull(buckets map[uint64]time.Duration, now time.Duration) map[uint64]time.Duration {
	kept := map[uint64]time.Duration{}
	for key, full := range buckets {
		if full > now {
			kept[key] = full
		}
	}
	return kept
}
