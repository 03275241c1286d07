// Package doctor checks the invariants of a store: that its tables are consistent with
// each other.
//
// It owns no table and writes nothing. It reads all tables of rooms and users, each room
// in one snapshot, while a server may be running. It never repairs: it reports findings,
// and people decide what to do.
//
// The invariant: a sound store has no findings, even while it is being written.
package doctor
