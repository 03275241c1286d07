package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"stoa/test/kit"
)

// cluster is what runs in one run beside the clients.
type cluster struct {
	dir        string
	instances  []*instance
	balancers  []*kit.Process
	postmaster int      // 0 without PostgreSQL
	addresses  []string // where clients connect, by device in turn

	mu      sync.Mutex // guards clients
	clients []int      // the processes that play clients

	sockets string // the folder in which instances behind balancers listen; "" = one without, on TCP
}

// balancers is how many HAProxy processes stand before three instances.
const balancers = 3

// gogc is how much may lie unused in an instance, in percent of what is in use, before that is collected.
const gogc = "600"

// coresOf is how many cores one of several like it may use at once: together they use those of the machine.
func coresOf(processes int) string { return strconv.Itoa(max(1, runtime.NumCPU()/processes)) }

// instance is one server, with an address for its operator.
type instance struct {
	*kit.Server
	admin string
}

// startCluster starts one instance, or three with three balancers before them.
func startCluster(ctx context.Context, o options, dir, database string, instances int) (w *cluster, err error) {
	w = &cluster{dir: dir}
	defer func() {
		if err != nil {
			w.stop()
		}
	}()
	if o.engine == enginePostgres {
		if w.postmaster, err = postmaster(ctx, o.postgres); err != nil {
			return w, err
		}
	}
	if instances > 1 {
		// HAProxy and they are on the same machine. It has another user, who may only pass through.
		if w.sockets, err = os.MkdirTemp("", "stoa-university-"); err != nil {
			return w, err
		}
		if err := os.Chmod(w.sockets, 0o711); err != nil {
			return w, err
		}
	}
	for n := range instances {
		if err := w.startInstance(o, n, database, coresOf(instances)); err != nil {
			return w, err
		}
	}
	if instances == 1 {
		w.addresses = []string{w.instances[0].Listen}
		return w, nil
	}
	for n := range balancers {
		if err := w.startBalancer(o, n); err != nil {
			return w, err
		}
	}
	return w, nil
}

func (w *cluster) startInstance(o options, n int, database, cores string) error {
	name := string(rune('a' + n))
	admin, err := kit.FreeAddress()
	if err != nil {
		return err
	}
	server, err := kit.NewServer("instance-"+name, o.binary, w.dir, "STOA_SERVER_NAME="+serverName, "STOA_INSTANCE="+name,
		"STOA_ADMIN_LISTEN="+admin, "STOA_DATABASE="+database, "STOA_TRUSTED_PROXIES=127.0.0.1", "STOA_REGISTRATION=closed",
		"STOA_LOG_LEVEL=warn", "GOMAXPROCS="+cores)
	if err != nil {
		return err
	}
	server.Data = filepath.Join(w.dir, name)
	if w.sockets != "" {
		server.Listen = "unix:" + filepath.Join(w.sockets, name)
	}
	if o.load.gogc != "" {
		server.Settings = append(server.Settings, "GOGC="+o.load.gogc)
	}
	w.instances = append(w.instances, &instance{server, admin})
	return server.Start()
}

func (w *cluster) startBalancer(o options, n int) error {
	listen, err := kit.FreeAddress()
	if err != nil {
		return err
	}
	cores := filepath.Join(w.dir, "cores.cfg")
	if err := os.WriteFile(cores, []byte("global\n\tnbthread "+coresOf(balancers)+"\n"), 0o644); err != nil {
		return err
	}
	h := &kit.HAProxy{Name: fmt.Sprintf("haproxy-%d", n+1), Dir: w.dir, Config: o.haproxy, Listen: listen, Args: []string{"-f", cores}}
	for _, in := range w.instances {
		h.Instances = append(h.Instances, in.Listen)
	}
	p, err := h.Start()
	if err != nil {
		return err
	}
	w.balancers, w.addresses = append(w.balancers, p), append(w.addresses, listen)
	return nil
}

func (w *cluster) stop() {
	var g sync.WaitGroup
	for _, p := range w.processes() {
		g.Go(p.Stop)
	}
	g.Wait()
	if w.sockets != "" {
		_ = os.RemoveAll(w.sockets) // sockets in a temporary folder
	}
}

func (w *cluster) processes() []*kit.Process {
	all := append([]*kit.Process(nil), w.balancers...)
	for _, in := range w.instances {
		if in.Process != nil {
			all = append(all, in.Process)
		}
	}
	return all
}

// consumption is what the parts of a cluster take of the machine, and what all that
// runs there does (its CPU alone).
type consumption struct{ servers, balancers, database, clients, machine usage }

// since is what was used since an earlier moment.
func (c consumption) since(before consumption) consumption {
	c.servers.cpu -= before.servers.cpu
	c.balancers.cpu -= before.balancers.cpu
	c.database.cpu -= before.database.cpu
	c.clients.cpu -= before.clients.cpu
	c.machine.cpu -= before.machine.cpu
	return c
}

// otherCPU is the CPU that processes outside of the measurement used.
func (c consumption) otherCPU() time.Duration {
	return max(0, c.machine.cpu-c.servers.cpu-c.balancers.cpu-c.database.cpu-c.clients.cpu)
}

// joins adds a process to the clients.
func (w *cluster) joins(pid int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clients = append(w.clients, pid)
}

func (w *cluster) consumption() (c consumption, err error) {
	add := func(to *usage, pid int) {
		u, e := usageOf(pid)
		err = errors.Join(err, e)
		to.cpu += u.cpu
		to.memory += u.memory
	}
	for _, in := range w.instances {
		add(&c.servers, in.PID())
	}
	for _, b := range w.balancers {
		add(&c.balancers, b.PID())
	}
	own, e := kit.CPU(os.Getpid(), true) // with that of clients that have ended
	err = errors.Join(err, e)
	c.clients.cpu = own
	w.mu.Lock()
	clients := slices.Clone(w.clients)
	w.mu.Unlock()
	for _, pid := range clients {
		if u, e := usageOf(pid); e == nil { // those who speak end before the others
			c.clients.cpu += u.cpu
		}
	}
	if err != nil {
		return c, err
	}
	if c.machine.cpu, err = machineCPU(); err != nil {
		return c, err
	}
	if w.postmaster != 0 {
		c.database, err = usageOfCluster(w.postmaster)
	}
	return c, err
}

// sampleEvery is how far apart the samples are. To count what the processes of PostgreSQL share once, the kernel goes through
// their memory: every 2 s that took 5 % of a core.
const sampleEvery = 10 * time.Second

// sampler keeps the most memory that was taken.
type sampler struct {
	stop chan struct{}
	done chan struct{}
	most consumption
	err  error
}

func (w *cluster) sample() *sampler {
	s := &sampler{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		t := time.NewTicker(sampleEvery)
		defer t.Stop()
		for {
			c, err := w.consumption()
			if err != nil {
				s.err = err
				return
			}
			s.most.servers.memory = max(s.most.servers.memory, c.servers.memory)
			s.most.balancers.memory = max(s.most.balancers.memory, c.balancers.memory)
			s.most.database.memory = max(s.most.database.memory, c.database.memory)
			select {
			case <-t.C:
			case <-s.stop:
				return
			}
		}
	}()
	return s
}

// end gives what was seen.
func (s *sampler) end() (consumption, error) {
	close(s.stop)
	<-s.done
	return s.most, s.err
}

// profile writes CPU and heap profiles of all instances.
func (w *cluster) profile(folder, run string, length time.Duration) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	errs := make([]error, len(w.instances))
	var g sync.WaitGroup
	for i, in := range w.instances {
		g.Go(func() {
			for _, what := range []string{fmt.Sprintf("profile?seconds=%d", int(length.Seconds())), "heap"} {
				file := filepath.Join(folder, fmt.Sprintf("%s-%s-%.4s.pprof", run, strings.TrimPrefix(in.Name, "instance-"), what))
				errs[i] = errors.Join(errs[i], download("http://"+in.admin+"/debug/pprof/"+what, file))
			}
		})
	}
	g.Wait()
	return errors.Join(errs...)
}

func download(url, file string) error {
	res, err := http.Get(url)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, res.Status)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, res.Body)
	return errors.Join(err, f.Close())
}
