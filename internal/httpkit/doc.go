// Package httpkit is the skin between net/http and the functions that do the
// work: a handler takes a request and returns a value or an error, and this
// package does the rest the same way for every route.
//
// It owns routing (Mux), the answer's form and errcodes, cross-origin headers,
// bodies and their limits, query values, path values, the client's address,
// rate limits counted in memory, limits on what is in flight and on the memory
// of bodies (see admission.go), time limits on connections, panics, and the
// request metrics. A Server gives its listener to
// package parking, which keeps the connections of requests that wait.
//
// It never decides who is calling (Options.Identify does, before a body is
// read), reads the store, or decides about Matrix: an
// errcode other than those of a malformed request comes from the handler.
//
// The invariant that matters: every request that reaches a Mux gets exactly
// one answer, and every answer carries the cross-origin headers.
package httpkit
