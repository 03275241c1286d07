package streamcache

import "time"

// staleAfter is how long an instance may hear nothing from the store before the requests that wait on it are answered.
const staleAfter = 4 * time.Second

// heardNow notes that the stream was read to its end. Called with the lock held.
func (f *following) notePoll() { f.lastPoll = f.cache.clock() }

// releaseStale ends all waits, with what there is, once the stream was not read for staleAfter although other instances write
// it too: the clients come back, and reach an instance that hears more. Called with the lock held.
func (f *following) endStaleWaits(now time.Time) {
	if !f.follows.Load() || now.Sub(f.lastPoll) < staleAfter {
		return
	}
	for _, u := range f.cache.users {
		for len(u.waiters) > 0 {
			f.cache.end(u.waiters[len(u.waiters)-1], TimedOut)
		}
	}
}
