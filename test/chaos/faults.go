package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"time"

	"stoa/test/chaos/history"
)

// Faults by name. All of them leave one instance healthy but faultAll, which
// comes once, at the end.
const (
	faultKill           = "kill"
	faultFreeze         = "freeze"
	faultDrain          = "drain"
	faultPartitionDB    = "cut-db"
	faultPartitionRedis = "cut-redis"
	faultPartitionPeers = "cut-peers"
	faultAll            = "all"
)

var faultNames = []string{faultKill, faultFreeze, faultDrain, faultPartitionDB, faultPartitionRedis, faultPartitionPeers, faultAll}

// Of the faults.
const (
	startAfter   = 5 * time.Second
	steadyFor    = 3 * time.Second // ready so long counts as healthy: the balancer has seen it
	drainWithin  = 10 * time.Second
	afterAllOut  = 15 * time.Second
	stallNoticed = 500 * time.Millisecond
)

// chaos makes faults.
type chaos struct {
	run          *run
	instances    []*instance
	rnd          *rand.Rand
	freezeFor    time.Duration
	partitionFor time.Duration
	say          func(format string, args ...any)

	mu    sync.Mutex     // guards all below
	sick  map[int]string // instances with a fault
	well  map[int]time.Time
	fault error // of the harness
	under sync.WaitGroup
	count map[string]int
}

// healthy are the instances without a fault, ready for a while.
func (c *chaos) healthy() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []int
	for n := range c.instances {
		if c.sick[n] == "" && time.Since(c.well[n]) >= steadyFor {
			list = append(list, n)
		}
	}
	return list
}

// loop makes a fault at each tick until ctx ends.
func (c *chaos) loop(ctx context.Context, kinds []string, every time.Duration) {
	kinds = slices.DeleteFunc(slices.Clone(kinds), func(kind string) bool { return kind == faultAll })
	if len(kinds) == 0 {
		<-ctx.Done()
		return
	}
	// Each kind comes once in a round, in random order.
	var round []string
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
		if len(round) == 0 {
			round = slices.Clone(kinds)
			c.rnd.Shuffle(len(round), func(i, j int) { round[i], round[j] = round[j], round[i] })
		}
		kind := round[0]
		if deadline, ok := ctx.Deadline(); ok && kind == faultFreeze && time.Until(deadline) < c.freezeFor/2 {
			kind = faultKill
		}
		list := c.healthy()
		for len(list) < 2 { // the last one stays
			select {
			case <-ctx.Done():
				return
			case <-time.After(500 * time.Millisecond):
			}
			list = c.healthy()
		}
		round = round[1:]
		n := list[c.rnd.IntN(len(list))]
		c.under.Go(func() { c.make(kind, n) })
	}
}

// make does one fault from its beginning to the instance's being ready again.
func (c *chaos) make(kind string, n int) {
	c.mu.Lock()
	c.sick[n] = kind
	c.count[kind]++
	c.mu.Unlock()
	rec := &history.Record{Op: history.Fault, Fault: kind, Target: instanceName(n), Begin: c.run.now()}
	c.say("%s %s", kind, instanceName(n))
	err := c.hurt(kind, n, rec)
	if err == nil {
		err = c.instances[n].awaitReady()
	}
	rec.End = c.run.now()
	if err != nil {
		rec.Err = err.Error()
		c.say("%s %s: %v", kind, instanceName(n), err)
	}
	c.run.out.Add(rec)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && c.fault == nil {
		c.fault = fmt.Errorf("%s %s: %w", kind, instanceName(n), err)
	}
	c.sick[n] = ""
	c.well[n] = time.Now()
}

func (c *chaos) hurt(kind string, n int, rec *history.Record) error {
	i := c.instances[n]
	ctx := context.Background() // a fault is always healed
	partition := func(network int) error {
		if err := setLink(ctx, network, n, false); err != nil {
			return err
		}
		time.Sleep(c.partitionFor) // the fault itself
		return setLink(ctx, network, n, true)
	}
	switch kind {
	case faultKill:
		i.process().Kill()
		time.Sleep(startAfter) // the fault itself
		return i.start()
	case faultFreeze:
		p := i.process()
		p.Signal(syscall.SIGSTOP)
		time.Sleep(c.freezeFor) // the fault itself
		p.Signal(syscall.SIGCONT)
		return nil
	case faultDrain:
		p := i.process()
		begin := time.Now()
		p.Signal(syscall.SIGTERM)
		select {
		case <-p.Gone():
			rec.Exit, rec.Gone = p.Cmd.ProcessState.ExitCode(), c.run.now()
			rec.Text = fmt.Sprintf("ended after %v", time.Since(begin).Round(time.Millisecond))
		case <-time.After(drainWithin):
			rec.Exit = -1
			rec.Text = "did not end; its goroutines are in its log"
			p.Signal(syscall.SIGQUIT)
			select {
			case <-p.Gone():
			case <-time.After(startAfter):
			}
			p.Kill()
		}
		return i.start()
	case faultPartitionDB:
		return partition(netDatabase)
	case faultPartitionRedis:
		return partition(netRedis)
	case faultPartitionPeers:
		return partition(netPeers)
	}
	return fmt.Errorf("unknown fault %q", kind)
}

// allOut kills all at once and starts them again. The fault ends when the first
// of them is ready.
func (c *chaos) allOut() error {
	rec := &history.Record{Op: history.Fault, Fault: faultAll, Begin: c.run.now()}
	c.say("kill all")
	c.mu.Lock()
	c.count[faultAll]++
	c.mu.Unlock()
	for _, i := range c.instances {
		i.process().Kill()
	}
	time.Sleep(startAfter) // the fault itself
	ready := make(chan error, len(c.instances))
	for _, i := range c.instances {
		if err := i.start(); err != nil {
			return err
		}
		go func() { ready <- i.awaitReady() }()
	}
	for n := range c.instances {
		if err := <-ready; err != nil {
			return err
		}
		if n == 0 {
			rec.End = c.run.now()
			c.run.out.Add(rec)
		}
	}
	time.Sleep(afterAllOut) // time for the clients to resume
	return nil
}

// watch notes when this process itself was not scheduled, since a client that
// was not run can't have resumed.
func (r *run) watch(ctx context.Context) {
	last := time.Now()
	for ctx.Err() == nil {
		time.Sleep(50 * time.Millisecond) // the measurement itself
		if gap := time.Since(last); gap > stallNoticed {
			end := r.now()
			r.out.Add(&history.Record{Op: history.Note, Begin: end - gap.Microseconds(), End: end, Text: "stall"})
		}
		last = time.Now()
	}
}
