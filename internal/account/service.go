package account

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/matrix/id"
)

// ServerUser is the localpart of the user who speaks for the server. Nobody can register it.
const ServerUser = "_server"

// EnsureServerUser returns the user who speaks for the server, and creates it with a display
// name if it does not exist. It has no password, so nobody can log in as it.
func EnsureServerUser(ctx context.Context, a *Accounts, name string) (id.UserID, error) {
	user, err := id.NewUserID(ServerUser, a.server)
	if err != nil {
		return user, err
	}
	existing, err := a.Account(ctx, user)
	switch {
	case err == nil && (existing.HasPassword || existing.Deactivated):
		return user, fmt.Errorf("%s belongs to a person, so the server can't speak as it: rename or remove that account", user)
	case err == nil:
		return user, nil
	case !errors.Is(err, store.ErrNotFound):
		return user, err
	}
	nums, err := a.store.InternUsers(ctx, func(string) bool { return true }, user.String())
	if err != nil {
		return user, fmt.Errorf("number of %s: %w", user, err)
	}
	shown, err := json.Marshal(name)
	if err != nil {
		return user, err
	}
	c := store.NewChange()
	userdb.AddAccount(c, nums[0], "", false, a.clock().UnixMilli())
	userdb.SetProfileField(c, nums[0], FieldDisplayName, string(shown))
	if _, err := a.store.Commit(ctx, c); err != nil && !errors.Is(err, userdb.ErrUserInUse) {
		return user, fmt.Errorf("create %s: %w", user, err)
	}
	a.drop(nums[0])
	return user, nil
}
