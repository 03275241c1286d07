package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"stoa/test/kit"
)

// balancer is a program before the instances, with its file in deploy/.
type balancer struct {
	name, url string
	control   string // a second address
	process   *kit.Process
}

// haproxyTCP passes on connections, and not requests.
const haproxyTCP = "haproxy-tcp"

func (b *balancer) isHAProxy() bool { return b.name == "haproxy" || b.name == haproxyTCP }

// eachToTheNext has HAProxy send each request, or connection, to another instance: as
// shipped it has all of a user's on one, and what happens to another is not noticed.
const eachToTheNext = "STOA_BALANCE=roundrobin"

// startBalancer starts one for clients at addr; control is an address for what
// it needs beside.
func (w *scenario) startBalancer(name, addr, control string, env ...string) (*balancer, error) {
	env = append(env, "STOA_BIND="+addr, "STOA_SITE=http://"+addr, "STOA_CADDY_ADMIN="+control, "STOA_BALANCER_USER="+kit.BalancerUser(),
		"XDG_DATA_HOME="+filepath.Join(w.dir, name), "XDG_CONFIG_HOME="+filepath.Join(w.dir, name))
	for i, instance := range w.instances {
		env = append(env, fmt.Sprintf("STOA_%d=%s", i+1, instance.Listen))
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
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir, cmd.Env = w.dir, append(os.Environ(), env...)
	p, err := kit.Launch(name, w.dir, cmd)
	if err != nil {
		return nil, err
	}
	b := &balancer{name: name, url: "http://" + addr, control: control, process: p}
	if err := p.Await(func() error { return kit.Answers(addr, kit.Versions) }); err != nil {
		p.Kill()
		return nil, err
	}
	return b, nil
}

// nginxFiles puts the file under test beside the two that it includes.
func (w *scenario) nginxFiles(addr string) (string, error) {
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
		ours = strings.ReplaceAll(ours, theirs, instance.Listen)
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
