// Package doctor checks the invariants of a store: that what one table says of
// another is so.
//
// It owns no table and writes nothing. It reads all tables of rooms and users, each
// room in one snapshot, so that a running server may go on. It never repairs: it
// reports findings, and what to do about one is for a person to decide.
//
// The invariant that matters: a sound store has no finding, also while it is
// written.
package doctor
