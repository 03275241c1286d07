package streamcache

import "time"

// staleAfter is how long the stream may be unreadable before waiting requests are answered.
const staleAfter = 4 * time.Second

// notePoll records that the stream was read to its end. Called with the lock held.
func (f *following) notePoll() { f.lastPoll = f.cache.clock() }

// endStaleWaits ends all waits once the stream was not read for staleAfter although other instances write it: the clients return,
// and reach an instance that is up to date. Called with the lock held.
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
