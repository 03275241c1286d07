package clientsync

import "time"

// adriftAfter is how long an instance may hear nothing from the store before those who wait on it are let go.
const adriftAfter = 4 * time.Second

// heardNow notes that the stream was read to its end. Called with the lock held.
func (h *Hub) heardNow() { h.heard = h.clock() }

// letGo ends all waits, with what there is, once the stream was not read for adriftAfter although others write it too: their
// clients come back, and reach an instance that hears more. Called with the lock held.
func (h *Hub) letGo(now time.Time) {
	if !h.follows.Load() || now.Sub(h.heard) < adriftAfter {
		return
	}
	for _, u := range h.users {
		for len(u.waiters) > 0 {
			h.end(u.waiters[len(u.waiters)-1], timedOut)
		}
	}
}
