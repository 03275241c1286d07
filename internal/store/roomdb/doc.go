// Package roomdb keeps rooms: their events and state, who is in them, and what
// is counted and remembered for each room.
//
// It owns the tables events, relations, transactions, backward_extremities,
// current_state, state_log, state_versions, memberships, room_servers, threads,
// own_events, highlights, redacted, waiting_redactions, verdicts, receipts and aliases, and
// the columns published, blocked and purged of rooms; the rest of a room's row is
// written by package store with the room's head. It never judges an event, and
// knows no form of JSON but that of the columns.
//
// The invariant that matters: a write of a room stands in a [store.Change] that is
// built on the room's head, unless it only appends (receipts, aliases, columns of
// the directory). A slot is written once.
//
// Functions that take a [store.Read] may be called by everybody. Those that fill a
// [store.Change] are called by the owners that internal/devtools/rules names:
// package room, for receipts package ephemeral, for aliases package directory.
package roomdb
