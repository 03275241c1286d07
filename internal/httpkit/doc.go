// Package httpkit connects net/http to handlers that take a request and return a value or
// an error. It does everything else in the same way for every route.
//
// It owns routing (Mux), the form of answers and errcodes, cross-origin headers, bodies
// and their limits, query and path values, the client's address, rate limits in memory,
// bounds on the requests in progress and on the memory of bodies (admission.go), timeouts
// of connections, panics, and the request metrics. A Server passes its listener to
// package parking, which holds the connections of waiting requests.
//
// It never identifies callers (Options.Identify does, before the body is read), never
// reads the store, and knows nothing of Matrix: an errcode beyond malformed requests
// comes from the handler.
//
// The invariant: every request that reaches a Mux gets exactly one answer, and every
// answer has the cross-origin headers.
package httpkit
