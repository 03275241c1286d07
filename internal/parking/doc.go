// Package parking holds the connections of waiting requests outside of net/http, without a goroutine each: a long poll waits most
// of its life.
//
// It owns a connection from the moment its request is parked until the connection is closed or returns to the server: the epoll
// instance that notices what clients do, the timeouts of idle connections and of answers, the next request if it is the same kind
// again (a complete GET of the same path), and the worker pool that renders the answers of parked connections. A Listener belongs
// to one http.Server, and returns connections to it.
//
// It never routes a request, knows why a request waits, or words an answer: requests on parked connections go through the handler
// of the server, and the form of an answer comes from the handler's ResponseWriter (Parkable, Responder). Any other request returns
// to net/http with everything that was read.
//
// The invariant: each parked request ends once, with one answer or the end of its connection, whichever of a wake-up, the client's
// next bytes and its hang-up comes first; Shutdown waits for that.
//
// A waiting client costs 1 KiB of memory here, including package net's part of the connection, instead of 24 KiB within net/http
// (two goroutines with their stacks, two buffers, the request), and in both cases an open file and the kernel's socket. On systems
// without epoll nothing is parked. docs/scaling.md has the cost of a waiting client for the whole server.
package parking
