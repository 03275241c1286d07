package main

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
)

// balancer is a program before the instances, with its file in deploy/.
type balancer struct {
	name, url string
	control   string // a second address
	process   *process
}

// haproxyTCP passes on connections, and not requests.
const haproxyTCP = "haproxy-tcp"

func (b *balancer) isHAProxy() bool { return b.name == "haproxy" || b.name == haproxyTCP }

// eachToTheNext has HAProxy send each request, or connection, to another instance: as
// shipped it has all of a user's on one, and what happens to another is not noticed.
const eachToTheNext = "STOA_BALANCE=roundrobin"

// startBalancer starts one for clients at addr; control is an address for what
// it needs beside.
func (w *world) startBalancer(name, addr, control string, env ...string) (*balancer, error) {
	env = append(env, "STOA_BIND="+addr, "STOA_SITE=http://"+addr, "STOA_CADDY_ADMIN="+control, "STOA_BALANCER_USER="+balancerUser(),
		"XDG_DATA_HOME="+filepath.Join(w.dir, name), "XDG_CONFIG_HOME="+filepath.Join(w.dir, name))
	for i, instance := range w.instances {
		env = append(env, fmt.Sprintf("STOA_%d=%s", i+1, instance.addr))
	}
	var words []string
	switch name {
	case "haproxy", haproxyTCP:
		words = []string{"haproxy", "-db", "-f", filepath.Join(w.opt.deploy, name+".cfg")}
	case "caddy":
		words = []string{"caddy", "run", "--config", filepath.Join(w.opt.deploy, "Caddyfile"), "--adapter", "caddyfile"}
	case "nginx":
		file, err := w.nginxFiles(addr)
		if err != nil {
			return nil, err
		}
		words = []string{"nginx", "-c", file, "-p", filepath.Dir(file), "-e", "stderr", "-g", "daemon off; pid " + filepath.Join(filepath.Dir(file), "pid") + ";"}
	default:
		return nil, fmt.Errorf("there is no balancer of this name")
	}
	p, err := startProcess(name, w.dir, env, words...)
	if err != nil {
		return nil, err
	}
	b := &balancer{name: name, url: "http://" + addr, control: control, process: p}
	if err := p.await(func() error { return ready(b.url + "/_matrix/client/versions") }); err != nil {
		text, reading := os.ReadFile(logFile(w.dir, name))
		p.kill()
		return nil, fmt.Errorf("%w\n%s%v", err, text, reading)
	}
	return b, nil
}

// nginxFiles puts the file under test beside the two that it includes.
func (w *world) nginxFiles(addr string) (string, error) {
	dir := filepath.Join(w.dir, "nginx")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	text, err := os.ReadFile(filepath.Join(w.opt.deploy, "nginx.conf"))
	if err != nil {
		return "", err
	}
	instances, err := os.ReadFile(filepath.Join(w.opt.deploy, "nginx-instances.conf"))
	if err != nil {
		return "", err
	}
	// The operator's file, with our addresses.
	ours := string(instances)
	for i, instance := range w.instances {
		theirs := fmt.Sprintf("127.0.0.1:%d", 8001+i)
		if !strings.Contains(ours, theirs) {
			return "", fmt.Errorf("nginx-instances.conf does not name %s", theirs)
		}
		ours = strings.ReplaceAll(ours, theirs, instance.addr)
	}
	for name, text := range map[string]string{
		"nginx.conf": string(text), "nginx-instances.conf": ours, "nginx-listen.conf": "listen " + addr + ";\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, "nginx.conf"), nil
}

// balancerUser is who HAProxy becomes: its own user if we are root.
func balancerUser() string {
	if os.Getuid() == 0 {
		return "haproxy"
	}
	u, err := user.Current()
	if err != nil {
		return "haproxy"
	}
	return u.Username
}
