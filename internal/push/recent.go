package push

import (
	"sync"

	"stoa/internal/store"
	"stoa/internal/store/pushdb"
)

// answeredKept bounds the messages that are remembered as taken, shownKept the pushers whose last number is.
const (
	answeredKept = 20_000
	shownKept    = 100_000
)

// answeredSet remembers which messages gateways have taken, so that none is sent twice because a commit had to be tried again.
type answeredSet struct {
	mu     sync.Mutex // guards both
	recent map[answeredKey]struct{}
	order  []answeredKey
}

type answeredKey struct {
	pusher int64
	pos    store.Position
	slot   store.Slot
}

func keyOf(q pushdb.Queued) answeredKey { return answeredKey{q.Pusher, q.Pos, q.Slot} }

func (s *answeredSet) has(q pushdb.Queued) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, found := s.recent[keyOf(q)]
	return found && q.Slot != 0
}

func (s *answeredSet) add(q pushdb.Queued) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.recent == nil {
		s.recent = map[answeredKey]struct{}{}
	}
	key := keyOf(q)
	if _, found := s.recent[key]; found {
		return
	}
	s.recent[key] = struct{}{}
	s.order = append(s.order, key)
	if len(s.order) > answeredKept {
		delete(s.recent, s.order[0])
		s.order = s.order[1:]
	}
}

// shownCounts remembers numbers of unread events: of users, as they were last counted, and those that gateways were last told.
type shownCounts struct {
	mu     sync.Mutex // guards both
	users  map[store.UserNum]countAt
	phones map[int64]int64 // by pusher
}

type countAt struct {
	head  store.Position
	count int64
}

// shown returns what a gateway was last told.
func (s *shownCounts) shown(pusher int64) (n int64, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, known = s.phones[pusher]
	return n, known
}

// tell notes what a gateway has been told.
func (s *shownCounts) tell(pusher, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phones == nil || len(s.phones) >= shownKept {
		s.phones = map[int64]int64{}
	}
	s.phones[pusher] = n
}

// newest notes a user's number of unread events in a snapshot, and returns the one of the newest snapshot: batches of several
// rooms are under way at the same time, and the number that a phone gets last must be right.
func (s *shownCounts) newest(user store.UserNum, head store.Position, n int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, known := s.users[user]; known && old.head > head {
		return old.count
	}
	if s.users == nil || len(s.users) >= shownKept {
		s.users = map[store.UserNum]countAt{}
	}
	s.users[user] = countAt{head, n}
	return n
}
