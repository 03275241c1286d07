// Package signing signs JSON and checks signatures, and holds the keys to do so.
//
// It owns ed25519 keys and the algorithm of the appendices. It never fetches or keeps keys of other servers (the caller
// brings a KeySource), and it makes no random numbers: a key is made of a seed. The invariant: what is signed is the
// canonical JSON of an object without `signatures` and `unsigned`, and nothing else.
//
// Spec: appendices#signing-json
package signing

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/id"
)

// Algorithm is the one algorithm for signatures that Matrix has.
const Algorithm = "ed25519"

// MaxValidity is how far into the future a published key is believed at most.
//
// Spec: rooms/v5#signing-key-validity-period
const MaxValidity = 7 * 24 * time.Hour

// Key is a private signing key and its identifier. It is immutable.
type Key struct {
	id      id.KeyID
	private ed25519.PrivateKey
}

// NewKey makes the key of a seed of 32 bytes. The identifier must be of the algorithm ed25519 and a version of letters, digits
// and underscores.
//
// Spec: server-server-api#publishing-keys
func NewKey(keyID id.KeyID, seed []byte) (*Key, error) {
	if keyID.Algorithm() != Algorithm {
		return nil, fmt.Errorf("signing key %s: the algorithm must be %s", keyID, Algorithm)
	}
	for _, c := range keyID.Identifier() {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' {
			return nil, fmt.Errorf("signing key %s: the version may contain only letters, digits and '_'", keyID)
		}
	}
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("signing key %s: the seed has %d bytes, not %d", keyID, len(seed), ed25519.SeedSize)
	}
	return &Key{id: keyID, private: ed25519.NewKeyFromSeed(seed)}, nil
}

// ID returns the signing key identifier.
func (k *Key) ID() id.KeyID { return k.id }

// Seed returns the secret that the key is made of.
func (k *Key) Seed() []byte { return k.private.Seed() }

// Public returns the verification key.
func (k *Key) Public() ed25519.PublicKey { return ed25519.PublicKey(k.private[ed25519.SeedSize:]) }

// Sign returns the signature of bytes.
func (k *Key) Sign(message []byte) []byte { return ed25519.Sign(k.private, message) }

// Signer is an entity with a key: mostly a server.
type Signer struct {
	entity string
	server id.ServerName
	key    *Key
}

// NewSigner makes the signer of a server.
func NewSigner(server id.ServerName, key *Key) *Signer {
	return &Signer{entity: server.String(), server: server, key: key}
}

// ServerName returns the server that signs.
func (s *Signer) ServerName() id.ServerName { return s.server }

// KeyID returns the identifier of the key.
func (s *Signer) KeyID() id.KeyID { return s.key.id }

// Key returns the key.
func (s *Signer) Key() *Key { return s.key }

// Sign returns the signature of bytes.
func (s *Signer) Sign(message []byte) []byte { return s.key.Sign(message) }

// VerifyKey is a public key of a server and the time for which it counts.
type VerifyKey struct {
	Key ed25519.PublicKey
	// ValidUntilTS is valid_until_ts of the answer that published the key, in ms, after BelievedUntil; of no meaning
	// for a key that has expired.
	ValidUntilTS int64
	// ExpiredTS is the time in ms since which the server uses the key no more; 0 for a current key.
	ExpiredTS int64
}

// ValidAt says whether the key counts for an event of a time (origin_server_ts, in ms). Strict (from room version 5 on) also
// demands that a current key was published for that time.
//
// Spec: server-server-api#validating-hashes-and-signatures-on-received-events, rooms/v5#signing-key-validity-period
func (k VerifyKey) ValidAt(ts int64, strict bool) bool {
	if k.ExpiredTS != 0 {
		return ts <= k.ExpiredTS
	}
	return !strict || ts <= k.ValidUntilTS
}

// BelievedUntil returns the time in ms up to which a published key counts: the lesser of its valid_until_ts and 7 days from now.
//
// Spec: rooms/v5#signing-key-validity-period
func BelievedUntil(validUntilTS int64, now time.Time) int64 {
	return min(validUntilTS, now.Add(MaxValidity).UnixMilli())
}

// KeySource finds public keys of servers. It must not wait: what has to be fetched is fetched before.
type KeySource interface {
	// VerifyKey returns a key; false if it is not known.
	VerifyKey(server id.ServerName, keyID id.KeyID) (VerifyKey, bool)
}

// Why a signature check fails.
var (
	ErrNotSigned    = errors.New("there is no signature of this entity with a known algorithm")
	ErrUnknownKey   = errors.New("no valid key of this entity is known for its signatures")
	ErrBadSignature = errors.New("the signature does not fit")
)

// Verify checks one signature, given in Base64, of bytes.
func Verify(key ed25519.PublicKey, message []byte, signature string) error {
	var buffer [ed25519.SignatureSize + 8]byte
	text := bytes.TrimRight([]byte(signature), "=")
	if len(key) != ed25519.PublicKeySize || base64.RawStdEncoding.DecodedLen(len(text)) != ed25519.SignatureSize {
		return ErrBadSignature
	}
	n, err := base64.RawStdEncoding.Decode(buffer[:], text)
	if err != nil || n != ed25519.SignatureSize || !ed25519.Verify(key, message, buffer[:n]) {
		return ErrBadSignature
	}
	return nil
}

// AppendSignatures appends the `signatures` object of an object that gets one more signature: the old ones (nil for none,
// canonical otherwise) and the new one, in canonical form.
func AppendSignatures(dst, old []byte, entity string, keyID id.KeyID, signature []byte) ([]byte, error) {
	mine := []byte{'{', '}'}
	if old != nil {
		if found := canonicaljson.Get(old, entity); found != nil {
			mine = found
		}
	} else {
		old = []byte{'{', '}'}
	}
	text := make([]byte, 0, 2+base64.RawStdEncoding.EncodedLen(ed25519.SignatureSize))
	text = append(base64.RawStdEncoding.AppendEncode(append(text, '"'), signature), '"')
	mine, err := canonicaljson.AppendWith(nil, mine, keyID.String(), text)
	if err != nil {
		return dst, err
	}
	return canonicaljson.AppendWith(dst, old, entity, mine)
}

// SignJSON signs an object as an entity and returns the signed object in canonical form; signatures and `unsigned` that it
// has already are kept.
//
// Spec: appendices#signing-details
func SignJSON(object []byte, entity string, key *Key) ([]byte, error) {
	canonical, err := canonicaljson.Append(make([]byte, 0, len(object)+256), object)
	if err != nil {
		return nil, err
	}
	message, signatures, err := signable(canonical)
	if err != nil {
		return nil, err
	}
	all, err := AppendSignatures(nil, signatures, entity, key.id, key.Sign(message))
	if err != nil {
		return nil, err
	}
	return canonicaljson.AppendWith(nil, canonical, "signatures", all)
}

// VerifyJSON checks that an entity has signed an object. Of several signatures of the entity, those whose key is known must
// all fit, and one at least must be known.
//
// Spec: appendices#checking-for-a-signature
func VerifyJSON(object []byte, entity string, keys func(id.KeyID) (ed25519.PublicKey, bool)) error {
	canonical, err := canonicaljson.Append(make([]byte, 0, len(object)), object)
	if err != nil {
		return err
	}
	message, signatures, err := signable(canonical)
	if err != nil {
		return err
	}
	return VerifySignatures(message, signatures, entity, keys)
}

// VerifySignatures checks the signatures of an entity in a `signatures` object (nil for none) over a message.
//
// Spec: appendices#checking-for-a-signature
func VerifySignatures(message, signatures []byte, entity string, keys func(id.KeyID) (ed25519.PublicKey, bool)) error {
	err := ErrNotSigned // 1
	if signatures == nil {
		return err
	}
	mine := canonicaljson.Get(signatures, entity)
	if !canonicaljson.IsObject(mine) {
		return err
	}
	walk := canonicaljson.Object(mine, func(name string, value []byte) error {
		keyID, parse := id.ParseKeyID(name)
		if parse != nil || keyID.Algorithm() != Algorithm { // 2
			return nil
		}
		key, known := keys(keyID) // 3
		if !known {
			if err == ErrNotSigned {
				err = ErrUnknownKey
			}
			return nil
		}
		signature, ok := canonicaljson.String(value)
		if !ok {
			return ErrBadSignature
		}
		if bad := Verify(key, message, signature); bad != nil { // 4, 7
			return bad
		}
		err = nil
		return nil
	})
	if walk != nil {
		return walk
	}
	return err
}

// signable parts a canonical object into the bytes that are signed and the value of `signatures` (nil for none).
func signable(canonical []byte) (message, signatures []byte, err error) {
	message = append(make([]byte, 0, len(canonical)), '{')
	err = canonicaljson.Object(canonical, func(key string, value []byte) error {
		switch key {
		case "signatures":
			if !canonicaljson.IsObject(value) {
				return errors.New("signatures is not an object")
			}
			signatures = value
		case "unsigned":
		default:
			message = canonicaljson.AppendMember(message, key, value)
		}
		return nil
	})
	return append(message, '}'), signatures, err
}
