package auth

import (
	"sync"
	"sync/atomic"

	"stoa/internal/store"
	"stoa/internal/who"
)

// Sessions remembers whom recently used access tokens belong to.
//
// An entry is dropped by whoever ends a session, after the commit and before
// the answer; what another instance ended is dropped when the stream brings
// it. A lookup in the store that raced with a drop is not remembered (see
// generation), so nothing stale can come in behind a drop.
type Sessions struct {
	maxBytes int

	mu         sync.RWMutex // guards all below; nothing is taken after it
	byToken    map[Hash]*session
	byUser     map[store.UserNum]map[Hash]struct{}
	generation uint64 // counts drops
	bytes      int    // the sum of the sessions' sizes
}

const (
	// sessionBytes bounds the memory of the sessions.
	sessionBytes = 40 << 20
	// sessionOverhead is the memory of a session beside its strings.
	sessionOverhead = 350
)

// NewSessions makes an empty memory. It is made before the packages that share
// it: account drops from it what it ends.
func NewSessions() *Sessions {
	return &Sessions{
		maxBytes: sessionBytes,
		byToken:  make(map[Hash]*session),
		byUser:   make(map[store.UserNum]map[Hash]struct{}),
	}
}

// session is what one access token stands for.
type session struct {
	who.Caller
	expires int64 // ms since 1970; 0 = never
	locked  bool

	// seen is when the device was last noted as seen, in ms since 1970.
	seen atomic.Int64
}

// size is the memory of the session in bytes.
func (s *session) size() int {
	return sessionOverhead + len(s.UserID.String()) + len(s.DeviceID)
}

// find gives the session of a token, or nil.
func (s *Sessions) find(token Hash) *session {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byToken[token]
}

func (s *Sessions) len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.byToken)
}

// begin is to be called before a lookup in the store whose result is added.
func (s *Sessions) begin() (generation uint64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.generation
}

// add remembers what a lookup found, unless a session ended meanwhile.
func (s *Sessions) add(generation uint64, token Hash, found *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.generation != generation {
		return
	}
	s.remove(token)
	for old := range s.byToken { // any one makes room: its next use costs one query
		if s.bytes+found.size() <= s.maxBytes {
			break
		}
		s.remove(old)
	}
	s.byToken[token] = found
	s.bytes += found.size()
	tokens := s.byUser[found.UserNum]
	if tokens == nil {
		tokens = make(map[Hash]struct{}, 1)
		s.byUser[found.UserNum] = tokens
	}
	tokens[token] = struct{}{}
}

func (s *Sessions) remove(token Hash) {
	found := s.byToken[token]
	if found == nil {
		return
	}
	delete(s.byToken, token)
	s.bytes -= found.size()
	tokens := s.byUser[found.UserNum]
	delete(tokens, token)
	if len(tokens) == 0 {
		delete(s.byUser, found.UserNum)
	}
}

// Drop forgets all sessions of a user. It is called after the commit that ended
// or changed one of them, and before that is acknowledged.
func (s *Sessions) Drop(user store.UserNum) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	for token := range s.byUser[user] {
		s.remove(token)
	}
}

// Follow drops what rows of the stream ended or changed: those of other
// instances come to it with the stream.
func (s *Sessions) Follow(rows []store.StreamRow) {
	for _, row := range rows {
		if row.Kind == store.KindAccount && row.User() != 0 {
			s.Drop(row.User())
		}
	}
}

// DropAll forgets everything: for an instance that lost its place in the stream.
func (s *Sessions) DropAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	clear(s.byToken)
	clear(s.byUser)
	s.bytes = 0
}
