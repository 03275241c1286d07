// Command chaos lets users talk through a balancer to several instances while it
// kills, freezes, drains and cuts off the instances, and writes down all that
// every client sends and sees. Its neighbour check judges what was written.
//
// It owns the processes and the network that it makes: a network namespace for
// itself and one for each instance, which exist as long as its processes and
// leave nothing behind. It never judges, and never reads the database.
//
// Invariant: at least one instance is healthy at any time, but for the one time
// at the end when all are out at once.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"stoa/test/chaos/history"
	"stoa/test/kit"
)

func main() {
	if os.Getenv(insideNamespace) == "" {
		code, err := enterNamespace(os.Args[1:])
		if err != nil {
			fmt.Fprintln(os.Stderr, "chaos: FAILED:", err)
			code = 1
		}
		os.Exit(code)
	}
	if err := start(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "chaos: FAILED:", err)
		os.Exit(1)
	}
}

type options struct {
	binary, dir, pgBin, balancer string
	minutes                      float64
	seed                         uint64
	faults                       []string
	every, freeze, partition     time.Duration
	redis, broken                bool
	clients, rooms, instances    int
	rate                         float64
	env                          []string
}

func parse(args []string) (*options, error) {
	o := &options{}
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	flags.StringVar(&o.binary, "binary", "bin/stoa", "the server under test")
	flags.StringVar(&o.dir, "dir", "", "empty folder for data, logs and the history")
	flags.StringVar(&o.pgBin, "postgres-bin", "", "folder of PostgreSQL's programs")
	flags.StringVar(&o.balancer, "haproxy", "deploy/haproxy.cfg", "HAProxy's configuration, with STOA_BIND, STOA_1, STOA_2 … in its environment")
	flags.Float64Var(&o.minutes, "minutes", 10, "time with faults")
	flags.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "seed of faults and clients")
	faults := flags.String("faults", strings.Join(faultNames, ","), "kinds of faults")
	flags.DurationVar(&o.every, "every", 15*time.Second, "time between faults")
	flags.DurationVar(&o.freeze, "freeze", time.Minute, "how long an instance is frozen")
	flags.DurationVar(&o.partition, "cut", 20*time.Second, "how long an instance is cut off")
	flags.BoolVar(&o.redis, "redis", true, "a bus over Redis instead of PostgreSQL notifications")
	flags.IntVar(&o.clients, "clients", 300, "users, each with one device")
	flags.IntVar(&o.rooms, "rooms", 30, "rooms; each user is in three")
	flags.IntVar(&o.instances, "instances", 3, "servers")
	flags.Float64Var(&o.rate, "rate", 30, "operations a second of all users beside their syncs")
	flags.BoolVar(&o.broken, "broken", false, "test a build of the sources here that does not compare heads; the checker must find out")
	env := flags.String("env", "", "settings of the instances, NAME=value,…")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if o.dir == "" {
		return nil, errors.New("-dir is needed")
	}
	if *env != "" {
		o.env = strings.Split(*env, ",")
	}
	for kind := range strings.SplitSeq(*faults, ",") {
		switch {
		case kind == "" || kind == "none" || kind == faultPartitionRedis && !o.redis:
		case !slices.Contains(faultNames, kind):
			return nil, fmt.Errorf("unknown fault %q; there are %s", kind, strings.Join(faultNames, ", "))
		default:
			o.faults = append(o.faults, kind)
		}
	}
	var err1, err2, err3 error
	o.binary, err1 = filepath.Abs(o.binary)
	o.dir, err2 = filepath.Abs(o.dir)
	o.balancer, err3 = filepath.Abs(o.balancer)
	return o, errors.Join(err1, err2, err3)
}

func start(args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if o.broken {
		if o.binary, err = buildBroken(o.dir); err != nil {
			return fmt.Errorf("build a server that does not compare heads: %w", err)
		}
		fmt.Println("chaos: the server under test does not compare heads")
	}
	w, err := build(ctx, o)
	defer w.end()
	if err != nil {
		return err
	}
	return w.play(ctx)
}

// scenario is all that runs beside the clients.
type scenario struct {
	o          *options
	holders    []*holder
	database   *kit.Postgres
	services   []*kit.Process
	instances  []*instance
	population *population
}

// build starts everything. It is to be ended also after an error.
func build(ctx context.Context, o *options) (*scenario, error) {
	w := &scenario{o: o}
	for range o.instances {
		h, err := newHolder()
		if err != nil {
			return w, err
		}
		w.holders = append(w.holders, h)
	}
	if err := buildNetworks(ctx, w.holders); err != nil {
		return w, err
	}
	service := func(p *kit.Process, err error) error {
		if p != nil {
			w.services = append(w.services, p)
		}
		return err
	}
	var err error
	if w.database, err = startPostgres(o.pgBin, o.dir); err != nil {
		return w, err
	}
	if o.redis {
		if err := service(startRedis(o.dir)); err != nil {
			return w, err
		}
	}
	if w.population, err = seed(ctx, o.clients, o.rooms, rand.New(rand.NewPCG(o.seed, 1<<32))); err != nil {
		return w, fmt.Errorf("seed: %w", err)
	}
	for n := range o.instances {
		i := newInstance(o, n, w.holders[n])
		if err := i.start(); err != nil {
			return w, err
		}
		w.instances = append(w.instances, i)
	}
	for _, i := range w.instances {
		if err := i.awaitReady(); err != nil {
			return w, err
		}
	}
	return w, service(startBalancer(o.dir, o.balancer, o.instances))
}

func (w *scenario) end() {
	for _, i := range w.instances {
		i.process().Kill()
	}
	for _, p := range slices.Backward(w.services) {
		p.Kill()
	}
	w.database.Kill()
	for _, h := range w.holders {
		h.end()
	}
}

// play lets the clients live, makes the faults and reads everything at the end.
func (w *scenario) play(ctx context.Context) (err error) {
	o := w.o
	out, err := history.Create(filepath.Join(o.dir, "history.jsonl"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	r := newRun(w.population, out, o.rate)
	say := func(format string, args ...any) {
		fmt.Printf("chaos: %6.1f s: %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
	}
	fmt.Printf("chaos: seed %d, %.1f minutes, %d clients in %d rooms, %d instances, faults %s, redis %v\n",
		o.seed, o.minutes, o.clients, o.rooms, o.instances, strings.Join(o.faults, " "), o.redis)
	out.Add(&history.Record{Op: history.Run, Seed: o.seed, Clients: o.clients, Rooms: w.population.roomsOf, Text: strings.Join(o.faults, " ")})
	c := &chaos{run: r, instances: w.instances, rnd: rand.New(rand.NewPCG(o.seed, 2<<32)), freezeFor: o.freeze, partitionFor: o.partition, say: say,
		sick: map[int]string{}, well: map[int]time.Time{}, count: map[string]int{}}

	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	go r.watch(watching)
	clients := make([]*client, o.clients)
	var acting, following sync.WaitGroup
	for n := range clients {
		clients[n] = r.newClient(n, o.seed)
		acting.Go(func() { clients[n].act(ctx) })
		following.Go(clients[n].follow)
	}
	faulty, stopFaults := context.WithTimeout(ctx, time.Duration(o.minutes*float64(time.Minute)))
	defer stopFaults()
	var storms sync.WaitGroup
	storms.Go(func() { r.storms(faulty, clients, rand.New(rand.NewPCG(o.seed, 3<<32))) })
	c.loop(faulty, o.faults, o.every)
	c.under.Wait()
	<-faulty.Done()
	storms.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if slices.Contains(o.faults, faultAll) {
		if err := c.allOut(); err != nil {
			return err
		}
	}
	say("the end: the last message of each room")
	close(r.ended)
	acting.Wait()
	for room, members := range w.population.members {
		last := r.newClient(members[0], o.seed)
		acting.Go(func() { last.send(room+1, endOf(room+1)) })
	}
	acting.Wait()
	close(r.settled)
	following.Wait()
	for n, i := range w.instances {
		if err := r.finish(i.url(), instanceName(n)); err != nil {
			return err
		}
	}
	w.doctor(r)
	out.Add(&history.Record{Op: history.End, Begin: r.now(), End: r.now()})
	say("%d requests, %d failed; faults: %v", r.requests.Load(), r.failures.Load(), c.count)
	return c.fault
}

// storms come every few seconds.
func (r *run) storms(ctx context.Context, clients []*client, rnd *rand.Rand) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(3 * time.Second):
			r.storm(clients, rnd)
		}
	}
}

// doctor lets the server's own check look at the store.
func (w *scenario) doctor(r *run) {
	rec := &history.Record{Op: history.Doctor, Begin: r.now(), Status: 200}
	cmd := exec.Command(w.o.binary, "doctor", "store")
	cmd.Env = append(os.Environ(), "STOA_SERVER_NAME="+serverName, "STOA_DATABASE="+databaseURL(), "STOA_DATA_DIR="+filepath.Join(w.o.dir, "doctor"))
	if out, err := cmd.CombinedOutput(); err != nil {
		rec.Status, rec.Text = 0, fmt.Sprintf("%v: %s", err, out[max(0, len(out)-4000):])
	}
	rec.End = r.now()
	r.out.Add(rec)
}
