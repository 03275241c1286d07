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

// DefaultAddressLimits are the limits for each client address, for the classes of routes
// that need no account.
func DefaultAddressLimits(clock func() time.Time) map[Limit]*Limiter {
	return map[Limit]*Limiter{
		LimitLogin:    NewLimiter(1, 20, clock),
		LimitRegister: NewLimiter(0.5, 20, clock),
		LimitLookup:   NewLimiter(20, 100, clock),
	}
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
