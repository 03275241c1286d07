package bus

import (
	"context"
	"errors"
	"sync"
)

// Network connects members within one process.
type Network struct {
	mu      sync.Mutex // guards the fields below; nothing is locked under it
	members map[*processTransport]chan []byte
	broken  bool
}

// NewNetwork returns a network without members.
func NewNetwork() *Network { return &Network{members: map[*processTransport]chan []byte{}} }

// NewProcess returns a new member of a network.
func NewProcess(n *Network, opt Options) *Bus { return newBus(opt, &processTransport{network: n}) }

// Break disconnects all members, or lets them connect again.
func (n *Network) Break(broken bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.broken = broken
	if broken {
		for t, inbox := range n.members {
			close(inbox)
			delete(n.members, t)
		}
	}
}

var errBroken = errors.New("the network is broken")

type processTransport struct{ network *Network }

// inboxPackets bounds the packets that wait for a slow member.
const inboxPackets = 1024

func (t *processTransport) listen(ctx context.Context, b *Bus, ready func()) error {
	n := t.network
	inbox := make(chan []byte, inboxPackets)
	n.mu.Lock()
	if n.broken {
		n.mu.Unlock()
		return errBroken
	}
	n.members[t] = inbox
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.members, t)
	}()
	ready()
	for {
		select {
		case p, ok := <-inbox:
			if !ok {
				return errBroken
			}
			b.receive(p)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (t *processTransport) send(_ context.Context, packets [][]byte) error {
	n := t.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.broken {
		return errBroken
	}
	for _, inbox := range n.members {
		for _, p := range packets {
			select {
			case inbox <- p:
			default: // it is too slow
			}
		}
	}
	return nil
}

func (t *processTransport) by() string { return "this process" }

func (t *processTransport) close() {}
