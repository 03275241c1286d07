// Command balancers proves that the examples in deploy/ do what they say: it starts
// three instances on one PostgreSQL database, HAProxy, Caddy and nginx before them
// with those very files, and uses the server through each as clients do, while one
// instance is killed, another is stopped, and a third hangs.
//
// It owns the processes that it starts and the database that it makes, and takes
// free ports on loopback addresses. It never looks into the server: what clients
// get through a balancer is all that counts.
//
// The invariant that matters: the files under test are used as they are; what
// differs from an operator's machine stands where those files say that it may.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "balancers: FAILED:", err)
		os.Exit(1)
	}
}

func run(args []string) (err error) {
	flags := flag.NewFlagSet("balancers", flag.ContinueOnError)
	opt := options{}
	flags.StringVar(&opt.binary, "binary", "bin/stoa", "the server under test")
	flags.StringVar(&opt.deploy, "deploy", "deploy", "folder of the files under test")
	flags.StringVar(&opt.database, "database", os.Getenv("STOA_TEST_POSTGRES"), "a PostgreSQL server, in which a database is made")
	flags.DurationVar(&opt.poll, "poll", 30*time.Second, "length of the long poll")
	only := flags.String("only", "haproxy,haproxy-tcp,caddy,nginx", "balancers to test")
	if err := flags.Parse(args); err != nil {
		return err
	}
	opt.balancers = strings.Split(*only, ",")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	w, err := newScenario(ctx, opt)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close(err != nil)) }()
	if err := w.start(); err != nil {
		return err
	}
	return errors.Join(w.checkQuiet(ctx), w.checkShipped(ctx), w.checkKill(ctx), w.checkDrain(ctx), w.checkFreeze(ctx))
}

// each runs a check for all balancers at once and names the balancer in its errors.
func (w *scenario) each(f func(b *balancer) error) error {
	errs := make([]error, len(w.balancers))
	var wg sync.WaitGroup
	for i, b := range w.balancers {
		wg.Go(func() {
			if err := f(b); err != nil {
				errs[i] = fmt.Errorf("%s: %w", b.name, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// say prints a line of the report.
func say(b *balancer, format string, args ...any) {
	fmt.Printf("balancers: %-11s %s\n", b.name, fmt.Sprintf(format, args...))
}
