package signing

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"strconv"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/id"
)

// ServerKeys is what a server publishes of its keys.
//
// Spec: server-server-api#publishing-keys
type ServerKeys struct {
	ServerName id.ServerName
	// VerifyKeys are in use.
	VerifyKeys map[id.KeyID]ed25519.PublicKey
	// OldVerifyKeys are only for events from the time when they were in use.
	OldVerifyKeys map[id.KeyID]OldVerifyKey
	// ValidUntilTS is the time in ms at which the keys should be asked for again. Keep what BelievedUntil makes of it.
	ValidUntilTS int64
}

// OldVerifyKey is a key that its server uses no more.
type OldVerifyKey struct {
	Key ed25519.PublicKey
	// ExpiredTS is the time in ms at which the server stopped using it.
	ExpiredTS int64
}

// Append appends the answer of a server to a question for its keys, signed with each of the keys given, in canonical form.
//
// Spec: server-server-api#publishing-keys
func (k *ServerKeys) Append(dst []byte, keys ...*Key) ([]byte, error) {
	type key struct {
		Key Base64 `json:"key"`
	}
	type oldKey struct {
		Key       Base64 `json:"key"`
		ExpiredTS int64  `json:"expired_ts"`
	}
	body := struct {
		ServerName    id.ServerName       `json:"server_name"`
		VerifyKeys    map[id.KeyID]key    `json:"verify_keys"`
		OldVerifyKeys map[id.KeyID]oldKey `json:"old_verify_keys"`
		ValidUntilTS  int64               `json:"valid_until_ts"`
	}{k.ServerName, make(map[id.KeyID]key), make(map[id.KeyID]oldKey), k.ValidUntilTS}
	for keyID, public := range k.VerifyKeys {
		body.VerifyKeys[keyID] = key{Base64(public)}
	}
	for keyID, old := range k.OldVerifyKeys {
		body.OldVerifyKeys[keyID] = oldKey{Base64(old.Key), old.ExpiredTS}
	}
	text, err := canonicaljson.Marshal(body)
	if err != nil {
		return dst, err
	}
	for _, signer := range keys {
		if text, err = SignJSON(text, k.ServerName.String(), signer); err != nil {
			return dst, err
		}
	}
	return append(dst, text...), nil
}

// ParseServerKeys reads the keys of a server from its own answer, or from one of those that a notary gives for it, and checks
// that the server signed it with one of the keys in use. Keys of unknown algorithms are left out. A notary's signature
// is checked apart, with VerifyJSON.
//
// Spec: server-server-api#publishing-keys, server-server-api#querying-keys-through-another-server
func ParseServerKeys(server id.ServerName, raw []byte) (*ServerKeys, error) {
	k := &ServerKeys{
		VerifyKeys:    make(map[id.KeyID]ed25519.PublicKey),
		OldVerifyKeys: make(map[id.KeyID]OldVerifyKey),
	}
	canonical, err := canonicaljson.Append(make([]byte, 0, len(raw)), raw)
	if err != nil {
		return nil, fmt.Errorf("keys of %s: %w", server, err)
	}
	if err := canonicaljson.Object(canonical, k.read); err != nil {
		return nil, fmt.Errorf("keys of %s: %w", server, err)
	}
	if k.ServerName != server {
		return nil, fmt.Errorf("keys of %s: they are of %q", server, k.ServerName)
	}
	if k.ValidUntilTS <= 0 {
		return nil, fmt.Errorf("keys of %s: valid_until_ts is missing", server)
	}
	message, signatures, err := signable(canonical)
	if err == nil {
		err = VerifySignatures(message, signatures, server.String(), func(keyID id.KeyID) (ed25519.PublicKey, bool) {
			key, known := k.VerifyKeys[keyID]
			return key, known
		})
	}
	if err != nil {
		return nil, fmt.Errorf("keys of %s: %w", server, err)
	}
	return k, nil
}

func (k *ServerKeys) read(name string, value []byte) error {
	switch name {
	case "server_name":
		s, _ := canonicaljson.String(value)
		server, err := id.ParseServerName(s)
		k.ServerName = server
		return err
	case "valid_until_ts":
		k.ValidUntilTS, _ = canonicaljson.Int(value)
	case "verify_keys":
		return readKeys(value, func(keyID id.KeyID, key ed25519.PublicKey, _ []byte) error {
			k.VerifyKeys[keyID] = key
			return nil
		})
	case "old_verify_keys":
		return readKeys(value, func(keyID id.KeyID, key ed25519.PublicKey, entry []byte) error {
			expired, ok := canonicaljson.Int(canonicaljson.Get(entry, "expired_ts"))
			if !ok || expired <= 0 {
				return errors.New("old key " + strconv.Quote(keyID.String()) + " has no expired_ts")
			}
			k.OldVerifyKeys[keyID] = OldVerifyKey{key, expired}
			return nil
		})
	}
	return nil
}

// readKeys calls add for each ed25519 key of an object of keys.
func readKeys(keys []byte, add func(keyID id.KeyID, key ed25519.PublicKey, entry []byte) error) error {
	return canonicaljson.Object(keys, func(name string, entry []byte) error {
		keyID, err := id.ParseKeyID(name)
		if err != nil || keyID.Algorithm() != Algorithm {
			return nil // keys of unknown algorithms are left out
		}
		if !canonicaljson.IsObject(entry) {
			return errors.New("key " + strconv.Quote(name) + " is no object")
		}
		text, _ := canonicaljson.String(canonicaljson.Get(entry, "key"))
		key, err := ParseBase64(text)
		if err != nil || len(key) != ed25519.PublicKeySize {
			return errors.New("key " + strconv.Quote(name) + " is not 32 bytes in Base64")
		}
		return add(keyID, ed25519.PublicKey(key), entry)
	})
}
