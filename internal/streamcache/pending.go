package streamcache

import (
	"context"
	"time"
)

// ParkAfter is how long a request waits on its connection before it is parked.
const ParkAfter = time.Second

// Attempt checks once whether there is news for a request, and answers, or returns a waiter that waits until a time at most. It
// returns neither if there turned out to be nothing new. With must there has to be an answer, even an empty one. conn is nil for a
// waiting goroutine.
type Attempt interface {
	Attempt(ctx context.Context, until time.Time, conn Conn, must bool) (*Answer, *Waiter, error)
}

// Pending is a request that is not answered yet. While it waits, it holds nothing but its attempt and one small struct under its user.
type Pending struct {
	cache    *Cache
	attempt  Attempt
	deadline time.Time
	must     bool
}

// Pending returns a request that waits for news; with must it does not wait.
func (sc *Cache) Pending(a Attempt, timeout time.Duration, must bool) *Pending {
	return &Pending{cache: sc, attempt: a, deadline: sc.clock().Add(min(timeout, MaxTimeout)), must: must || timeout <= 0}
}

// Wait waits for the answer.
func (x *Pending) Wait(ctx context.Context) (*Answer, error) {
	for {
		a, reason, err := x.checkAndWait(ctx, x.deadline)
		if a != nil || err != nil {
			return a, err
		}
		x.must = x.must || reason != News
	}
}

// WaitBriefly waits for the answer, but no longer than ParkAfter: nil if there is none yet.
func (x *Pending) WaitBriefly(ctx context.Context) (*Answer, error) {
	end := x.cache.clock().Add(ParkAfter)
	for {
		a, reason, err := x.checkAndWait(ctx, earlier(end, x.deadline))
		switch {
		case a != nil || err != nil:
			return a, err
		case reason == TimedOut && end.Before(x.deadline):
			return nil, nil
		}
		x.must = x.must || reason != News
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
func (x *Pending) Parked(conn Conn, done func(*Answer, error)) {
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
			if reason == HungUp {
				done(nil, nil)
				return
			}
			x.must = x.must || reason != News
			x.Parked(conn, done)
		})
		return
	}
}

// checkAndWait checks for news once, and answers, or waits once, until a time at most.
func (x *Pending) checkAndWait(ctx context.Context, until time.Time) (*Answer, Reason, error) {
	a, w, err := x.check(ctx, until, nil)
	if w != nil {
		reason, err := w.Wait(ctx)
		return nil, reason, err
	}
	return a, News, err
}

func (x *Pending) check(ctx context.Context, until time.Time, conn Conn) (*Answer, *Waiter, error) {
	if x.must {
		// Who does not wait expects to see what was acknowledged before.
		if err := x.cache.AwaitOwn(ctx); err != nil {
			return nil, nil, err
		}
	}
	return x.attempt.Attempt(ctx, until, conn, x.must)
}
