// Heads of users, for changes that depend on a device or an account.

package userdb

import "stoa/internal/store"

var selectDeviceHead = store.Prepare(`SELECT u.head FROM users u JOIN devices d ON d.user_num = u.num
	WHERE u.num = $1 AND u.deactivated = 0 AND d.device_id = $2`)

// HeadOfDevice is [store.Read.UserHead] for a change on behalf of a device, or about one:
// ErrNotFound if the device was deleted, or the account deactivated. A change with this
// head fails if either happens before its commit.
func HeadOfDevice(r *store.Read, user store.UserNum, deviceID string) (store.Head, error) {
	return store.QueryOne(r, selectDeviceHead, store.Num[store.Head], user, deviceID)
}
