package signing

import (
	"encoding/base64"
	"strings"
)

// Base64 is binary data that JSON holds as unpadded Base64.
//
// Spec: appendices#unpadded-base64
type Base64 []byte

// ParseBase64 decodes standard Base64, with or without padding.
func ParseBase64(s string) (Base64, error) {
	return base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
}

// ParseBase64URLSafe decodes URL-safe Base64, with or without padding.
//
// Spec: appendices#url-safe-unpadded-base64
func ParseBase64URLSafe(s string) (Base64, error) {
	return base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
}

// String encodes without padding.
func (b Base64) String() string { return base64.RawStdEncoding.EncodeToString(b) }

// URLSafe encodes without padding, in the URL-safe alphabet.
func (b Base64) URLSafe() string { return base64.RawURLEncoding.EncodeToString(b) }

// MarshalText implements encoding.TextMarshaler.
func (b Base64) MarshalText() ([]byte, error) {
	return base64.RawStdEncoding.AppendEncode(nil, b), nil
}

// UnmarshalText implements encoding.TextUnmarshaler with ParseBase64.
func (b *Base64) UnmarshalText(text []byte) (err error) {
	*b, err = ParseBase64(string(text))
	return err
}
