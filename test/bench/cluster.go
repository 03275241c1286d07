package main

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"stoa/matrix/id"
	"stoa/test/kit"
)

// A deployment of three serves more people at once than one instance, so three are
// compared with one where each of them has as many senders as the one of other
// benchmarks. With sendersFew in all a group of three is a third as large, and what
// is fixed about a group costs three times as much.
const sendersFew, sendersMany = 64, 3 * sendersFew

// clusterSends compares three instances with one, on the same cores. Their rounds
// are one, three, three, one, and the same again, so that a machine that changes, as
// virtual ones do within minutes, does so for both. Each round is half as long as
// other measurements.
func (b *bench) clusterSends(ctx context.Context) error {
	w, err := b.watchDatabase(ctx)
	if err != nil {
		return err
	}
	defer w.close(ctx)
	var few, many [4]clusterSends
	for _, n := range []int{1, 3, 3, 1, 1, 3, 3, 1} {
		if err := b.sendsOn(ctx, w, n, &few[n], &many[n]); err != nil {
			return err
		}
	}
	ratio := many[3].perSecond() / many[1].perSecond()
	many[1].print("cluster.sends.one", 1, none)
	many[3].print("cluster.sends", ratio, metIf(ratio >= 0.8))
	few[1].print("cluster.sends.few.one", 1, none)
	few[3].print("cluster.sends.few", few[3].perSecond()/few[1].perSecond(), none)
	return nil
}

// clusterSends is what some rounds of sending cost.
type clusterSends struct {
	rounds, sent              int
	seconds, sumP50, sumP99   float64
	servers, postgres, client time.Duration
	written, syncs            int64   // of PostgreSQL's log: bytes, times
	groups, inGroups          float64 // groups, and their seconds
}

func (s *clusterSends) add(x clusterSends) {
	s.rounds += x.rounds
	s.sent += x.sent
	s.seconds += x.seconds
	s.sumP50 += x.sumP50
	s.sumP99 += x.sumP99
	s.servers += x.servers
	s.postgres += x.postgres
	s.client += x.client
	s.groups += x.groups
	s.inGroups += x.inGroups
	s.written += x.written
	s.syncs += x.syncs
}

func (s *clusterSends) perSecond() float64 { return float64(s.sent) / s.seconds }
func (s *clusterSends) p50() float64       { return s.sumP50 / float64(s.rounds) }
func (s *clusterSends) p99() float64       { return s.sumP99 / float64(s.rounds) }

func (s *clusterSends) print(name string, ratio float64, judged verdict) {
	figure{name, s.perSecond(), "sends/s", ratio, judged, s.client}.print()
	figure{name + ".p50", s.p50(), "ms", 0, none, s.client}.print()
	figure{name + ".p99", s.p99(), "ms", 0, none, s.client}.print()
	figure{name + ".cpu", perThousand(s.servers, s.sent), "s/1000", 0, none, s.client}.print()
	figure{name + ".cpu.postgres", perThousand(s.postgres, s.sent), "s/1000", 0, none, s.client}.print()
	figure{name + ".syncs", float64(s.syncs) * 1000 / float64(s.sent), "syncs/1000", 0, none, s.client}.print()
}

// sendsOn adds what sends to n instances and a new data set cost few and many senders.
func (b *bench) sendsOn(ctx context.Context, w *database, n int, few, many *clusterSends) error {
	if err := b.clearPostgres(ctx); err != nil {
		return err
	}
	d, rooms, err := b.sendSet(ctx, b.postgres, sendersMany)
	if err != nil {
		return err
	}
	f, err := b.serveMany(b.binary, d, n)
	if err != nil {
		return err
	}
	defer f.stop()
	if err := b.warm(f, d.tokens, names(rooms)); err != nil {
		return err
	}
	for _, x := range []struct {
		senders int
		sum     *clusterSends
	}{{sendersFew, few}, {sendersMany, many}} {
		s, err := b.measureOn(ctx, w, f, d.tokens[:x.senders], names(rooms), b.seconds/2)
		if err != nil {
			return err
		}
		x.sum.add(s)
	}
	return nil
}

// measureOn measures sends to instances that are warm.
func (b *bench) measureOn(ctx context.Context, w *database, f fleet, tokens, rooms []string, seconds float64) (s clusterSends, err error) {
	const groups, inGroups = "stoa_store_group_seconds_count", "stoa_store_group_seconds_sum"
	groupsBefore, err := f.sum(groups)
	if err != nil {
		return s, err
	}
	inGroupsBefore, err := f.sum(inGroups)
	if err != nil {
		return s, err
	}
	cpu, err := w.cpu()
	if err != nil {
		return s, err
	}
	bytes, syncs, err := w.written(ctx)
	if err != nil {
		return s, err
	}
	r, servers, client, err := b.measureSendsTo(f, tokens, rooms, seconds)
	if err != nil {
		return s, err
	}
	s = clusterSends{rounds: 1, sent: r.Sent, seconds: r.Seconds, sumP50: r.P50, sumP99: r.P99, servers: servers, client: client}
	if s.postgres, err = w.cpu(); err != nil {
		return s, err
	}
	s.postgres -= cpu
	if s.written, s.syncs, err = w.written(ctx); err != nil {
		return s, err
	}
	s.written, s.syncs = s.written-bytes, s.syncs-syncs
	if s.groups, err = f.sum(groups); err != nil {
		return s, err
	}
	if s.inGroups, err = f.sum(inGroups); err != nil {
		return s, err
	}
	s.groups, s.inGroups = s.groups-groupsBefore, s.inGroups-inGroupsBefore
	progress("%d instances, %d senders: %.0f sends/s, p50 %.2f ms", len(f), len(tokens), r.PerSecond, r.P50)
	return s, f.explain()
}

// explain tells where the time of sends went, from the start of the instances on.
func (f fleet) explain() error {
	for _, p := range f {
		var v [8]float64
		for i, name := range []string{
			"stoa_store_group_seconds_sum", "stoa_store_group_seconds_count", "stoa_store_changes_total", "stoa_store_conflicts_total",
			"stoa_store_barriers_total", "stoa_cluster_forward_seconds_total", `stoa_cluster_forwards_total{outcome="forwarded"}`,
			"stoa_room_rebuilt_changes_total",
		} {
			var err error
			if v[i], err = p.metric(name); err != nil {
				return err
			}
		}
		progress("  groups %.0f of %.1f changes in %.2f ms, %.0f conflicts, %.0f rebuilt, %.0f barriers, %.0f forwards of %.2f ms",
			v[1], v[2]/max(v[1], 1), v[0]/max(v[1], 1)*1000, v[3], v[7], v[4], v[6], v[5]/max(v[6], 1)*1000)
	}
	return nil
}

// warm lets each sender write once into each room, so that all of them are in
// memory at their homes, however fast the instances are.
func (b *bench) warm(f fleet, tokens, rooms []string) error {
	b.runs++
	var r sendResult
	_, err := runLoadProcess("send", sendSpec{
		Addrs: f.addrs(), Tokens: tokens, Rooms: rooms, Seconds: 60, Times: len(rooms), Size: 200, Prefix: fmt.Sprintf("w%d.", b.runs),
	}, &r)
	return err
}

// followRate is how many events/s an idle instance follows.
const followRate = 200

// clusterIdle measures an instance that nobody is connected to, while others send
// to another: first while they don't, for comparison, and at last with clients
// that wait for rooms in which nothing happens.
func (b *bench) clusterIdle(ctx context.Context) error {
	if err := b.clearPostgres(ctx); err != nil {
		return err
	}
	const senders, waiting = 64, 1000
	var rooms, quiet []id.RoomID
	d, err := b.seeded(ctx, "idle", b.postgres, func(d *dataset) (err error) {
		if err = d.addUsers(ctx, senders+waiting); err != nil {
			return err
		}
		if rooms, err = d.addRooms(ctx, 100, 0, func(int) []int { return all(0, senders) }); err != nil {
			return err
		}
		quiet, err = d.addRooms(ctx, 10, 0, func(i int) []int { return all(senders+i*waiting/10, waiting/10) })
		return err
	})
	if err != nil {
		return err
	}
	f, err := b.serveMany(b.binary, d, 2)
	if err != nil {
		return err
	}
	defer f.stop()
	homes, err := b.homes(f[0], d.tokens[0], names(rooms))
	if err != nil {
		return err
	}
	var busy []string // rooms whose home is the first instance, so that the other writes nothing
	for i, home := range homes {
		if home == "a" {
			busy = append(busy, rooms[i].String())
		}
	}
	if len(busy) == 0 {
		return fmt.Errorf("the first instance is home of none of %d rooms", len(rooms))
	}
	progress("idle: %d of %d rooms, %d quiet ones", len(busy), len(rooms), len(quiet))
	alone, _, err := b.followed(f, nil, busy)
	if err != nil {
		return err
	}
	figure{"cluster.idle.floor", alone, "% of a core", 0, none, 0}.print()
	follows, client, err := b.followed(f, d.tokens[:senders], busy)
	if err != nil {
		return err
	}
	figure{"cluster.idle", follows, "% of a core", 0, metIf(follows < 3), client}.print()
	dir, err := b.folder("ready")
	if err != nil {
		return err
	}
	ready := filepath.Join(dir, "ready")
	l, err := startLoad("poll", pollSpec{
		Addr: f[1].addr, Tokens: d.tokens[senders:], Count: waiting, TimeoutMS: int(time.Hour.Milliseconds()), Filter: webFilter,
		Ready: ready, Seconds: time.Hour.Seconds(),
	})
	if err != nil {
		return err
	}
	defer l.kill()
	if err := awaitFile(ready, l, time.Minute); err != nil {
		return err
	}
	time.Sleep(pollSettle)
	crowded, client, err := b.followed(f, d.tokens[:senders], busy)
	if err != nil {
		return err
	}
	figure{"cluster.idle.waiting", crowded, "% of a core", crowded / follows, none, client}.print()
	return nil
}

// followed gives the CPU of the second instance, in percent of a core, while
// followRate events/s are sent to the first.
func (b *bench) followed(f fleet, tokens, rooms []string) (percent float64, client time.Duration, err error) {
	window := max(b.seconds, 10)
	var l *load
	if len(tokens) > 0 {
		b.runs++
		if l, err = startLoad("send", sendSpec{
			Addr: f[0].addr, Tokens: tokens, Rooms: rooms, Seconds: window + 3, Rate: followRate, Size: 200, Prefix: fmt.Sprintf("b%d.", b.runs),
		}); err != nil {
			return 0, 0, err
		}
		defer func() {
			if err != nil {
				l.kill()
			}
		}()
	}
	time.Sleep(2 * time.Second)
	at := time.Now()
	before, err := f[1].cpu()
	if err != nil {
		return 0, 0, err
	}
	time.Sleep(time.Duration(window * float64(time.Second)))
	after, err := f[1].cpu()
	if err != nil {
		return 0, 0, err
	}
	percent = (after - before).Seconds() / time.Since(at).Seconds() * 100
	if l != nil {
		var r sendResult
		if client, err = l.wait(&r); err != nil {
			return 0, 0, err
		}
		if r.PerSecond < 0.95*followRate {
			return 0, 0, fmt.Errorf("only %.0f of %d events/s were sent", r.PerSecond, followRate)
		}
	}
	return percent, client, nil
}

// homes asks an instance for the names of the homes of rooms, by a message to each.
func (b *bench) homes(p *process, token string, rooms []string) (out []string, err error) {
	c, err := dial(p.addr, 4096)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	for _, room := range rooms {
		b.runs++
		target := "/_matrix/client/v3/rooms/" + url.PathEscape(room) + fmt.Sprintf("/send/m.room.message/home%d", b.runs)
		if _, err := c.do("PUT", target, token, message(time.Now(), 200), nil); err != nil {
			return nil, err
		}
		if c.home == "" {
			return nil, fmt.Errorf("the answer to a message in %s names no home", room)
		}
		out = append(out, c.home)
	}
	return out, nil
}

// clusterForward compares the same sends to the home of a room and to another
// instance, in turn, one at a time.
func (b *bench) clusterForward(ctx context.Context) error {
	if err := b.clearPostgres(ctx); err != nil {
		return err
	}
	d, rooms, err := b.sendSet(ctx, b.postgres, sendersFew)
	if err != nil {
		return err
	}
	f, err := b.serveMany(b.binary, d, 3)
	if err != nil {
		return err
	}
	defer f.stop()
	room := rooms[0].String()
	homes, err := b.homes(f[0], d.tokens[0], []string{room})
	if err != nil {
		return err
	}
	home := f[homes[0][0]-'a']
	other := f[(homes[0][0]-'a'+1)%3]
	b.runs++
	send := func(p *process, kind string) way {
		return way{
			Addr: p.addr, Method: "PUT", Token: d.tokens[0], Body: message(time.Now(), 200),
			Target: "/_matrix/client/v3/rooms/" + url.PathEscape(room) + "/send/m.room.message/" + kind + "{n}",
		}
	}
	var r roundsResult
	client, err := runLoadProcess("rounds", roundsSpec{Ways: []way{send(home, "h"), send(other, "o")}, Rounds: b.rounds()}, &r)
	if err != nil {
		return err
	}
	figure{"cluster.forward.home", r.P50[0], "ms", 1, none, client}.print()
	more := r.P50[1] - r.P50[0]
	figure{"cluster.forward", more, "ms", r.P50[1] / r.P50[0], metIf(more <= 1), client}.print()
	return nil
}

// rounds is how often ways are compared.
func (b *bench) rounds() int { return int(b.seconds * 100) }

// withoutBarrier is the line of the header by which the build made for the next
// measurement leaves the barrier out.
const withoutBarrier = "Bench-Without-Barrier: 1"

// buildSwitched builds the server with an overlay that lets a request go without
// the read barrier. The server itself has no such switch.
func (b *bench) buildSwitched() (string, error) {
	const said = "if m.barrier == nil || x.route.NoBarrier {"
	name, _, _ := strings.Cut(withoutBarrier, ":")
	return kit.BuildChanged(b.dir, "stoa-switched", kit.Edit{File: "internal/httpkit/barrier.go", Old: said,
		New: `if m.barrier == nil || x.route.NoBarrier || r.Header.Get("` + name + `") != "" {`})
}

// clusterBarrier measures what the read barrier adds to a GET, and how often it
// asks the database.
func (b *bench) clusterBarrier(ctx context.Context) error {
	switched, err := b.buildSwitched()
	if err != nil {
		return err
	}
	if err := b.clearPostgres(ctx); err != nil {
		return err
	}
	d, _, err := b.sendSet(ctx, b.postgres, sendersFew)
	if err != nil {
		return err
	}
	if err := b.barrierDelay(d, switched); err != nil {
		return err
	}
	return b.barrierQueries(d)
}

// barrierGet is the request that is measured: it reads nothing from the database
// but the access token, which is in memory.
const barrierGet = "/_matrix/client/v3/account/whoami"

func (b *bench) barrierDelay(d *dataset, switched string) error {
	f, err := b.serveMany(switched, d, 3)
	if err != nil {
		return err
	}
	defer f.stop()
	get := func(header string) way {
		return way{Addr: f[0].addr, Method: "GET", Target: barrierGet, Token: d.tokens[0], Header: header}
	}
	var r roundsResult
	client, err := runLoadProcess("rounds", roundsSpec{Ways: []way{get(withoutBarrier), get("")}, Rounds: b.rounds(), Gap: 2 * time.Millisecond}, &r)
	if err != nil {
		return err
	}
	figure{"cluster.barrier.without", r.P50[0], "ms", 1, none, client}.print()
	more := r.P50[1] - r.P50[0]
	figure{"cluster.barrier", more, "ms", r.P50[1] / r.P50[0], metIf(more <= 0.3), client}.print()
	return nil
}

func (b *bench) barrierQueries(d *dataset) error {
	f, err := b.serveMany(b.binary, d, 1)
	if err != nil {
		return err
	}
	defer f.stop()
	const name = "stoa_store_barriers_total"
	for _, connections := range []int{2, 8, 64} {
		before, err := f[0].metric(name)
		if err != nil {
			return err
		}
		var r connectionsResult
		begin := time.Now()
		client, err := runLoadProcess("connections", connectionsSpec{Addr: f[0].addr, Target: barrierGet, Tokens: d.tokens[:connections], Seconds: b.seconds / 2}, &r)
		if err != nil {
			return err
		}
		after, err := f[0].metric(name)
		if err != nil {
			return err
		}
		rate := (after - before) / float64(time.Since(begin).Milliseconds())
		progress("barrier: %d connections, %.0f answers/s, p50 %.2f ms", connections, float64(r.Answers)/time.Since(begin).Seconds(), r.P50)
		figure{fmt.Sprintf("cluster.barrier.queries.%d", connections), rate, "queries/ms", 0, metIf(rate <= 1), client}.print()
	}
	return nil
}

// waitingUsers wait at one instance, whose pool has waitingPool connections.
const (
	waitingUsers, waitingPool = 1000, 10
	waitingRate               = 2    // events/s that wake all of them
	waitingLimit              = 1000 // ms: what takes longer is a stall
)

// clusterWaiting lets many wait at an instance with few connections to the
// database. They all come at once; then another instance writes events, each of
// which wakes all of them, while others read from the store.
func (b *bench) clusterWaiting(ctx context.Context) error {
	if err := b.clearPostgres(ctx); err != nil {
		return err
	}
	const senders, readers = 4, 16
	var rooms []id.RoomID
	d, err := b.seeded(ctx, "waiting", b.postgres, func(d *dataset) (err error) {
		if err = d.addUsers(ctx, waitingUsers+senders+readers); err != nil {
			return err
		}
		rooms, err = d.addRooms(ctx, 1, 50, func(int) []int { return all(0, waitingUsers+senders+readers) })
		return err
	})
	if err != nil {
		return err
	}
	f, err := b.serveMany(b.binary, d, 2, fmt.Sprintf("STOA_DATABASE=%s&pool_max_conns=%d", b.postgres, waitingPool))
	if err != nil {
		return err
	}
	defer f.stop()
	dir, err := b.folder("ready")
	if err != nil {
		return err
	}
	const grace = 2
	ready, begin := filepath.Join(dir, "ready"), time.Now()
	l, err := startLoad("fanout", fanoutSpec{
		Addr: f[0].addr, Tokens: d.tokens[:waitingUsers], Seconds: b.seconds + grace, Ready: ready, Filter: webFilter,
	})
	if err != nil {
		return err
	}
	if err := awaitFile(ready, l, time.Minute); err != nil {
		return err
	}
	came := time.Since(begin)
	reading, err := startLoad("connections", connectionsSpec{
		Addr: f[0].addr, Tokens: d.tokens[waitingUsers+senders:], Seconds: b.seconds, Pause: 20 * time.Millisecond,
		Target: "/_matrix/client/v3/rooms/" + url.PathEscape(rooms[0].String()) + "/messages?dir=b&limit=10",
	})
	if err != nil {
		l.kill()
		return err
	}
	b.runs++
	var sent sendResult
	client, err := runLoadProcess("send", sendSpec{
		Addr: f[1].addr, Tokens: d.tokens[waitingUsers : waitingUsers+senders], Rooms: names(rooms), Seconds: b.seconds, Rate: waitingRate,
		Size: 200, Prefix: fmt.Sprintf("b%d.", b.runs),
	}, &sent)
	if err != nil {
		l.kill()
		reading.kill()
		return err
	}
	var seen fanoutResult
	var read connectionsResult
	cpu, err := reading.wait(&read)
	if err != nil {
		l.kill()
		return err
	}
	client += cpu
	if cpu, err = l.wait(&seen); err != nil {
		return err
	}
	client += cpu
	progress("waiting: %d sent, %d of %d seen, %d reads", sent.Sent, seen.Deliveries, sent.Sent*waitingUsers, read.Answers)
	figure{"cluster.waiting.come", came.Seconds() * 1000, "ms", 0, none, client}.print()
	woken := seen.Deliveries == sent.Sent*waitingUsers && seen.Slowest <= waitingLimit
	figure{"cluster.waiting", seen.Slowest, "ms", 0, metIf(woken), client}.print()
	figure{"cluster.waiting.p99", seen.P99, "ms", 0, none, client}.print()
	figure{"cluster.waiting.reads", read.Slowest, "ms", 0, metIf(read.Answers > 0 && read.Slowest <= waitingLimit), client}.print()
	return nil
}
