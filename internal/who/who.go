// Package who says who acts: a user of this server, one of the user's devices, or the caller of a request.
//
// It owns these values and what a caller may do whatever the room. It never looks anything up: package auth makes a Caller
// of an access token, and everything else is part of one.
//
// The invariant that matters: UserNum is the number of UserID in the store, so nobody looks for it again.
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

// Caller is who sent a request.
type Caller struct {
	Device
	Admin bool
	// Suspended callers may read, but not act on others; see MayAct.
	Suspended bool
}

// MayAct refuses what a suspended account may not do: joining, inviting,
// sending, redacting what others sent, changing the profile.
//
// Spec: client-server-api#account-suspension
func (c Caller) MayAct() error {
	if c.Suspended {
		return mxerr.UserSuspended("You cannot perform this action while suspended")
	}
	return nil
}

// RequireAdmin refuses callers who are no admins.
func (c Caller) RequireAdmin() error {
	if !c.Admin {
		return mxerr.Forbidden("You are not a server administrator")
	}
	return nil
}
