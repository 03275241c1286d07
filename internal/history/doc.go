// Package history reads rooms for those who may see them: pages of events, the
// state now and as of a place, members, relations, threads, and what the room is
// like for somebody who looks at it from outside.
//
// It owns the rules of visibility: [Viewer] is what one user may see of one room in
// one snapshot, and every read goes through one. It writes nothing and keeps nothing
// in memory; parsed events are kept by package room. It never shows an event as it
// was sent where it was redacted, its sender was erased or is ignored.
//
// The invariant that matters: whatever way an event is asked for (a page, its ID, a
// relation, a context, a time), the same viewer sees it or does not.
//
// Spec: client-server-api#room-history-visibility
package history
