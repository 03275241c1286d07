package main

import (
	"fmt"
	"path/filepath"
	"time"

	"stoa/test/kit"
)

const stopWithin = 10 * time.Second // is promised

// cluster is some instances on one database behind a balancer.
type cluster struct {
	dir, config, database string
	address               string // of the balancer
	instances             []*kit.Server
	balancer              *kit.Process
}

// start starts an instance of the program for each name, and the balancer.
func (c *cluster) start(b build) (err error) {
	c.instances, err = kit.NewInstances(b.binary, c.dir, c.database, names, "STOA_SERVER_NAME=rolling.test",
		"STOA_REGISTRATION=open", "STOA_SECRET_KEY=a secret of this test alone")
	if err != nil {
		return err
	}
	proxy := &kit.HAProxy{Name: "haproxy", Dir: c.dir, Config: c.config, Settings: []string{"STOA_BALANCE=roundrobin"}}
	for i, in := range c.instances {
		proxy.Instances = append(proxy.Instances, in.Listen)
		if err := c.startInstance(i, b); err != nil {
			return err
		}
	}
	if proxy.Listen, err = kit.FreeAddress(); err != nil {
		return err
	}
	c.address = "http://" + proxy.Listen
	c.balancer, err = proxy.Start()
	return err
}

// startInstance starts a program in the place of another. It does not ask for /ready: that is for the balancer, from whose
// questions the instance tells how often it asks.
func (c *cluster) startInstance(i int, b build) (err error) {
	if c.instances[i].Binary, err = filepath.Abs(b.binary); err != nil {
		return err
	}
	return c.instances[i].Start()
}

// replaceAll replaces one instance after the other.
func (c *cluster) replaceAll(t *population, phase string, b build) error {
	t.enter(phase)
	for i := range c.instances {
		if err := c.replace(t, i, b); err != nil {
			return err
		}
	}
	return nil
}

// replace tells an instance to end, starts the other program in its place, and waits
// until the balancer uses it.
func (c *cluster) replace(t *population, i int, b build) error {
	in := c.instances[i]
	stopped, err := in.Terminate(stopWithin)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := c.startInstance(i, b); err != nil {
		return fmt.Errorf("instance %s with the %s program: %w", in.Name, b.label, err)
	}
	started := time.Since(began)
	if err := t.await(in.Name); err != nil {
		return err
	}
	fmt.Printf("rolling: %s is %s now: the old one stopped in %d ms, the new one started in %d ms, used again after %d ms\n",
		in.Name, b.label, stopped.Milliseconds(), started.Milliseconds(), time.Since(began).Milliseconds())
	return nil
}

// kill ends what still runs.
func (c *cluster) kill() {
	c.balancer.Kill()
	for _, in := range c.instances {
		in.Kill()
	}
}
