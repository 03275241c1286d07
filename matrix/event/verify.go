package event

import (
	"crypto/ed25519"
	"fmt"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/id"
	"stoa/matrix/roomversion"
	"stoa/matrix/signing"
)

// SignatureError says whose signature of an event is missing or wrong.
type SignatureError struct {
	EventID id.EventID
	Server  id.ServerName
	// Authoriser says that the server is the one of join_authorised_via_users_server: then the event is rejected (an auth
	// rule of restricted rooms), otherwise it is dropped.
	Authoriser bool
	// Cause is signing.ErrNotSigned, ErrUnknownKey or ErrBadSignature.
	Cause error
}

func (e *SignatureError) Error() string {
	return fmt.Sprintf("event %s: signature of %s: %v", e.EventID, e.Server, e.Cause)
}

// Unwrap returns the cause.
func (e *SignatureError) Unwrap() error { return e.Cause }

// RequiredSigner is a server that must have signed an event.
type RequiredSigner struct {
	Server id.ServerName
	// KeyIDs are the keys with which it signed; empty if it did not.
	KeyIDs []id.KeyID
	// Authoriser is as in SignatureError.
	Authoriser bool
}

// RequiredSigners returns the servers that must have signed the event: the sender's, unless the event is a third-party
// invite; in versions 1 and 2 the event ID's; and for restricted joins that of the user who authorised it. Whoever fetches
// keys before Verify fetches these.
//
// Spec: server-server-api#validating-hashes-and-signatures-on-received-events
func (p *PDU) RequiredSigners() []RequiredSigner {
	servers, count := p.requiredServers()
	all := make([]RequiredSigner, 0, count)
	for _, s := range servers[:count] {
		s.KeyIDs = p.SignedBy(s.Server)
		all = append(all, s)
	}
	return all
}

// SignedBy returns the keys with which a server signed the event, checked or not.
func (p *PDU) SignedBy(server id.ServerName) []id.KeyID {
	mine := canonicaljson.Get(p.signatures, server.String())
	if mine == nil {
		return nil
	}
	var keys []id.KeyID
	err := canonicaljson.Object(mine, func(name string, _ []byte) error {
		if keyID, err := id.ParseKeyID(name); err == nil && keyID.Algorithm() == signing.Algorithm {
			keys = append(keys, keyID)
		}
		return nil
	})
	if err != nil {
		return nil
	}
	return keys
}

// requiredServers returns up to three servers, each once, without their keys.
func (p *PDU) requiredServers() (servers [3]RequiredSigner, count int) {
	add := func(server id.ServerName, authoriser bool) {
		for _, s := range servers[:count] {
			if s.Server == server {
				return
			}
		}
		servers[count] = RequiredSigner{Server: server, Authoriser: authoriser}
		count++
	}
	if !p.isThirdPartyInvite() {
		add(p.sender.ServerName(), false)
	}
	if p.rules.EventIDFormat == roomversion.EventIDAssigned {
		add(p.eventID.ServerName(), false)
	}
	if p.rules.RestrictedJoins && p.isState && p.evType == TypeMember {
		value := canonicaljson.Get(p.content, "join_authorised_via_users_server")
		if name, ok := canonicaljson.String(value); ok {
			if user, err := id.ParseUserID(name); err == nil { // what is no user ID is refused by the auth rules
				add(user.ServerName(), true)
			}
		}
	}
	return servers, count
}

// isThirdPartyInvite says whether the event is the invite of somebody who was invited by another identifier before.
func (p *PDU) isThirdPartyInvite() bool {
	return p.isState && p.membership == MembershipInvite && canonicaljson.IsObject(canonicaljson.Get(p.content, "third_party_invite"))
}

// Verify checks the signatures of all servers that must have signed the event. Of a server's signatures, those of unknown keys
// and of keys that were not valid at the event's time are skipped; one at least must be left, and all that are left must fit.
// Errors are *SignatureError.
//
// Spec: server-server-api#validating-hashes-and-signatures-on-received-events, rooms/v5#signing-key-validity-period
func Verify(p *PDU, keys signing.KeySource) error {
	s := scratches.Get().(*scratch)
	defer s.release()
	message, err := appendRedacted(s.redacted[:0], p.rules, p.evType, p.bytes, false)
	if err != nil {
		return err
	}
	s.redacted = message
	servers, count := p.requiredServers()
	for _, required := range servers[:count] {
		server := required.Server
		err := signing.VerifySignatures(message, p.signatures, server.String(), func(keyID id.KeyID) (ed25519.PublicKey, bool) {
			key, known := keys.VerifyKey(server, keyID)
			return key.Key, known && key.ValidAt(p.ts, p.rules.StrictSignatureValidity)
		})
		if err != nil {
			return &SignatureError{EventID: p.eventID, Server: server, Authoriser: required.Authoriser, Cause: err}
		}
	}
	return nil
}

// VerifyWith checks the signature that a server made with one key, which the caller has from elsewhere: a policy server's key
// from m.room.policy, say. The key's validity is the caller's matter. Errors are *SignatureError.
//
// Spec: server-server-api#validating-policy-server-signatures
func VerifyWith(p *PDU, server id.ServerName, keyID id.KeyID, key ed25519.PublicKey) error {
	message, err := appendRedacted(nil, p.rules, p.evType, p.bytes, false)
	if err != nil {
		return err
	}
	err = signing.VerifySignatures(message, p.signatures, server.String(), func(k id.KeyID) (ed25519.PublicKey, bool) {
		return key, k == keyID
	})
	if err != nil {
		return &SignatureError{EventID: p.eventID, Server: server, Cause: err}
	}
	return nil
}
