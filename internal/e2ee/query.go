package e2ee

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"stoa/internal/store"
	"stoa/internal/store/keydb"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// Queried is the answer to POST /keys/query, by user ID.
type Queried struct {
	DeviceKeys      map[string]Object `json:"device_keys"` // by device ID within
	MasterKeys      Object            `json:"master_keys"`
	SelfSigningKeys Object            `json:"self_signing_keys"`
	UserSigningKeys Object            `json:"user_signing_keys"` // the caller's only
	Failures        map[string]any    `json:"failures"`          // by server name
}

// Query returns the identity keys of users' devices and their cross-signing
// keys, with the signatures that the caller may see: those made by the owners,
// and the caller's own. want is device IDs by user; no IDs = all devices. A user
// who is not here is not in the answer.
//
// Spec: client-server-api#tracking-the-device-list-for-a-user
func (k *Keys) Query(ctx context.Context, caller who.Device, want map[string][]string) (Queried, error) {
	if len(want) > maxQueriedUsers {
		return Queried{}, mxerr.InvalidParam("More than %d users asked for at once", maxQueriedUsers)
	}
	q := Queried{DeviceKeys: map[string]Object{}, MasterKeys: Object{}, SelfSigningKeys: Object{}, UserSigningKeys: Object{}, Failures: map[string]any{}}
	var local []string
	for name := range want {
		user, err := id.ParseUserID(name)
		if err != nil {
			return Queried{}, mxerr.InvalidParam("%q is not a user ID", name).Because(err)
		}
		if k.isLocal(user) {
			local = append(local, name)
		} else {
			q.Failures[user.ServerName().String()] = unreachable
		}
	}
	err := k.store.Read(ctx, func(r *store.Read) error { return k.queryLocal(r, caller, local, want, &q) })
	return q, err
}

func (k *Keys) queryLocal(r *store.Read, caller who.Device, names []string, want map[string][]string, q *Queried) error {
	byNum := map[store.UserNum]string{}
	var nums []store.UserNum
	for _, name := range names {
		num, err := k.store.UserNum(r, name)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		byNum[num] = name
		q.DeviceKeys[name] = Object{}
		nums = append(nums, num)
	}
	more, err := k.laterSignatures(r, nums, caller)
	if err != nil {
		return err
	}
	devices, err := keydb.DeviceKeysOf(r, nums)
	if err != nil {
		return err
	}
	for _, d := range devices {
		name := byNum[d.User]
		if ids := want[name]; len(ids) > 0 && !slices.Contains(ids, d.DeviceID) {
			continue
		}
		keys, err := dressed(d.Keys, more[target{d.User, d.DeviceID}], d.DisplayName)
		if err != nil {
			return fmt.Errorf("keys of device %s of %s: %w", d.DeviceID, name, err)
		}
		q.DeviceKeys[name][d.DeviceID] = keys
	}
	identities, err := keydb.CrossSigningKeys(r, nums)
	if err != nil {
		return err
	}
	for _, key := range identities {
		name := byNum[key.User]
		public, err := publicKey([]byte(key.Keys))
		if err != nil {
			return fmt.Errorf("%s key of %s: %w", key.Usage, name, err)
		}
		keys, err := dressed(key.Keys, more[target{key.User, public.encoded}], "")
		if err != nil {
			return fmt.Errorf("%s key of %s: %w", key.Usage, name, err)
		}
		switch key.Usage {
		case usageMaster:
			q.MasterKeys[name] = keys
		case usageSelfSigning:
			q.SelfSigningKeys[name] = keys
		case usageUserSigning:
			if key.User == caller.UserNum {
				q.UserSigningKeys[name] = keys
			}
		}
	}
	return nil
}

// target is a key that can be signed: a device's or a cross-signing key.
type target struct {
	user store.UserNum
	name string // device ID or public key
}

// laterSignatures are those that came after the keys and that the caller may see.
func (k *Keys) laterSignatures(r *store.Read, users []store.UserNum, caller who.Device) (map[target]signatureMap, error) {
	rows, err := keydb.KeySignatures(r, users, caller.UserNum)
	if err != nil {
		return nil, err
	}
	more := map[target]signatureMap{}
	for _, row := range rows {
		names, err := k.store.UserIDs(r, []store.UserNum{row.Signer})
		if err != nil {
			return nil, err
		}
		t := target{row.User, row.Target}
		if more[t] == nil {
			more[t] = signatureMap{}
		}
		if more[t][names[0]] == nil {
			more[t][names[0]] = map[string]string{}
		}
		more[t][names[0]][row.SignerKey] = row.Signature
	}
	return more, nil
}
