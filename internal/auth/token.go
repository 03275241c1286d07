package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
)

// Prefixes of tokens, by which people and secret scanners tell them. The
// letter behind the prefix is the format of the rest: in format a it is 24
// random bytes in unpadded URL-safe Base64, and in format b the same behind the
// tag of a user.
const (
	accessPrefix  = "stoa_at_b"
	refreshPrefix = "stoa_rt_a"
	loginPrefix   = "stoa_lt_a"
	sessionPrefix = "stoa_ui_a"
	openIDPrefix  = "stoa_oi_a"
)

const (
	tokenBytes = 24

	// maxTokenBytes bounds the tokens that are hashed and looked up. Ours are
	// shorter; imported ones may be of any form.
	maxTokenBytes = 512
)

// Hash is the SHA-256 of a token: all that is kept of it.
type Hash [sha256.Size]byte

// HashOf gives the hash under which a token is kept.
func HashOf(token string) Hash { return sha256.Sum256([]byte(token)) }

// newToken makes a secret of 192 random bits.
func newToken(prefix string) string {
	var b [tokenBytes]byte
	rand.Read(b[:]) // never fails
	return prefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// tagBytes is how much of a hash is a tag: four letters in Base64.
const tagBytes = 3

// newAccessToken makes an access token of a user.
func newAccessToken(userID string) string { return newToken(AccessTokenStart(userID)) }

// AccessTokenStart is how access tokens of a user begin. A balancer that chooses an
// instance by the first 20 bytes of Authorization ("Bearer " and this) has all
// devices of a user on one, which then does once what concerns the user. It tells
// nobody more than the token does.
func AccessTokenStart(userID string) string {
	sum := sha256.Sum256([]byte(userID))
	return accessPrefix + base64.RawURLEncoding.EncodeToString(sum[:tagBytes])
}

// deviceIDLetters are those of device IDs that the server makes.
const deviceIDLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

// newDeviceID makes a device ID of ten letters (47 bits): unique among the
// devices of one user, and short enough to be read out.
func newDeviceID() string {
	var b [10]byte
	rand.Read(b[:]) // never fails
	for i := range b {
		b[i] = deviceIDLetters[int(b[i])%len(deviceIDLetters)]
	}
	return string(b[:])
}
