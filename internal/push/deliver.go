package push

import (
	"context"
	"errors"
	"sync"
	"time"

	"stoa/internal/reader"
	"stoa/internal/store"
	"stoa/internal/store/pushdb"
	"stoa/internal/who"
)

const (
	// stallTime is how long a batch waits for a gateway that does not answer, and holdTime how long for all that do.
	stallTime = time.Second
	holdTime  = 5 * time.Second
	// stopTime bounds the wait for answers when the server stops.
	stopTime = 2 * time.Second
	// userPage is the number of users whose pushers and counts are read in one snapshot.
	userPage = 200
	// lateTime bounds the wait for the commit of a row that an answer came after.
	lateTime = 5 * time.Second
)

// delivery sends the messages of one batch: those that gateways take at once leave no trace. The rest goes to the queues of
// their pushers, in the commit that moves the cursor.
type delivery struct {
	p   *Push
	ctx context.Context // of the requests; it outlives the batch

	mu      sync.Mutex // guards all below, and the state of each task
	tasks   []*task
	waiting map[*gateway][]*task
	workers map[*gateway]int
	open    int // tasks that wait or run
	closed  bool
	changed chan struct{} // capacity 1
	started time.Time
}

// task is the messages of one pusher, sent one after the other.
type task struct {
	user     who.User
	pusher   pushdb.Pusher
	data     data
	since    store.Position // of the pusher: earlier events are not its business
	unread   int64          // -1: the client counts
	head     store.Position // of the snapshot in which it was counted
	gateway  *gateway
	queue    []pushdb.Queued // one for each message
	messages []*message

	done    int  // messages that were taken
	running bool // a request is under way
	late    bool // it was when the batch ended
	queued  bool // nothing is sent: the messages go to the queue
	err     error
	after   time.Duration // of the job, if there is one
}

// deliver sends what users are owed, and adds to a change what remains to be done.
func (p *Push) deliver(ctx context.Context, users []*recipient, c *store.Change) error {
	d := &delivery{
		p: p, ctx: p.running, waiting: map[*gateway][]*task{}, workers: map[*gateway]int{}, changed: make(chan struct{}, 1), started: time.Now(),
	}
	defer d.release()
	for len(users) > 0 {
		n := min(userPage, len(users))
		if err := d.page(ctx, users[:n]); err != nil {
			d.wait(ctx)
			return err // what was answered meanwhile is remembered
		}
		users = users[n:]
	}
	d.wait(ctx)
	return d.record(c)
}

// page reads the pushers of some users, and begins to send.
func (d *delivery) page(ctx context.Context, users []*recipient) error {
	nums := make([]store.UserNum, len(users))
	for i, u := range users {
		nums[i] = u.UserNum
	}
	var tasks []*task
	err := d.p.store.Read(ctx, func(read *store.Read) error {
		pushers, err := pushdb.Pushers(read, nums...)
		if err != nil {
			return err
		}
		byUser := map[store.UserNum][]pushdb.Pusher{}
		for _, x := range pushers {
			byUser[x.User] = append(byUser[x.User], x)
		}
		for _, u := range users {
			more, err := d.p.tasks(read, u, byUser[u.UserNum])
			if err != nil {
				return err
			}
			tasks = append(tasks, more...)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, t := range tasks {
		d.add(t)
	}
	return nil
}

// tasks are what the pushers of a user have to do.
func (p *Push) tasks(read *store.Read, u *recipient, pushers []pushdb.Pusher) (list []*task, err error) {
	unread := int64(-1)
	now := p.store.Now().UnixMilli()
	for _, x := range pushers {
		if !x.Enabled || x.Kind != KindHTTP {
			continue
		}
		if x.AsideTS != 0 && now < x.NextTS {
			p.metrics.dropped.Add(float64(len(u.messages)))
			continue
		}
		t := &task{user: u.User, pusher: x, unread: -1, head: read.Head()}
		if err := t.parse(); err != nil {
			p.log.Error("a pusher has data that can't be read", "user_id", u.UserID.String(), "err", err)
			continue
		}
		if !t.data.noBadge {
			if unread < 0 {
				if unread, err = p.opt.Unread.Unread(read, u.User); err != nil {
					return nil, err
				}
				unread = p.counts.newest(u.UserNum, t.head, unread)
			}
			t.unread = unread
		}
		p.fill(t, u, now)
		if len(t.queue) > 0 {
			list = append(list, t)
		}
	}
	return list, nil
}

// parse reads what is stored as JSON of the pusher.
func (t *task) parse() (err error) {
	if t.data, err = parseData([]byte(t.pusher.Data)); err != nil {
		return err
	}
	details, err := parseDetails(t.pusher.Details)
	t.since = details.Since
	return err
}

// fill gives a task its messages.
func (p *Push) fill(t *task, u *recipient, now int64) {
	x := &t.pusher
	t.queued = x.Queued || x.Tries > 0
	if t.queued {
		t.after = time.Duration(max(0, x.NextTS-now)) * time.Millisecond
	}
	for i := range u.messages {
		m := &u.messages[i]
		q := pushdb.Queued{Pusher: x.Num, Pos: m.notice.pos, Slot: m.notice.slot, Event: m.notice.event, Tweaks: m.tweaks}
		if q.Pos > t.since && !p.answered.has(q) { // it was answered before a commit that failed
			t.queue, t.messages = append(t.queue, q), append(t.messages, m)
		}
	}
	if len(u.messages) == 0 && u.counts && p.needsCounts(t) {
		t.queue, t.messages = []pushdb.Queued{{Pusher: x.Num}}, []*message{{}}
	}
}

// needsCounts reports whether a phone shows a greater number of unread events than there are. Another instance may have told it
// a number that this one does not know; it is corrected with the next message, or when nothing is unread.
func (p *Push) needsCounts(t *task) bool {
	if t.unread < 0 || !t.pusher.Badge {
		return false
	}
	shown, known := p.counts.shown(t.pusher.Num)
	return !known || t.unread == 0 || t.unread < shown
}

// add begins a task, or leaves it to a job if its gateway is slow.
func (d *delivery) add(t *task) {
	t.gateway = d.p.gateways.of(t.data.url)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tasks = append(d.tasks, t)
	if !t.queued && !t.gateway.isFast() {
		t.queued = true
		t.after = t.gateway.pauseLeft()
	}
	if t.queued {
		return
	}
	if d.workers[t.gateway] < perGateway {
		if !d.p.begin(func() { d.work(t.gateway) }) {
			t.queued = true
			return
		}
		d.workers[t.gateway]++
	}
	d.open++
	d.waiting[t.gateway] = append(d.waiting[t.gateway], t)
}

// work sends for one gateway until nothing waits.
func (d *delivery) work(g *gateway) {
	for {
		d.mu.Lock()
		list := d.waiting[g]
		if len(list) == 0 || d.closed {
			d.workers[g]--
			d.mu.Unlock()
			return
		}
		t := list[0]
		d.waiting[g] = list[1:]
		t.running = true
		d.mu.Unlock()
		d.send(t)
	}
}

// send sends the messages of a task until one is not taken, or the batch has ended.
func (d *delivery) send(t *task) {
	for n := range t.queue {
		unread := t.unread
		if unread >= 0 {
			unread = d.p.counts.newest(t.user.UserNum, t.head, unread)
		}
		body, err := t.messages[n].body(&t.pusher, &t.data, unread)
		if err == nil {
			err = d.p.send(d.ctx, t.gateway, &t.data, t.pusher.Pushkey, body, true)
		}
		if err == nil {
			d.p.answered.add(t.queue[n])
		}
		d.mu.Lock()
		if err == nil {
			t.unread = unread
		}
		if d.closed {
			d.mu.Unlock()
			d.p.late(d.ctx, t, t.queue[n], err)
			return
		}
		if err == nil {
			t.done++
		}
		last := err != nil || t.done == len(t.queue)
		if last {
			t.err, t.running = err, false
			d.open--
		}
		d.mu.Unlock()
		select {
		case d.changed <- struct{}{}:
		default:
		}
		if last {
			return
		}
	}
}

// wait waits until all is sent, the gateways that are left don't answer, or a batch has taken too long. What is under way then
// goes on.
func (d *delivery) wait(ctx context.Context) {
	tick := time.NewTicker(stallTime / 10)
	defer tick.Stop()
	stop := ctx.Done()
	end := d.started.Add(holdTime)
	for {
		d.mu.Lock()
		now := time.Now()
		if d.open == 0 || now.After(end) || d.stalled(now) {
			d.close(now)
			d.mu.Unlock()
			return
		}
		d.mu.Unlock()
		select {
		case <-d.changed:
		case <-tick.C:
		case <-stop:
			stop, end = nil, time.Now().Add(stopTime)
			d.mu.Lock()
			for g, list := range d.waiting { // nothing new begins
				d.waiting[g] = nil
				d.open -= len(list)
			}
			d.mu.Unlock()
		}
	}
}

// stalled reports whether no gateway that has work left answers. Called with the lock held.
func (d *delivery) stalled(now time.Time) bool {
	for _, t := range d.tasks {
		if t.isOpen() && !d.isStalled(t.gateway, now) {
			return false
		}
	}
	return true
}

func (d *delivery) isStalled(g *gateway, now time.Time) bool {
	since := d.started
	if last := g.lastAnswer(); last.After(since) {
		since = last
	}
	return now.Sub(since) >= stallTime
}

// isOpen reports whether the messages of a task are neither all taken nor refused.
func (t *task) isOpen() bool { return !t.queued && t.err == nil && t.done < len(t.queue) }

// close ends the batch. Called with the lock held.
func (d *delivery) close(now time.Time) {
	d.closed = true
	for _, t := range d.tasks {
		if !t.isOpen() {
			continue
		}
		if d.isStalled(t.gateway, now) {
			t.gateway.markSlow()
		}
		if t.running { // its answer decides; if that is lost, the job sends again
			t.late, t.after = true, d.p.opt.Timeout+time.Second
		}
	}
}

// release ends the use of the gateways.
func (d *delivery) release() {
	for _, t := range d.tasks {
		t.gateway.release()
	}
}

// record adds to a change what the answers mean: pushers that are deleted or fail, and queues.
func (d *delivery) record(c *store.Change) error {
	p := d.p
	var shows, clears []int64
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range d.tasks {
		x := &t.pusher
		if t.done > 0 && t.unread >= 0 {
			p.counts.tell(x.Num, t.unread)
			switch {
			case t.unread > 0 && !x.Badge:
				shows = append(shows, x.Num)
			case t.unread == 0 && x.Badge:
				clears = append(clears, x.Num)
			}
		}
		switch {
		case errors.As(t.err, new(rejectedError)):
			p.reject(c, t)
			continue
		case errors.Is(t.err, errPaused):
			t.after = t.gateway.pauseLeft()
		case t.late: // nobody else sends meanwhile
			h := x.Health
			h.NextTS = p.store.Now().Add(t.after).UnixMilli()
			pushdb.SetHealth(c, x.Num, h)
		case t.err != nil && d.ctx.Err() == nil:
			h := p.failure(x.Health, t.err)
			pushdb.SetHealth(c, x.Num, h)
			t.after = p.opt.Backoff.after(h.Tries)
		}
		if err := p.enqueue(c, t); err != nil {
			return err
		}
	}
	pushdb.SetBadge(c, shows, true)
	pushdb.SetBadge(c, clears, false)
	return nil
}

// enqueue adds what is left of a task to the queue of its pusher.
func (p *Push) enqueue(c *store.Change, t *task) error {
	left := t.queue[t.done:]
	if len(left) == 0 {
		return nil
	}
	for _, q := range left {
		if q.Slot == 0 {
			q.Pos = store.Position(p.store.Now().UnixMicro()) // after all that wait
		}
		pushdb.AddQueued(c, q)
	}
	p.metrics.queued.Add(float64(len(left)))
	pushdb.TrimQueue(c, t.pusher.Num, p.opt.MaxQueue)
	return reader.Enqueue(c, p.deliverJob(t.pusher.Num, t.after))
}

// reject deletes a pusher that its gateway does not know any more.
//
// Spec: push-gateway-api#post_matrixpushv1notify
func (p *Push) reject(c *store.Change, t *task) {
	p.log.Info("a pusher was deleted: its gateway has rejected the pushkey", "user_id", t.user.UserID.String())
	pushdb.DeletePusher(c, pushdb.Owner{Num: t.pusher.Num, User: t.pusher.User})
}

// failure is the health of a pusher after a try that failed.
func (p *Push) failure(h pushdb.Health, err error) pushdb.Health {
	now := p.store.Now()
	h.Tries++
	if h.FailingTS == 0 {
		h.FailingTS = now.UnixMilli()
	}
	h.NextTS = now.Add(p.opt.Backoff.after(h.Tries)).UnixMilli()
	h.Error = plain(err.Error(), reasonBytes)
	return h
}

// errMissing says that a row of a queue is not there.
var errMissing = errors.New("push: the row is not there")

// late records an answer that came after its batch had ended, so that the message is in a queue.
func (p *Push) late(ctx context.Context, t *task, q pushdb.Queued, err error) {
	if ctx.Err() != nil || q.Slot == 0 {
		return // the job sends again
	}
	for end := time.Now().Add(lateTime); time.Now().Before(end) && ctx.Err() == nil; {
		c := store.NewChange()
		switch {
		case err == nil:
			pushdb.TakeQueued(c, q, errMissing)
			pushdb.SetHealth(c, t.pusher.Num, pushdb.Health{})
			if t.unread >= 0 {
				p.counts.tell(t.pusher.Num, t.unread)
				pushdb.SetBadge(c, []int64{t.pusher.Num}, t.unread > 0)
			}
			err := reader.Enqueue(c, p.deliverJob(t.pusher.Num, 0))
			if err != nil {
				return
			}
		case errors.As(err, new(rejectedError)):
			p.reject(c, t)
		default:
			pushdb.SetHealth(c, t.pusher.Num, p.failure(t.pusher.Health, err))
		}
		if _, failed := p.store.Commit(ctx, c); !errors.Is(failed, errMissing) {
			return // done, or the job finds out
		}
		select {
		case <-time.After(50 * time.Millisecond): // the batch is about to be committed
		case <-ctx.Done():
		}
	}
}
