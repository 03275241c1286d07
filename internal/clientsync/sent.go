package clientsync

import (
	"hash/maphash"
	"sync"

	"stoa/internal/store"
	"stoa/matrix/id"
)

// sentMembers remembers which membership events devices have been sent, so that clients that load members lazily do not get them
// again and again. It is a table of fingerprints of fixed size in which a newer entry may overwrite another: a forgotten event is
// sent once more, which the specification allows.
//
// An entry holds the position of the answer that carried the event. A request proves that the answer arrived only if its token is
// at or after that position, and if the device has made no initial sync since (sentSince).
//
// Spec: client-server-api#lazy-loading-room-members
type sentMembers struct {
	seed  maphash.Seed
	mu    sync.Mutex // guards table
	table []sentMember
}

type sentMember struct {
	print uint64
	at    store.Position
}

// sentWays is how many entries share a bucket of the table.
const sentWays = 4

func newSentMembers(entries int) *sentMembers {
	return &sentMembers{seed: maphash.MakeSeed(), table: make([]sentMember, (entries+sentWays-1)/sentWays*sentWays)}
}

// sentKey is one membership event sent to one device.
type sentKey struct {
	user   store.UserNum
	device id.DeviceID
	room   store.RoomNum
	event  store.EventNum
}

func (s *sentMembers) find(k sentKey) (print uint64, bucket []sentMember) {
	print = maphash.Comparable(s.seed, k) | 1 // 0 marks an empty entry
	at := int(print>>32) % (len(s.table) / sentWays) * sentWays
	return print, s.table[at : at+sentWays]
}

// has reports whether the device is known to have the event, by a request with a token at since. What was sent before sentSince
// does not count.
func (s *sentMembers) has(k sentKey, sentSince, since store.Position) bool {
	print, bucket := s.find(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range bucket {
		if e.print == print {
			return e.at >= sentSince && e.at <= since
		}
	}
	return false
}

// add records that the answer at a position carries the event. An event that an earlier answer carried after sentSince keeps that
// position.
func (s *sentMembers) add(k sentKey, sentSince, at store.Position) {
	print, bucket := s.find(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest := 0
	for i, e := range bucket {
		if e.print == print {
			if e.at < sentSince || e.at > at {
				bucket[i].at = at
			}
			return
		}
		if e.at < bucket[oldest].at {
			oldest = i
		}
	}
	bucket[oldest] = sentMember{print, at}
}
