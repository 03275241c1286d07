package room

import (
	"crypto/ed25519"
	"errors"
	"fmt"

	"stoa/internal/store/roomdb"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/signing"
)

// typePolicy is the state event that names a room's policy server.
const typePolicy = "m.room.policy"

// policyKey is the only key that policy servers sign with.
const policyKey = "ed25519:policy_server"

var errPolicy = errors.New("the room's policy server did not sign it")

// judgePolicy makes check 7: if the room uses a policy server, that server must have
// signed the event.
//
// Spec: server-server-api#validating-policy-server-signatures
func (t admission) judgePolicy(pdu *event.PDU) (reason, fault error) {
	if pdu.Is(typePolicy, "") {
		return nil, nil
	}
	policy, fault := t.Event(typePolicy, "")
	if fault != nil || policy == nil {
		return nil, fault
	}
	named, _ := canonicaljson.String(canonicaljson.Get(policy.Content(), "via"))
	via, errVia := id.ParseServerName(named)
	key, ok := canonicaljson.String(canonicaljson.Get(canonicaljson.Get(policy.Content(), "public_keys"), "ed25519"))
	public, errKey := signing.ParseBase64(key)
	if errVia != nil || !ok || errKey != nil || len(public) != ed25519.PublicKeySize {
		return nil, nil // such an event names no policy server
	}
	rooms, fault := roomdb.ServerRooms(t.read, via.String(), t.row.Num-1, 1)
	if fault != nil || len(rooms) == 0 || rooms[0] != t.row.Num {
		return nil, fault
	}
	redacted, fault := event.Redact(t.r.rules, pdu.Bytes())
	if fault != nil {
		return nil, fault
	}
	err := signing.VerifyJSON(redacted, via.String(), func(keyID id.KeyID) (ed25519.PublicKey, bool) {
		return ed25519.PublicKey(public), keyID.String() == policyKey
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errPolicy, err), nil
	}
	return nil, nil
}
