// Package event is the PDU: one event as servers exchange it, in the format of its room version.
//
// It owns reading, building, hashing, signing, redacting and rendering of events. It never decides whether an event is
// allowed (eventauth does) and knows no store. The invariant: the bytes of a PDU are canonical JSON without `unsigned`, they
// never change, and all that a PDU says is read from them.
//
// Spec: server-server-api#pdus, rooms/v12#event-format
package event

import (
	"sync/atomic"

	"stoa/matrix/id"
	"stoa/matrix/roomversion"
)

const (
	// MaxSize is the largest event, in bytes of canonical JSON with signatures and without `unsigned`.
	//
	// Spec: client-server-api#size-limits
	MaxSize = 65536
	// MaxFieldLength is the longest type or state key, in bytes.
	//
	// Spec: client-server-api#size-limits
	MaxFieldLength = 255
	// MaxPrevEvents is the greatest number of prev events.
	MaxPrevEvents = 20
	// MaxAuthEvents is the greatest number of auth events.
	MaxAuthEvents = 10
)

// Types of events that the server itself looks at. They are written once, here.
const (
	TypeAliases           = "m.room.aliases"
	TypeAvatar            = "m.room.avatar"
	TypeCanonicalAlias    = "m.room.canonical_alias"
	TypeCreate            = "m.room.create"
	TypeEncrypted         = "m.room.encrypted"
	TypeEncryption        = "m.room.encryption"
	TypeGuestAccess       = "m.room.guest_access"
	TypeHistoryVisibility = "m.room.history_visibility"
	TypeJoinRules         = "m.room.join_rules"
	TypeMember            = "m.room.member"
	TypeMessage           = "m.room.message"
	TypeName              = "m.room.name"
	TypePowerLevels       = "m.room.power_levels"
	TypeRedaction         = "m.room.redaction"
	TypeServerACL         = "m.room.server_acl"
	TypeSpaceChild        = "m.space.child"
	TypeThirdPartyInvite  = "m.room.third_party_invite"
	TypeTombstone         = "m.room.tombstone"
	TypeTopic             = "m.room.topic"
)

// Values of `membership` in m.room.member.
//
// Spec: client-server-api#mroommember
const (
	MembershipBan    = "ban"
	MembershipInvite = "invite"
	MembershipJoin   = "join"
	MembershipKnock  = "knock"
	MembershipLeave  = "leave"
)

// PDU is one event. It is immutable and safe for use by many at once.
//
// Strings, IDs and slices that it hands out share memory with its bytes: nobody changes them, and whoever keeps an ID for
// longer than the event clones it.
type PDU struct {
	rules      *roomversion.Rules
	bytes      []byte
	content    []byte
	signatures []byte
	hashes     []byte

	eventID    id.EventID
	roomID     id.RoomID
	sender     id.UserID
	redacts    id.EventID
	evType     string
	stateKey   string
	membership string
	prevEvents []id.EventID
	authEvents []id.EventID
	depth      int64
	ts         int64

	isState      bool
	hasRoomID    bool
	hashMismatch bool

	parsed atomic.Pointer[parsed]
}

// Rules returns the row of the room version.
func (p *PDU) Rules() *roomversion.Rules { return p.rules }

// Bytes returns the event in canonical JSON, without `unsigned`.
func (p *PDU) Bytes() []byte { return p.bytes }

// EventID returns the event's ID: its field in versions 1 and 2, its reference hash later.
func (p *PDU) EventID() id.EventID { return p.eventID }

// RoomID returns the room's ID; of a create event that makes its room's ID, that ID.
func (p *PDU) RoomID() id.RoomID { return p.roomID }

// HasRoomID says whether the event has the field room_id. A create event that makes its room's ID must have none.
func (p *PDU) HasRoomID() bool { return p.hasRoomID }

// Type returns the event type.
func (p *PDU) Type() string { return p.evType }

// StateKey returns the state key; false if the event is no state event.
func (p *PDU) StateKey() (string, bool) { return p.stateKey, p.isState }

// IsState says whether the event is a state event.
func (p *PDU) IsState() bool { return p.isState }

// Is says whether the event is the state event of a type and state key.
func (p *PDU) Is(evType, stateKey string) bool {
	return p.isState && p.evType == evType && p.stateKey == stateKey
}

// Sender returns the user who sent the event.
func (p *PDU) Sender() id.UserID { return p.sender }

// Content returns the content, canonical JSON.
func (p *PDU) Content() []byte { return p.content }

// PrevEvents returns the event's parents in the room's graph.
func (p *PDU) PrevEvents() []id.EventID { return p.prevEvents }

// AuthEvents returns the events that give the sender permission.
func (p *PDU) AuthEvents() []id.EventID { return p.authEvents }

// Depth returns the event's depth. Nothing is ordered by it but state resolution of version 1.
func (p *PDU) Depth() int64 { return p.depth }

// OriginServerTS returns the sending server's clock, in ms.
func (p *PDU) OriginServerTS() int64 { return p.ts }

// Redacts returns the event that an m.room.redaction redacts, from where the room version has it; zero for other types, and if
// what is there is no event ID.
func (p *PDU) Redacts() id.EventID { return p.redacts }

// Membership returns `membership` of an m.room.member's content; "" for other types, and if it is no string.
func (p *PDU) Membership() string { return p.membership }

// HashMismatch says whether the event came with a wrong content hash, so that this is its redacted form. Only Parse sets it.
//
// Spec: server-server-api#validating-hashes-and-signatures-on-received-events
func (p *PDU) HashMismatch() bool { return p.hashMismatch }
