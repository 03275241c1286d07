package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// benchmark is one of those that -only names.
type benchmark struct {
	name string
	run  func(*bench, context.Context) error
	// asked says that it runs only when it is named.
	asked bool
}

func benchmarks() []benchmark {
	return []benchmark{
		{name: "sends", run: (*bench).sends},
		{name: "fanout", run: (*bench).fanout},
		{name: "joins", run: (*bench).joins},
		{name: "initialsync", run: (*bench).initialSync},
		{name: "sliding", run: (*bench).slidingSync},
		{name: "idlepolls", run: (*bench).idlePolls},
		{name: "coldstart", run: (*bench).coldStart},
		{name: "cluster.sends", run: onPostgres((*bench).clusterSends)},
		{name: "cluster.idle", run: onPostgres((*bench).clusterIdle)},
		{name: "cluster.forward", run: onPostgres((*bench).clusterForward)},
		{name: "cluster.barrier", run: onPostgres((*bench).clusterBarrier)},
		{name: "cluster.waiting", run: onPostgres((*bench).clusterWaiting)},
		{name: "scaling", run: onPostgres((*bench).scaling), asked: true},
	}
}

// named says whether a word of -only means this one: "cluster" means all whose
// names begin so.
func (x benchmark) named(word string) bool {
	return x.name == word || strings.HasPrefix(x.name, word+".")
}

// onPostgres leaves a benchmark out if there is no PostgreSQL.
func onPostgres(run func(*bench, context.Context) error) func(*bench, context.Context) error {
	return func(b *bench, ctx context.Context) error {
		if b.postgres == "" {
			return nil
		}
		return run(b, ctx)
	}
}

func benchmarkNames() []string {
	var out []string
	for _, b := range benchmarks() {
		out = append(out, b.name)
	}
	return out
}

// bench is one run.
type bench struct {
	binary, postgres string
	seconds          float64
	dir              string  // temporary, for data sets and floors
	scale            float64 // of absolute targets: 1 on a machine that is fast enough
	bare             float64 // requests/s of the bare floor
	durable          float64 // requests/s of the durable floor, 8 senders; 0 = not measured yet
	runs             int     // makes names of directories and transaction IDs
	postgresIsOurs   bool    // it was empty, so it may be emptied
	profiles         string  // folder for CPU profiles; "" = none are taken
}

// fullSpeed is the bare floor, in requests/s, for which absolute targets hold.
const fullSpeed = 30000

func newBench(binary, postgres string, seconds float64) (*bench, error) {
	path, err := filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("%w; build the server with `make build` or name it with -binary", err)
	}
	if seconds < 1 {
		return nil, errors.New("-seconds must be at least 1")
	}
	dir, err := os.MkdirTemp("", "stoa-bench-")
	if err != nil {
		return nil, fmt.Errorf("%w; set TMPDIR to a folder on the disk to be measured", err)
	}
	return &bench{binary: path, postgres: postgres, seconds: seconds, dir: dir}, nil
}

func (b *bench) close() {
	if err := os.RemoveAll(b.dir); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v; remove it by hand\n", err)
	}
}

// run measures the bare floor and then the benchmarks named, or all.
func (b *bench) run(only string) error {
	var chosen []benchmark
	wanted := strings.FieldsFunc(only, func(r rune) bool { return r == ',' || r == ' ' })
	for _, w := range wanted {
		if !slices.ContainsFunc(benchmarks(), func(x benchmark) bool { return x.named(w) }) {
			return fmt.Errorf("no benchmark %q; there are %s", w, strings.Join(benchmarkNames(), ", "))
		}
	}
	for _, x := range benchmarks() {
		if len(wanted) == 0 && !x.asked || slices.ContainsFunc(wanted, x.named) {
			chosen = append(chosen, x)
		}
	}
	ctx := context.Background()
	progress("bare floor; then %d benchmarks", len(chosen))
	if err := b.bareFloor(); err != nil {
		return fmt.Errorf("bare floor: %w", err)
	}
	for i, x := range chosen {
		progress("%s; then %d more", x.name, len(chosen)-i-1)
		if err := x.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", x.name, err)
		}
	}
	return nil
}

var began = time.Now()

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: %3.0fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
}

// folder makes a new directory.
func (b *bench) folder(name string) (string, error) {
	b.runs++
	dir := filepath.Join(b.dir, fmt.Sprintf("%s-%d", name, b.runs))
	return dir, os.MkdirAll(dir, 0o700)
}

// seeded writes a data set and closes it; a server can have it then.
func (b *bench) seeded(ctx context.Context, name, database string, fill func(*dataset) error) (*dataset, error) {
	dir, err := b.folder(name)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	d, err := newDataset(ctx, dir, database)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(fill(d), d.close()); err != nil {
		return nil, fmt.Errorf("write the data set: %w", err)
	}
	progress("%s: data set written in %.1fs", name, time.Since(begin).Seconds())
	return d, nil
}

// serve starts the server on a data set.
func (b *bench) serve(d *dataset) (*process, error) { return startServer(b.binary, d.dir, d.database) }

// bareFloor measures net/http alone and sets the scale of absolute targets.
func (b *bench) bareFloor() error {
	r, cpu, err := b.floor("bare", 64)
	if err != nil {
		return err
	}
	b.bare = r.PerSecond
	b.scale = min(1, b.bare/fullSpeed)
	figure{name: "floor.bare", value: b.bare, unit: "requests/s", ratio: b.bare / fullSpeed, met: none, cpu: cpu}.print()
	return nil
}

// durableFloor measures it at the first call.
func (b *bench) durableFloor() error {
	if b.durable != 0 {
		return nil
	}
	r, cpu, err := b.floor("durable", 8)
	if err != nil {
		return err
	}
	b.durable = r.PerSecond
	figure{name: "floor.durable", value: b.durable, unit: "requests/s", ratio: 1, met: none, cpu: cpu}.print()
	return nil
}

func (b *bench) floor(kind string, senders int) (r sendResult, cpu time.Duration, err error) {
	dir, err := b.folder(kind)
	if err != nil {
		return r, 0, err
	}
	p, err := startFloor(kind, dir)
	if err != nil {
		return r, 0, err
	}
	defer p.Stop()
	cpu, err = runLoadProcess("send", sendSpec{
		Addr: p.addr, Tokens: make([]string, senders), Rooms: []string{"!floor:bench"}, Seconds: b.seconds / 2, Size: 200, Prefix: "f",
	}, &r)
	return r, cpu, err
}

// runLoadProcess runs a client to its end.
func runLoadProcess(kind string, spec, result any) (time.Duration, error) {
	l, err := startLoad(kind, spec)
	if err != nil {
		return 0, err
	}
	return l.wait(result)
}

// awaitFile waits for the mark that a client makes when it is ready.
func awaitFile(path string, l *load, within time.Duration) error {
	end := time.After(within)
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		select {
		case <-poll.C:
			if _, err := os.Stat(path); err == nil {
				return nil
			}
		case <-l.ended:
			return fmt.Errorf("the client ended before it was ready: %v: %s", l.fault, l.err.String())
		case <-end:
			return fmt.Errorf("the client was not ready after %v (it used %v of CPU); see whether the server answers at all", within, l.kill())
		}
	}
}
