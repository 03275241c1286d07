package event

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"sync"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/id"
	"stoa/matrix/roomversion"
)

// scratch is memory in which events are put together. Nothing that lives longer than a call may share it.
type scratch struct{ canonical, hashed, redacted, value []byte }

// scratches are kept for their memory alone. An event's size bounds what one of them holds.
var scratches = sync.Pool{New: func() any {
	return &scratch{canonical: make([]byte, 0, 2048), hashed: make([]byte, 0, 2048), redacted: make([]byte, 0, 1024), value: make([]byte, 0, 256)}
}}

// maxKeptScratch is the capacity in bytes up to which a buffer is kept.
const maxKeptScratch = 2 * MaxSize

func (s *scratch) release() {
	if cap(s.canonical)+cap(s.hashed)+cap(s.redacted)+cap(s.value) <= maxKeptScratch {
		scratches.Put(s)
	}
}

// Parse reads an event that arrives from elsewhere, in any JSON form: it brings the bytes into canonical form, drops
// `unsigned`, checks the event format of the room version and the size limits, and computes hashes and event ID. If the content
// hash does not match, the PDU is the redacted event (HashMismatch). Signatures are not checked: see Verify.
//
// These are the checks 1 and 3 of those on receipt of a PDU. Errors are *Error. The raw bytes are not kept.
//
// Spec: server-server-api#checks-performed-on-receipt-of-a-pdu
func Parse(rules *roomversion.Rules, raw []byte) (*PDU, error) {
	s := scratches.Get().(*scratch)
	defer s.release()
	canonical, err := appendCanonical(rules, s.canonical[:0], raw)
	if err != nil {
		return nil, err
	}
	s.canonical = canonical
	if !canonicaljson.IsObject(canonical) {
		return nil, badFormat("", "it is no JSON object")
	}
	all := append(make([]byte, 0, len(canonical)), '{')
	hashed := append(s.hashed[:0], '{')
	err = canonicaljson.Object(canonical, func(key string, value []byte) error {
		switch key {
		case "unsigned":
		case "hashes", "signatures":
			all = canonicaljson.AppendMember(all, key, value)
		default:
			all = canonicaljson.AppendMember(all, key, value)
			hashed = canonicaljson.AppendMember(hashed, key, value)
		}
		return nil
	})
	if err != nil {
		return nil, &Error{Kind: BadJSON, Reason: "it can't be read", Cause: err}
	}
	all, hashed = append(all, '}'), append(hashed, '}')
	s.hashed = hashed
	if len(all) > MaxSize {
		return nil, tooLarge("", MaxSize)
	}
	p, err := read(rules, all)
	if err != nil {
		return nil, err
	}
	if !contentHashMatches(p.hashes, sha256.Sum256(hashed)) {
		if p, err = p.redacted(); err != nil {
			return nil, err
		}
		p.hashMismatch = true
	}
	return p, p.identify()
}

// Load reads an event that this server has stored: bytes that Bytes returned, under the ID that EventID returned. Nothing is
// hashed. The PDU keeps the bytes.
func Load(rules *roomversion.Rules, eventID id.EventID, bytes []byte) (*PDU, error) {
	p, err := read(rules, bytes)
	if err != nil {
		return nil, err
	}
	p.setEventID(eventID)
	return p, nil
}

// appendCanonical appends the canonical form that a room version wants.
func appendCanonical(rules *roomversion.Rules, dst, raw []byte) ([]byte, error) {
	form := canonicaljson.AppendLoose
	if rules.StrictCanonicalJSON {
		form = canonicaljson.Append
	}
	canonical, err := form(dst, raw)
	if err != nil {
		return nil, &Error{Kind: BadJSON, Reason: "it is not the JSON of this room version", Cause: err}
	}
	return canonical, nil
}

// contentHashMatches compares `hashes` of an event with the hash that it should have.
func contentHashMatches(hashes []byte, want [sha256.Size]byte) bool {
	text, ok := canonicaljson.String(canonicaljson.Get(hashes, "sha256"))
	for ok && len(text) > 0 && text[len(text)-1] == '=' {
		text = text[:len(text)-1]
	}
	if len(text) != base64.RawStdEncoding.EncodedLen(sha256.Size) {
		return false
	}
	var got [sha256.Size + 4]byte
	n, err := base64.RawStdEncoding.Decode(got[:], []byte(text))
	return err == nil && n == sha256.Size && [sha256.Size]byte(got[:sha256.Size]) == want
}

// identify computes the event ID, where it is not a field.
func (p *PDU) identify() error {
	if p.rules.EventIDFormat == roomversion.EventIDAssigned {
		return nil
	}
	hash, err := p.ReferenceHash()
	if err != nil {
		return err
	}
	p.setEventID(id.EventIDOfHash(hash, p.rules.EventIDFormat == roomversion.EventIDURLSafeHash))
	return nil
}

// setEventID sets the event ID, and the room ID if it is made of it.
func (p *PDU) setEventID(eventID id.EventID) {
	p.eventID = eventID
	if p.rules.RoomIDFromCreate && p.evType == TypeCreate && p.isState {
		p.roomID = eventID.RoomID()
	}
}

// present is a set of the keys that an event must have.
type present uint16

const (
	hasType present = 1 << iota
	hasSender
	hasContent
	hasDepth
	hasTS
	hasHashes
	hasSignatures
	hasPrevEvents
	hasAuthEvents
	hasRoomID
	hasEventID
)

// required lists the keys that all events have, with the names for errors.
var required = []struct {
	bit  present
	name string
}{
	{hasType, "type"}, {hasSender, "sender"}, {hasContent, "content"}, {hasDepth, "depth"}, {hasTS, "origin_server_ts"},
	{hasHashes, "hashes"}, {hasSignatures, "signatures"}, {hasPrevEvents, "prev_events"}, {hasAuthEvents, "auth_events"},
	{hasRoomID, "room_id"}, {hasEventID, "event_id"},
}

// read makes a PDU of canonical bytes without `unsigned`, which it keeps, and checks the event format. The event ID is only
// set where it is a field.
func read(rules *roomversion.Rules, bytes []byte) (*PDU, error) {
	p := &PDU{rules: rules, bytes: bytes}
	var has present
	var redacts []byte
	err := canonicaljson.Object(bytes, func(key string, value []byte) (err error) {
		switch key {
		case "auth_events":
			has |= hasAuthEvents
			p.authEvents, err = edges(rules, key, value, MaxAuthEvents)
		case "prev_events":
			has |= hasPrevEvents
			p.prevEvents, err = edges(rules, key, value, MaxPrevEvents)
		case "content":
			has |= hasContent
			p.content = value
			if !canonicaljson.IsObject(value) {
				err = badFormat(key, "it is no object")
			}
		case "depth":
			has |= hasDepth
			p.depth, err = integer(rules, key, value)
			if err == nil && p.depth < 0 {
				err = badFormat(key, "it is negative")
			}
		case "origin_server_ts":
			has |= hasTS
			p.ts, err = integer(rules, key, value)
		case "hashes":
			has |= hasHashes
			p.hashes = value
			if _, ok := canonicaljson.String(canonicaljson.Get(value, "sha256")); !ok {
				err = badFormat(key, "it has no sha256 that is a string")
			}
		case "signatures":
			has |= hasSignatures
			p.signatures = value
			err = checkSignatures(value)
		case "event_id":
			if rules.EventFormat == roomversion.EventFormatV1 {
				has |= hasEventID
				p.eventID, err = assignedEventID(value)
			}
		case "room_id":
			has |= hasRoomID
			p.roomID, err = roomID(rules, value)
		case "sender":
			has |= hasSender
			p.sender, err = userID(key, value)
		case "type":
			has |= hasType
			p.evType, err = text(key, value)
		case "state_key":
			p.isState = true
			p.stateKey, err = text(key, value)
		case "redacts":
			redacts = value
		}
		return err
	})
	if err != nil {
		return nil, wrap(err)
	}
	if err := p.complete(has); err != nil {
		return nil, err
	}
	return p, p.readSpecial(redacts)
}

// complete checks that no required key is missing.
func (p *PDU) complete(has present) error {
	p.hasRoomID = has&hasRoomID != 0
	if p.rules.RoomIDFromCreate && p.evType == TypeCreate && p.isState {
		has |= hasRoomID
	}
	if p.rules.EventFormat != roomversion.EventFormatV1 {
		has |= hasEventID
	}
	for _, r := range required {
		if has&r.bit == 0 {
			return badFormat(r.name, "it is missing")
		}
	}
	return nil
}

// readSpecial reads what events of some types have for the protocol.
func (p *PDU) readSpecial(redacts []byte) error {
	switch p.evType {
	case TypeMember:
		p.membership, _ = canonicaljson.String(canonicaljson.Get(p.content, "membership"))
	case TypeRedaction:
		if p.rules.RedactsInContent {
			redacts = canonicaljson.Get(p.content, "redacts")
		} else if _, ok := canonicaljson.String(redacts); !ok && redacts != nil {
			return badFormat("redacts", "it is no string")
		}
		if target, ok := canonicaljson.String(redacts); ok {
			p.redacts, _ = id.ParseEventID(target) // what is no event ID redacts nothing
		}
	}
	return nil
}

// wrap gives errors of the scanner the form of this package.
func wrap(err error) error {
	var e *Error
	if errors.As(err, &e) {
		return err
	}
	return &Error{Kind: BadJSON, Reason: "it can't be read", Cause: err}
}

func text(field string, value []byte) (string, error) {
	s, ok := canonicaljson.String(value)
	switch {
	case !ok:
		return "", badFormat(field, "it is no string")
	case len(s) > MaxFieldLength:
		return "", tooLarge(field, MaxFieldLength)
	}
	return s, nil
}

func integer(rules *roomversion.Rules, field string, value []byte) (int64, error) {
	n, ok := canonicaljson.Int(value)
	switch {
	case !ok:
		return 0, badFormat(field, "it is no integer of 64 bits")
	case rules.StrictCanonicalJSON && (n > canonicaljson.MaxInteger || n < -canonicaljson.MaxInteger):
		return 0, badFormat(field, "it is not in the range of ±(2^53-1)")
	}
	return n, nil
}

// identifierError gives the errors of identifiers the form of this package.
func identifierError(field, s string, err error) error {
	kind := BadFormat
	if len(s) > id.MaxLength {
		kind = TooLarge
	}
	return &Error{Kind: kind, Field: field, Reason: "it is no identifier", Cause: err}
}

func userID(field string, value []byte) (id.UserID, error) {
	s, ok := canonicaljson.String(value)
	if !ok {
		return id.UserID{}, badFormat(field, "it is no string")
	}
	user, err := id.ParseUserID(s)
	if err != nil {
		return id.UserID{}, identifierError(field, s, err)
	}
	return user, nil
}

// roomID checks that a room ID has the form of the room version.
//
// Spec: appendices#room-ids
func roomID(rules *roomversion.Rules, value []byte) (id.RoomID, error) {
	s, ok := canonicaljson.String(value)
	if !ok {
		return id.RoomID{}, badFormat("room_id", "it is no string")
	}
	room, err := id.ParseRoomID(s)
	switch {
	case err != nil:
		return id.RoomID{}, identifierError("room_id", s, err)
	case rules.RoomIDFromCreate && !room.IsHash():
		return id.RoomID{}, badFormat("room_id", "it is not the hash of a create event")
	case !rules.RoomIDFromCreate && room.ServerName().IsZero():
		return id.RoomID{}, badFormat("room_id", "it has no domain")
	}
	return room, nil
}

// assignedEventID checks that an event ID has a domain.
//
// Spec: rooms/v1#event-ids
func assignedEventID(value []byte) (id.EventID, error) {
	s, ok := canonicaljson.String(value)
	if !ok {
		return id.EventID{}, badFormat("event_id", "it is no string")
	}
	event, err := id.ParseEventID(s)
	switch {
	case err != nil:
		return id.EventID{}, identifierError("event_id", s, err)
	case event.ServerName().IsZero():
		return id.EventID{}, badFormat("event_id", "it has no domain")
	}
	return event, nil
}

// edges reads prev_events or auth_events: pairs of event ID and hashes in versions 1 and 2, event IDs later.
//
// Spec: rooms/v1#event-format, rooms/v3#event-format
func edges(rules *roomversion.Rules, field string, value []byte, limit int) ([]id.EventID, error) {
	var count int
	if err := canonicaljson.Array(value, func([]byte) error { count++; return nil }); err != nil {
		return nil, badFormat(field, "it is no array")
	}
	if count > limit {
		return nil, badFormat(field, "it has too many entries")
	}
	if count == 0 {
		return nil, nil
	}
	all := make([]id.EventID, 0, count)
	err := canonicaljson.Array(value, func(edge []byte) error {
		if rules.EventFormat == roomversion.EventFormatV1 {
			var err error
			if edge, err = pairedID(field, edge); err != nil {
				return err
			}
		}
		s, ok := canonicaljson.String(edge)
		if !ok {
			return badFormat(field, "it has an entry that is no event ID")
		}
		event, err := id.ParseEventID(s)
		if err != nil {
			return identifierError(field, s, err)
		}
		all = append(all, event)
		return nil
	})
	return all, err
}

// pairedID returns the event ID of a pair of event ID and hashes.
func pairedID(field string, pair []byte) (eventID []byte, err error) {
	var count int
	walk := canonicaljson.Array(pair, func(value []byte) error {
		switch count++; count {
		case 1:
			eventID = value
		case 2:
			if !canonicaljson.IsObject(value) {
				return badFormat(field, "the hashes of an entry are no object")
			}
		}
		return nil
	})
	if walk != nil || count != 2 {
		return nil, badFormat(field, "it has an entry that is no pair of event ID and hashes")
	}
	return eventID, nil
}

// checkSignatures checks the form of `signatures`: objects by entity, of strings by key ID.
func checkSignatures(value []byte) error {
	bad := badFormat("signatures", "it is no object of objects of strings")
	err := canonicaljson.Object(value, func(_ string, entity []byte) error {
		return canonicaljson.Object(entity, func(_ string, signature []byte) error {
			if _, ok := canonicaljson.String(signature); !ok {
				return bad
			}
			return nil
		})
	})
	if err != nil {
		return bad
	}
	return nil
}
