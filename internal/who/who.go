// Package who identifies the user of a request: a user of this server, one of the user's
// devices, or the caller of a request.
//
// It owns these values, and the permissions of a caller that do not depend on a room. It
// never looks anything up: package auth builds a Caller from an access token, which
// contains the other values.
//
// The invariant: UserNum is the number of UserID in the store, so no other package looks
// it up again.
package who

import (
	"stoa/internal/store"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// User is a user of this server.
type User struct {
	UserID  id.UserID
	UserNum store.UserNum // in the store
}

// Device is one of a user's devices.
type Device struct {
	User
	DeviceID id.DeviceID
}

// Caller is the sender of a request.
type Caller struct {
	Device
	Admin bool
	// Suspended callers may read, but not act on other users; see MayAct.
	Suspended bool
}

// MayAct returns an error for a suspended account, which may not join, invite, send,
// redact other users' events, or change its profile.
//
// Spec: client-server-api#account-suspension
func (c Caller) MayAct() error {
	if c.Suspended {
		return mxerr.UserSuspended("You cannot perform this action while suspended")
	}
	return nil
}

// RequireAdmin returns an error unless the caller is an administrator.
func (c Caller) RequireAdmin() error {
	if !c.Admin {
		return mxerr.Forbidden("You are not a server administrator")
	}
	return nil
}
