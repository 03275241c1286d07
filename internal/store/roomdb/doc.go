// Package roomdb stores rooms: their events and state, their members, and their counters.
//
// It owns the tables events, relations, transactions, backward_extremities,
// current_state, state_log, state_versions, memberships, room_servers, threads,
// own_events, highlights, redacted, waiting_redactions, verdicts, receipts and aliases,
// and the columns published, blocked and purged of rooms; package store writes the rest
// of a room's row with the room's head. It never judges an event, and knows no form of
// JSON but that of the columns.
//
// The invariant: a write of a room belongs to a [store.Change] that is built on the
// room's head, unless it only appends (receipts, aliases, columns of the directory). A
// slot is written once.
//
// Every package may call functions that take a [store.Read]. Functions that fill a
// [store.Change] are called only by the owners in internal/devtools/rules: package room,
// for receipts package ephemeral, for aliases package directory.
package roomdb
