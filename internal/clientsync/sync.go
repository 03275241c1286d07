package clientsync

import (
	"context"
	"fmt"
	"time"

	"stoa/internal/store"
	"stoa/internal/streamcache"
)

// ParkAfter is how long a request waits on its connection before it is parked.
const ParkAfter = time.Second

// Sync answers one /sync: at once if there is news or the request does not want to wait, otherwise when something happens or its
// timeout ends. The caller writes the answer.
//
// Spec: client-server-api#syncing
func (r *Renderer) Sync(ctx context.Context, req *Request) (*Answer, error) {
	x, err := r.Begin(ctx, req)
	if err != nil {
		return nil, err
	}
	return x.Wait(ctx)
}

// PendingSync is a request that is not answered yet. While it waits, it holds nothing but this and one small struct under its user.
type PendingSync struct {
	r        *Renderer
	req      *Request
	c        streamcache.Cursor
	deadline time.Time
	// answerNow is set if there has to be an answer now, even an empty one.
	answerNow bool
	// checked is set after the first check for news.
	checked bool
}

// Begin begins a request. The caller waits with Wait, or with WaitBriefly and then Parked.
func (r *Renderer) Begin(ctx context.Context, req *Request) (*PendingSync, error) {
	if err := r.acknowledge(ctx, req); err != nil {
		return nil, err
	}
	return &PendingSync{
		r: r, req: req, c: streamcache.NewCursor(req.Since), deadline: r.clock().Add(min(req.Timeout, streamcache.MaxTimeout)),
		answerNow: req.Timeout <= 0 || req.FullState || req.Since == nil,
	}, nil
}

// Wait waits for the answer.
func (x *PendingSync) Wait(ctx context.Context) (*Answer, error) {
	for {
		a, reason, err := x.checkAndWait(ctx, x.deadline)
		if a != nil || err != nil {
			return a, err
		}
		x.answerNow = x.answerNow || reason != streamcache.News
	}
}

// WaitBriefly waits for the answer, but no longer than ParkAfter: nil if there is none yet.
func (x *PendingSync) WaitBriefly(ctx context.Context) (*Answer, error) {
	end := x.r.clock().Add(ParkAfter)
	for {
		a, reason, err := x.checkAndWait(ctx, earlier(end, x.deadline))
		switch {
		case a != nil || err != nil:
			return a, err
		case reason == streamcache.TimedOut && end.Before(x.deadline):
			return nil, nil
		}
		x.answerNow = x.answerNow || reason != streamcache.News
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// Parked waits for the answer like Wait, on a connection instead of in a goroutine, and passes it to done, before or after it
// returns. The answer is nil if the client has gone.
func (x *PendingSync) Parked(conn streamcache.Conn, done func(*Answer, error)) {
	ctx := conn.Context()
	for {
		a, w, err := x.check(ctx, x.deadline, conn)
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
			x.answerNow = x.answerNow || reason != streamcache.News
			x.Parked(conn, done)
		})
		return
	}
}

// acknowledge records that the device is connected and has what its token covers.
func (r *Renderer) acknowledge(ctx context.Context, req *Request) error {
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

// checkAndWait checks for news once, and answers, or waits once, until a time at most.
func (x *PendingSync) checkAndWait(ctx context.Context, until time.Time) (*Answer, streamcache.Reason, error) {
	a, w, err := x.check(ctx, until, nil)
	if w != nil {
		reason, err := w.Wait(ctx)
		return nil, reason, err
	}
	return a, streamcache.News, err
}

// check checks for news once, and answers, or returns a waiter that waits until a time at most. It returns neither if there turned
// out to be nothing new.
func (x *PendingSync) check(ctx context.Context, until time.Time, conn streamcache.Conn) (*Answer, *streamcache.Waiter, error) {
	cache := x.r.cache
	if x.answerNow {
		// Who does not wait expects to see what was acknowledged before.
		if err := cache.AwaitOwn(ctx); err != nil {
			return nil, nil, err
		}
	}
	p := streamcache.NewDelta()
	defer p.Release()
	w, err := cache.CheckOrWait(ctx, x.req.Device, &x.c, p, streamcache.WaitFor{First: !x.checked, Whole: x.req.FullState, Wait: !x.answerNow, Conn: conn, Until: until})
	x.checked = true
	if w != nil || err != nil {
		return nil, w, err
	}
	if p.Own[store.KindAccount] && x.req.Lasts != nil {
		if err := x.req.Lasts(ctx); err != nil {
			return nil, nil, err
		}
	}
	a, err := x.r.buildAnswer(ctx, x.req, &x.c, p, x.answerNow)
	return a, nil, err
}
