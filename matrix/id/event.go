package id

import (
	"encoding/base64"
	"strings"
)

// EventID is `$opaque_id:domain` in room versions 1 and 2, and `$` and a hash from version 3 on. The zero value is no event.
//
// Spec: appendices#event-ids
type EventID struct{ s string }

// ParseEventID takes event IDs of all room versions.
func ParseEventID(s string) (EventID, error) {
	rest, err := sigil("event ID", s, '$')
	if err != nil {
		return EventID{}, err
	}
	if reason := opaqueOrSplit(rest); reason != "" {
		return EventID{}, fail("event ID", s, reason)
	}
	return EventID{s}, nil
}

// NewEventID makes the ID of an event of room versions 1 and 2.
func NewEventID(opaqueID string, server ServerName) (EventID, error) {
	return ParseEventID("$" + opaqueID + ":" + server.s)
}

// EventIDOfHash makes the event ID of a reference hash, in standard Base64 (room version 3) or URL-safe Base64 (from 4 on).
//
// Spec: rooms/v4#event-ids
func EventIDOfHash(hash [32]byte, urlSafe bool) EventID {
	var text [1 + hashLength]byte
	text[0] = '$'
	if urlSafe {
		base64.RawURLEncoding.Encode(text[1:], hash[:])
	} else {
		base64.RawStdEncoding.Encode(text[1:], hash[:])
	}
	return EventID{string(text[:])}
}

// String returns the whole ID, "" for none.
func (e EventID) String() string { return e.s }

// IsZero says whether this is no event.
func (e EventID) IsZero() bool { return e.s == "" }

// ServerName returns the domain; the zero value for event IDs without one (from room version 3 on).
func (e EventID) ServerName() ServerName { return domain(e.s) }

// RoomID returns the room ID of which this event is the create event, in room versions that make room IDs that way; the
// zero value if this is no URL-safe hash.
//
// Spec: rooms/v12#event-format
func (e EventID) RoomID() RoomID {
	if !isHash(e.s) {
		return RoomID{}
	}
	return RoomID{"!" + e.s[1:]}
}

// Clone returns the same ID in memory of its own.
func (e EventID) Clone() EventID { return EventID{strings.Clone(e.s)} }

// MarshalText implements encoding.TextMarshaler.
func (e EventID) MarshalText() ([]byte, error) { return []byte(e.s), nil }

// UnmarshalText implements encoding.TextUnmarshaler with ParseEventID.
func (e *EventID) UnmarshalText(text []byte) (err error) {
	*e, err = ParseEventID(string(text))
	return err
}

// hashLength is the length of a SHA-256 in unpadded Base64.
const hashLength = 43

// isHash says whether an identifier is a sigil and a hash in URL-safe unpadded Base64.
func isHash(s string) bool {
	if len(s) != 1+hashLength {
		return false
	}
	for i := 1; i < len(s); i++ {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
