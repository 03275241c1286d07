package e2ee

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"

	"stoa/internal/store"
	"stoa/internal/store/keydb"
	"stoa/internal/who"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
	"stoa/matrix/signing"
)

// maxSignedObjects bounds the objects of one upload.
const maxSignedObjects = 1_000

// Failures are the signatures that were refused, by user and key ID.
type Failures map[string]map[string]any

func (f Failures) add(user, key string, err error) {
	if f[user] == nil {
		f[user] = map[string]any{}
	}
	refused := mxerr.InvalidSignature("The signature can not be checked").Because(err)
	errors.As(err, &refused)
	f[user][key] = map[string]string{"errcode": refused.Code, "error": refused.Message}
}

// UploadSignatures stores signatures on keys that are there already. Allowed
// are: on one's own device keys, by one's self-signing key; on one's own master
// key, by one's devices; on another user's master key, by one's user-signing
// key. What is refused is told in the answer; the rest is stored.
//
// Spec: client-server-api#post_matrixclientv3keyssignaturesupload
func (k *Keys) UploadSignatures(ctx context.Context, d who.Device, objects map[string]Object) (Failures, error) {
	count := 0
	for _, byKey := range objects {
		if count += len(byKey); count > maxSignedObjects {
			return nil, mxerr.InvalidParam("More than %d signed objects at once", maxSignedObjects)
		}
		for key, object := range byKey {
			if !canonicaljson.IsObject(object) {
				return nil, mxerr.BadJSON("The signed object of %s is not an object", key)
			}
		}
	}
	var failures Failures
	err := k.retry(ctx, "upload signatures", func(r *store.Read) (*store.Change, error) {
		failures = Failures{}
		c, err := begin(r, d)
		if err != nil {
			return nil, err
		}
		signer, err := k.signerOf(r, d)
		if err != nil {
			return nil, err
		}
		before := c.Writes()
		for name, byKey := range objects {
			for key, object := range byKey {
				signatures, err := k.acceptSignatures(r, signer, name, key, object)
				var refused *mxerr.Error
				if errors.As(err, &refused) {
					failures.add(name, key, err)
				} else if err != nil {
					return nil, err
				}
				for _, s := range signatures {
					head, err := r.UserHead(s.User) // whose key is as it was looked at
					if err != nil {
						return nil, err
					}
					c.User(s.User, head)
					if s.byDevice {
						keydb.PutKeySignature(c, s.KeySignature)
					} else {
						keydb.ReplaceKeySignature(c, s.KeySignature)
					}
				}
			}
		}
		if c.Writes() == before {
			return nil, nil
		}
		return c, nil
	})
	return failures, err
}

// signer is the keys with which a user may sign.
type signer struct {
	who.Device
	identity map[string]public            // by usage
	devices  map[string]ed25519.PublicKey // by device ID
}

func (k *Keys) signerOf(r *store.Read, d who.Device) (*signer, error) {
	s := &signer{Device: d, identity: map[string]public{}, devices: map[string]ed25519.PublicKey{}}
	keys, err := keydb.CrossSigningKeys(r, []store.UserNum{d.UserNum})
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		if s.identity[key.Usage], err = publicKey([]byte(key.Keys)); err != nil {
			return nil, err
		}
	}
	devices, err := keydb.DeviceKeysOf(r, []store.UserNum{d.UserNum})
	if err != nil {
		return nil, err
	}
	for _, device := range devices {
		var shape deviceKeysShape
		if err := json.Unmarshal([]byte(device.Keys), &shape); err != nil || shape.Keys == nil {
			continue // can't sign with what it has not; was stored before checks became stricter
		}
		if key, err := decodePublic((*shape.Keys)["ed25519:"+device.DeviceID]); err == nil {
			s.devices[device.DeviceID] = key.key
		}
	}
	return s, nil
}

// accepted is a signature to store. A key has at most one by the cross-signing keys of each
// user, and those by the devices that its owner has: so nobody can add to them for ever.
type accepted struct {
	keydb.KeySignature
	byDevice bool
}

// acceptSignatures gives the rows for one signed object. An *mxerr.Error says
// why it is refused.
func (k *Keys) acceptSignatures(r *store.Read, s *signer, userName, keyName string, object json.RawMessage) ([]accepted, error) {
	num, err := k.store.UserNum(r, userName)
	if errors.Is(err, store.ErrNotFound) {
		return nil, mxerr.NotFound("User %s has no keys here", userName)
	}
	if err != nil {
		return nil, err
	}
	stored, master, err := findKey(r, num, keyName)
	if err != nil {
		return nil, err
	}
	want, err := signed([]byte(stored))
	if err != nil {
		return nil, err
	}
	if got, err := signed(object); err != nil || got != want {
		return nil, mxerr.InvalidSignature("The signed object is not the key %s of %s as it is here", keyName, userName)
	}
	signatures, err := signaturesOf(object)
	if err != nil {
		return nil, mxerr.BadJSON("The signatures are not of the specified shape").Because(err)
	}
	before, err := signaturesOf([]byte(stored))
	if err != nil {
		return nil, err
	}
	var all []accepted
	for name, signature := range signatures[s.UserID.String()] {
		if before[s.UserID.String()][name] == signature {
			continue // comes along since the object is sent back whole
		}
		key, err := s.allowed(num, master, name)
		if err != nil {
			return nil, err
		}
		if err := signing.Verify(key, []byte(want), signature); err != nil {
			return nil, mxerr.InvalidSignature("The signature by %s is not right", name).Because(err)
		}
		row := keydb.KeySignature{User: num, Target: keyName, Signer: s.UserNum, SignerKey: name, Signature: signature}
		all = append(all, accepted{row, master && num == s.UserNum})
	}
	return all, nil
}

// findKey finds what a key ID of the request stands for: a device ID, or the
// public key of the master key.
func findKey(r *store.Read, user store.UserNum, keyName string) (stored string, master bool, err error) {
	identities, err := keydb.CrossSigningKeys(r, []store.UserNum{user})
	if err != nil {
		return "", false, err
	}
	for _, key := range identities {
		if p, err := publicKey([]byte(key.Keys)); err == nil && p.encoded == keyName && key.Usage == usageMaster {
			return key.Keys, true, nil
		}
	}
	devices, err := keydb.DeviceKeysOf(r, []store.UserNum{user})
	if err != nil {
		return "", false, err
	}
	for _, device := range devices {
		if device.DeviceID == keyName {
			return device.Keys, false, nil
		}
	}
	return "", false, mxerr.NotFound("There is no key %s", keyName)
}

// allowed gives the key that a signature must fit, if who signs may sign that.
func (s *signer) allowed(target store.UserNum, master bool, name string) (ed25519.PublicKey, error) {
	keyID, err := id.ParseKeyID(name)
	if err != nil || keyID.Algorithm() != "ed25519" {
		return nil, mxerr.InvalidSignature("%q is not an ed25519 key ID", name)
	}
	own := target == s.UserNum
	switch {
	case own && !master && keyID.Identifier() == s.identity[usageSelfSigning].encoded:
		return s.identity[usageSelfSigning].key, nil
	case own && master && s.devices[keyID.Identifier()] != nil:
		return s.devices[keyID.Identifier()], nil
	case !own && master && keyID.Identifier() == s.identity[usageUserSigning].encoded:
		return s.identity[usageUserSigning].key, nil
	}
	return nil, mxerr.InvalidSignature("The key %s may not sign this", name)
}
