package push

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"stoa/internal/account"
	"stoa/internal/reader"
	"stoa/internal/store"
	"stoa/internal/store/pushdb"
	"stoa/internal/who"
)

const (
	// maxQueue bounds the queue of a pusher, and maxAge the age of what is in it.
	maxQueue = 1000
	maxAge   = 24 * time.Hour
	// asideAfter is how long a pusher fails before it is set aside, and asideEvery the time between tries after that.
	asideAfter = 3 * 24 * time.Hour
	asideEvery = 24 * time.Hour
	// perRun bounds the messages that one run of a job sends.
	perRun = 50
	// busyPause is the pause before a gateway without a free slot is asked again.
	busyPause = time.Second
	// deliversAtOnce bounds the jobs that an instance runs at a time. Each waits for one gateway at most, since a gateway that does
	// not answer gets one request after each pause.
	deliversAtOnce = 64
)

// Backoff is the pause between the tries of a pusher: First, then twice as long each time, up to Most.
type Backoff struct{ First, Most time.Duration }

func (b Backoff) after(tries int) time.Duration {
	pause := b.First
	for ; tries > 1 && pause < b.Most; tries-- {
		pause *= 2
	}
	return min(pause, b.Most)
}

// kindDeliver is the kind of jobs that deliver the queue of a pusher. The name is in the database.
const kindDeliver = "push.deliver"

// deliverJob delivers the queue of a pusher after a time. A job that waits already is due at the earlier of both times.
func (p *Push) deliverJob(pusher int64, after time.Duration) reader.Job {
	return reader.Job{Kind: kindDeliver, Key: strconv.FormatInt(pusher, 10), Unique: true, After: after}
}

// Jobs are the kinds of jobs that this package handles.
func (p *Push) Jobs() []reader.Kind {
	return []reader.Kind{{Name: kindDeliver, AtOnce: deliversAtOnce, Handle: p.deliverQueue}}
}

// waiting is the oldest message of a queue.
type waiting struct {
	user    who.User
	pusher  pushdb.Pusher
	data    data
	first   pushdb.Queued
	useless []pushdb.Queued // to be deleted
	expired int             // of them
	body    []byte          // nil: there is nothing to send
	unread  int64
}

// deliverQueue sends what waits in the queue of a pusher, oldest first. Each message leaves the queue in a commit of its own as
// soon as its gateway has taken it.
func (p *Push) deliverQueue(ctx context.Context, w *reader.Work) error {
	num, err := strconv.ParseInt(w.Key, 10, 64)
	if err != nil {
		return fmt.Errorf("the key of a job is no pusher: %w", err)
	}
	for range perRun {
		again, err := p.deliverNext(ctx, num)
		switch {
		case errors.Is(err, store.ErrNotFound), err == nil && again < 0:
			return nil // the pusher is gone, or its queue is empty
		case err != nil:
			return err
		case again > 0:
			w.Again(again)
			return nil
		}
	}
	w.Again(time.Millisecond)
	return nil
}

// deliverNext sends the next message of a pusher. It returns the time until the next try, 0 for at once, and -1 for none.
func (p *Push) deliverNext(ctx context.Context, num int64) (again time.Duration, err error) {
	var x waiting
	err = p.store.Read(ctx, func(read *store.Read) error {
		x, err = p.nextOf(read, num)
		return err
	})
	if err != nil {
		return 0, err
	}
	now := p.store.Now()
	switch pause := x.pusher.NextTS - now.UnixMilli(); {
	case len(x.useless) > 0:
		return 0, p.drop(ctx, x)
	case x.body == nil:
		return -1, nil
	case pause > 0:
		return time.Duration(pause) * time.Millisecond, nil
	}
	g := p.gateways.of(x.data.url)
	defer g.release()
	err = p.send(ctx, g, &x.data, x.pusher.Pushkey, x.body, false)
	if errors.Is(err, errPaused) {
		return max(busyPause, g.pauseLeft()), nil
	}
	if err != nil && ctx.Err() != nil {
		return 0, ctx.Err()
	}
	return p.note(context.WithoutCancel(ctx), x, err) // an answer is not lost because the server stops
}

// nextOf reads the next message of a pusher.
func (p *Push) nextOf(read *store.Read, num int64) (x waiting, err error) {
	if x.pusher, err = pushdb.PusherByNum(read, num); err != nil {
		return x, err
	}
	list, err := pushdb.Queue(read, num, perRun)
	if err != nil || len(list) == 0 {
		return x, err
	}
	owner, err := account.Of(read, x.pusher.User)
	if err != nil {
		return x, err
	}
	x.user = who.User{UserID: owner.UserID, UserNum: owner.Num}
	if x.data, err = parseData([]byte(x.pusher.Data)); err != nil || !x.pusher.Enabled {
		x.useless = list
		return x, nil
	}
	oldest := p.store.Now().Add(-maxAge).UnixMilli()
	for i, q := range list {
		expired := q.AddedTS < oldest
		if expired || q.Slot == 0 && i < len(list)-1 || p.answered.has(q) {
			x.useless = append(x.useless, q)
			if expired {
				x.expired++
			}
			continue
		}
		if len(x.useless) > 0 {
			return x, nil // first things first
		}
		m, err := p.messageOf(read, x.user, q)
		if errors.Is(err, errSkip) {
			x.useless = append(x.useless, q)
			continue
		}
		if err != nil {
			return x, err
		}
		x.unread = -1
		if !x.data.noBadge {
			if x.unread, err = p.opt.Unread.Unread(read, x.user); err != nil {
				return x, err
			}
			x.unread = p.counts.newest(x.user.UserNum, read.Head(), x.unread)
		}
		x.first = q
		x.body, err = m.body(&x.pusher, &x.data, x.unread)
		return x, err
	}
	return x, nil
}

// drop deletes messages that are not sent any more.
func (p *Push) drop(ctx context.Context, x waiting) error {
	c := store.NewChange()
	for _, q := range x.useless {
		pushdb.DropQueued(c, q)
	}
	p.metrics.dropped.Add(float64(x.expired))
	_, err := p.store.Commit(ctx, c)
	return err
}

// note records the answer of a gateway to a message of a queue.
func (p *Push) note(ctx context.Context, x waiting, answer error) (again time.Duration, err error) {
	c := store.NewChange()
	switch {
	case answer == nil:
		p.answered.add(x.first)
		pushdb.DropQueued(c, x.first)
		if x.pusher.Tries > 0 {
			pushdb.SetHealth(c, x.pusher.Num, pushdb.Health{})
		}
		if x.unread >= 0 {
			p.counts.tell(x.pusher.Num, x.unread)
			pushdb.SetBadge(c, []int64{x.pusher.Num}, x.unread > 0)
		}
	case errors.As(answer, new(rejectedError)):
		again = -1
		p.reject(c, &task{user: x.user, pusher: x.pusher})
	default:
		h := p.failure(x.pusher.Health, answer)
		again = p.opt.Backoff.after(h.Tries)
		if now := p.store.Now(); now.Sub(time.UnixMilli(h.FailingTS)) > asideAfter {
			again = -1
			h.AsideTS, h.NextTS = now.UnixMilli(), now.Add(asideEvery).UnixMilli()
			pushdb.DropQueue(c, x.pusher.Num)
			p.metrics.dropped.Inc()
			p.log.Warn("a pusher is set aside: its gateway fails", "user_id", x.user.UserID.String(), "err", h.Error)
		}
		pushdb.SetHealth(c, x.pusher.Num, h)
	}
	_, err = p.store.Commit(ctx, c)
	return again, err
}
