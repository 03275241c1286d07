package eventauth

import (
	"errors"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/signing"
)

// publicKeys returns the keys of an m.room.third_party_invite: public_key, and public_key of each of public_keys. What is no
// key is left out.
//
// Spec: client-server-api#mroomthird_party_invite
func publicKeys(issued *event.PDU) [][]byte {
	var keys [][]byte
	add := func(value []byte) {
		text, ok := canonicaljson.String(value)
		if !ok {
			return
		}
		if key, err := signing.ParseBase64(text); err == nil {
			keys = append(keys, key)
		} else if key, err := signing.ParseBase64URLSafe(text); err == nil {
			keys = append(keys, key)
		}
	}
	add(canonicaljson.Get(issued.Content(), "public_key"))
	list := canonicaljson.Get(issued.Content(), "public_keys")
	if !canonicaljson.IsArray(list) {
		return keys
	}
	err := canonicaljson.Array(list, func(entry []byte) error {
		add(member(entry, "public_key"))
		return nil
	})
	if err != nil { // contents of events can be read
		return nil
	}
	return keys
}

// errSigned ends the search for a signature.
var errSigned = errors.New("signed")

// signedBy says whether any signature of an object, whoever is named as the signer, is by a public key: the room vouches
// for the key, so the name proves nothing.
//
// Spec: rooms/v1#authorisation-rules
func signedBy(signed, publicKey []byte) bool {
	message, err := canonicaljson.AppendWithout(nil, signed, "signatures", "unsigned")
	signatures := canonicaljson.Get(signed, "signatures")
	if err != nil || !canonicaljson.IsObject(signatures) {
		return false
	}
	err = canonicaljson.Object(signatures, func(_ string, ofOne []byte) error {
		if !canonicaljson.IsObject(ofOne) {
			return nil
		}
		return canonicaljson.Object(ofOne, func(name string, value []byte) error {
			keyID, err := id.ParseKeyID(name)
			signature, ok := canonicaljson.String(value)
			if err != nil || keyID.Algorithm() != signing.Algorithm || !ok {
				return nil
			}
			if signing.Verify(publicKey, message, signature) == nil {
				return errSigned
			}
			return nil
		})
	})
	return errors.Is(err, errSigned)
}
