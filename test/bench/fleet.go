package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"stoa/test/kit"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// fleet is some instances of the server on one database, on the cores that they
// share with it and with the clients. There is no balancer: a client connects to
// the instance that it is meant for.
type fleet []*process

// fleetTimeout is how long instances may take to find each other.
const fleetTimeout = 20 * time.Second

// serveMany starts n instances of a binary on a data set in PostgreSQL and waits
// until each can forward to each. Where they are several each is told its share of the
// cores, at least one, as docs/operations.md advises.
func (b *bench) serveMany(binary string, d *dataset, n int, settings ...string) (f fleet, err error) {
	defer func() {
		if err != nil {
			f.stop()
		}
	}()
	if n > 1 {
		settings = append(settings, fmt.Sprintf("GOMAXPROCS=%d", max(runtime.GOMAXPROCS(0)/n, 1)))
	}
	for i := range n {
		name := string(rune('a' + i))
		dir, err := b.folder(name)
		if err != nil {
			return f, err
		}
		admin, err := kit.FreeAddress()
		if err != nil {
			return f, err
		}
		p, err := startServer(binary, dir, d.database, append([]string{"STOA_INSTANCE=" + name, "STOA_ADMIN_LISTEN=" + admin}, settings...)...)
		if err != nil {
			return f, err
		}
		p.admin = admin
		f = append(f, p)
	}
	end := time.Now().Add(fleetTimeout)
	for _, p := range f {
		for {
			up, err := p.metric(`stoa_cluster_peers{state="up"}`)
			if err != nil {
				return f, err
			}
			if int(up) == n-1 {
				break
			}
			if time.Now().After(end) {
				return f, fmt.Errorf("after %v an instance reaches %v of %d others; its log:\n%s", fleetTimeout, up, n-1, p.Log())
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return f, nil
}

func (f fleet) stop() {
	for _, p := range f {
		p.Stop()
	}
}

func (f fleet) addrs() (out []string) {
	for _, p := range f {
		out = append(out, p.addr)
	}
	return out
}

// cpu is what all instances have used so far.
func (f fleet) cpu() (sum time.Duration, err error) {
	for _, p := range f {
		one, err := p.cpu()
		if err != nil {
			return 0, err
		}
		sum += one
	}
	return sum, nil
}

// resident is the memory of all instances in bytes.
func (f fleet) resident() (sum int64, err error) {
	for _, p := range f {
		one, err := p.resident()
		if err != nil {
			return 0, err
		}
		sum += one
	}
	return sum, nil
}

// sum is a metric of all instances together.
func (f fleet) sum(name string) (sum float64, err error) {
	for _, p := range f {
		one, err := p.metric(name)
		if err != nil {
			return 0, err
		}
		sum += one
	}
	return sum, nil
}

// metric is the value of a metric, named with its labels, on the admin listener.
func (p *process) metric(name string) (float64, error) {
	c, err := dial(p.admin, 65536)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	page, err := c.do("GET", "/metrics", "", nil, nil)
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(page) {
		if value, ok := strings.CutPrefix(string(line), name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}

// profile takes a CPU profile of each instance that has an admin listener, until
// the function that it returns is called.
func (b *bench) profile(f fleet, seconds float64) (done func()) {
	var group errgroup.Group
	for i, p := range f {
		if b.profiles == "" || p.admin == "" || seconds < 2 {
			continue
		}
		group.Go(func() error {
			c, err := dial(p.admin, 65536)
			if err != nil {
				return err
			}
			defer c.Close()
			page, err := c.do("GET", fmt.Sprintf("/debug/pprof/profile?seconds=%d", int(seconds)-1), "", nil, nil)
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(b.profiles, fmt.Sprintf("%d-of-%d.pprof", i+1, len(f))), page, 0o600)
		})
	}
	return func() {
		if err := group.Wait(); err != nil {
			progress("no profile: %v", err)
		}
	}
}

// database is the PostgreSQL server of the run, to look at from outside.
type database struct {
	c          *pgx.Conn
	postmaster int
}

func (b *bench) watchDatabase(ctx context.Context) (*database, error) {
	c, err := pgx.Connect(ctx, b.postgres)
	if err != nil {
		return nil, err
	}
	w := &database{c: c}
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(int(c.PgConn().PID())), "status"))
	if err == nil {
		_, rest, _ := strings.Cut(string(status), "PPid:")
		line, _, _ := strings.Cut(rest, "\n")
		w.postmaster, err = strconv.Atoi(strings.TrimSpace(line))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("find the processes of PostgreSQL, which must be on this machine: %w", err), c.Close(ctx))
	}
	return w, nil
}

func (w *database) close(ctx context.Context) { _ = w.c.Close(ctx) } // nothing was written

// cpu is what PostgreSQL has used so far, with the connections that have ended.
func (w *database) cpu() (time.Duration, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, path := range stats {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return 0, err
		}
		if parent, err := kit.Parent(pid); err != nil || pid != w.postmaster && parent != w.postmaster {
			continue // also one that has just ended
		}
		if cpu, err := kit.CPU(pid, true); err == nil { // its own and that of its children which have ended
			sum += cpu
		}
	}
	return sum, nil
}

// connections is how many the instances have, and the memory that the processes of
// PostgreSQL have for themselves, in bytes.
func (w *database) connections(ctx context.Context) (n int, private int64, err error) {
	rows, err := w.c.Query(ctx, "SELECT pid FROM pg_stat_activity WHERE application_name = 'stoa'")
	if err != nil {
		return 0, 0, err
	}
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return 0, 0, err
	}
	for _, pid := range pids {
		text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
		if err != nil {
			return 0, 0, err
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "Private_") {
				kb, err := strconv.ParseInt(strings.Fields(line)[1], 10, 64)
				if err != nil {
					return 0, 0, err
				}
				private += kb * 1024
			}
		}
	}
	return len(pids), private, nil
}

// written is how many bytes of log PostgreSQL has written, and how often it has
// made them durable.
func (w *database) written(ctx context.Context) (bytes, syncs int64, err error) {
	err = w.c.QueryRow(ctx, "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint, (SELECT wal_sync FROM pg_stat_wal)").Scan(&bytes, &syncs)
	return bytes, syncs, err
}
