package ephemeral

import (
	"encoding/json"
	"time"

	"stoa/internal/store"
)

// topicSeen is the topic of users whose devices have made requests, so that no instance
// takes a user for absent who uses another one.
const topicSeen = "seen"

const (
	// tellSeen is the interval of messages about one user.
	tellSeen = 20 * time.Second
	// seenUsers bounds the users in one message, elsewhereLimit the remembered users.
	seenUsers      = 200
	elsewhereLimit = 200_000
)

// share marks a user for the next message. The caller holds the lock.
func (p *Presence) share(num store.UserNum, u *presentUser) {
	if p.bus != nil && u.seen.Sub(u.sharedAt) >= tellSeen {
		u.sharedAt = u.seen
		p.fresh[num] = struct{}{}
	}
}

// tell sends the recently seen users to the other instances.
func (p *Presence) tell() {
	p.mu.Lock()
	list := make([]store.UserNum, 0, len(p.fresh))
	for num := range p.fresh {
		list = append(list, num)
	}
	clear(p.fresh)
	p.mu.Unlock()
	for len(list) > 0 {
		n := min(len(list), seenUsers)
		if payload, err := json.Marshal(list[:n]); err == nil { // numbers
			p.bus.Publish(topicSeen, payload)
		}
		list = list[n:]
	}
}

// hear processes the users that another instance has seen.
func (p *Presence) hear(payload []byte) {
	var list []store.UserNum
	if json.Unmarshal(payload, &list) != nil {
		return // of another version
	}
	now := p.clock()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, num := range list {
		if len(p.elsewhere) < elsewhereLimit || !p.elsewhere[num].IsZero() {
			p.elsewhere[num] = now
		}
	}
}

// Follow makes the presence of users stale whom another instance has changed, so that it
// is read again when they are seen here. This instance's own changes do no harm.
func (p *Presence) Follow(rows []store.StreamRow) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, row := range rows {
		if u := p.users[row.User()]; u != nil && row.Kind == store.KindPresence {
			u.doubt()
		}
	}
}

// Forget makes the presence of all users stale, because rows of the stream were missed.
func (p *Presence) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range p.users {
		u.doubt()
	}
}

// doubt makes a user's presence stale. Unwritten changes and the token bucket stay.
func (u *presentUser) doubt() {
	u.changes++
	u.stale = u.stored
}
