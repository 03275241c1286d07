package ephemeral

import (
	"encoding/json"
	"time"

	"stoa/internal/store"
)

// topicSeen is the topic by which instances tell whose devices made requests, so
// that none takes somebody for absent who talks to another.
const topicSeen = "seen"

const (
	// tellSeen is how often the other instances are told of one user.
	tellSeen = 20 * time.Second
	// seenUsers bounds the users of one message, elsewhereLimit those remembered.
	seenUsers      = 200
	elsewhereLimit = 200_000
)

// share notes that a user is to be told of. Called with the lock held.
func (p *Presence) share(num store.UserNum, u *presentUser) {
	if p.bus != nil && u.seen.Sub(u.sharedAt) >= tellSeen {
		u.sharedAt = u.seen
		p.fresh[num] = struct{}{}
	}
}

// tell tells the other instances who was seen of late.
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

// hear takes over who was seen by another instance.
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

// Follow has the presence of users read anew, when they are seen here again, whom
// another instance has changed. It may be told of what this instance wrote, too.
func (p *Presence) Follow(rows []store.StreamRow) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, row := range rows {
		if u := p.users[row.User()]; u != nil && row.Kind == store.KindPresence {
			u.doubt()
		}
	}
}

// Forget has the presence of all users read anew: rows of the stream were missed.
func (p *Presence) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range p.users {
		u.doubt()
	}
}

// doubt has a user's presence read anew. What is not written yet stays, and so does
// what bounds how often it changes.
func (u *presentUser) doubt() {
	u.changes++
	u.stale = u.stored
}
