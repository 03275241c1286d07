// Package ephemeral handles typing, presence and receipts.
//
// It owns typing (in memory, never stored), and presence and receipts (rows of the
// store). It never touches the timeline of a room. Unread counts are computed from
// receipts elsewhere (package unread).
//
// The invariant: a receipt only moves forward, whatever the order of requests, and only
// its owner ever sees a private one.
//
// Spec: client-server-api#receipts, client-server-api#typing-notifications,
// client-server-api#presence
package ephemeral
