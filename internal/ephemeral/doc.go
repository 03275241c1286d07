// Package ephemeral keeps what passes: who types, who is there, how far
// everybody has read.
//
// It owns typing (in memory, never stored), presence and receipts (rows of the
// store). It never touches the timeline of a room; unread counts are made from
// receipts by whoever answers a sync.
//
// The invariant that matters: a receipt only moves forward, whatever order
// requests come in, and a private one is never shown to anybody but its owner.
//
// Spec: client-server-api#receipts, client-server-api#typing-notifications,
// client-server-api#presence
package ephemeral
