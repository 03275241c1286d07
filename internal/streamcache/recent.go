package streamcache

import (
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/internal/timeline"
)

// recentTimeline is the newest part of a room's timeline: all live events after slot from, up to slot upto. It is immutable; a
// newer one replaces it.
type recentTimeline struct {
	from, upto store.Slot
	events     []*timeline.Event    // oldest first
	log        []roomdb.StateChange // the changes of state
	size       int
}

// RecentDepth is the least number of slots of a recentTimeline: the timeline of a usual client's initial sync, and one more to know
// whether there are others.
const RecentDepth = 21

// recentTimelines is the recent-timeline cache, valid at the ring's head. The cache's lock guards it.
type recentTimelines struct {
	rooms    *simplelru.LRU[store.RoomNum, *recentTimeline]
	bytes    int
	maxBytes int
}

func newRecentTimelines(maxBytes int) *recentTimelines {
	c := &recentTimelines{maxBytes: maxBytes}
	c.rooms = mustLRU(cacheEntries, func(_ store.RoomNum, t *recentTimeline) { c.bytes -= t.size })
	return c
}

func (c *recentTimelines) get(num store.RoomNum) *recentTimeline {
	t, _ := c.rooms.Get(num)
	return t
}

func (c *recentTimelines) put(num store.RoomNum, t *recentTimeline) {
	c.rooms.Remove(num)
	t.size = 200
	for _, e := range t.events {
		t.size += e.Size()
	}
	c.rooms.Add(num, t)
	c.bytes += t.size
	for c.bytes > c.maxBytes {
		c.rooms.RemoveOldest()
	}
}

func (c *recentTimelines) drop(num store.RoomNum) { c.rooms.Remove(num) }

// apply appends a segment to a room's recent timeline. A segment that changes state drops it: what the change replaced is in the
// store.
func (c *recentTimelines) apply(num store.RoomNum, s *Segment) {
	t, ok := c.rooms.Peek(num)
	if !ok || s.Last <= t.upto {
		return
	}
	if len(s.Changes) > 0 || s.First != t.upto+1 {
		c.drop(num)
		return
	}
	next := &recentTimeline{from: t.from, upto: s.Last, log: t.log}
	events := append(append(make([]*timeline.Event, 0, len(t.events)+len(s.Events)), t.events...), Live(s.Events)...)
	if first := s.Last - RecentDepth; first > next.from {
		next.from = first
		for len(events) > 0 && events[0].Slot <= first {
			events = events[1:]
		}
	}
	next.events = events
	c.put(num, next)
}
