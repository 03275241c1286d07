package room

import (
	"errors"
	"fmt"

	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/mxerr"
)

// typeInvitePermission is the account data in which users block invites.
const typeInvitePermission = "m.invite_permission_config"

// refuseBlockedInvite returns M_INVITE_BLOCKED if a draft invites a local user who blocks
// invites.
//
// Spec: client-server-api#invite-permission
func (t *turn) refuseBlockedInvite(d Draft) error {
	if d.Type != event.TypeMember || d.StateKey == nil || !t.rs.isLocalID(*d.StateKey) {
		return nil
	}
	if membership, _ := canonicaljson.String(canonicaljson.Get(d.Content, "membership")); membership != event.MembershipInvite {
		return nil
	}
	return t.reading(func(read *store.Read) error {
		num, err := t.rs.store.UserNum(read, *d.StateKey)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		blocked, err := BlocksInvites(read, num)
		if err != nil {
			return fmt.Errorf("invite permission of %s: %w", *d.StateKey, err)
		}
		if blocked {
			return mxerr.InviteBlocked("%s does not want to be invited", *d.StateKey)
		}
		return nil
	})
}

// BlocksInvites reports whether a local user blocks invites. Nobody may invite such a
// user, and pending invites are not shown.
//
// Spec: client-server-api#invite-permission
func BlocksInvites(read *store.Read, user store.UserNum) (bool, error) {
	data, err := userdb.AccountDataOf(read, user, "", typeInvitePermission)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	action, _ := canonicaljson.String(canonicaljson.Get([]byte(data.Content), "default_action"))
	return action == "block", nil
}
