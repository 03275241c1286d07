// Package differential compares the protocol library of this module with two others, gomatrixserverlib and mautrix-go:
// hashes, event IDs, signatures, redactions, verdicts and resolved states of random rooms.
//
// It owns the list of known differences: each has a test that fails when the difference is gone, and a note in the README
// that says who is right. It never decides by majority: the specification does. The invariant: a difference that is not on
// the list fails the run.
//
// It is a module of its own, so that the server depends on neither library. mautrix needs an experiment of Go 1.26:
//
//	GOEXPERIMENT=jsonv2 go test ./...
package differential
