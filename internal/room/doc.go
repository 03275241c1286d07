// Package room is the only writer of rooms. Clients, other servers, application services
// and administrators all add events through it.
//
// It owns the event graph of each room, the standing of events, the current state and its
// history, memberships, transaction IDs, and the running totals that unread counts are
// computed from. Package history decides which part of a room a user may see. This
// package never serves clients or other servers itself; Options.Remote makes its requests
// to other servers. It has no callbacks: a Committed with the effects of a change travels
// with the change.
//
// The invariant: every change of a room is built on the room's head and committed only if
// that is still the head. So the slots of a room form one sequence, whatever fails and
// however many instances write.
//
// Spec: client-server-api#rooms, server-server-api#pdus
package room
