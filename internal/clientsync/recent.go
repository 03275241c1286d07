package clientsync

import (
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/timeline"
)

// tail is the newest part of a room's timeline, as an initial sync begins with: all live events after slot from, up to
// slot upto. It never changes; a newer one takes its place.
type tail struct {
	from, upto store.Slot
	events     []*timeline.Event    // oldest first
	log        []roomdb.StateChange // the changes of state
	size       int
}

// tailDepth is how many slots a tail goes back at least: the timeline of an initial sync of usual clients, and one more to
// know whether there are others.
const tailDepth = 21

// tailCache holds tails that are true as of the ring's head. The hub's lock guards it.
type tailCache struct {
	tails    *simplelru.LRU[store.RoomNum, *tail]
	bytes    int
	maxBytes int
}

func newTailCache(maxBytes int) *tailCache {
	c := &tailCache{maxBytes: maxBytes}
	c.tails = mustLRU(cacheEntries, func(_ store.RoomNum, t *tail) { c.bytes -= t.size })
	return c
}

func (c *tailCache) get(num store.RoomNum) *tail {
	t, _ := c.tails.Get(num)
	return t
}

func (c *tailCache) put(num store.RoomNum, t *tail) {
	c.tails.Remove(num)
	t.size = 200
	for _, e := range t.events {
		t.size += e.Size()
	}
	c.tails.Add(num, t)
	c.bytes += t.size
	for c.bytes > c.maxBytes {
		c.tails.RemoveOldest()
	}
}

func (c *tailCache) drop(num store.RoomNum) { c.tails.Remove(num) }

// apply puts a stretch behind a room's tail. A stretch that changes state ends the tail: what it replaced is told from the
// store.
func (c *tailCache) apply(num store.RoomNum, s *stretch) {
	t, ok := c.tails.Peek(num)
	if !ok || s.last <= t.upto {
		return
	}
	if len(s.changes) > 0 || s.first != t.upto+1 {
		c.drop(num)
		return
	}
	next := &tail{from: t.from, upto: s.last, log: t.log}
	events := append(append(make([]*timeline.Event, 0, len(t.events)+len(s.events)), t.events...), live(s.events)...)
	if cut := s.last - tailDepth; cut > next.from {
		next.from = cut
		for len(events) > 0 && events[0].Slot <= cut {
			events = events[1:]
		}
	}
	next.events = events
	c.put(num, next)
}
