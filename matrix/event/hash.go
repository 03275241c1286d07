package event

import (
	"crypto/sha256"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/roomversion"
)

// ContentHash returns the hash of a complete event, which must be canonical JSON: of all but `unsigned`, `signatures` and `hashes`.
//
// Spec: server-server-api#calculating-the-content-hash-for-an-event
func ContentHash(event []byte) ([sha256.Size]byte, error) {
	s := scratches.Get().(*scratch)
	defer s.release()
	bytes, err := canonicaljson.AppendWithout(s.hashed[:0], event, "unsigned", "signatures", "hashes")
	if err != nil {
		return [sha256.Size]byte{}, wrap(err)
	}
	s.hashed = bytes
	return sha256.Sum256(bytes), nil
}

// ReferenceHash returns the hash of the essential fields of an event, which must be canonical JSON: of its redacted form without
// signatures.
//
// Spec: server-server-api#calculating-the-reference-hash-for-an-event
func ReferenceHash(rules *roomversion.Rules, event []byte) ([sha256.Size]byte, error) {
	evType, ok := canonicaljson.String(canonicaljson.Get(event, "type"))
	if !ok {
		return [sha256.Size]byte{}, badFormat("type", "it is missing or no string")
	}
	return hashReference(rules, evType, event)
}

// ReferenceHash returns the hash of the event's essential fields.
//
// Spec: server-server-api#calculating-the-reference-hash-for-an-event
func (p *PDU) ReferenceHash() ([sha256.Size]byte, error) {
	return hashReference(p.rules, p.evType, p.bytes)
}

func hashReference(rules *roomversion.Rules, evType string, event []byte) ([sha256.Size]byte, error) {
	s := scratches.Get().(*scratch)
	defer s.release()
	bytes, err := appendRedacted(s.redacted[:0], rules, evType, event, false)
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	s.redacted = bytes
	return sha256.Sum256(bytes), nil
}
