package e2ee

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"stoa/internal/store"
	"stoa/internal/store/keydb"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
	"stoa/matrix/signing"
)

// The three usages of cross-signing keys.
const (
	usageMaster      = "master"
	usageSelfSigning = "self_signing"
	usageUserSigning = "user_signing"
)

// CrossSigning is the body of POST /keys/device_signing/upload, without auth.
type CrossSigning struct {
	MasterKey      json.RawMessage `json:"master_key"`
	SelfSigningKey json.RawMessage `json:"self_signing_key"`
	UserSigningKey json.RawMessage `json:"user_signing_key"`
}

// public is the ed25519 public key of a cross-signing key.
type public struct {
	encoded string // unpadded base64, which is also the identifier of the key
	key     ed25519.PublicKey
}

// ErrNeedsAuth says that keys are not stored before their user has authenticated
// for them.
var ErrNeedsAuth = errors.New("e2ee: the user must authenticate")

// needsAuth reports whether the upload needs interactive authentication, beside the
// stored keys by usage: the first keys of a user don't, nor do keys that are the
// stored ones.
//
// Spec: client-server-api#post_matrixclientv3keysdevice_signingupload
func (up CrossSigning) needsAuth(have map[string]string) bool {
	if have[usageMaster] == "" {
		return false
	}
	for usage, raw := range up.byUsage() {
		if !given(raw) {
			continue
		}
		if same, err := sameKey(have[usage], raw); err != nil || !same {
			return true
		}
	}
	return false
}

func (up CrossSigning) byUsage() map[string]json.RawMessage {
	return map[string]json.RawMessage{usageMaster: up.MasterKey, usageSelfSigning: up.SelfSigningKey, usageUserSigning: up.UserSigningKey}
}

func given(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

func sameKey(stored string, raw json.RawMessage) (bool, error) {
	if stored == "" {
		return false, nil
	}
	a, err := signed([]byte(stored))
	if err != nil {
		return false, err
	}
	b, err := signed(raw)
	return a == b, err
}

// UploadCrossSigning stores the keys, all or nothing. Self-signing and
// user-signing keys must be signed by the master key, the one that comes along
// or the stored one. proof puts into the change that the user has authenticated for
// these keys, and fails if that does not hold any more; where it is needed and nil,
// nothing is stored and the error is ErrNeedsAuth.
//
// Spec: client-server-api#cross-signing
func (k *Keys) UploadCrossSigning(ctx context.Context, d who.Device, up CrossSigning, proof func(*store.Read, *store.Change) error) error {
	return k.retry(ctx, "upload cross-signing keys", func(r *store.Read) (*store.Change, error) {
		c, err := begin(r, d)
		if err != nil {
			return nil, err
		}
		rows, err := keydb.CrossSigningKeys(r, []store.UserNum{d.UserNum})
		if err != nil {
			return nil, err
		}
		have := map[string]string{}
		for _, row := range rows {
			have[row.Usage] = row.Keys
		}
		if proof != nil {
			if err := proof(r, c); err != nil {
				return nil, err
			}
		} else if up.needsAuth(have) {
			return nil, ErrNeedsAuth
		}
		if err := k.crossSigningChange(r, c, d, up, have); err != nil {
			return nil, err
		}
		return c, nil
	})
}

func (k *Keys) crossSigningChange(r *store.Read, c *store.Change, d who.Device, up CrossSigning, have map[string]string) error {
	deviceIDs, err := keydb.DeviceIDs(r, d.UserNum)
	if err != nil {
		return err
	}
	master := have[usageMaster]
	if given(up.MasterKey) {
		master = string(up.MasterKey)
	}
	for _, usage := range []string{usageMaster, usageSelfSigning, usageUserSigning} {
		raw := up.byUsage()[usage]
		if !given(raw) {
			continue
		}
		key, err := checkCrossSigningKey(d, usage, raw)
		if err != nil {
			return err
		}
		for _, deviceID := range deviceIDs {
			if deviceID == key.encoded {
				return mxerr.Forbidden("The %s key is called like the device %s", usage, deviceID)
			}
		}
		if usage != usageMaster {
			if err := signedByMaster(d, usage, raw, master); err != nil {
				return err
			}
		}
		stored, err := withoutUnsigned(raw)
		if err != nil {
			return mxerr.BadJSON("The %s key is not canonical JSON", usage).Because(err)
		}
		if old := have[usage]; old != "" {
			if before, err := publicKey([]byte(old)); err == nil {
				if err := replaceSignatures(c, d.UserNum, before.encoded, old, stored); err != nil {
					return err
				}
			}
		}
		keydb.PutCrossSigningKey(c, keydb.CrossSigningKey{User: d.UserNum, Usage: usage, Keys: stored})
	}
	return nil
}

func signedByMaster(d who.Device, usage string, raw json.RawMessage, master string) error {
	if master == "" {
		return mxerr.MissingParam("The %s key needs a master key, and there is none", usage)
	}
	by, err := publicKey([]byte(master))
	if err != nil {
		return mxerr.InvalidParam("The master key is not usable").Because(err)
	}
	if err := signing.VerifyJSON(raw, d.UserID.String(), by.find); err != nil {
		return mxerr.InvalidSignature("The %s key is not signed by the master key", usage).Because(err)
	}
	return nil
}

// find is a key source that knows this one key.
func (p public) find(keyID id.KeyID) (ed25519.PublicKey, bool) {
	return p.key, keyID.Algorithm() == "ed25519" && keyID.Identifier() == p.encoded
}

// crossSigningShape is what the specification requires of a cross-signing key.
type crossSigningShape struct {
	UserID     string                       `json:"user_id"`
	Usage      []string                     `json:"usage"`
	Keys       map[string]string            `json:"keys"`
	Signatures map[string]map[string]string `json:"signatures"`
}

func checkCrossSigningKey(d who.Device, usage string, raw json.RawMessage) (public, error) {
	if len(raw) > maxIdentityKeys {
		return public{}, mxerr.TooLarge("The %s key has more than %d bytes", usage, maxIdentityKeys)
	}
	var shape crossSigningShape
	if err := json.Unmarshal(raw, &shape); err != nil {
		return public{}, mxerr.BadJSON("The %s key is not of the specified shape", usage).Because(err)
	}
	if shape.UserID != d.UserID.String() {
		return public{}, mxerr.InvalidParam("The %s key is of %q, not of %s", usage, shape.UserID, d.UserID)
	}
	if len(shape.Usage) != 1 || shape.Usage[0] != usage {
		return public{}, mxerr.InvalidParam("The %s key has the usage %q", usage, shape.Usage)
	}
	key, err := publicKey(raw)
	if err != nil {
		return public{}, mxerr.InvalidParam("The %s key is not one ed25519 key: %s", usage, err)
	}
	return key, nil
}

// publicKey takes the one key of a cross-signing key object.
func publicKey(raw []byte) (public, error) {
	var shape struct {
		Keys map[string]string `json:"keys"`
	}
	if err := json.Unmarshal(raw, &shape); err != nil {
		return public{}, err
	}
	if len(shape.Keys) != 1 {
		return public{}, fmt.Errorf("it has %d keys, not 1", len(shape.Keys))
	}
	for name, encoded := range shape.Keys {
		algorithm, identifier, _ := strings.Cut(name, ":")
		if algorithm != "ed25519" || identifier != encoded {
			return public{}, fmt.Errorf("the key %q is not called by its algorithm and public key", name)
		}
		return decodePublic(encoded)
	}
	return public{}, errors.New("it has no key")
}

func decodePublic(encoded string) (public, error) {
	key, err := signing.ParseBase64(encoded)
	if err != nil {
		return public{}, err
	}
	if len(key) != ed25519.PublicKeySize {
		return public{}, fmt.Errorf("the public key has %d bytes, not %d", len(key), ed25519.PublicKeySize)
	}
	return public{encoded: encoded, key: ed25519.PublicKey(key)}, nil
}

// Check looks at the shapes of the keys alone, before anybody is asked to
// authenticate for them.
func (up CrossSigning) Check(d who.Device) error {
	for usage, raw := range up.byUsage() {
		if !given(raw) {
			continue
		}
		if _, err := checkCrossSigningKey(d, usage, raw); err != nil {
			return err
		}
	}
	return nil
}
