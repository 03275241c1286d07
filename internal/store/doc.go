// Package store keeps everything that Stoa remembers: rooms, events, state,
// accounts, keys. It is the only package with SQL, one text per query for
// SQLite and PostgreSQL.
//
// It owns the database, the one stream of positions, and the committer that
// merges waiting changes into transactions. It never judges an event, never
// talks to the network, and calls nobody back: readers follow the stream.
//
// The invariant that matters: a reader that has seen position p never later
// finds anything at or below p. Positions are given by the last statements of
// a transaction, under a lock that is taken last and released by its commit.
//
// Three ways in:
//
//   - [Store.Commit] takes a [Change]: rows to write, and the heads of rooms
//     and users that it was built on. Waiting changes share one transaction.
//   - [Store.Read] gives a [Read]: one snapshot on one connection.
//   - [Store.Write] runs rare things (leases, sessions, admin) between groups;
//     nothing that has a head or a position.
package store
