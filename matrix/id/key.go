package id

import (
	"strings"
	"unicode/utf8"
)

// KeyID is a signing key identifier: `algorithm:identifier`, as in `ed25519:auto`. Device keys have the same form, with the
// device ID as the identifier. The zero value is no key.
//
// Spec: appendices#signing-details
type KeyID struct{ s string }

// ParseKeyID takes any key identifier whose two parts are not empty; the algorithm need not be known here.
func ParseKeyID(s string) (KeyID, error) {
	algorithm, identifier, found := strings.Cut(s, ":")
	switch {
	case !found:
		return KeyID{}, fail("key ID", s, "it has no colon")
	case algorithm == "" || identifier == "":
		return KeyID{}, fail("key ID", s, "one of its two parts is empty")
	case len(s) > MaxLength:
		return KeyID{}, fail("key ID", s, "it is longer than 255 bytes")
	case strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s):
		return KeyID{}, fail("key ID", s, "it contains NUL or is not valid UTF-8")
	}
	return KeyID{s}, nil
}

// NewKeyID makes the identifier of a key.
func NewKeyID(algorithm, identifier string) (KeyID, error) {
	if strings.IndexByte(algorithm, ':') >= 0 {
		return KeyID{}, fail("key ID", algorithm, "its algorithm contains a colon")
	}
	return ParseKeyID(algorithm + ":" + identifier)
}

// String returns the whole identifier, "" for none.
func (k KeyID) String() string { return k.s }

// IsZero says whether this is no key.
func (k KeyID) IsZero() bool { return k.s == "" }

// Algorithm returns what stands before the first colon.
func (k KeyID) Algorithm() string {
	algorithm, _, _ := strings.Cut(k.s, ":")
	return algorithm
}

// Identifier returns what stands behind the first colon: a server key's version, or a device ID.
func (k KeyID) Identifier() string {
	_, identifier, _ := strings.Cut(k.s, ":")
	return identifier
}

// Clone returns the same identifier in memory of its own.
func (k KeyID) Clone() KeyID { return KeyID{strings.Clone(k.s)} }

// MarshalText implements encoding.TextMarshaler.
func (k KeyID) MarshalText() ([]byte, error) { return []byte(k.s), nil }

// UnmarshalText implements encoding.TextUnmarshaler with ParseKeyID.
func (k *KeyID) UnmarshalText(text []byte) (err error) {
	*k, err = ParseKeyID(string(text))
	return err
}

// DeviceID names a device of a user. It is opaque; "" is no device.
//
// Spec: client-server-api#relationship-between-access-tokens-and-devices
type DeviceID string

// ParseDeviceID takes any text that is not empty, not too long, and legal Unicode without NUL.
func ParseDeviceID(s string) (DeviceID, error) {
	switch {
	case s == "":
		return "", fail("device ID", s, "it is empty")
	case len(s) > MaxDeviceIDLength:
		return "", fail("device ID", s, "it is longer than 255 bytes")
	case strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s):
		return "", fail("device ID", s, "it contains NUL or is not valid UTF-8")
	}
	return DeviceID(s), nil
}

// String returns the ID, "" for none.
func (d DeviceID) String() string { return string(d) }

// IsZero says whether this is no device.
func (d DeviceID) IsZero() bool { return d == "" }
