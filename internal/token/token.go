// Package token prints and parses the opaque pagination tokens of the
// client-server API. It owns their text forms and nothing else: it never asks
// the store what a token means and never decides who may use one.
//
// Invariant: what is printed parses to the same value, and nothing that was not
// printed by this package parses (no leading zeros, signs or spaces), so a
// token is equal to another exactly if their texts are.
//
// Each form begins with a format letter and number, so a later release can read
// these beside its own:
//
//	s1.<position>.<to-device position>.<typing digest>   a place in the stream
//	c1.<connection>.<generation>.<nonce>.<the same>      such a place, on a connection of sliding sync
//	t1.<slot>.<offset>                                   a place in a room's timeline
package token

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrMalformed is wrapped by every error of this package: this server never printed such
// a token. Edges answer it with M_INVALID_PARAM.
var ErrMalformed = errors.New("malformed token")

// Stream is a place in the stream of the deployment: the `next_batch` of a /sync answer.
type Stream struct {
	// Position is the last position of the stream that the answer covers.
	Position int64
	// ToDevice is the position up to which the device has received its to-device
	// messages. They are deleted when a request carries the token.
	ToDevice int64
	// Typing is a digest of the typing lists of the user's rooms as they were sent, 0 if
	// no user typed.
	Typing uint32
}

func (s Stream) String() string {
	b := make([]byte, 0, 64)
	b = append(b, "s1."...)
	b = strconv.AppendInt(b, s.Position, 10)
	b = append(b, '.')
	b = strconv.AppendInt(b, s.ToDevice, 10)
	b = append(b, '.')
	b = strconv.AppendUint(b, uint64(s.Typing), 16)
	return string(b)
}

// Timeline is a place between two events of a room: just after the event of
// (Slot, Offset), when one pages towards newer events, and just before the next
// newer one, when one pages towards older events. In other words, a token
// stands behind its event, and the event at the token belongs to the older
// side.
//
// Offsets of backfilled events are negative: (n, -1) is older than (n, 0).
type Timeline struct {
	Slot   int64
	Offset int64
}

func (t Timeline) String() string {
	b := make([]byte, 0, 32)
	b = append(b, "t1."...)
	b = strconv.AppendInt(b, t.Slot, 10)
	b = append(b, '.')
	b = strconv.AppendInt(b, t.Offset, 10)
	return string(b)
}

// Token is any of the forms, for the endpoints that accept all of them (/messages,
// /relations, /members).
type Token struct {
	// Stream is the place in the stream, also of a connection.
	Stream   Stream
	Timeline Timeline
	// IsTimeline says that it is a place in a room.
	IsTimeline bool
}

// Parse parses a token of any form.
func Parse(text string) (Token, error) {
	if strings.HasPrefix(text, "t") {
		t, err := ParseTimeline(text)
		return Token{Timeline: t, IsTimeline: true}, err
	}
	if strings.HasPrefix(text, "c") {
		s, err := ParseSliding(text)
		return Token{Stream: s.Stream}, err
	}
	s, err := ParseStream(text)
	return Token{Stream: s}, err
}

// ParseStream parses a token of the stream.
func ParseStream(text string) (Stream, error) {
	fields, ok := split(text, "s1", 3)
	if !ok {
		return Stream{}, fmt.Errorf("stream token %q: %w", text, ErrMalformed)
	}
	var s Stream
	var okPosition, okToDevice bool
	s.Position, okPosition = integer(fields[0], false)
	s.ToDevice, okToDevice = integer(fields[1], false)
	typing, err := strconv.ParseUint(fields[2], 16, 32)
	s.Typing = uint32(typing)
	if !okPosition || !okToDevice || err != nil || s.String() != text {
		return Stream{}, fmt.Errorf("stream token %q: %w", text, ErrMalformed)
	}
	return s, nil
}

// ParseTimeline parses a place in a room's timeline.
func ParseTimeline(text string) (Timeline, error) {
	fields, ok := split(text, "t1", 2)
	if !ok {
		return Timeline{}, fmt.Errorf("timeline token %q: %w", text, ErrMalformed)
	}
	var t Timeline
	var okSlot, okOffset bool
	t.Slot, okSlot = integer(fields[0], false)
	t.Offset, okOffset = integer(fields[1], true)
	if !okSlot || !okOffset || t.String() != text {
		return Timeline{}, fmt.Errorf("timeline token %q: %w", text, ErrMalformed)
	}
	return t, nil
}

// maxLength bounds the text of a token.
const maxLength = 128

// split splits a token into its fields after the format mark.
func split(text, format string, n int) ([]string, bool) {
	rest, ok := strings.CutPrefix(text, format+".")
	if !ok || len(text) > maxLength {
		return nil, false
	}
	fields := strings.Split(rest, ".")
	return fields, len(fields) == n
}

func integer(text string, negative bool) (int64, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && (negative || n >= 0)
}
