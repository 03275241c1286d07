// Package eventfilter reads the filters of clients and applies them to events.
//
// It owns the checks and limits of a filter, the question whether an event passes one, and the selection of an event's
// fields. It never looks anything up: relations and members of rooms come in as values, and the stored form of a filter is
// the JSON text that the client sent. The invariant: a filter that Parse returned is never changed, so any number of
// goroutines can use it.
//
// Spec: client-server-api#filtering
package eventfilter
