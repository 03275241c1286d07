// Package auth authenticates callers.
//
// It owns access, refresh and login tokens, the sessions of interactive
// authentication, the login types, and the limits on guessing. It never
// decides what a caller may do to a room or to another account, and it never
// shows or logs a token or a password. It stores only the SHA-256 of a token.
//
// The invariant: once a call that ends a session has returned, no request with that
// session's tokens is accepted, although the hot path is one hash and one map lookup.
// [Sessions] ensures it.
//
// Tokens belong to a device. Data that must survive a refresh (transaction IDs,
// to-device messages) belong to the device, never to a token.
//
// Spec: client-server-api#client-authentication
package auth
