package httpkit

import (
	"sync"
	"sync/atomic"
	"time"

	"stoa/matrix/mxerr"
)

const (
	// bodyBudget is the memory for all request bodies in progress, in bytes, if Options
	// don't set it.
	bodyBudget = 64 << 20
	// userBodies is the share of one user: two bodies of keys, or eight ordinary ones.
	userBodies = 8 << 20
	// addressBodies is the share of one address without a token: 400 logins whose bodies
	// have not arrived yet. A whole lecture hall may log in from one address, but a body
	// usually comes in one packet with its headers.
	addressBodies = 4 << 20
	// requestBytes is the cost of a request beside its body while the body arrives: the
	// buffers of the connection, the headers, the stack.
	requestBytes = 8 << 10
)

// defaultShare bounds the concurrent requests of each class of one user, or of one
// address without a token. Clients have one long poll for each device and less than ten
// other requests.
var defaultShare = [limitClasses]int64{
	LimitPlain:    256,
	LimitLongPoll: 256,
	LimitLogin:    128,
	LimitRegister: 128,
	LimitLookup:   512,
}

// holder is the state of one user or one address.
type holder struct {
	bytes int64
	slots [limitClasses]int64
	users int // requests that refer to it
}

// admission bounds the memory of request bodies and the number of requests in progress,
// in total and for each holder.
//
// A holder may take at most as many bytes as remain free (dynamic thresholds, as in the
// shared buffers of network switches): if n holders take all they can get, 1/(n+1) of the
// budget remains for the next one.
type admission struct {
	budget int64
	shared bool // bound the slots of each holder too

	mu      sync.Mutex // guards the fields below; nothing is locked after it
	used    int64
	holders map[string]*holder

	refused [refusalReasons]atomic.Uint64
}

// refusal is the reason why a request was refused.
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

// refuse counts a refusal and returns its error: 429 if the holder has reached a bound of
// its own, 503 if the server has reached one.
func (a *admission) refuse(why refusal) error {
	a.refused[why].Add(1)
	e := mxerr.LimitExceeded(time.Second)
	if why != refusedOwnBodies && why != refusedOwnSlots {
		e = e.WithStatus(503)
	}
	return e
}

// enter returns the holder of a key; "" has none.
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

// leave returns everything that a request has taken.
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

// take takes bytes for a body.
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

// slot takes a slot of a class for a holder.
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
