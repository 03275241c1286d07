package id

import "strings"

// RoomID is `!opaque_id:domain`, or `!` and a hash from room version 12 on. The zero value is no room.
//
// Spec: appendices#room-ids
type RoomID struct{ s string }

// ParseRoomID takes room IDs of all room versions.
func ParseRoomID(s string) (RoomID, error) {
	rest, err := sigil("room ID", s, '!')
	if err != nil {
		return RoomID{}, err
	}
	if reason := opaqueOrSplit(rest); reason != "" {
		return RoomID{}, fail("room ID", s, reason)
	}
	return RoomID{s}, nil
}

// NewRoomID makes the ID of a room of a version before 12. The opaque ID should be alphanumeric.
func NewRoomID(opaqueID string, server ServerName) (RoomID, error) {
	return ParseRoomID("!" + opaqueID + ":" + server.s)
}

// opaqueOrSplit checks what room IDs and event IDs have behind their sigil: `opaque:domain`, or `opaque` that is not empty.
func opaqueOrSplit(s string) (reason string) {
	if strings.IndexByte(s, ':') >= 0 {
		_, reason = split(s)
		return reason
	}
	if s == "" {
		return "it has nothing but its sigil"
	}
	return opaque(s)
}

// String returns the whole ID, "" for none.
func (r RoomID) String() string { return r.s }

// IsZero says whether this is no room.
func (r RoomID) IsZero() bool { return r.s == "" }

// ServerName returns the domain; the zero value for room IDs without one (from room version 12 on). It says where the ID
// was made, not where the room can be found.
func (r RoomID) ServerName() ServerName { return domain(r.s) }

// CreateEventID returns the event ID of which a room ID without domain is made; the zero value for others.
//
// Spec: rooms/v12#event-format
func (r RoomID) CreateEventID() EventID {
	if !isHash(r.s) {
		return EventID{}
	}
	return EventID{"$" + r.s[1:]}
}

// IsHash says whether the ID has the form that room version 12 introduced: a SHA-256 in URL-safe unpadded Base64.
func (r RoomID) IsHash() bool { return isHash(r.s) }

// Clone returns the same ID in memory of its own.
func (r RoomID) Clone() RoomID { return RoomID{strings.Clone(r.s)} }

// MarshalText implements encoding.TextMarshaler.
func (r RoomID) MarshalText() ([]byte, error) { return []byte(r.s), nil }

// UnmarshalText implements encoding.TextUnmarshaler with ParseRoomID.
func (r *RoomID) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRoomID(string(text))
	return err
}

// RoomAlias is `#localpart:domain`. The zero value is no alias.
//
// Spec: appendices#room-aliases
type RoomAlias struct{ s string }

// ParseRoomAlias takes any room alias.
func ParseRoomAlias(s string) (RoomAlias, error) {
	rest, err := sigil("room alias", s, '#')
	if err != nil {
		return RoomAlias{}, err
	}
	if _, reason := split(rest); reason != "" {
		return RoomAlias{}, fail("room alias", s, reason)
	}
	return RoomAlias{s}, nil
}

// NewRoomAlias makes an alias of its parts.
func NewRoomAlias(localpart string, server ServerName) (RoomAlias, error) {
	return ParseRoomAlias("#" + localpart + ":" + server.s)
}

// String returns the whole alias, "" for none.
func (a RoomAlias) String() string { return a.s }

// IsZero says whether this is no alias.
func (a RoomAlias) IsZero() bool { return a.s == "" }

// Localpart returns what stands between sigil and domain.
func (a RoomAlias) Localpart() string { return localpart(a.s) }

// ServerName returns the domain: the server that knows the alias.
func (a RoomAlias) ServerName() ServerName { return domain(a.s) }

// Clone returns the same alias in memory of its own.
func (a RoomAlias) Clone() RoomAlias { return RoomAlias{strings.Clone(a.s)} }

// MarshalText implements encoding.TextMarshaler.
func (a RoomAlias) MarshalText() ([]byte, error) { return []byte(a.s), nil }

// UnmarshalText implements encoding.TextUnmarshaler with ParseRoomAlias.
func (a *RoomAlias) UnmarshalText(text []byte) (err error) {
	*a, err = ParseRoomAlias(string(text))
	return err
}
