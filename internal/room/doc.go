// Package room is the only writer of rooms: whoever wants an event in a room
// calls it, whether a client, another server, an application service or an
// administrator asked.
//
// It owns the graph of events of each room, their standing, the current state
// and its history, memberships, transaction IDs and the running totals from
// which unread counts are made. What somebody may see of a room is read through
// package history. It never speaks to clients or other servers itself (what it needs of other
// servers it asks of Options.Remote), and it calls nobody back: what a change did
// travels with it as a Committed.
//
// The invariant: every change of a room is built on the room's head and committed
// under it, so that the slots of a room are one sequence, whatever fails and
// however many write.
//
// Spec: client-server-api#rooms, server-server-api#pdus
package room
