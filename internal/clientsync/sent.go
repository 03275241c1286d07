package clientsync

import (
	"hash/maphash"
	"sync"

	"stoa/internal/store"
	"stoa/matrix/id"
)

// sentMembers remembers which membership events devices have been sent, so that clients that load members lazily are not
// sent them again and again. It is a table of fingerprints of fixed size in which a newer entry may overwrite another: what
// is forgotten is sent once more, which the specification allows.
//
// An entry holds the position of the answer that carried the event. Only a request whose token is at or after it proves
// that the answer arrived, and only if the device has not begun anew since (epoch).
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

// sentWays is how many entries share a place of the table.
const sentWays = 4

func newSentMembers(entries int) *sentMembers {
	return &sentMembers{seed: maphash.MakeSeed(), table: make([]sentMember, (entries+sentWays-1)/sentWays*sentWays)}
}

// sentKey is one membership event on its way to one device.
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

// has says whether the device is known to have the event, by a request with a token at since. What was sent before the
// position epoch counts no more: the device began anew there.
func (s *sentMembers) has(k sentKey, epoch, since store.Position) bool {
	print, bucket := s.find(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range bucket {
		if e.print == print {
			return e.at >= epoch && e.at <= since
		}
	}
	return false
}

// add notes that the answer at a position carries the event. One that an earlier answer of the same epoch carried keeps
// that position.
func (s *sentMembers) add(k sentKey, epoch, at store.Position) {
	print, bucket := s.find(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest := 0
	for i, e := range bucket {
		if e.print == print {
			if e.at < epoch || e.at > at {
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
