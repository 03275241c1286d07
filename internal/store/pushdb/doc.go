// Package pushdb keeps pushers, and the notifications that their gateways have not taken yet.
//
// It owns the SQL of the tables pushers and push_queue. It never decides what is sent: that is package push.
//
// The invariant: a pusher is deleted together with its queue, and in the same change as the device that set it.
//
// Functions that take a [store.Read] may be called by every package. Those that write are called by package push, and by
// package userdb for the pushers of a device or an account that ends.
package pushdb
