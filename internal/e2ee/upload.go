package e2ee

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"stoa/internal/store"
	"stoa/internal/store/keydb"
	"stoa/internal/who"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/mxerr"
)

// Upload is the body of POST /keys/upload.
type Upload struct {
	DeviceKeys   json.RawMessage `json:"device_keys"`
	OneTimeKeys  Object          `json:"one_time_keys"`
	FallbackKeys Object          `json:"fallback_keys"`
}

// Counts is how many unclaimed one-time keys a device has, by algorithm.
type Counts map[string]int64

// signedCurve25519 is always in the counts, since clients take its absence for
// "unknown" and not for zero.
const signedCurve25519 = "signed_curve25519"

// Upload stores a device's identity keys, new one-time keys and new fallback
// keys, all or nothing, and returns the counts afterwards.
//
// A one-time key that is there already with the same content is passed over; one
// with the same ID and another content is refused with M_INVALID_PARAM.
//
// Spec: client-server-api#uploading-keys
func (k *Keys) Upload(ctx context.Context, d who.Device, up Upload) (Counts, error) {
	keys, err := parseUpload(d, up)
	if err != nil {
		return nil, err
	}
	if keys.device != "" || len(keys.oneTime) > 0 || len(keys.fallback) > 0 {
		err = k.retry(ctx, "upload keys", func(r *store.Read) (*store.Change, error) {
			c, err := begin(r, d)
			if err != nil {
				return nil, err
			}
			if changed, err := addKeys(r, c, d, keys); err != nil || !changed {
				return nil, err
			}
			return c, nil
		})
		if err != nil {
			return nil, err
		}
	}
	var counts Counts
	err = k.store.Read(ctx, func(r *store.Read) (err error) {
		counts, err = k.Counts(r, d)
		return err
	})
	return counts, err
}

// uploaded is an Upload as it is stored.
type uploaded struct {
	device            string // "" if none
	oneTime, fallback []keydb.OneTimeKey
}

// parseUpload checks an upload for a device.
func parseUpload(d who.Device, up Upload) (keys uploaded, err error) {
	if keys.device, err = checkDeviceKeys(d, up.DeviceKeys); err != nil {
		return keys, err
	}
	if keys.oneTime, err = parseKeys("one_time_keys", up.OneTimeKeys); err != nil {
		return keys, err
	}
	if keys.fallback, err = parseKeys("fallback_keys", up.FallbackKeys); err != nil {
		return keys, err
	}
	for i, key := range keys.fallback {
		if i > 0 && key.Algorithm == keys.fallback[i-1].Algorithm {
			return keys, mxerr.InvalidParam("There may be one fallback key an algorithm; %s has two", key.Algorithm)
		}
	}
	return keys, nil
}

// addKeys adds the keys that the device does not have yet to a change, and says whether there are any.
func addKeys(r *store.Read, c *store.Change, d who.Device, keys uploaded) (changed bool, err error) {
	if keys.device != "" {
		if changed, err = putDeviceKeys(r, c, d, keys.device); err != nil {
			return false, err
		}
	}
	fresh, err := freshOneTimeKeys(r, d, keys.oneTime)
	if err != nil {
		return false, err
	}
	if len(fresh) > 0 {
		if err := checkRoomForKeys(r, d, len(fresh)); err != nil {
			return false, err
		}
		seq, err := keydb.LastOneTimeKeySeq(r, d.UserNum, string(d.DeviceID))
		if err != nil {
			return false, err
		}
		for _, key := range fresh {
			seq++
			keydb.AddOneTimeKey(c, d.UserNum, string(d.DeviceID), key, seq)
		}
	}
	fallback, err := freshFallbackKeys(r, d, keys.fallback)
	if err != nil {
		return false, err
	}
	for _, key := range fallback {
		keydb.PutFallbackKey(c, d.UserNum, string(d.DeviceID), key)
	}
	if len(fresh)+len(fallback) > 0 {
		keydb.NoteKeyCounts(c, d.UserNum)
		changed = true
	}
	return changed, nil
}

// freshFallbackKeys leaves out the keys that are there: sent again after a lost
// answer, one that was given out meanwhile does not count as unused.
func freshFallbackKeys(r *store.Read, d who.Device, keys []keydb.OneTimeKey) ([]keydb.OneTimeKey, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	have, err := keydb.FallbackKeys(r, d.UserNum, string(d.DeviceID))
	if err != nil {
		return nil, err
	}
	var fresh []keydb.OneTimeKey
	for _, key := range keys {
		there := slices.ContainsFunc(have, func(h keydb.OneTimeKey) bool {
			return h.Algorithm == key.Algorithm && h.KeyID == key.KeyID && jsonEqual(h.Key, key.Key)
		})
		if !there {
			fresh = append(fresh, key)
		}
	}
	return fresh, nil
}

func checkRoomForKeys(r *store.Read, d who.Device, more int) error {
	counts, err := keydb.OneTimeKeyCounts(r, d.UserNum, string(d.DeviceID))
	if err != nil {
		return err
	}
	total := int64(more)
	for _, n := range counts {
		total += n.Count
	}
	if total > maxOneTimeKeys {
		return mxerr.InvalidParam("A device may keep %d one-time keys here, this would make %d", maxOneTimeKeys, total)
	}
	return nil
}

// putDeviceKeys writes a device's identity keys if they are not there, and says
// whether it did.
func putDeviceKeys(r *store.Read, c *store.Change, d who.Device, keys string) (bool, error) {
	have, err := keydb.DeviceKeysOf(r, []store.UserNum{d.UserNum})
	if err != nil {
		return false, err
	}
	for _, h := range have {
		if h.DeviceID != string(d.DeviceID) {
			continue
		}
		if jsonEqual(h.Keys, keys) {
			return false, nil
		}
		if err := replaceSignatures(c, d.UserNum, h.DeviceID, h.Keys, keys); err != nil {
			return false, err
		}
	}
	keydb.PutDeviceKeys(c, d.UserNum, string(d.DeviceID), keys)
	return true, nil
}

// replaceSignatures deletes the signatures that came after a key and that its new
// form makes worthless: all if what is signed is another, else those that it brings
// itself.
func replaceSignatures(c *store.Change, user store.UserNum, target, before, after string) error {
	was, err := signed([]byte(before))
	if err != nil {
		return err
	}
	is, err := signed([]byte(after))
	if err != nil {
		return mxerr.BadJSON("The key is not canonical JSON").Because(err)
	}
	if was != is {
		keydb.DropSignatures(c, user, target)
		return nil
	}
	signatures, err := signaturesOf([]byte(after))
	if err != nil {
		return mxerr.BadJSON("The signatures are not of the specified shape").Because(err)
	}
	for signer, byKey := range signatures {
		for key := range byKey {
			keydb.DropSignature(c, user, target, signer, key)
		}
	}
	return nil
}

// freshOneTimeKeys leaves out the keys that are there, claimed ones too.
func freshOneTimeKeys(r *store.Read, d who.Device, keys []keydb.OneTimeKey) ([]keydb.OneTimeKey, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	ids := make([]string, len(keys))
	for i, key := range keys {
		ids[i] = key.KeyID
	}
	have, err := keydb.OneTimeKeys(r, d.UserNum, string(d.DeviceID), ids)
	if err != nil {
		return nil, err
	}
	var fresh []keydb.OneTimeKey
	for _, key := range keys {
		i := slices.IndexFunc(have, func(h keydb.OneTimeKey) bool { return h.Algorithm == key.Algorithm && h.KeyID == key.KeyID })
		switch {
		case i < 0:
			fresh = append(fresh, key)
		case !jsonEqual(have[i].Key, key.Key):
			return nil, mxerr.InvalidParam("One-time key %s:%s is there already with another content", key.Algorithm, key.KeyID)
		}
	}
	return fresh, nil
}

// Counts returns how many unclaimed one-time keys the device has.
func (k *Keys) Counts(r *store.Read, d who.Device) (Counts, error) {
	rows, err := keydb.OneTimeKeyCounts(r, d.UserNum, string(d.DeviceID))
	if err != nil {
		return nil, err
	}
	counts := Counts{signedCurve25519: 0}
	for _, row := range rows {
		counts[row.Algorithm] = row.Count
	}
	return counts, nil
}

// UnusedFallbackAlgorithms names the algorithms whose fallback key was not
// given out yet. Never nil.
func (k *Keys) UnusedFallbackAlgorithms(r *store.Read, d who.Device) ([]string, error) {
	keys, err := keydb.FallbackKeys(r, d.UserNum, string(d.DeviceID))
	unused := []string{}
	for _, key := range keys {
		if !key.Claimed {
			unused = append(unused, key.Algorithm)
		}
	}
	return unused, err
}

const (
	// maxIdentityKeys bounds the keys of a device, and each cross-signing key, in bytes. They have about 1 KiB; everybody who
	// shares a room with the user may ask for those of all their devices at once.
	maxIdentityKeys = 16 << 10
	// maxKeyBytes bounds a one-time or fallback key, in bytes. They have about 300.
	maxKeyBytes = 4 << 10
)

// deviceKeysShape is what the specification requires of device keys.
type deviceKeysShape struct {
	UserID     *string                       `json:"user_id"`
	DeviceID   *string                       `json:"device_id"`
	Algorithms *[]string                     `json:"algorithms"`
	Keys       *map[string]string            `json:"keys"`
	Signatures *map[string]map[string]string `json:"signatures"`
}

// checkDeviceKeys gives the keys as they are stored: without "unsigned", which
// the server fills in. "" means that none were sent.
func checkDeviceKeys(d who.Device, raw json.RawMessage) (string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return "", nil
	}
	if len(raw) > maxIdentityKeys {
		return "", mxerr.TooLarge("device_keys has more than %d bytes", maxIdentityKeys)
	}
	var shape deviceKeysShape
	if err := json.Unmarshal(raw, &shape); err != nil {
		return "", mxerr.BadJSON("device_keys is not of the specified shape").Because(err)
	}
	if shape.UserID == nil || shape.DeviceID == nil || shape.Algorithms == nil || shape.Keys == nil || shape.Signatures == nil {
		return "", mxerr.BadJSON("device_keys needs user_id, device_id, algorithms, keys and signatures")
	}
	if *shape.UserID != d.UserID.String() || *shape.DeviceID != string(d.DeviceID) {
		return "", mxerr.InvalidParam("device_keys are of %s %s, but this is %s %s", *shape.UserID, *shape.DeviceID, d.UserID, d.DeviceID)
	}
	for name := range *shape.Keys {
		if algorithm, device, ok := strings.Cut(name, ":"); !ok || algorithm == "" || device != string(d.DeviceID) {
			return "", mxerr.InvalidParam("device_keys has a key %q that does not belong to device %s", name, d.DeviceID)
		}
	}
	return withoutUnsigned(raw)
}

// parseKeys takes {"algorithm:id": key} apart, ordered by ID.
func parseKeys(what string, keys Object) ([]keydb.OneTimeKey, error) {
	if len(keys) > maxOneTimeKeys {
		return nil, mxerr.InvalidParam("%s has %d keys, more than %d", what, len(keys), maxOneTimeKeys)
	}
	var parsed []keydb.OneTimeKey
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		algorithm, keyID, ok := strings.Cut(name, ":")
		if !ok || algorithm == "" || keyID == "" || len(name) > 255 {
			return nil, mxerr.InvalidParam("%s has a key name %q, not of the form algorithm:id", what, name)
		}
		if err := checkKey(what, name, keys[name]); err != nil {
			return nil, err
		}
		parsed = append(parsed, keydb.OneTimeKey{Algorithm: algorithm, KeyID: keyID, Key: string(keys[name])})
	}
	return parsed, nil
}

// checkKey wants a string, or an object with a key and signatures.
func checkKey(what, name string, raw json.RawMessage) error {
	if len(raw) > maxKeyBytes {
		return mxerr.TooLarge("%s.%s has more than %d bytes", what, name, maxKeyBytes)
	}
	if len(raw) > 0 && raw[0] == '"' {
		return nil
	}
	var signed struct {
		Key        *string                       `json:"key"`
		Signatures *map[string]map[string]string `json:"signatures"`
		Fallback   *bool                         `json:"fallback"`
	}
	if !canonicaljson.IsObject(raw) {
		return mxerr.BadJSON("%s.%s is neither a string nor an object", what, name)
	}
	if err := json.Unmarshal(raw, &signed); err != nil {
		return mxerr.BadJSON("%s.%s is not of the specified shape", what, name).Because(err)
	}
	if signed.Key == nil {
		return mxerr.BadJSON("%s.%s has no key", what, name)
	}
	return nil
}
