package event

import (
	"crypto/sha256"
	"encoding/base64"
	"strconv"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/id"
	"stoa/matrix/roomversion"
	"stoa/matrix/signing"
)

// Signer signs for a server. signing.Signer is one.
type Signer interface {
	ServerName() id.ServerName
	KeyID() id.KeyID
	Sign(message []byte) []byte
}

// Draft is an event that does not exist yet.
type Draft struct {
	Type string
	// StateKey makes a state event if it is not nil.
	StateKey *string
	Sender   id.UserID
	// RoomID is zero for a create event that makes its room's ID.
	RoomID id.RoomID
	// Content is a JSON object in any form.
	Content []byte
	// Redacts is written where the room version has it: beside the content, or in it.
	Redacts        id.EventID
	PrevEvents     []id.EventID
	AuthEvents     []id.EventID
	Depth          int64
	OriginServerTS int64
	// Origin is written if it is not zero. The event format of the specification has no such key.
	Origin id.ServerName
	// EventID is for room versions 1 and 2 alone. If it is zero, the opaque part is made of the content hash.
	EventID id.EventID
	// ReferenceHash is for room versions 1 and 2 alone: it returns the reference hashes of prev and auth events. If it is
	// nil or returns false, the entry has an empty object for hashes.
	ReferenceHash func(id.EventID) ([sha256.Size]byte, bool)
}

// Build makes an event of a draft: in canonical form, with content hash, signature and event ID. It checks the event format
// and the size limits as Parse does. Errors are *Error.
//
// Spec: server-server-api#adding-hashes-and-signatures-to-outgoing-events
func Build(rules *roomversion.Rules, draft Draft, signer Signer) (*PDU, error) {
	s := scratches.Get().(*scratch)
	defer s.release()
	bytes, err := draft.append(s.canonical[:0], rules)
	if err != nil {
		return nil, err
	}
	s.canonical = bytes
	if rules.EventIDFormat == roomversion.EventIDAssigned && draft.EventID.IsZero() {
		if bytes, err = withEventID(bytes, signer.ServerName()); err != nil {
			return nil, err
		}
	}
	signed, hash, err := s.hashAndSign(rules, draft.Type, bytes, signer)
	if err != nil {
		return nil, err
	}
	if len(signed) > MaxSize {
		return nil, tooLarge("", MaxSize)
	}
	p, err := read(rules, signed)
	if err != nil {
		return nil, err
	}
	if rules.EventIDFormat != roomversion.EventIDAssigned {
		p.setEventID(id.EventIDOfHash(hash, rules.EventIDFormat == roomversion.EventIDURLSafeHash))
	}
	return p, nil
}

// append appends the canonical event without hashes and signatures.
func (d *Draft) append(dst []byte, rules *roomversion.Rules) ([]byte, error) {
	dst = append(dst, `{"auth_events":`...)
	dst = d.appendEdges(dst, rules, d.AuthEvents)
	dst = append(dst, `,"content":`...)
	start := len(dst)
	dst, err := appendOwn(rules, dst, d.Content)
	if err != nil {
		return nil, err
	}
	if !canonicaljson.IsObject(dst[start:]) {
		return nil, badFormat("content", "it is no object")
	}
	if rules.RedactsInContent && !d.Redacts.IsZero() {
		content := append([]byte(nil), dst[start:]...)
		target := canonicaljson.AppendString(nil, d.Redacts.String())
		if dst, err = canonicaljson.AppendWith(dst[:start], content, "redacts", target); err != nil {
			return nil, wrap(err)
		}
	}
	dst = strconv.AppendInt(append(dst, `,"depth":`...), d.Depth, 10)
	if rules.EventFormat == roomversion.EventFormatV1 && !d.EventID.IsZero() {
		dst = canonicaljson.AppendMember(dst, "event_id", canonicaljson.AppendString(nil, d.EventID.String()))
	}
	if !d.Origin.IsZero() {
		dst = canonicaljson.AppendString(append(dst, `,"origin":`...), d.Origin.String())
	}
	dst = strconv.AppendInt(append(dst, `,"origin_server_ts":`...), d.OriginServerTS, 10)
	dst = append(dst, `,"prev_events":`...)
	dst = d.appendEdges(dst, rules, d.PrevEvents)
	if !rules.RedactsInContent && !d.Redacts.IsZero() {
		dst = canonicaljson.AppendString(append(dst, `,"redacts":`...), d.Redacts.String())
	}
	if !d.RoomID.IsZero() {
		dst = canonicaljson.AppendString(append(dst, `,"room_id":`...), d.RoomID.String())
	}
	dst = canonicaljson.AppendString(append(dst, `,"sender":`...), d.Sender.String())
	if d.StateKey != nil {
		dst = canonicaljson.AppendString(append(dst, `,"state_key":`...), *d.StateKey)
	}
	dst = canonicaljson.AppendString(append(dst, `,"type":`...), d.Type)
	return append(dst, '}'), nil
}

// appendOwn appends the canonical form of what this server sends first.
func appendOwn(rules *roomversion.Rules, dst, raw []byte) ([]byte, error) {
	if rules.StrictCanonicalJSON {
		return appendCanonical(rules, dst, raw)
	}
	canonical, err := canonicaljson.AppendShortest(dst, raw)
	if err != nil {
		return nil, &Error{Kind: BadJSON, Reason: "it is not JSON that can be sent", Cause: err}
	}
	return canonical, nil
}

// appendEdges appends prev_events or auth_events.
func (d *Draft) appendEdges(dst []byte, rules *roomversion.Rules, edges []id.EventID) []byte {
	dst = append(dst, '[')
	for i, edge := range edges {
		if i > 0 {
			dst = append(dst, ',')
		}
		if rules.EventFormat != roomversion.EventFormatV1 {
			dst = canonicaljson.AppendString(dst, edge.String())
			continue
		}
		dst = canonicaljson.AppendString(append(dst, '['), edge.String())
		dst = append(dst, ",{"...)
		if d.ReferenceHash != nil {
			if hash, known := d.ReferenceHash(edge); known {
				dst = base64.RawStdEncoding.AppendEncode(append(dst, `"sha256":"`...), hash[:])
				dst = append(dst, '"')
			}
		}
		dst = append(dst, "}]"...)
	}
	return append(dst, ']')
}

// opaqueLength is how many bytes of a hash make the opaque part of an event ID.
const opaqueLength = 18

// withEventID returns an event with an event ID that is made of the hash of the rest.
//
// Spec: rooms/v1#event-ids
func withEventID(event []byte, server id.ServerName) ([]byte, error) {
	hash := sha256.Sum256(event)
	eventID, err := id.NewEventID(base64.RawURLEncoding.EncodeToString(hash[:opaqueLength]), server)
	if err != nil {
		return nil, &Error{Kind: BadFormat, Field: "event_id", Reason: "it can't be made", Cause: err}
	}
	return canonicaljson.AppendWith(nil, event, "event_id", canonicaljson.AppendString(nil, eventID.String()))
}

// HashAndSign adds the content hash and the signature of a server to an event of any form, as one makes of a template that
// another server gave. Hashes and signatures that it has are replaced; `unsigned` is dropped. The result is canonical; the
// event format is not checked.
//
// Spec: server-server-api#adding-hashes-and-signatures-to-outgoing-events
func HashAndSign(rules *roomversion.Rules, event []byte, signer Signer) ([]byte, error) {
	canonical, err := appendOwn(rules, make([]byte, 0, len(event)), event)
	if err != nil {
		return nil, err
	}
	evType, ok := canonicaljson.String(canonicaljson.Get(canonical, "type"))
	if !ok {
		return nil, badFormat("type", "it is missing or no string")
	}
	bare, err := canonicaljson.AppendWithout(make([]byte, 0, len(canonical)), canonical, "hashes", "signatures", "unsigned")
	if err != nil {
		return nil, wrap(err)
	}
	s := scratches.Get().(*scratch)
	defer s.release()
	signed, _, err := s.hashAndSign(rules, evType, bare, signer)
	return signed, err
}

// hashAndSign adds hash and signature to a canonical event that has none, and returns the reference hash too.
func (s *scratch) hashAndSign(rules *roomversion.Rules, evType string, bare []byte, signer Signer) (signed []byte, reference [sha256.Size]byte, err error) {
	content := sha256.Sum256(bare)
	s.value = base64.RawStdEncoding.AppendEncode(append(s.value[:0], `{"sha256":"`...), content[:])
	s.value = append(s.value, `"}`...)
	if s.hashed, err = canonicaljson.AppendWith(s.hashed[:0], bare, "hashes", s.value); err != nil {
		return nil, reference, wrap(err)
	}
	if s.redacted, err = appendRedacted(s.redacted[:0], rules, evType, s.hashed, false); err != nil {
		return nil, reference, err
	}
	s.value = appendSignatures(s.value[:0], signer, s.redacted)
	signed = make([]byte, 0, len(s.hashed)+len(s.value)+len(`,"signatures":`))
	if signed, err = canonicaljson.AppendWith(signed, s.hashed, "signatures", s.value); err != nil {
		return nil, reference, wrap(err)
	}
	return signed, sha256.Sum256(s.redacted), nil
}

// appendSignatures appends a `signatures` object of one signature.
func appendSignatures(dst []byte, signer Signer, message []byte) []byte {
	dst = canonicaljson.AppendString(append(dst, '{'), signer.ServerName().String())
	dst = canonicaljson.AppendString(append(dst, ":{"...), signer.KeyID().String())
	dst = base64.RawStdEncoding.AppendEncode(append(dst, `:"`...), signer.Sign(message))
	return append(dst, `"}}`...)
}

// Sign returns the event with one more signature, as of the server that is invited or that vouches for a restricted join.
// Everything else of the event stays.
//
// Spec: server-server-api#inviting-to-a-room, server-server-api#restricted-rooms
func (p *PDU) Sign(signer Signer) (*PDU, error) {
	redacted, err := appendRedacted(nil, p.rules, p.evType, p.bytes, false)
	if err != nil {
		return nil, err
	}
	all, err := signing.AppendSignatures(nil, p.signatures, signer.ServerName().String(), signer.KeyID(), signer.Sign(redacted))
	if err != nil {
		return nil, wrap(err)
	}
	signed, err := canonicaljson.AppendWith(make([]byte, 0, len(p.bytes)+len(all)), p.bytes, "signatures", all)
	if err != nil {
		return nil, wrap(err)
	}
	if len(signed) > MaxSize {
		return nil, tooLarge("", MaxSize)
	}
	more, err := read(p.rules, signed)
	if err != nil {
		return nil, err
	}
	more.hashMismatch = p.hashMismatch
	more.setEventID(p.eventID)
	return more, nil
}
