// Command university plays the reference institution against real servers: all
// its accounts and rooms in PostgreSQL, three devices of everybody who is
// connected in long polls, and the messages, typing and receipts of a busy hour,
// first against one instance, then against three behind three HAProxy processes.
// With -load it plays other loads, also on SQLite: lecture, where everybody writes
// and reads in rooms of Zipf sizes, and flood, where eight send as fast as they are
// answered.
//
// It owns the databases and processes that it starts, and writes the table
// docs/university.md and the plot docs/img/university.png. It never judges by
// the answer to a send: what counts is when each device has the message in its
// hands, by a time that the message carries, read by one clock. A delivery that
// does not come is missed, whatever the quantiles of the others say.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "university:", err)
		os.Exit(1)
	}
}

// options are what is measured and where.
type options struct {
	binary, postgres, haproxy string
	docs, note                string
	profiles                  string
	people, online            int
	history                   int
	load                      *load
	engine                    string
	repeat                    int
	minutes, seconds          float64
	rate, peak                float64
	burst, warm               time.Duration
	fresh                     bool
	runs                      map[string]bool
}

// The two runs.
const (
	runOne   = "one"
	runThree = "three"
)

func run(args []string) error {
	if len(args) == 2 && args[0] == "devices" {
		return runDevices(args[1])
	}
	if len(args) == 2 && (args[0] == kindSchedule || args[0] == kindLecture) {
		return runSpeakers(args[0], args[1])
	}
	if len(args) == 2 && args[0] == kindFlood {
		return runFlood(args[1])
	}
	o := options{runs: map[string]bool{}}
	flags := flag.NewFlagSet("university", flag.ContinueOnError)
	name := flags.String("load", loadUniversity, loadUsage)
	flags.StringVar(&o.engine, "engine", "", "sqlite or postgres, where the load has both (default: sqlite; university: postgres)")
	flags.IntVar(&o.repeat, "repeat", 0, "how often each run is made (default: once; flood: 5 times)")
	flags.StringVar(&o.binary, "binary", "bin/stoa", "the server under test")
	flags.StringVar(&o.postgres, "postgres", os.Getenv("STOA_TEST_POSTGRES"), "postgres:// URL of a cluster in which databases may be made (STOA_TEST_POSTGRES)")
	flags.StringVar(&o.haproxy, "haproxy", "deploy/haproxy-tcp.cfg", "configuration of the balancers")
	flags.StringVar(&o.docs, "docs", "", "folder for university.md and img/university.png; none are written without it, nor by other loads than university")
	flags.StringVar(&o.note, "note", "", "what else the page has to say of these runs")
	flags.StringVar(&o.profiles, "profiles", "", "folder for CPU profiles of the instances, taken in the middle of each run")
	flags.IntVar(&o.people, "people", 0, "accounts; rooms are fewer as they are (default: 26015; lecture: 2000; flood: 500)")
	flags.IntVar(&o.online, "online", 0, "people connected with three devices each, of the load university (0: 7800 of 26015)")
	flags.IntVar(&o.history, "history", 20, "messages in each room before the runs")
	flags.Float64Var(&o.minutes, "minutes", 0, "length of each measured run (default: 10; lecture: 3; flood: 0.25)")
	flags.Float64Var(&o.seconds, "seconds", 0, "the same in seconds")
	flags.Float64Var(&o.rate, "rate", 50, "messages/s of the load university, a fifth more or less in the course of a minute")
	flags.Float64Var(&o.peak, "peak", 200, "messages/s in a burst")
	flags.DurationVar(&o.burst, "burst", 5*time.Second, "length of the burst in each minute")
	flags.DurationVar(&o.warm, "warm", 0, "load before the measured run, which counts for nothing (default: 1m; lecture: 40s; flood: none)")
	flags.BoolVar(&o.fresh, "fresh", false, "write the data anew though the cluster has them")
	runs := flags.String("runs", "", "runs to make: one,three: with one instance, with three (default: both on PostgreSQL; SQLite, flood: one)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	set := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { set[f.Name] = true })
	if err := o.applyLoad(*name, *runs, set); err != nil {
		return err
	}
	if o.online == 0 {
		o.online = o.people * 7800 / 26015
	}
	if o.postgres == "" && o.engine == enginePostgres {
		return errors.New("a PostgreSQL cluster is needed: use scripts/university")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return measure(ctx, o)
}

// oneLimit is how many connections one instance can hold beside its other files,
// of which a process may have 20,000.
const oneLimit = 19000

// measure writes the data and makes the runs.
func measure(ctx context.Context, o options) error {
	plan := o.load.plan(&o)
	dir, err := os.MkdirTemp("", "stoa-university-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	template, err := prepare(ctx, o, plan, dir)
	if err != nil {
		return err
	}
	var results []*result
	for _, name := range []string{runOne, runThree} {
		if !o.runs[name] {
			continue
		}
		devices := plan.devices * plan.online
		if name == runOne {
			devices = min(devices, oneLimit)
		}
		for number := range o.repeat {
			r, err := measureRun(ctx, o, plan, template, dir, name, number+1, devices)
			if err != nil {
				return fmt.Errorf("run with %s: %w", name, err)
			}
			results = append(results, r)
		}
	}
	missed := printReport(os.Stdout, o.load.lines(), results)
	if o.docs != "" && o.load.name == loadUniversity {
		if err := writeDocs(o, results); err != nil {
			return err
		}
	}
	if missed > 0 {
		return fmt.Errorf("%d bounds are missed", missed)
	}
	return nil
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}
