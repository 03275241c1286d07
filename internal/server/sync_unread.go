package server

import (
	"stoa/internal/clientsync"
	"stoa/internal/room"
	"stoa/internal/store"
	"stoa/internal/streamcache"
	"stoa/internal/unread"
	"stoa/internal/userdata"
	"stoa/internal/who"
)

// syncUnread adapts package unread to the interface of package clientsync.
type syncUnread struct{ counter *unread.Counter }

func newSyncUnread(s *store.Store, rules *userdata.Rules) syncUnread {
	return syncUnread{unread.New(s, rules)}
}

func (s syncUnread) Counters(r *store.Read, user who.User, places []clientsync.Place) ([]streamcache.UnreadCounter, error) {
	ask := make([]unread.Place, len(places))
	for i, p := range places {
		ask[i] = unread.Place(p)
	}
	counters, err := s.counter.RoomCounters(r, user, ask)
	if err != nil {
		return nil, err
	}
	out := make([]streamcache.UnreadCounter, len(counters))
	for i, t := range counters {
		out[i] = syncCounter{t}
	}
	return out, nil
}

type syncCounter struct{ *unread.RoomCounter }

func (t syncCounter) Read(slot store.Slot, thread string, totals *room.Totals) bool {
	return t.RoomCounter.Read(unread.Receipt{Slot: slot, Thread: thread, Totals: totals})
}

func (t syncCounter) Counts(threads bool) streamcache.Counts {
	main, list := t.RoomCounter.Counts(threads)
	counts := streamcache.Counts{Notifications: main.Notifications, Highlights: main.Highlights}
	for _, x := range list {
		counts.Threads = append(counts.Threads, streamcache.ThreadCounts{
			Root: x.Root, Notifications: x.Notifications, Highlights: x.Highlights,
		})
	}
	return counts
}
