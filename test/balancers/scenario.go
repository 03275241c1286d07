package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"stoa/test/kit"
	"stoa/test/kit/database"
)

type options struct {
	binary, deploy, database string
	poll                     time.Duration
	balancers                []string
}

// names are those of the instances.
var names = []string{"a", "b", "c"}

// scenario is everything that runs.
type scenario struct {
	opt       options
	dir       string // for data and logs
	database  string // name of the database that was made
	url       string // and where it is
	instances []*kit.Server
	balancers []*balancer
}

func newScenario(ctx context.Context, opt options) (*scenario, error) {
	if opt.database == "" {
		return nil, errors.New("STOA_TEST_POSTGRES is needed: run scripts/balancers")
	}
	var err error
	for _, path := range []*string{&opt.binary, &opt.deploy} {
		if *path, err = filepath.Abs(*path); err != nil {
			return nil, err
		}
	}
	w := &scenario{opt: opt, database: fmt.Sprintf("balancers_%d", os.Getpid())}
	if w.dir, err = os.MkdirTemp("", "stoa-balancers-"); err != nil {
		return nil, err
	}
	if err := os.Chmod(w.dir, 0o755); err != nil { // balancers give up being root
		return nil, err
	}
	if w.url, err = database.New(ctx, opt.database, w.database); err != nil {
		return nil, errors.Join(err, os.RemoveAll(w.dir))
	}
	return w, nil
}

func (w *scenario) start() error {
	var err error
	w.instances, err = kit.NewInstances(w.opt.binary, w.dir, w.url, names, "STOA_SERVER_NAME=balancers.test", "STOA_REGISTRATION=open",
		"STOA_CLUSTER_LISTEN=127.0.0.1:0")
	if err != nil {
		return err
	}
	// All at once, on an empty database.
	for _, i := range w.instances {
		if err := i.Launch(); err != nil {
			return err
		}
	}
	for _, i := range w.instances {
		if err := awaitReady(i); err != nil {
			return err
		}
	}
	ports, err := kit.FreeAddresses(2 * len(w.opt.balancers))
	if err != nil {
		return err
	}
	for i, name := range w.opt.balancers {
		b, err := w.startBalancer(name, ports[2*i], ports[2*i+1], eachToTheNext)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		w.balancers = append(w.balancers, b)
	}
	return nil
}

// close ends all processes; the logs are printed if something failed.
func (w *scenario) close(failed bool) error {
	for _, b := range w.balancers {
		b.process.Kill()
	}
	for _, i := range w.instances {
		i.Kill()
	}
	if failed {
		logs, err := filepath.Glob(filepath.Join(w.dir, "*.log"))
		if err != nil {
			return err
		}
		for _, name := range logs {
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "--- end of %s\n%s\n", filepath.Base(name), text[max(0, len(text)-4000):])
		}
	}
	return errors.Join(database.Drop(context.Background(), w.opt.database, w.database), os.RemoveAll(w.dir))
}

func awaitReady(i *kit.Server) error { return i.AwaitPath("/ready") }
