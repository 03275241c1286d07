package clientsync

import (
	"context"
	"fmt"
	"time"

	"stoa/internal/store"
	"stoa/internal/streamcache"
)

// Sync answers one /sync: at once if there is news or the request does not want to wait, otherwise when something happens or its
// timeout ends. The caller writes the answer.
//
// Spec: client-server-api#syncing
func (r *Renderer) Sync(ctx context.Context, req *Request) (*streamcache.Answer, error) {
	x, err := r.Begin(ctx, req)
	if err != nil {
		return nil, err
	}
	return x.Wait(ctx)
}

// pendingSync is a request that is not answered yet.
type pendingSync struct {
	r   *Renderer
	req *Request
	c   streamcache.Cursor
	// checked is set after the first check for news.
	checked bool
}

// Begin begins a request. The caller waits for its answer.
func (r *Renderer) Begin(ctx context.Context, req *Request) (*streamcache.Pending, error) {
	if err := r.acknowledge(ctx, req); err != nil {
		return nil, err
	}
	x := &pendingSync{r: r, req: req, c: streamcache.NewCursor(req.Since)}
	return r.cache.Pending(x, req.Timeout, req.FullState || req.Since == nil), nil
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

// Attempt implements streamcache.Attempt.
func (x *pendingSync) Attempt(ctx context.Context, until time.Time, conn streamcache.Conn, must bool) (*streamcache.Answer, *streamcache.Waiter, error) {
	p := streamcache.NewDelta()
	defer p.Release()
	w, err := x.r.cache.CheckOrWait(ctx, x.req.Device, &x.c, p, streamcache.WaitFor{First: !x.checked, Whole: x.req.FullState, Wait: !must, Conn: conn, Until: until})
	x.checked = true
	if w != nil || err != nil {
		return nil, w, err
	}
	if p.Own[store.KindAccount] && x.req.Lasts != nil {
		if err := x.req.Lasts(ctx); err != nil {
			return nil, nil, err
		}
	}
	memory := x.r.opt.Memory
	if conn == nil && (x.req.Since == nil || x.req.FullState) {
		memory = nil // see Options.Memory
	}
	a, err := x.r.buildAnswer(ctx, x.req, &x.c, p, memory, must)
	return a, nil, err
}
