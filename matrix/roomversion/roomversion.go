// Package roomversion is the table of room versions: what differs between them, one row each.
//
// It owns the rows and nothing else. It holds no algorithm: the packages event, eventauth and stateres ask a row what to
// do. The invariant: code branches on the fields of a row, never on a version's name, so that a new version is a new row
// and its tests.
//
// Spec: rooms#complete-list-of-room-versions
package roomversion

import (
	"slices"
	"unicode/utf8"
)

// Default is the version that the specification recommends for new rooms.
//
// Spec: rooms#complete-list-of-room-versions
const Default = "12"

// MaxLength is the longest name of a room version, in code points.
//
// Spec: rooms#room-version-grammar
const MaxLength = 32

// EventFormat says how a PDU names itself and its edges.
type EventFormat uint8

const (
	// EventFormatV1 has an event_id, and edges that are pairs of event ID and hashes (versions 1 and 2).
	EventFormatV1 EventFormat = iota + 1
	// EventFormatV3 has no event_id, and edges that are plain event IDs (from version 3).
	EventFormatV3
)

// EventIDFormat says where an event ID comes from.
type EventIDFormat uint8

const (
	// EventIDAssigned is `$opaque_id:domain`, chosen by the sending server (versions 1 and 2).
	EventIDAssigned EventIDFormat = iota + 1
	// EventIDHash is the reference hash in unpadded Base64 (version 3).
	EventIDHash
	// EventIDURLSafeHash is the reference hash in URL-safe unpadded Base64 (from version 4).
	EventIDURLSafeHash
)

// StateRes names a state resolution algorithm.
type StateRes uint8

const (
	// StateResV1 is the algorithm of version 1.
	StateResV1 StateRes = iota + 1
	// StateResV2 is the algorithm of versions 2 to 11.
	StateResV2
	// StateResV21 is the algorithm of version 12: it starts from an empty state and adds the conflicted state subgraph.
	StateResV21
)

// Redaction says what the redaction algorithm keeps. Each step includes the changes of the steps before it.
type Redaction uint8

const (
	// RedactionV1 is the list of versions 1 to 5.
	RedactionV1 Redaction = iota + 1
	// RedactionV6 no longer keeps `aliases` of m.room.aliases.
	RedactionV6
	// RedactionV8 keeps `allow` of m.room.join_rules.
	RedactionV8
	// RedactionV9 keeps `join_authorised_via_users_server` of m.room.member.
	RedactionV9
	// RedactionV11 drops the top-level `origin`, `membership` and `prev_state`; keeps all of m.room.create, `redacts` of
	// m.room.redaction, `invite` of m.room.power_levels and `third_party_invite.signed` of m.room.member.
	RedactionV11
)

// Rules is one row: all that a room version decides. Rows are shared; nobody changes them.
type Rules struct {
	// Version is the name, as in m.room.create's room_version.
	Version string
	// Stable says whether the specification calls the version stable.
	Stable bool

	EventFormat   EventFormat
	EventIDFormat EventIDFormat
	StateRes      StateRes
	Redaction     Redaction

	// RedactionAuthRule: m.room.redaction is allowed by an auth rule of its own (versions 1 and 2). From version 3 on a
	// redaction is always allowed and checked when it is applied.
	RedactionAuthRule bool
	// AliasesAuthRule: m.room.aliases has an auth rule of its own, which comes before membership (versions 1 to 5).
	AliasesAuthRule bool
	// StrictSignatureValidity: a key must be valid at the event's origin_server_ts (from version 5).
	StrictSignatureValidity bool
	// StrictCanonicalJSON: events that are not canonical JSON are invalid; depth ends at 2^53-1 (from version 6).
	StrictCanonicalJSON bool
	// NotificationLevels: the power level rules look at `notifications` too (from version 6).
	NotificationLevels bool
	// Knocking: membership and join rule `knock` (from version 7).
	Knocking bool
	// RestrictedJoins: join rule `restricted` (from version 8).
	RestrictedJoins bool
	// KnockRestrictedJoins: join rule `knock_restricted` (from version 10).
	KnockRestrictedJoins bool
	// IntegerPowerLevels: levels are integers only; before, strings and floats are read too (from version 10).
	IntegerPowerLevels bool
	// CreatorIsSender: the creator is the sender of m.room.create, which has no `creator` in its content (from version 11).
	CreatorIsSender bool
	// RedactsInContent: `redacts` is in the content of m.room.redaction instead of beside it (from version 11).
	RedactsInContent bool
	// CreatorsPrivileged: creators have an infinite power level, and there may be additional ones (from version 12).
	CreatorsPrivileged bool
	// RoomIDFromCreate: the room ID is the ID of the create event with another sigil; the create event has no room_id, and
	// no event names it among its auth events (from version 12).
	RoomIDFromCreate bool
}

// Of returns the row of a version; false if the version is not known here.
func Of(version string) (*Rules, bool) {
	i := slices.IndexFunc(rows, func(r *Rules) bool { return r.Version == version })
	if i < 0 {
		return nil, false
	}
	return rows[i], true
}

// All returns the rows of all known versions, oldest first. The slice is the caller's, the rows are not.
func All() []*Rules {
	return slices.Clone(rows)
}

// Valid says whether a name is one that a room version may have, known or not.
//
// Spec: rooms#room-version-grammar
func Valid(version string) bool {
	if version == "" || utf8.RuneCountInString(version) > MaxLength {
		return false
	}
	for i := range len(version) {
		c := version[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

// rows are built by derivation: each version is the one before it and what it changes, as in the specification.
var rows = build()

func build() []*Rules {
	v1 := Rules{
		Version: "1", Stable: true,
		EventFormat: EventFormatV1, EventIDFormat: EventIDAssigned, StateRes: StateResV1, Redaction: RedactionV1,
		RedactionAuthRule: true, AliasesAuthRule: true,
	}
	all := []*Rules{&v1}
	next := func(version string, change func(*Rules)) {
		row := *all[len(all)-1]
		row.Version = version
		change(&row)
		all = append(all, &row)
	}
	next("2", func(r *Rules) { r.StateRes = StateResV2 })
	next("3", func(r *Rules) {
		r.EventFormat, r.EventIDFormat = EventFormatV3, EventIDHash
		r.RedactionAuthRule = false
	})
	next("4", func(r *Rules) { r.EventIDFormat = EventIDURLSafeHash })
	next("5", func(r *Rules) { r.StrictSignatureValidity = true })
	next("6", func(r *Rules) {
		r.StrictCanonicalJSON, r.NotificationLevels = true, true
		r.AliasesAuthRule = false
		r.Redaction = RedactionV6
	})
	next("7", func(r *Rules) { r.Knocking = true })
	next("8", func(r *Rules) { r.RestrictedJoins, r.Redaction = true, RedactionV8 })
	next("9", func(r *Rules) { r.Redaction = RedactionV9 })
	next("10", func(r *Rules) { r.IntegerPowerLevels, r.KnockRestrictedJoins = true, true })
	next("11", func(r *Rules) {
		r.CreatorIsSender, r.RedactsInContent = true, true
		r.Redaction = RedactionV11
	})
	next("12", func(r *Rules) {
		r.CreatorsPrivileged, r.RoomIDFromCreate = true, true
		r.StateRes = StateResV21
	})
	return all
}
