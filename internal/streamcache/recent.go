package streamcache

import (
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/timeline"
)

// recentTimeline is the newest part of a room's timeline, as an initial sync begins with: all live events after slot from, up to
// slot upto. It never changes; a newer one takes its place.
type recentTimeline struct {
	from, upto store.Slot
	events     []*timeline.Event    // oldest first
	log        []roomdb.StateChange // the changes of state
	size       int
}

// recentDepth is how many slots a recentTimeline goes back at least: the timeline of an initial sync of usual clients, and one more to
// know whether there are others.
const recentDepth = 21

// recentTimelines holds the newest part of timelines, true as of the ring's head. The cache's lock guards it.
type recentTimelines struct {
	tails    *simplelru.LRU[store.RoomNum, *recentTimeline]
	bytes    int
	maxBytes int
}

func newRecentTimelines(maxBytes int) *recentTimelines {
	c := &recentTimelines{maxBytes: maxBytes}
	c.tails = mustLRU(cacheEntries, func(_ store.RoomNum, t *recentTimeline) { c.bytes -= t.size })
	return c
}

func (c *recentTimelines) get(num store.RoomNum) *recentTimeline {
	t, _ := c.tails.Get(num)
	return t
}

func (c *recentTimelines) put(num store.RoomNum, t *recentTimeline) {
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

func (c *recentTimelines) drop(num store.RoomNum) { c.tails.Remove(num) }

// apply puts a segment behind a room's tail. A segment that changes state ends the tail: what it replaced is told from the
// store.
func (c *recentTimelines) apply(num store.RoomNum, s *Segment) {
	t, ok := c.tails.Peek(num)
	if !ok || s.Last <= t.upto {
		return
	}
	if len(s.Changes) > 0 || s.First != t.upto+1 {
		c.drop(num)
		return
	}
	next := &recentTimeline{from: t.from, upto: s.Last, log: t.log}
	events := append(append(make([]*timeline.Event, 0, len(t.events)+len(s.Events)), t.events...), Live(s.Events)...)
	if cut := s.Last - recentDepth; cut > next.from {
		next.from = cut
		for len(events) > 0 && events[0].Slot <= cut {
			events = events[1:]
		}
	}
	next.events = events
	c.put(num, next)
}
