package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"stoa/test/kit"
)

// startPostgres makes a new cluster, reachable by a unix socket in dir and in
// the network for it.
func startPostgres(bin, dir string) (*kit.Postgres, error) {
	dir = filepath.Join(dir, "pg")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	return kit.NewPostgres(bin, dir, fmt.Sprintf("host all all %s/24 trust\n", hubAddr(netDatabase)),
		"listen_addresses="+hubAddr(netDatabase), "shared_buffers=128MB", "max_connections=200", "log_lock_waits=on", "log_line_prefix=%m [%p] ")
}

func startRedis(dir string) (*kit.Process, error) {
	cmd := exec.Command("redis-server", "--bind", hubAddr(netRedis), "--port", "6379",
		"--save", "", "--appendonly", "no", "--protected-mode", "no", "--dir", dir)
	p, err := kit.Launch("redis", dir, cmd)
	if err != nil {
		return nil, err
	}
	return p, p.Await(func() error {
		return exec.Command("redis-cli", "-h", hubAddr(netRedis), "ping").Run()
	})
}

// balancerPort is where the balancer takes clients.
const balancerPort = 8008

// startBalancer starts HAProxy with a file that finds the instances in its
// environment, as deploy/haproxy.cfg does.
func startBalancer(dir, file string, instances int) (*kit.Process, error) {
	h := &kit.HAProxy{Name: "haproxy", Dir: dir, Config: file, Listen: balancerAddr()}
	for n := range instances {
		h.Instances = append(h.Instances, clientAddr(n))
	}
	// Each request goes to another instance, so that clients see it if one knows less.
	h.Settings = []string{"STOA_BALANCE=roundrobin"}
	return h.Start()
}

func balancerAddr() string { return fmt.Sprintf("%s:%d", hubAddr(netClients), balancerPort) }

func balancerURL() string { return "http://" + balancerAddr() }

// clientPort and clusterPort are the same on every instance.
const (
	clientPort  = 8008
	clusterPort = 8010
)

func instanceName(n int) string { return string(rune('a' + n)) }

// clientAddr is where the n-th instance serves clients.
func clientAddr(n int) string { return fmt.Sprintf("%s:%d", instanceAddr(netClients, n), clientPort) }

// instance is one server in its namespace. Its processes come and go.
type instance struct {
	n      int
	server *kit.Server

	mu sync.Mutex // guards p
	p  *kit.Process
}

func newInstance(o *options, n int, h *holder) *instance {
	name := instanceName(n)
	settings := []string{
		"STOA_SERVER_NAME=" + serverName, "STOA_INSTANCE=" + name,
		fmt.Sprintf("STOA_CLUSTER_LISTEN=%s:%d", instanceAddr(netPeers, n), clusterPort),
		"STOA_DATABASE=" + databaseURL(), "STOA_TRUSTED_PROXIES=" + hubAddr(netClients),
		"STOA_LOG_LEVEL=info", "STOA_PUBLIC_URL=" + balancerURL(),
	}
	if o.redis {
		settings = append(settings, "STOA_REDIS=redis://"+hubAddr(netRedis)+":6379")
	}
	return &instance{n: n, server: &kit.Server{
		Name: name, Binary: o.binary, Dir: o.dir, Data: filepath.Join(o.dir, name), Listen: clientAddr(n),
		Settings: append(settings, o.env...), Wrap: []string{"nsenter", "--net=" + h.namespace(), "--"},
	}}
}

func (i *instance) url() string { return i.server.URL() }

func (i *instance) process() *kit.Process {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.p
}

// start starts a process; it does not wait until it is ready.
func (i *instance) start() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.server.Launch(); err != nil {
		return err
	}
	i.p = i.server.Process
	return nil
}

// awaitReady waits until the instance itself says that it is ready.
func (i *instance) awaitReady() error {
	return i.process().Await(func() error { return kit.Answers(i.server.Listen, "/ready") })
}

func databaseURL() string {
	return fmt.Sprintf("postgres://stoa@%s:5432/postgres?sslmode=disable", hubAddr(netDatabase))
}
