package httpkit

import (
	"sync"
	"sync/atomic"
	"time"

	"stoa/matrix/mxerr"
)

const (
	// bodyBudget is the memory of all request bodies under way, in bytes, unless Options say otherwise.
	bodyBudget = 64 << 20
	// userBodies is the part of it that one user may hold: two bodies of keys, or eight ordinary ones.
	userBodies = 8 << 20
	// addressBodies is the part that may be held by one address without a token: 400 logins whose bodies are not there
	// yet. A lecture hall logs in from one address, but bodies usually come in one packet with their headers.
	addressBodies = 4 << 20
	// requestBytes is what a request costs beside its body while that arrives: buffers of the connection, header, stack.
	requestBytes = 8 << 10
)

// defaultShare is how many requests of a class one user, or without a token one address, may have being served at a time.
// Clients have one long poll for each device and less than ten other requests.
var defaultShare = [limitClasses]int64{
	LimitPlain:    256,
	LimitLongPoll: 256,
	LimitLogin:    128,
	LimitRegister: 128,
	LimitLookup:   512,
}

// holder is what one user or one address has under way.
type holder struct {
	bytes int64
	slots [limitClasses]int64
	users int // requests that have a reference to it
}

// admission bounds the memory of bodies that arrive and the requests that are served, in all and for each holder.
//
// The bytes of a holder may not become more than what stays free for all others (dynamic thresholds, as in the shared buffers of
// network switches): n holders that take all they can get leave 1/(n+1) of the budget for the next one.
type admission struct {
	budget int64
	shared bool // slots are bounded for each holder too

	mu      sync.Mutex // guards what follows; nothing is taken after it
	used    int64
	holders map[string]*holder

	refused [refusalReasons]atomic.Uint64
}

// refusal is why a request was not admitted.
type refusal uint8

const (
	refusedBodies    refusal = iota // all bodies
	refusedOwnBodies                // those of one holder
	refusedSlots                    // all requests of a class
	refusedOwnSlots                 // those of one holder
	refusalReasons   = int(refusedOwnSlots) + 1
)

func (r refusal) String() string {
	return [refusalReasons]string{"bodies", "bodies_of_one", "slots", "slots_of_one"}[r]
}

// refuse counts a refusal and gives its answer: 429 if the holder has too much under way, 503 if all have.
func (a *admission) refuse(why refusal) error {
	a.refused[why].Add(1)
	e := mxerr.LimitExceeded(time.Second)
	if why != refusedOwnBodies && why != refusedOwnSlots {
		e = e.WithStatus(503)
	}
	return e
}

// enter gives the holder of a key; "" has none.
func (a *admission) enter(key string) *holder {
	if key == "" {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	h := a.holders[key]
	if h == nil {
		h = &holder{}
		a.holders[key] = h
	}
	h.users++
	return h
}

// leave gives back all that a request has taken.
func (a *admission) leave(key string, h *holder, bytes int64, class Limit, slot bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.used -= bytes
	if h == nil {
		return
	}
	h.bytes -= bytes
	if slot {
		h.slots[class]--
	}
	if h.users--; h.users == 0 {
		delete(a.holders, key)
	}
}

// take takes bytes of a body.
func (a *admission) take(h *holder, n, own int64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	free := a.budget - a.used - n
	switch {
	case free < 0:
		return a.refuse(refusedBodies)
	case h == nil:
	case h.bytes+n > own:
		return a.refuse(refusedOwnBodies)
	case h.bytes+n > free:
		return a.refuse(refusedBodies)
	default:
		h.bytes += n
	}
	a.used += n
	return nil
}

// slot takes a holder's slot of a class.
func (a *admission) slot(h *holder, class Limit) error {
	if h == nil || !a.shared {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if h.slots[class] >= defaultShare[class] {
		return a.refuse(refusedOwnSlots)
	}
	h.slots[class]++
	return nil
}

func (a *admission) inUse() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.used
}
