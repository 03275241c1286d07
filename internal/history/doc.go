// Package history reads rooms on behalf of users: pages of events, the current and former
// state, members, relations, threads, and the summary that users outside a room may see.
//
// It owns the rules of visibility. A [Viewer] is one user's view of one room in one
// snapshot, and every read goes through one. It writes nothing and caches nothing;
// package room caches parsed events. It never shows the original of an event that was
// redacted, whose sender was erased, or whose sender the viewer ignores.
//
// The invariant: whether a viewer sees an event does not depend on the way it is
// requested (a page, its ID, a relation, a context, a time).
//
// Spec: client-server-api#room-history-visibility
package history
