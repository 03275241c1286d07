package streamcache

import (
	"sync"

	lru2 "github.com/hashicorp/golang-lru/v2"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/timeline"
	"stoa/matrix/id"
	"stoa/matrix/roomversion"
)

// eventCache holds events in their client form, bounded by bytes. It is valid as of the last redaction that was applied: a
// redaction drops its target, and reads of the store from before that redaction add nothing.
type eventCache struct {
	mu       sync.Mutex // guards all below
	events   *simplelru.LRU[store.EventNum, *timeline.Event]
	bytes    int
	maxBytes int
	redacted store.Position
	// replacing has, by the ID of a replaced event, the event that replaced it and contains its content.
	replacing map[id.EventID]store.EventNum
}

// cacheRules bounds the rooms whose rules are in memory.
const cacheRules = 1 << 16

// newRules makes a cache of rooms' rules, which never change; nil for a version that this release does not know.
func newRules() *lru2.Cache[store.RoomNum, *roomversion.Rules] {
	c, _ := lru2.New[store.RoomNum, *roomversion.Rules](cacheRules) // the only error is a size below 1
	return c
}

// cacheEntries bounds the entries of a cache whose real bound is in bytes.
const cacheEntries = 1 << 20

func newEventCache(maxBytes int) *eventCache {
	c := &eventCache{maxBytes: maxBytes, replacing: map[id.EventID]store.EventNum{}}
	c.events = mustLRU[store.EventNum](cacheEntries, func(_ store.EventNum, e *timeline.Event) {
		c.bytes -= e.Size()
		if e.Replaced != nil && c.replacing[e.Replaced.ID] == e.Num {
			delete(c.replacing, e.Replaced.ID)
		}
	})
	return c
}

func mustLRU[K comparable, V any](size int, evicted simplelru.EvictCallback[K, V]) *simplelru.LRU[K, V] {
	l, err := simplelru.NewLRU(size, evicted)
	if err != nil {
		panic(err) // only a size below 1 fails
	}
	return l
}

// get returns an event, nil if it is not there.
func (c *eventCache) get(num store.EventNum) *timeline.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, _ := c.events.Get(num)
	return e
}

// add keeps an event that was read in a snapshot at a position.
func (c *eventCache) add(e *timeline.Event, snapshot store.Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if snapshot < c.redacted {
		return
	}
	c.events.Remove(e.Num)
	c.events.Add(e.Num, e)
	if e.Replaced != nil {
		c.replacing[e.Replaced.ID] = e.Num
	}
	c.bytes += e.Size()
	for c.bytes > c.maxBytes {
		c.events.RemoveOldest()
	}
}

// drop forgets an event, which is redacted as of a position, and the one that replaced it.
func (c *eventCache) drop(num store.EventNum, eventID id.EventID, at store.Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.redacted = max(c.redacted, at)
	c.events.Remove(num)
	if by, ok := c.replacing[eventID]; ok {
		c.events.Remove(by)
	}
}

// clear forgets everything: what happened up to a position is not known.
func (c *eventCache) clear(at store.Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.redacted = max(c.redacted, at)
	c.events.Purge()
}

// member names a member of a room.
type member struct {
	room   store.RoomNum
	userID string
}

// memberCache holds membership events that are current at the ring's head, for clients that load members lazily. The cache's lock
// guards it. The stream replaces changed events, and adds those of senders. It is bounded in bytes.
type memberCache struct {
	events          *simplelru.LRU[member, *timeline.Event]
	bytes, maxBytes int
	byNum           map[store.EventNum]member
	// rooms contains the rooms of all events in the cache, and perhaps more.
	rooms map[store.RoomNum]struct{}
	// reading are the members that an answer is reading; the channel is closed when it has.
	reading map[member]chan struct{}
}

// memberRooms bounds the rooms that are noted.
const memberRooms = 1 << 16

// memberBytes is the memory of an entry beside its event: the user ID, a list element, and entries of two maps.
const memberBytes = 512

func newMemberCache(maxBytes int) *memberCache {
	c := &memberCache{
		maxBytes: maxBytes,
		byNum:    map[store.EventNum]member{}, rooms: map[store.RoomNum]struct{}{}, reading: map[member]chan struct{}{},
	}
	c.events = mustLRU(cacheEntries, func(_ member, e *timeline.Event) {
		delete(c.byNum, e.Num)
		c.bytes -= memberBytes + e.Size()
	})
	return c
}

func (c *memberCache) get(m member) *timeline.Event {
	e, _ := c.events.Get(m)
	return e
}

func (c *memberCache) put(m member, e *timeline.Event) {
	if len(c.rooms) >= memberRooms {
		c.events.Purge()
		clear(c.rooms)
	}
	c.events.Remove(m)
	c.events.Add(m, e)
	c.byNum[e.Num] = m
	c.rooms[m.room] = struct{}{}
	c.bytes += memberBytes + e.Size()
	for c.bytes > c.maxBytes {
		c.events.RemoveOldest()
	}
}

// knows says whether an event is there.
func (c *memberCache) knows(num store.EventNum) bool {
	_, ok := c.byNum[num]
	return ok
}

// learn adds a sender's membership event that was current at a message, unless a newer one is there.
func (c *memberCache) learn(num store.RoomNum, e *timeline.Event) {
	m := member{num, e.StateKey}
	if old, ok := c.events.Peek(m); !ok || old.Slot < e.Slot {
		c.put(m, e)
	}
}

// dropRoom drops the members of a room, any of whom may have changed.
func (c *memberCache) dropRoom(num store.RoomNum) {
	if _, ok := c.rooms[num]; !ok {
		return
	}
	delete(c.rooms, num)
	for _, m := range c.events.Keys() {
		if m.room == num {
			c.events.Remove(m)
		}
	}
}

// drop forgets an event that was redacted, and the one that replaced it.
func (c *memberCache) drop(num store.RoomNum, red *room.Redacted) {
	if m, ok := c.byNum[red.Target]; ok {
		c.events.Remove(m)
	}
	key, _ := red.PDU.StateKey()
	m := member{num, key}
	if e, ok := c.events.Peek(m); ok && e.Replaced != nil && e.Replaced.ID == red.TargetID {
		c.events.Remove(m)
	}
}

// apply updates members that a segment changes.
func (c *memberCache) apply(num store.RoomNum, s *Segment) {
	for i := range s.Changes {
		ch := &s.Changes[i]
		if ch.Type != "m.room.member" {
			continue
		}
		m := member{num, ch.StateKey}
		if ch.Event == nil {
			c.events.Remove(m)
		} else if old, ok := c.events.Peek(m); ok && old.Slot < ch.Slot {
			c.put(m, ch.Event)
		}
	}
}
