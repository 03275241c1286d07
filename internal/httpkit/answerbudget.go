package httpkit

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"stoa/matrix/mxerr"
)

const (
	// answerBytes is the memory for large answers in progress, in bytes, if Options don't
	// set it.
	answerBytes = 128 << 20
	// largeAnswer is the memory that a request of a route with Large takes before its
	// handler runs: a page of events, parsed and as text. Afterwards it takes the size of
	// its answer instead.
	largeAnswer = 4 << 20
	// countedAnswer is the size from which the answer of any route counts.
	countedAnswer = 64 << 10
	// answerPart is the part of the budget that one caller may take. One answer always
	// fits, because /state and /members of a large room have no pages.
	answerPart = 4
	// answerWait bounds the time that a request waits for memory. It holds nothing but its
	// connection and its slot meanwhile.
	answerWait = 10 * time.Second
)

// AnswerBudget bounds the memory of large answers, from before the handler reads anything
// until the client has taken all of it, or is cut off because it takes nothing.
//
// A caller may take at most as many bytes as remain free for everyone else (dynamic
// thresholds, as in admission). An answer that turns out larger than expected is counted,
// but not refused: its memory is in use already, and the next one waits instead.
type AnswerBudget struct {
	budget int64
	wait   time.Duration

	mu    sync.Mutex // guards the fields below; nothing is locked after it
	used  int64
	of    map[string]int64 // bytes of each caller
	freed chan struct{}    // closed when bytes are returned; nil if nobody waits

	refused, slow atomic.Uint64
}

// NewAnswerBudget returns an AnswerBudget of so many bytes; 0 = 128 MiB.
func NewAnswerBudget(budget int64) *AnswerBudget {
	if budget == 0 {
		budget = answerBytes
	}
	return &AnswerBudget{budget: budget, wait: answerWait, of: map[string]int64{}}
}

// Take takes n bytes, at most a part of the budget, for a caller ("" is none), and waits
// until they are free.
func (b *AnswerBudget) Take(ctx context.Context, key string, n int64) error {
	var timeout <-chan time.Time
	for {
		freed := b.try(key, n)
		if freed == nil {
			return nil
		}
		if timeout == nil {
			timer := time.NewTimer(b.wait)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return ctx.Err()
		case <-timeout:
			b.refused.Add(1)
			return mxerr.LimitExceeded(time.Second).WithStatus(503)
		}
	}
}

// TryTake takes n bytes for a caller if they are free.
func (b *AnswerBudget) TryTake(key string, n int64) error {
	if b.try(key, n) == nil {
		return nil
	}
	b.refused.Add(1)
	return mxerr.LimitExceeded(time.Second).WithStatus(503)
}

// try takes n bytes, or returns a channel that is closed when bytes are returned.
func (b *AnswerBudget) try(key string, n int64) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	own, free := b.of[key], b.budget-b.used-n
	if free >= 0 && (own == 0 || key == "" || own+n <= min(b.budget/answerPart, free)) {
		b.used += n
		b.of[key] = own + n
		return nil
	}
	if b.freed == nil {
		b.freed = make(chan struct{})
	}
	return b.freed
}

// Add counts n more bytes of a caller, or fewer if n is negative.
func (b *AnswerBudget) Add(key string, n int64) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used += n
	if b.of[key] += n; b.of[key] == 0 {
		delete(b.of, key)
	}
	if n < 0 && b.freed != nil {
		close(b.freed)
		b.freed = nil
	}
}

func (b *AnswerBudget) inUse() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// reserve takes the memory for a large answer before the handler runs.
func (x *exchange) reserve() error {
	large := x.route.Large
	if large == nil || !large(x.r) {
		return nil
	}
	b := x.mux.answers
	n := min(int64(largeAnswer), b.budget/answerPart)
	if err := b.Take(x.r.Context(), x.key, n); err != nil {
		return err
	}
	x.answerBytes = n
	return nil
}

// sized counts an answer whose size is known now. It replaces what reserve has taken.
func (x *exchange) sized(size int) {
	n := int64(size)
	if n < countedAnswer {
		n = 0
	}
	x.mux.answers.Add(x.key, n-x.answerBytes)
	x.answerBytes = n
}

// countSlow counts a client that was cut off because it did not take its answer in time.
func (x *exchange) countSlow(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		x.mux.answers.slow.Add(1)
	}
}
