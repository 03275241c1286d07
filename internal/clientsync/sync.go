package clientsync

import (
	"context"
	"fmt"
	"time"

	"stoa/internal/store"
	"stoa/internal/streamcache"
)

// Patience is how long a request waits on its connection before it is parked.
const Patience = time.Second

// Sync answers one /sync: at once if there is something to tell, or if the request does not want to wait; otherwise when
// something happens, or when its time is over. The caller writes the answer.
//
// Spec: client-server-api#syncing
func (r *Renderer) Sync(ctx context.Context, req *Request) (*Answer, error) {
	x, err := r.Begin(ctx, req)
	if err != nil {
		return nil, err
	}
	return x.Wait(ctx)
}

// Waiting is a request on its way to its answer. While it waits, it and one small struct under its user are all that it
// holds.
type Waiting struct {
	r        *Renderer
	req      *Request
	c        streamcache.Cursor
	deadline time.Time
	// must says that there has to be an answer now, whatever it holds.
	must bool
	// looked is set after the first look at what is new.
	looked bool
}

// Begin takes a request in. The caller waits with Wait, or with Impatiently and then Parked.
func (r *Renderer) Begin(ctx context.Context, req *Request) (*Waiting, error) {
	if err := r.arrive(ctx, req); err != nil {
		return nil, err
	}
	return &Waiting{
		r: r, req: req, c: streamcache.NewCursor(req.Since), deadline: r.clock().Add(min(req.Timeout, streamcache.MaxTimeout)),
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
		x.must = x.must || reason != streamcache.News
	}
}

// Impatiently waits for the answer, but no longer than Patience: nil if there is none yet.
func (x *Waiting) Impatiently(ctx context.Context) (*Answer, error) {
	end := x.r.clock().Add(Patience)
	for {
		a, reason, err := x.step(ctx, earlier(end, x.deadline))
		switch {
		case a != nil || err != nil:
			return a, err
		case reason == streamcache.TimedOut && end.Before(x.deadline):
			return nil, nil
		}
		x.must = x.must || reason != streamcache.News
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// Parked waits for the answer like Wait, on a conn instead of in a goroutine, and gives it to done, then or before it
// returns. The answer is nil if the client has gone.
func (x *Waiting) Parked(conn streamcache.Conn, done func(*Answer, error)) {
	ctx := conn.Context()
	for {
		a, w, err := x.look(ctx, x.deadline, conn)
		switch {
		case a != nil || err != nil:
			done(a, err)
			return
		case w == nil:
			continue
		}
		conn.Wait(func(here bool) {
			reason := w.HangUp(here)
			if reason == streamcache.HungUp {
				done(nil, nil)
				return
			}
			x.must = x.must || reason != streamcache.News
			x.Parked(conn, done)
		})
		return
	}
}

// arrive takes note of a request: the device is there, and has what its token covers.
func (r *Renderer) arrive(ctx context.Context, req *Request) error {
	if r.opt.Presence != nil {
		r.opt.Presence.Seen(ctx, req.User, req.Presence)
	}
	if req.Since == nil {
		return nil
	}
	c := streamcache.NewCursor(req.Since)
	if r.opt.ToDevice != nil && c.ToDevice > 0 {
		if err := r.opt.ToDevice.Acknowledge(ctx, req.Device, c.ToDevice); err != nil {
			return fmt.Errorf("acknowledge messages to %s %s: %w", req.UserID, req.DeviceID, err)
		}
	}
	return r.cache.AwaitToken(ctx, store.Position(req.Since.Position))
}

// step looks once, and answers or waits once, until a time at most.
func (x *Waiting) step(ctx context.Context, until time.Time) (*Answer, streamcache.Reason, error) {
	a, w, err := x.look(ctx, until, nil)
	if w != nil {
		reason, err := w.Wait(ctx)
		return nil, reason, err
	}
	return a, streamcache.News, err
}

// look looks once, and answers, or makes a waiter wait until a time at most. It gives neither if there was nothing to tell
// after all.
func (x *Waiting) look(ctx context.Context, until time.Time, conn streamcache.Conn) (*Answer, *streamcache.Waiter, error) {
	cache := x.r.cache
	if x.must {
		// Who does not wait expects to see what was acknowledged before.
		if err := cache.AwaitOwn(ctx); err != nil {
			return nil, nil, err
		}
	}
	p := streamcache.NewDelta()
	defer p.Release()
	w, err := cache.CheckOrWait(ctx, x.req.Device, &x.c, p, streamcache.WaitFor{First: !x.looked, Whole: x.req.FullState, Wait: !x.must, Conn: conn, Until: until})
	x.looked = true
	if w != nil || err != nil {
		return nil, w, err
	}
	if p.Own[store.KindAccount] && x.req.Lasts != nil {
		if err := x.req.Lasts(ctx); err != nil {
			return nil, nil, err
		}
	}
	a, err := x.r.attempt(ctx, x.req, &x.c, p, x.must)
	return a, nil, err
}
