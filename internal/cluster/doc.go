// Package cluster is what several instances on one database know of each other.
//
// It owns membership (the table instances: a lease each, renewed by the database's
// clock), the choice of a home for each room and of an owner for each kind of
// outgoing work (rendezvous hashing over the live instances), and the forwarding
// of requests to homes over one connection for each peer, on which both sides show
// the certificate that they announced in the table, and many requests share a record
// of TLS (frame.go, outbox.go; caller.go asks, callee.go answers). It never decides
// what a request does, and fences nothing: two instances that both believe they are
// home of a room can't fork it, since its head decides.
//
// The invariant that matters: a request is served at least by somebody who may,
// and at most twice only where its transaction ID makes the second time harmless.
package cluster
