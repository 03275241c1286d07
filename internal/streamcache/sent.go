package streamcache

import (
	"hash/maphash"
	"sync"

	"stoa/internal/store"
	"stoa/matrix/id"
)

// SentMembers remembers which membership events devices have been sent, so that clients that load members lazily do not get them
// again and again. It is a table of fingerprints of fixed size in which a newer entry may overwrite another: a forgotten event is
// sent once more, which the specification allows.
//
// An entry holds the position of the answer that carried the event. A request proves that the answer arrived only if its token is
// at or after that position, and if the device has made no initial sync since (sentSince).
//
// Spec: client-server-api#lazy-loading-room-members
type SentMembers struct {
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

func NewSentMembers(entries int) *SentMembers {
	return &SentMembers{seed: maphash.MakeSeed(), table: make([]sentMember, (entries+sentWays-1)/sentWays*sentWays)}
}

// SentKey is one membership event sent to one device, on one connection.
type SentKey struct {
	User   store.UserNum
	Device id.DeviceID
	// Conn is the connection of a sliding sync, 0 for /sync.
	Conn  int64
	Room  store.RoomNum
	Event store.EventNum
}

func (s *SentMembers) find(k SentKey) (print uint64, bucket []sentMember) {
	print = maphash.Comparable(s.seed, k) | 1 // 0 marks an empty entry
	at := int(print>>32) % (len(s.table) / sentWays) * sentWays
	return print, s.table[at : at+sentWays]
}

// Has reports whether the device is known to have the event, by a request with a token at since. What was sent before sentSince
// does not count.
func (s *SentMembers) Has(k SentKey, sentSince, since store.Position) bool {
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

// Add records that the answer at a position carries the event. An event that an earlier answer carried after sentSince keeps that
// position.
func (s *SentMembers) Add(k SentKey, sentSince, at store.Position) {
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
