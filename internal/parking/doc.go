// Package parking keeps the connections of requests that wait, outside of net/http and without a goroutine each: a long poll waits
// most of its life.
//
// It owns a connection from the moment when its request is parked until it is closed or returns to the server: the epoll instance
// that notices what clients do, the time limits of idle connections and of answers, the next request if it is plainly the same
// again (a GET of the same path, here whole), and the pool of workers that make the answers. A Listener is given to one
// http.Server, and hands it the connections that return.
//
// It never routes a request, knows why it waits, or words an answer: requests on parked connections go through the handler of the
// server, and the form of an answer comes from the handler's ResponseWriter (Parkable, Responder). What is not plainly the same
// again goes to net/http with all that was read.
//
// The invariant that matters: each parked request ends once, with one answer or the end of its connection, whatever of a wake-up, the
// client's next bytes and its hang-up comes first; Shutdown waits for that.
//
// A waiting client costs 1 KiB of memory here, the connection as package net holds it included, where it takes 24 KiB within net/http
// (two goroutines with their stacks, two buffers, the request); beside that an open file and the kernel's socket. On systems without
// epoll nothing is parked. What the whole server needs for a waiting client is in docs/scaling.md.
package parking
