package clientsync

import (
	"context"
	"fmt"
	"sync"
	"time"

	"stoa/internal/store"
)

var waiters = sync.Pool{New: func() any { return &waiter{wake: make(chan struct{}, 1)} }}

// Sync answers one /sync: at once if there is something to tell, or if the request does not want to wait; otherwise when
// something happens, or when its time is over. The caller writes the answer.
//
// While it waits, a request holds one small struct under its user, and nothing else.
//
// Spec: client-server-api#syncing
func (h *Hub) Sync(ctx context.Context, req *Request) (*Answer, error) {
	if err := h.arrive(ctx, req); err != nil {
		return nil, err
	}
	deadline := h.clock().Add(min(req.Timeout, MaxTimeout))
	must := req.Timeout <= 0 || req.FullState || req.Since == nil
	c := newCursor(req.Since)
	for {
		a, reason, err := h.step(ctx, req, &c, deadline, must)
		if a != nil || err != nil {
			return a, err
		}
		must = must || reason != news
	}
}

// arrive takes note of a request: the device is there, and has what its token covers.
func (h *Hub) arrive(ctx context.Context, req *Request) error {
	if h.opt.Presence != nil {
		h.opt.Presence.Seen(ctx, req.Viewer, req.Presence)
	}
	if req.Since == nil {
		return nil
	}
	c := newCursor(req.Since)
	if h.opt.ToDevice != nil && c.toDevice > 0 {
		if err := h.opt.ToDevice.Acknowledge(ctx, req.Viewer, c.toDevice); err != nil {
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
	return nil
}

// step looks once, and answers or waits once.
func (h *Hub) step(ctx context.Context, req *Request, c *cursor, deadline time.Time, must bool) (*Answer, why, error) {
	if must {
		// Who does not wait expects to see what was acknowledged before.
		if err := h.Await(ctx, h.store.Head()); err != nil {
			return nil, 0, err
		}
	}
	u, err := h.user(ctx, req.Viewer)
	if err != nil {
		return nil, 0, err
	}
	p := plans.Get().(*plan)
	if c.since == 0 || req.FullState {
		p.fromStore = true
	} else {
		var w *waiter
		if !must {
			w = waiters.Get().(*waiter)
		}
		if ready := h.look(u, c, p, w, deadline); !ready && w != nil {
			p.release()
			return h.wait(ctx, w)
		} else if w != nil {
			waiters.Put(w)
		}
	}
	defer p.release()
	a, err := h.attempt(ctx, req, c, p, must)
	return a, news, err
}

// wait waits until the waiter is ended.
func (h *Hub) wait(ctx context.Context, w *waiter) (*Answer, why, error) {
	select {
	case <-w.wake:
		reason := w.why
		waiters.Put(w)
		return nil, reason, nil
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
	return nil, 0, ctx.Err()
}
