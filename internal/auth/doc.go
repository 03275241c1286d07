// Package auth answers who is calling, and how they proved it.
//
// It owns access, refresh and login tokens, the sessions of interactive
// authentication, the login types, and the limits on guessing. It never
// decides what a caller may do to a room or to another account, and it never
// shows or logs a token or a password: what it keeps of a token is its SHA-256.
//
// The invariant that matters: once a call that ends a session has returned, no
// request with that session's tokens is let in, although the hot path is one
// hash and one map lookup. [Sessions] keeps it.
//
// Tokens are bound to a device, and what outlives a refresh (transaction IDs,
// to-device messages) hangs on the device, never on a token.
//
// Spec: client-server-api#client-authentication
package auth
