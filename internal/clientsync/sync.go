package clientsync

import (
	"context"
	"fmt"
	"sync"
	"time"

	"stoa/internal/store"
)

var waiters = sync.Pool{New: func() any { return &waiter{wake: make(chan struct{}, 1)} }}

// Patience is how long a request waits on its connection before it is parked.
const Patience = time.Second

// Sync answers one /sync: at once if there is something to tell, or if the request does not want to wait; otherwise when
// something happens, or when its time is over. The caller writes the answer.
//
// Spec: client-server-api#syncing
func (h *Hub) Sync(ctx context.Context, req *Request) (*Answer, error) {
	x, err := h.Begin(ctx, req)
	if err != nil {
		return nil, err
	}
	return x.Wait(ctx)
}

// Waiting is a request on its way to its answer. While it waits, it and one small struct under its user are all that it
// holds.
type Waiting struct {
	h        *Hub
	req      *Request
	c        cursor
	deadline time.Time
	// must says that there has to be an answer now, whatever it holds.
	must bool
}

// Begin takes a request in. The caller waits with Wait, or with Impatiently and then Parked.
func (h *Hub) Begin(ctx context.Context, req *Request) (*Waiting, error) {
	if err := h.arrive(ctx, req); err != nil {
		return nil, err
	}
	return &Waiting{
		h: h, req: req, c: newCursor(req.Since), deadline: h.clock().Add(min(req.Timeout, MaxTimeout)),
		must: req.Timeout <= 0 || req.FullState || req.Since == nil,
	}, nil
}

// Wait waits for the answer.
func (x *Waiting) Wait(ctx context.Context) (*Answer, error) {
	for {
		a, reason, err := x.step(ctx, x.deadline)
		if a != nil || err != nil {
			return a, err
		}
		x.must = x.must || reason != news
	}
}

// Impatiently waits for the answer, but no longer than Patience: nil if there is none yet.
func (x *Waiting) Impatiently(ctx context.Context) (*Answer, error) {
	end := x.h.clock().Add(Patience)
	for {
		a, reason, err := x.step(ctx, earlier(end, x.deadline))
		switch {
		case a != nil || err != nil:
			return a, err
		case reason == timedOut && end.Before(x.deadline):
			return nil, nil
		}
		x.must = x.must || reason != news
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// Line is a connection on which a client waits.
type Line interface {
	// Context is that of the work on the request at the moment.
	Context() context.Context
	// Wait has resume called in another goroutine, once: with true after Wake, which may have come before, or if the client
	// does something; with false if it has gone.
	Wait(resume func(here bool))
	// Wake ends Wait, now or when it is called. It does not block.
	Wake()
}

// Parked waits for the answer like Wait, on a line instead of in a goroutine, and gives it to done, then or before it
// returns. The answer is nil if the client has gone.
func (x *Waiting) Parked(line Line, done func(*Answer, error)) {
	ctx := line.Context()
	for {
		a, w, err := x.look(ctx, x.deadline, line)
		switch {
		case a != nil || err != nil:
			done(a, err)
			return
		case w == nil:
			continue
		}
		line.Wait(func(here bool) {
			reason := x.h.hangUp(w, here)
			if reason == hungUp {
				done(nil, nil)
				return
			}
			x.must = x.must || reason != news
			x.Parked(line, done)
		})
		return
	}
}

// arrive takes note of a request: the device is there, and has what its token covers.
func (h *Hub) arrive(ctx context.Context, req *Request) error {
	if h.opt.Presence != nil {
		h.opt.Presence.Seen(ctx, req.User, req.Presence)
	}
	if req.Since == nil {
		return nil
	}
	c := newCursor(req.Since)
	if h.opt.ToDevice != nil && c.toDevice > 0 {
		if err := h.opt.ToDevice.Acknowledge(ctx, req.Device, c.toDevice); err != nil {
			return fmt.Errorf("acknowledge messages to %s %s: %w", req.UserID, req.DeviceID, err)
		}
	}
	if store.Position(req.Since.Position) > h.Head() {
		// Another instance made the token, or this one just now: memory has to be as new. A token that is newer than the
		// store itself is answered like an initial sync.
		if store.Position(req.Since.Position) > h.store.Head() {
			if err := h.CatchUp(ctx); err != nil {
				return err
			}
		}
		if store.Position(req.Since.Position) <= h.store.Head() {
			return h.Await(ctx, store.Position(req.Since.Position))
		}
	}
	return h.awaitTold(ctx)
}

// step looks once, and answers or waits once, until a time at most.
func (x *Waiting) step(ctx context.Context, until time.Time) (*Answer, why, error) {
	a, w, err := x.look(ctx, until, nil)
	if w != nil {
		reason, err := x.h.wait(ctx, w)
		return nil, reason, err
	}
	return a, news, err
}

// look looks once, and answers, or makes a waiter wait until a time at most. It gives neither if there was nothing to tell
// after all.
func (x *Waiting) look(ctx context.Context, until time.Time, line Line) (*Answer, *waiter, error) {
	h := x.h
	if x.must {
		// Who does not wait expects to see what was acknowledged before.
		if err := h.Await(ctx, h.store.Head()); err != nil {
			return nil, nil, err
		}
	}
	u, err := h.user(ctx, x.req.Device)
	if err != nil {
		return nil, nil, err
	}
	p := plans.Get().(*plan)
	defer p.release()
	if x.c.since == 0 || x.req.FullState {
		p.fromStore = true
	} else {
		var w *waiter
		if !x.must {
			w = waiters.Get().(*waiter)
			w.line = line
		}
		if ready := h.look(u, &x.c, p, w, until); !ready && w != nil {
			return nil, w, nil
		} else if w != nil {
			w.line = nil
			waiters.Put(w)
		}
		if p.own[store.KindAccount] && x.req.Lasts != nil {
			if err := x.req.Lasts(ctx); err != nil {
				return nil, nil, err
			}
		}
	}
	a, err := h.attempt(ctx, x.req, &x.c, p, x.must)
	return a, nil, err
}

// wait waits until the waiter is ended.
func (h *Hub) wait(ctx context.Context, w *waiter) (why, error) {
	select {
	case <-w.wake:
		reason := w.why
		waiters.Put(w)
		return reason, nil
	case <-ctx.Done():
	}
	h.mu.Lock()
	h.detach(w)
	h.mu.Unlock()
	select {
	case <-w.wake: // ended just now
	default:
	}
	waiters.Put(w)
	return 0, ctx.Err()
}

// hangUp says why a wait on a line has ended, and ends it if it was the client that did something.
func (h *Hub) hangUp(w *waiter, here bool) why {
	h.mu.Lock()
	reason := w.why
	h.detach(w)
	h.mu.Unlock()
	switch {
	case !here:
		reason = hungUp
	case reason == stillWaiting:
		reason = timedOut // the client has sent something: it wants an answer
	}
	w.line = nil
	waiters.Put(w)
	return reason
}
