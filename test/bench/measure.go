package main

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"stoa/matrix/id"
)

// webFilter is what web clients sync with.
const webFilter = `{"room":{"timeline":{"limit":20,"unread_thread_notifications":true},"state":{"lazy_load_members":true}}}`

// sendSet is the data set of the sends: all senders in each of 100 rooms.
func (b *bench) sendSet(ctx context.Context, database string, senders int) (d *dataset, rooms []id.RoomID, err error) {
	d, err = b.seeded(ctx, "sends", database, func(d *dataset) error {
		if err := d.addUsers(ctx, senders); err != nil {
			return err
		}
		rooms, err = d.addRooms(ctx, 100, 0, func(int) []int { return all(0, senders) })
		return err
	})
	return d, rooms, err
}

// measureSends lets some senders write to some rooms; it gives the CPU of the
// server and that of the client.
func (b *bench) measureSends(p *process, tokens, rooms []string, seconds float64) (r sendResult, server, client time.Duration, err error) {
	return b.measureSendsTo(fleet{p}, tokens, rooms, seconds)
}

// measureSendsTo is measureSends with the senders spread over instances.
func (b *bench) measureSendsTo(f fleet, tokens, rooms []string, seconds float64) (r sendResult, servers, client time.Duration, err error) {
	before, err := f.cpu()
	if err != nil {
		return r, 0, 0, err
	}
	b.runs++
	defer b.profile(f, seconds)()
	client, err = runLoadProcess("send", sendSpec{
		Addrs: f.addrs(), Tokens: tokens, Rooms: rooms, Seconds: seconds, Size: 200, Prefix: fmt.Sprintf("b%d.", b.runs),
	}, &r)
	if err != nil {
		return r, 0, 0, err
	}
	after, err := f.cpu()
	return r, after - before, client, err
}

func (b *bench) sends(ctx context.Context) error {
	if err := b.durableFloor(); err != nil {
		return err
	}
	many, err := b.sendsOnSQLite(ctx)
	if err != nil || b.postgres == "" {
		return err
	}
	progress("sends on PostgreSQL")
	return b.sendsOnPostgres(ctx, many)
}

// sendsOnSQLite gives the sends/s of 64 senders.
func (b *bench) sendsOnSQLite(ctx context.Context) (float64, error) {
	empty, err := b.seeded(ctx, "inserts", "", func(*dataset) error { return nil })
	if err != nil {
		return 0, err
	}
	bare, err := b.insertFloor("floor.inserts", empty.database)
	if err != nil {
		return 0, err
	}
	d, rooms, err := b.sendSet(ctx, "", sendersFew)
	if err != nil {
		return 0, err
	}
	p, err := b.serve(d)
	if err != nil {
		return 0, err
	}
	defer p.Stop()
	many, server, client, err := b.measureSends(p, d.tokens, names(rooms), b.seconds)
	if err != nil {
		return 0, err
	}
	ratio, cost := many.PerSecond/b.durable, perThousand(server, many.Sent)
	figure{"sends", many.PerSecond, "sends/s", ratio, metIf(ratio >= 0.25), client}.print()
	figure{"sends.inserts", many.PerSecond, "sends/s", many.PerSecond / bare, none, client}.print() // its floor is floor.inserts
	figure{"sends.p99", many.P99, "ms", 0, none, client}.print()
	figure{"sends.cpu", cost, "s/1000", 0, metIf(cost <= 0.35/b.scale), client}.print()
	eight, _, client8, err := b.measureSends(p, d.tokens[:8], names(rooms[:8]), b.seconds/2)
	if err != nil {
		return 0, err
	}
	one, _, client1, err := b.measureSends(p, d.tokens[:8], names(rooms[:1]), b.seconds/2)
	if err != nil {
		return 0, err
	}
	figure{"sends.8rooms", eight.PerSecond, "sends/s", eight.PerSecond / b.durable, none, client8}.print()
	share := one.PerSecond / eight.PerSecond // its floor is the line before
	figure{"sends.1room", one.PerSecond, "sends/s", share, metIf(share >= 0.8), client1}.print()
	return many.PerSecond, nil
}

// sendsOnPostgres compares with the sends/s on SQLite.
func (b *bench) sendsOnPostgres(ctx context.Context, onSQLite float64) error {
	if err := b.clearPostgres(ctx); err != nil {
		return err
	}
	d, rooms, err := b.sendSet(ctx, b.postgres, sendersFew)
	if err != nil {
		return err
	}
	bare, err := b.insertFloor("floor.inserts.postgres", b.postgres)
	if err != nil {
		return err
	}
	p, err := b.serve(d)
	if err != nil {
		return err
	}
	defer p.Stop()
	r, server, client, err := b.measureSends(p, d.tokens, names(rooms), b.seconds)
	if err != nil {
		return err
	}
	figure{"sends.postgres", r.PerSecond, "sends/s", r.PerSecond / b.durable, metIf(r.PerSecond >= 0.5*onSQLite), client}.print()
	figure{"cluster.postgres", r.PerSecond, "sends/s", r.PerSecond / onSQLite, metIf(r.PerSecond >= 0.5*onSQLite), client}.print() // its floor is sends
	figure{"sends.inserts.postgres", r.PerSecond, "sends/s", r.PerSecond / bare, none, client}.print()                             // its floor is floor.inserts.postgres
	figure{"sends.postgres.cpu", perThousand(server, r.Sent), "s/1000", 0, none, client}.print()
	return nil
}

func perThousand(cpu time.Duration, n int) float64 { return cpu.Seconds() * 1000 / float64(max(n, 1)) }

func (b *bench) fanout(ctx context.Context) error {
	const members, senders = 1000, 8
	var rooms []id.RoomID
	d, err := b.seeded(ctx, "fanout", "", func(d *dataset) (err error) {
		if err = d.addUsers(ctx, members+senders); err != nil {
			return err
		}
		rooms, err = d.addRooms(ctx, 1, 0, func(int) []int { return all(0, members+senders) })
		return err
	})
	if err != nil {
		return err
	}
	p, err := b.serve(d)
	if err != nil {
		return err
	}
	defer p.Stop()
	for _, rate := range []float64{20, 0} {
		r, client, err := b.deliver(fleet{p}, d.tokens[:members], d.tokens[members:], rooms[0].String(), rate)
		if err != nil {
			return err
		}
		if rate > 0 {
			figure{"fanout.p99", r.P99, "ms", 0, metIf(r.Deliveries > 0 && r.P99 <= 50/b.scale), client}.print()
		} else {
			figure{"fanout.saturated", r.PerSecond, "deliveries/s", r.PerSecond / b.bare, metIf(r.PerSecond >= 30000*b.scale), client}.print()
		}
	}
	return nil
}

// deliver lets senders write into a room while its members sync, all of them spread
// over instances.
func (b *bench) deliver(f fleet, members, senders []string, room string, rate float64) (r fanoutResult, client time.Duration, err error) {
	dir, err := b.folder("ready")
	if err != nil {
		return r, 0, err
	}
	const grace = 2 // seconds in which the members see what was sent last
	ready := filepath.Join(dir, "ready")
	l, err := startLoad("fanout", fanoutSpec{
		Addrs: f.addrs(), Tokens: members, Seconds: b.seconds + grace, Ready: ready,
		Filter: `{"room":{"timeline":{"limit":100},"state":{"lazy_load_members":true}}}`,
	})
	if err != nil {
		return r, 0, err
	}
	if err := awaitFile(ready, l, time.Minute); err != nil {
		return r, 0, err
	}
	b.runs++
	var sent sendResult
	sending, err := runLoadProcess("send", sendSpec{
		Addrs: f.addrs(), Tokens: senders, Rooms: []string{room}, Seconds: b.seconds, Rate: rate, Size: 200, Prefix: fmt.Sprintf("b%d.", b.runs),
	}, &sent)
	if err != nil {
		l.kill()
		return r, 0, err
	}
	client, err = l.wait(&r)
	progress("fanout: %d sent, %d of %d seen", sent.Sent, r.Deliveries, sent.Sent*len(members))
	return r, client + sending, err
}

// The joins: everybody joins each of the rooms, one room after the other.
const joinUsers, joinRooms = 2000, 21

func (b *bench) joins(ctx context.Context) error {
	if err := b.durableFloor(); err != nil {
		return err
	}
	var rooms []id.RoomID
	d, err := b.seeded(ctx, "joins", "", func(d *dataset) (err error) {
		if err = d.addUsers(ctx, joinUsers+1); err != nil {
			return err
		}
		rooms, err = d.addRooms(ctx, joinRooms, 0, func(int) []int { return []int{0} })
		return err
	})
	if err != nil {
		return err
	}
	p, err := b.serve(d)
	if err != nil {
		return err
	}
	defer p.Stop()
	var r joinResult
	client, err := runLoadProcess("join", joinSpec{Addr: p.addr, Tokens: d.tokens[1:], Rooms: names(rooms), Parallel: 8}, &r)
	if err != nil {
		return err
	}
	figure{"joins", r.PerSecond, "joins/s", r.PerSecond / b.durable, metIf(r.PerSecond >= 400*b.scale), client}.print()
	slower := r.FirstHundred / r.LastHundred // time of the last hundred by that of the first, its floor
	figure{"joins.last100", r.LastHundred, "joins/s", slower, metIf(slower <= 1.3), client}.print()
	return nil
}

func (b *bench) initialSync(ctx context.Context) error {
	for _, c := range []struct {
		name           string
		rooms, members int
		target         float64 // ms
	}{{"initialsync.50", 50, 20, 15}, {"initialsync.300x300", 300, 300, 100}} {
		d, err := b.seeded(ctx, c.name, "", func(d *dataset) error {
			if err := d.addUsers(ctx, c.members); err != nil {
				return err
			}
			rooms, err := d.addRooms(ctx, c.rooms, 25, func(int) []int { return all(0, c.members) })
			if err != nil {
				return err
			}
			return d.readAll(ctx, 0, rooms)
		})
		if err != nil {
			return err
		}
		r, client, err := b.syncOnce(d)
		if err != nil {
			return err
		}
		progress("%s: an answer of %d bytes", c.name, r.Bytes)
		figure{c.name, r.MedianMS, "ms", 0, metIf(r.MedianMS <= c.target/b.scale), client}.print()
	}
	return nil
}

// syncOnce measures the initial sync of the first user of a data set.
func (b *bench) syncOnce(d *dataset) (r getResult, client time.Duration, err error) {
	p, err := b.serve(d)
	if err != nil {
		return r, 0, err
	}
	defer p.Stop()
	client, err = runLoadProcess("get", getSpec{
		Addr: p.addr, Token: d.tokens[0], Times: 11,
		Target: "/_matrix/client/v3/sync?timeout=0&filter=" + url.QueryEscape(webFilter),
	}, &r)
	return r, client, err
}

// The idle polls: each user is in 10 of the rooms, each room has 100 of the users.
const (
	pollUsers, pollRooms, pollMembers = 10000, 1000, 100
	pollTimeout                       = 30 * time.Second
	pollWindow                        = pollTimeout + 2*time.Second // in which each poll ends and begins again
	pollSettle                        = 3 * time.Second             // in which what connecting left behind is over
)

func (b *bench) idlePolls(ctx context.Context) error {
	floor, err := startFloor("poll", b.dir)
	if err != nil {
		return err
	}
	defer floor.Stop()
	bare, err := b.hold(fleet{floor}, nil, pollUsers)
	floor.Stop()
	if err != nil {
		return err
	}
	figure{"floor.poll.cpu", bare.cpu.Seconds(), "s", 1, none, bare.client}.print()
	figure{"floor.poll.memory", bare.perPoll, "KiB/poll", 1, none, bare.client}.print()
	d, err := b.seeded(ctx, "idlepolls", "", func(d *dataset) error {
		if err := d.addUsers(ctx, pollUsers); err != nil {
			return err
		}
		_, err := d.addRooms(ctx, pollRooms, 0, func(i int) []int { return all(i%(pollUsers/pollMembers)*pollMembers, pollMembers) })
		return err
	})
	if err != nil {
		return err
	}
	p, err := b.serve(d)
	if err != nil {
		return err
	}
	defer p.Stop()
	polling, err := b.hold(fleet{p}, d.tokens, pollUsers)
	if err != nil {
		return err
	}
	ratio := polling.cpu.Seconds() / bare.cpu.Seconds()
	figure{"idlepolls.memory", polling.perPoll, "KiB/poll", polling.perPoll / bare.perPoll, metIf(polling.perPoll <= 20), polling.client}.print()
	figure{"idlepolls.cpu", polling.cpu.Seconds(), "s", ratio, metIf(ratio <= 3), polling.client}.print()
	return nil
}

// holding is what idle polls cost.
type holding struct {
	perPoll     float64       // KiB more than before they connected
	cpu, client time.Duration // of the server in the window, of the client in all
}

// hold lets users poll at once, spread over instances.
func (b *bench) hold(f fleet, tokens []string, users int) (h holding, err error) {
	before, err := f.resident()
	if err != nil {
		return h, err
	}
	dir, err := b.folder("ready")
	if err != nil {
		return h, err
	}
	ready := filepath.Join(dir, "ready")
	l, err := startLoad("poll", pollSpec{
		Addrs: f.addrs(), Tokens: tokens, Count: users, TimeoutMS: int(pollTimeout.Milliseconds()), Filter: webFilter,
		Ready: ready, Seconds: time.Hour.Seconds(),
	})
	if err != nil {
		return h, err
	}
	// The client would go on for an hour: it is ended when all is measured.
	if err := awaitFile(ready, l, 3*time.Minute); err != nil {
		return h, err
	}
	time.Sleep(pollSettle)
	from, err := f.cpu()
	if err != nil {
		return h, err
	}
	time.Sleep(pollWindow)
	to, err := f.cpu()
	if err != nil {
		return h, err
	}
	after, err := f.resident()
	h.client = l.kill()
	if l.err.Len() > 0 {
		return h, fmt.Errorf("the polls ended early: %s", l.err.String())
	}
	h.cpu, h.perPoll = to-from, float64(after-before)/1024/float64(users)
	return h, err
}

func (b *bench) coldStart(ctx context.Context) error {
	d, _, err := b.sendSet(ctx, "", sendersFew)
	if err != nil {
		return err
	}
	start, memory, err := b.starts(d)
	if err != nil {
		return err
	}
	figure{"coldstart", start[0], "ms", 0, metIf(start[0] <= 100/b.scale), 0}.print()
	figure{"coldstart.memory", memory, "MiB", 0, metIf(memory <= 60), 0}.print()
	if err := b.startMillion(ctx, "coldstart.million", [2]string{}); err != nil || b.postgres == "" {
		return err
	}
	if err := b.clearPostgres(ctx); err != nil {
		return err
	}
	return b.startMillion(ctx, "coldstart.million.postgres", [2]string{b.inFewSchema(), b.postgres})
}
