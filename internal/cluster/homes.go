package cluster

import (
	"slices"

	"stoa/internal/stablehash"
)

// The home of a key is the member with the highest score for it (rendezvous
// hashing): when a member comes or goes, only its own keys move. All processes of
// all releases must choose alike, so this is fixed for ever:
//
//	score = mix(fnv(kind, 0, key) XOR mix(fnv(name)))
//
// fnv and mix are those of package stablehash, kind "room" for
// homes, name that of the instance. Of equal scores the smaller name wins.

// memberHash is an instance's part of the scores.
func memberHash(name string) uint64 { return stablehash.Mix(stablehash.Add(stablehash.Start, name)) }

// keyHash is a key's part of the scores.
func keyHash(kind, key string) uint64 {
	return stablehash.Add(stablehash.Add(stablehash.Add(stablehash.Start, kind), "\x00"), key)
}

// member is an instance that keys may belong to.
type member struct {
	name string
	hash uint64
	peer *peer // nil: this instance
}

// view is the cluster as this instance last read it. It is immutable; a new view
// replaces it.
type view struct {
	// members are live and not draining, one a name, sorted by name.
	members []member
	// peers are all other live instances by their lease.
	peers map[int64]*peer
}

// choose returns the member with the highest score; nil if there is none. With
// reachable it skips members that don't answer at present.
func (v *view) choose(kind, key string, reachable bool) *member {
	var best *member
	var top uint64
	h := keyHash(kind, key)
	for i := range v.members {
		m := &v.members[i]
		if reachable && m.peer != nil && m.peer.link.Load() == nil {
			continue
		}
		if score := stablehash.Mix(h ^ m.hash); best == nil || score > top {
			best, top = m, score
		}
	}
	return best
}

// kindRoom is the kind of the keys by which requests are forwarded.
const kindRoom = "room"

// Home returns the home of a room, the instance to which its writes go, as far as
// this instance can see. It is this instance if it reaches no other, or if its own
// lease is in doubt.
func (c *Cluster) Home(roomID string) (name string, self bool) {
	if p := c.home(roomID); p != nil {
		return p.Name, false
	}
	return c.opt.Name, true
}

// home returns the home of a room; nil is this instance.
func (c *Cluster) home(roomID string) *peer {
	v := c.view.Load()
	if v == nil || !c.Acting() {
		return nil
	}
	if m := v.choose(kindRoom, roomID, true); m != nil {
		return m.peer
	}
	return nil
}

// IsHome reports whether this instance is the home of a room without doubt: peers
// that it can't reach at present would agree.
func (c *Cluster) IsHome(roomID string) bool {
	if c.leases == nil {
		return true
	}
	v := c.view.Load()
	if v == nil || !c.Acting() {
		return false
	}
	m := v.choose(kindRoom, roomID, false)
	return m != nil && m.peer == nil
}

// Owner reports whether this instance owns a piece of outgoing work: a kind
// ("destination", say) and its key. Two instances may believe so for a moment, so
// cursors are moved by compare-and-set with Lease. An instance whose lease is in
// doubt owns nothing, and a draining one owns work only if it is the last member.
func (c *Cluster) Owner(kind, key string) bool {
	if c.leases == nil {
		return true
	}
	v := c.view.Load()
	if v == nil || !c.Acting() {
		return false
	}
	if c.draining.Load() {
		return !slices.ContainsFunc(v.members, func(m member) bool { return m.peer != nil })
	}
	m := v.choose(kind, key, false)
	return m != nil && m.peer == nil
}
