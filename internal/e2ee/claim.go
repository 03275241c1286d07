package e2ee

import (
	"context"
	"encoding/json"
	"errors"
	"hash/maphash"

	"stoa/internal/store"
	"stoa/internal/store/keydb"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// Claimed is the answer to POST /keys/claim.
type Claimed struct {
	// OneTimeKeys is by user, device and "algorithm:id". A device without a
	// key of the algorithm is not in it.
	OneTimeKeys map[string]map[string]Object `json:"one_time_keys"`
	// Failures is by server name: those that could not be reached.
	Failures map[string]any `json:"failures"`
}

// Claim takes one key for each device asked for: a one-time key in the order of
// upload, else the fallback key. want is algorithm by device by user.
//
// Each one-time key is given out once: the write of a claim touches its row only
// while it is unclaimed, and the key is answered after that write is durable.
//
// Spec: client-server-api#one-time-and-fallback-keys
func (k *Keys) Claim(ctx context.Context, want map[string]map[string]string) (Claimed, error) {
	answer := Claimed{OneTimeKeys: map[string]map[string]Object{}, Failures: map[string]any{}}
	asked := 0
	for name, devices := range want {
		user, err := id.ParseUserID(name)
		if err != nil {
			return Claimed{}, mxerr.InvalidParam("%q is not a user ID", name).Because(err)
		}
		if asked += len(devices); asked > maxClaims {
			return Claimed{}, mxerr.InvalidParam("More than %d keys asked for at once", maxClaims)
		}
		if !k.isLocal(user) {
			answer.Failures[user.ServerName().String()] = unreachable
			continue
		}
		keys, err := k.claimUser(ctx, user, devices)
		if err != nil {
			return Claimed{}, err
		}
		if len(keys) > 0 {
			answer.OneTimeKeys[name] = keys
		}
	}
	return answer, nil
}

// unreachable is what a failure says: this server does not speak to others yet.
var unreachable = map[string]string{"errcode": mxerr.CodeUnknown, "error": "The server can not be reached"}

func (k *Keys) claimUser(ctx context.Context, user id.UserID, devices map[string]string) (map[string]Object, error) {
	var num store.UserNum
	err := k.store.Read(ctx, func(r *store.Read) (err error) {
		num, err = k.store.UserNum(r, user.String())
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	found := map[string]Object{}
	for deviceID, algorithm := range devices {
		key, err := k.claimDevice(ctx, num, deviceID, algorithm)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found[deviceID] = Object{key.Algorithm + ":" + key.KeyID: json.RawMessage(key.Key)}
	}
	return found, nil
}

// claimDevice gives ErrNotFound if the device has no key of the algorithm.
func (k *Keys) claimDevice(ctx context.Context, user store.UserNum, deviceID, algorithm string) (keydb.OneTimeKey, error) {
	claim := k.claimLock(user, deviceID)
	claim.Lock()
	defer claim.Unlock()
	var key keydb.OneTimeKey
	err := k.retry(ctx, "claim a key", func(r *store.Read) (c *store.Change, err error) {
		c = store.NewChange()
		key, err = keydb.NextOneTimeKey(r, user, deviceID, algorithm)
		if err == nil {
			keydb.ClaimOneTimeKey(c, user, deviceID, key, k.clock())
			keydb.NoteKeyCounts(c, user)
			return c, nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		key, err = fallbackKey(r, user, deviceID, algorithm)
		if err != nil || key.Claimed {
			return nil, err
		}
		keydb.UseFallbackKey(c, user, deviceID, key)
		keydb.NoteKeyCounts(c, user)
		return c, nil
	})
	return key, err
}

func fallbackKey(r *store.Read, user store.UserNum, deviceID, algorithm string) (keydb.OneTimeKey, error) {
	keys, err := keydb.FallbackKeys(r, user, deviceID)
	if err != nil {
		return keydb.OneTimeKey{}, err
	}
	for _, key := range keys {
		if key.Algorithm == algorithm {
			return key, nil
		}
	}
	return keydb.OneTimeKey{}, store.ErrNotFound
}

func (k *Keys) claimLock(user store.UserNum, deviceID string) interface {
	Lock()
	Unlock()
} {
	var h maphash.Hash
	h.SetSeed(k.seed)
	maphash.WriteComparable(&h, user)
	h.WriteString(deviceID)
	return &k.claiming[h.Sum64()%uint64(len(k.claiming))]
}
