package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// Everything runs in a network namespace of its own: this process, the clients, the
// balancer, PostgreSQL and Redis live in it, and each instance in one more
// beside it. Four networks lead to an instance, so that each can be cut alone.
// All of it is held by processes alone and is gone with them.
const (
	netDatabase = iota
	netRedis
	netPeers
	netClients
	networks
)

var netNames = [networks]string{"db", "redis", "peers", "clients"}

// hubAddr is our own address in a network.
func hubAddr(network int) string { return fmt.Sprintf("10.77.%d.1", network+1) }

// instanceAddr is that of the n-th instance, from 0 on.
func instanceAddr(network, n int) string { return fmt.Sprintf("10.77.%d.%d", network+1, 11+n) }

// link is our end of an instance's link to a network.
func link(network, n int) string { return fmt.Sprintf("%s%d", netNames[network], n) }

// insideNamespace says that this process is the one inside; outside it starts itself
// again in a new namespace.
const insideNamespace = "CHAOS_INSIDE"

// enterNamespace runs this program again in a network namespace of its own and
// gives its exit code.
func enterNamespace(args []string) (int, error) {
	if os.Getuid() != 0 {
		return 0, errors.New("network namespaces need root: run it with sudo")
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), insideNamespace+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return max(exit.ExitCode(), 1), nil
		}
		return 0, fmt.Errorf("enter a network namespace: %w", err)
	}
	return 0, nil
}

// holder is a process that keeps an instance's namespace, which must outlive it.
type holder struct{ cmd *exec.Cmd }

func newHolder() (*holder, error) {
	cmd := exec.Command("sleep", "infinity")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &holder{cmd}, nil
}

// namespace is a path that nsenter takes.
func (h *holder) namespace() string { return fmt.Sprintf("/proc/%d/ns/net", h.cmd.Process.Pid) }

func (h *holder) end() {
	_ = h.cmd.Process.Kill() // it may be gone already
	_ = h.cmd.Wait()         // killed, as it should be
}

// ip runs iproute2, once with all the commands.
func ip(ctx context.Context, namespace string, commands ...string) error {
	words := []string{"ip", "-batch", "-"}
	if namespace != "" {
		words = append([]string{"nsenter", "--net=" + namespace, "--"}, words...)
	}
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(commands, "; "), err, out)
	}
	return nil
}

// buildNetworks makes the bridges and the links to the holders.
func buildNetworks(ctx context.Context, holders []*holder) error {
	commands := []string{"link set lo up"}
	for network, name := range netNames {
		commands = append(commands,
			fmt.Sprintf("link add br-%s type bridge forward_delay 0 stp_state 0", name),
			fmt.Sprintf("addr add %s/24 dev br-%s", hubAddr(network), name),
			fmt.Sprintf("link set br-%s up", name))
		for n, h := range holders {
			commands = append(commands,
				fmt.Sprintf("link add %s type veth peer name %s netns %d", link(network, n), name, h.cmd.Process.Pid),
				fmt.Sprintf("link set %s master br-%s", link(network, n), name),
				fmt.Sprintf("link set %s up", link(network, n)))
		}
	}
	if err := ip(ctx, "", commands...); err != nil {
		return err
	}
	for n, h := range holders {
		commands := []string{"link set lo up"}
		for network, name := range netNames {
			commands = append(commands,
				fmt.Sprintf("addr add %s/24 dev %s", instanceAddr(network, n), name),
				fmt.Sprintf("link set %s up", name))
		}
		if err := ip(ctx, h.namespace(), commands...); err != nil {
			return err
		}
	}
	return nil
}

// setLink cuts an instance off from a network, or heals the cut. What is on its
// way is lost and nobody is told, as when a cable is pulled out.
func setLink(ctx context.Context, network, n int, up bool) error {
	state := "down"
	if up {
		state = "up"
	}
	return ip(ctx, "", fmt.Sprintf("link set %s %s", link(network, n), state))
}
