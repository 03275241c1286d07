// Package id holds the identifiers of Matrix: users, rooms, events, room aliases, servers, keys and devices.
//
// It owns their grammars and limits. It never looks anything up, and it knows no room version: what a version demands
// beyond the common grammar is checked by package event. The invariant: apart from the zero value, which means "none", a
// value of these types has passed its grammar, so nobody checks it again.
//
// The types are comparable, so they serve as map keys. A value may share memory with the text that it was parsed from;
// what is kept for long is copied with Clone.
//
// Spec: appendices#identifier-grammar
package id

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// MaxLength is the longest user ID, room ID, event ID or room alias, in bytes, with sigil and domain.
	MaxLength = 255
	// MaxServerNameLength is the longest server name that fits into an identifier with the shortest localpart, in bytes.
	MaxServerNameLength = MaxLength - 2
	// MaxDeviceIDLength is the longest device ID taken, in bytes. The specification sets none.
	MaxDeviceIDLength = 255
)

// Error says why a text is no identifier.
type Error struct {
	// Kind is the name of the identifier in words: "user ID", "room ID", …
	Kind string
	// Value is the text, cut to a length that is fit for messages.
	Value string
	// Reason completes the sentence "… is no user ID: it …".
	Reason string
}

func (e *Error) Error() string {
	return strconv.Quote(e.Value) + " is not a valid " + e.Kind + ": " + e.Reason
}

// shownLength bounds the part of a bad identifier that an error repeats, in bytes.
const shownLength = 300

func fail(kind, value, reason string) error {
	if len(value) > shownLength {
		value = value[:shownLength] + "…"
	}
	return &Error{Kind: kind, Value: strings.Clone(value), Reason: reason}
}

// opaque checks what all localparts have in common: legal Unicode, no NUL, no colon. It returns the reason, or "".
func opaque(s string) string {
	switch {
	case strings.IndexByte(s, 0) >= 0:
		return "it contains NUL"
	case strings.IndexByte(s, ':') >= 0:
		return "its localpart contains a colon"
	case !utf8.ValidString(s):
		return "it is not valid UTF-8"
	}
	return ""
}

// sigil checks the first byte and the length of an identifier and returns what follows the sigil.
func sigil(kind, s string, want byte) (string, error) {
	switch {
	case s == "":
		return "", fail(kind, s, "it is empty")
	case s[0] != want:
		return "", fail(kind, s, "it does not begin with '"+string(want)+"'")
	case len(s) > MaxLength:
		return "", fail(kind, s, "it is longer than "+strconv.Itoa(MaxLength)+" bytes")
	}
	return s[1:], nil
}

// split checks `localpart:domain` and returns the reason why it is none, or "".
func split(s string) (localpart, reason string) {
	i := strings.IndexByte(s, ':')
	if i < 0 {
		return "", "it has no domain"
	}
	if reason := opaque(s[:i]); reason != "" {
		return "", reason
	}
	if reason := serverName(s[i+1:]); reason != "" {
		return "", "its domain is not a server name: " + reason
	}
	return s[:i], ""
}

func localpart(s string) string {
	if s == "" {
		return ""
	}
	local, _, _ := strings.Cut(s[1:], ":")
	return local
}

func domain(s string) ServerName {
	i := strings.IndexByte(s, ':')
	if i < 0 {
		return ServerName{}
	}
	return ServerName{s[i+1:]}
}
