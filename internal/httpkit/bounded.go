package httpkit

import "net"

// Bounded is a listener with at most n connections open at a time; the next one
// waits in the kernel's queue until one ends.
func Bounded(l net.Listener, n int) net.Listener {
	return &boundedListener{Listener: l, free: make(chan struct{}, n)}
}
