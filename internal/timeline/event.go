// Package timeline formats events for clients. It builds the client form of an event from
// its PDU once, shares it between all readers, and adds the `unsigned` that differs
// between readers.
//
// It owns the client form (its fields and their order) and the rules of bundled
// aggregations. It never decides who may see an event and never reads the store: its
// callers pass events that the reader may see.
//
// The invariant: an Event is immutable. A redaction creates another Event, so a caller
// with the old one shows the state at the time when it got it.
package timeline

import (
	"bytes"
	"strconv"
	"sync"

	"stoa/internal/store"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/id"
)

// Source is the input of New.
type Source struct {
	Num  store.EventNum
	Slot store.Slot
	Off  int64
	PDU  *event.PDU
	// Replaces is the state event that this one replaced, nil for none. ReplacesSlot is
	// its slot (0 for unknown), which determines its visibility.
	Replaces     *event.PDU
	ReplacesSlot store.Slot
	// RedactedBy is the redaction of the event, nil for none. The PDU may be the
	// original: New redacts it. Because is the same for callers that have the redaction
	// as an Event; their PDU is redacted already.
	RedactedBy *event.PDU
	Because    *Event
	// TxnUser, TxnDevice and TxnID are the transaction in which a local device sent the
	// event; zero for none.
	TxnUser   id.UserID
	TxnDevice string
	TxnID     string
}

// Event is an event in its client form. It does not retain the PDU, since most of the
// thousands of events in memory are only ever appended to answers.
type Event struct {
	Num            store.EventNum
	Slot           store.Slot
	Off            int64
	ID             id.EventID
	Type           string
	StateKey       string
	IsState        bool
	Sender         id.UserID
	OriginServerTS int64 // ms
	// Membership is that of an m.room.member event, "" for other events.
	Membership string
	// Relation is nil for none. A redacted event has none.
	Relation *Relation
	// Replaced is the state event that this one replaced, nil for none.
	Replaced *Replaced
	// Because is the redaction of this event; nil if the event is not redacted, or if its
	// redaction is not known.
	Because *Event
	txn     *txn
	// client is the client form without room_id, unsigned and the closing brace. The
	// content ends at contentEnd.
	client     []byte
	contentEnd int
}

// Replaced is the part of a replaced state event that clients see.
type Replaced struct {
	ID         id.EventID
	Content    []byte
	Membership string
	// Slot is its slot, 0 for unknown.
	Slot store.Slot
}

type txn struct {
	user       id.UserID
	device, id string
}

// Relation is the `m.relates_to` of an event, with a `rel_type`.
//
// Spec: client-server-api#forming-relationships-between-events
type Relation struct {
	Type   string
	Target id.EventID
}

// The relation types that this package handles.
const (
	RelThread    = "m.thread"
	RelReplace   = "m.replace"
	RelReference = "m.reference"
)

const contentStart = len(`{"content":`)

// scratch has buffers for client forms, which are then copied to their exact size.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

// New builds the client form.
func New(s Source) *Event {
	pdu := s.PDU
	if s.RedactedBy != nil {
		pdu = pdu.Redacted()
	}
	buffer := scratch.Get().(*[]byte)
	*buffer = event.AppendClient((*buffer)[:0], pdu)
	stateKey, isState := pdu.StateKey()
	e := &Event{
		Num: s.Num, Slot: s.Slot, Off: s.Off, ID: pdu.EventID().Clone(), Type: typeOf(pdu.Type()), IsState: isState,
		Sender: pdu.Sender().Clone(), OriginServerTS: pdu.OriginServerTS(), Membership: membershipOf(pdu.Membership()),
		Relation: relationOf(pdu.Content()), client: bytes.Clone(*buffer),
	}
	scratch.Put(buffer)
	if e.StateKey = e.Sender.String(); stateKey != e.StateKey {
		e.StateKey = string([]byte(stateKey))
	}
	e.contentEnd = bytes.LastIndex(e.client, []byte(`,"event_id":`))
	if s.Replaces != nil {
		e.Replaced = &Replaced{
			ID: s.Replaces.EventID().Clone(), Content: bytes.Clone(s.Replaces.Content()),
			Membership: membershipOf(s.Replaces.Membership()), Slot: s.ReplacesSlot,
		}
	}
	e.Because = s.Because
	if s.RedactedBy != nil {
		e.Because = New(Source{PDU: s.RedactedBy})
	}
	if s.TxnID != "" {
		e.txn = &txn{s.TxnUser.Clone(), s.TxnDevice, s.TxnID}
	}
	return e
}

// usual maps strings that many events share to one copy of each.
var usual = func() map[string]string {
	m := map[string]string{}
	for _, s := range []string{
		event.TypeAliases, event.TypeCanonicalAlias, event.TypeCreate, event.TypeEncryption, event.TypeGuestAccess,
		event.TypeHistoryVisibility, event.TypeJoinRules, event.TypeMember, event.TypePowerLevels, event.TypeRedaction,
		event.TypeServerACL, event.TypeThirdPartyInvite, event.TypeTombstone, event.TypeMessage, event.TypeEncrypted,
		event.TypeName, event.TypeTopic, event.TypeAvatar, "m.reaction", event.TypeSpaceChild, "m.sticker",
	} {
		m[s] = s
	}
	return m
}()

func typeOf(s string) string {
	if known, ok := usual[s]; ok {
		return known
	}
	return string([]byte(s))
}

func membershipOf(s string) string {
	switch s {
	case event.MembershipJoin:
		return event.MembershipJoin
	case event.MembershipInvite:
		return event.MembershipInvite
	case event.MembershipLeave:
		return event.MembershipLeave
	case event.MembershipBan:
		return event.MembershipBan
	case event.MembershipKnock:
		return event.MembershipKnock
	}
	return string([]byte(s))
}

// WithReplaced returns a copy of an event that was built without Replaced.
func (e *Event) WithReplaced(replaced *Event) *Event {
	next := *e
	next.Replaced = &Replaced{
		ID: replaced.ID, Content: replaced.Content(), Membership: replaced.Membership, Slot: replaced.Slot,
	}
	return &next
}

// IsRedacted reports whether the event is redacted and its redaction is known.
func (e *Event) IsRedacted() bool { return e.Because != nil }

// Is reports whether the event is the state event with a type and state key.
func (e *Event) Is(evType, stateKey string) bool {
	return e.IsState && e.Type == evType && e.StateKey == stateKey
}

// Content is the content as clients see it, a JSON object.
func (e *Event) Content() []byte { return e.client[contentStart:e.contentEnd] }

// Size estimates the memory of the event in bytes.
func (e *Event) Size() int {
	n := cap(e.client) + 320
	if e.Replaced != nil {
		n += len(e.Replaced.Content) + 100
	}
	if e.Because != nil {
		n += e.Because.Size()
	}
	return n
}

var relatesTo = []byte(`"m.relates_to"`)

// relationOf reads `m.relates_to` from a content in canonical form.
func relationOf(content []byte) *Relation {
	if !bytes.Contains(content, relatesTo) {
		return nil
	}
	to := canonicaljson.Get(content, "m.relates_to")
	relType, ok := canonicaljson.String(canonicaljson.Get(to, "rel_type"))
	target, okTarget := canonicaljson.String(canonicaljson.Get(to, "event_id"))
	if !ok || !okTarget {
		return nil
	}
	parsed, err := id.ParseEventID(target)
	if err != nil {
		return nil // the spec says to ignore a relation that does not fit the schema
	}
	return &Relation{Type: string([]byte(relType)), Target: parsed.Clone()}
}

func (e *Event) Relates(relType string) bool { return e.Relation != nil && e.Relation.Type == relType }

// Reader is the user who reads the events.
type Reader struct {
	UserID   id.UserID
	DeviceID string
	// Now is the time of the answer in ms, for the ages of events.
	Now int64
	// Ignored are the users whose events do not count in aggregations; nil for none.
	Ignored map[id.UserID]bool
}

// Show has the parts of the client form that differ between answers.
type Show struct {
	// RoomID is added if it is not zero; /sync leaves it out.
	RoomID id.RoomID
	// Membership is the reader's membership at the event, including the event's own
	// effect. Empty leaves it out.
	Membership string
	// SeesReplaced says that the reader may see the state event that this one replaced.
	SeesReplaced bool
	// Bundle are the aggregations of the event's children, nil for none.
	Bundle *Bundle
	// Federation, if not nil, is the event's PDU, which is shown in the federation
	// format, as a filter may ask.
	Federation *event.PDU
}

// Append appends the event in its form for the reader.
//
// Spec: client-server-api#room-event-format
func (e *Event) Append(dst []byte, r *Reader, show Show) []byte {
	if show.Federation != nil {
		dst = event.AppendFederation(dst, show.Federation, true)
		show.RoomID = id.RoomID{}
	} else {
		dst = append(dst, e.client...)
	}
	dst = appendRoomID(dst, show.RoomID)
	dst = append(dst, `,"unsigned":{"age":`...)
	dst = strconv.AppendInt(dst, r.Now-e.OriginServerTS, 10)
	if show.Membership != "" {
		dst = append(dst, `,"membership":"`...)
		dst = append(dst, show.Membership...)
		dst = append(dst, '"')
	}
	if e.txn != nil && e.txn.device == r.DeviceID && e.txn.user == r.UserID {
		dst = append(dst, `,"transaction_id":`...)
		dst = canonicaljson.AppendString(dst, e.txn.id)
	}
	if e.Replaced != nil {
		if show.SeesReplaced {
			dst = append(dst, `,"prev_content":`...)
			dst = append(dst, e.Replaced.Content...)
		}
		dst = append(dst, `,"replaces_state":`...)
		dst = canonicaljson.AppendString(dst, e.Replaced.ID.String())
	}
	if b := e.Because; b != nil {
		dst = append(dst, `,"redacted_because":`...)
		dst = append(dst, b.client...)
		dst = appendRoomID(dst, show.RoomID)
		dst = append(dst, `,"unsigned":{"age":`...)
		dst = strconv.AppendInt(dst, r.Now-b.OriginServerTS, 10)
		dst = append(dst, '}', '}')
	}
	dst = show.Bundle.appendRelations(dst, r, show.RoomID)
	return append(dst, '}', '}')
}

func appendRoomID(dst []byte, roomID id.RoomID) []byte {
	if roomID.IsZero() {
		return dst
	}
	return canonicaljson.AppendString(append(dst, `,"room_id":`...), roomID.String())
}
