// Package timeline shows events to clients: the client form of an event, cut from its PDU once and shared by all readers,
// and the `unsigned` that each reader gets of their own.
//
// It owns the client form (what stands in it and in what order it is appended) and the rules of bundled aggregations. It
// never decides who may see an event and never asks the store: its callers give it events that the reader may see.
//
// The invariant: an Event never changes. A redaction makes another Event, so whoever holds the old one shows what was true
// when they took it.
package timeline

import (
	"bytes"
	"strconv"
	"sync/atomic"

	"stoa/internal/store"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
	"stoa/matrix/id"
)

// Source is all that an Event is made of.
type Source struct {
	Num  store.EventNum
	Slot store.Slot
	Off  int64
	PDU  *event.PDU
	// Replaces is the state event that this one replaced, nil for none; ReplacesSlot is where that one came in (0 for not
	// known), by which its visibility is judged.
	Replaces     *event.PDU
	ReplacesSlot store.Slot
	// RedactedBy is the redaction of the event, nil for none. The PDU may be given as it was: New redacts it.
	RedactedBy *event.PDU
	// TxnUser, TxnDevice and TxnID say with which transaction a local device sent the event; zero for none.
	TxnUser   id.UserID
	TxnDevice string
	TxnID     string
}

// Event is an event with its client form.
type Event struct {
	Source
	// client is the client form without room_id, unsigned and the closing brace.
	client []byte
	// relation is parsed when it is first asked for.
	relation atomic.Pointer[Relation]
}

// Relation is what an event says of another, by `m.relates_to` with a `rel_type`.
//
// Spec: client-server-api#forming-relationships-between-events
type Relation struct {
	Type   string
	Target id.EventID
}

// The relation types that are looked at here.
const (
	RelThread    = "m.thread"
	RelReplace   = "m.replace"
	RelReference = "m.reference"
)

// New makes the client form.
func New(s Source) *Event {
	if s.RedactedBy != nil {
		s.PDU = s.PDU.Redacted()
	}
	return &Event{Source: s, client: event.AppendClient(make([]byte, 0, len(s.PDU.Bytes())), s.PDU)}
}

// Redacted is the event as it looks once because has redacted it. An event that is redacted already stays as it is.
func (e *Event) Redacted(because *event.PDU) *Event {
	if e.RedactedBy != nil {
		return e
	}
	s := e.Source
	s.RedactedBy = because
	return New(s)
}

// Size is about how many bytes of memory the event holds.
func (e *Event) Size() int {
	n := cap(e.client) + len(e.PDU.Bytes()) + 700
	if e.Replaces != nil {
		n += len(e.Replaces.Bytes()) + 300
	}
	return n
}

// At is the event's place in the timeline of its room.
func (e *Event) At() (store.Slot, int64) { return e.Slot, e.Off }

// Relation is the relation of the event, the zero value for none. A redacted event has none.
func (e *Event) Relation() Relation {
	if r := e.relation.Load(); r != nil {
		return *r
	}
	r := relationOf(e.PDU.Content())
	e.relation.Store(&r)
	return r
}

var relatesTo = []byte(`"m.relates_to"`)

// relationOf reads `m.relates_to` of a content in canonical form.
func relationOf(content []byte) Relation {
	if !bytes.Contains(content, relatesTo) {
		return Relation{}
	}
	to := canonicaljson.Get(content, "m.relates_to")
	relType, ok := canonicaljson.String(canonicaljson.Get(to, "rel_type"))
	target, okTarget := canonicaljson.String(canonicaljson.Get(to, "event_id"))
	if !ok || !okTarget {
		return Relation{}
	}
	parsed, err := id.ParseEventID(target)
	if err != nil {
		return Relation{} // a relation that does not fit the schema is ignored, as the spec says
	}
	return Relation{Type: relType, Target: parsed}
}

// Reader is for whom events are shown.
type Reader struct {
	UserID   id.UserID
	DeviceID string
	// Now is the time of the answer in ms, from which ages are counted.
	Now int64
	// Ignored are the users whose events do not count in aggregations; nil for nobody.
	Ignored map[id.UserID]bool
}

// Show is what Append adds to one event.
type Show struct {
	// RoomID is added if it is not zero; /sync leaves it out.
	RoomID id.RoomID
	// Membership is the reader's membership at the event, the event's own effect included; empty leaves it out.
	Membership string
	// SeesReplaced says that the reader may see the state event that this one replaced.
	SeesReplaced bool
	// Bundle are the aggregations of the event's children, nil for none.
	Bundle *Bundle
	// Federation shows the event in the format in which servers exchange it, as a filter may ask.
	Federation bool
}

// Append appends the event as the reader sees it.
//
// Spec: client-server-api#room-event-format
func (e *Event) Append(dst []byte, r *Reader, show Show) []byte {
	if show.Federation {
		dst = event.AppendFederation(dst, e.PDU, true)
		show.RoomID = id.RoomID{}
	} else {
		dst = append(dst, e.client...)
	}
	if !show.RoomID.IsZero() {
		dst = append(dst, `,"room_id":`...)
		dst = canonicaljson.AppendString(dst, show.RoomID.String())
	}
	dst = append(dst, `,"unsigned":{"age":`...)
	dst = strconv.AppendInt(dst, r.Now-e.PDU.OriginServerTS(), 10)
	if show.Membership != "" {
		dst = append(dst, `,"membership":"`...)
		dst = append(dst, show.Membership...)
		dst = append(dst, '"')
	}
	if e.TxnID != "" && e.TxnDevice == r.DeviceID && e.TxnUser == r.UserID {
		dst = append(dst, `,"transaction_id":`...)
		dst = canonicaljson.AppendString(dst, e.TxnID)
	}
	if e.Replaces != nil {
		if show.SeesReplaced {
			dst = append(dst, `,"prev_content":`...)
			dst = append(dst, e.Replaces.Content()...)
		}
		dst = append(dst, `,"replaces_state":`...)
		dst = canonicaljson.AppendString(dst, e.Replaces.EventID().String())
	}
	if e.RedactedBy != nil {
		dst = append(dst, `,"redacted_because":`...)
		dst = event.AppendClient(dst, e.RedactedBy)
		if !show.RoomID.IsZero() {
			dst = append(dst, `,"room_id":`...)
			dst = canonicaljson.AppendString(dst, show.RoomID.String())
		}
		dst = append(dst, `,"unsigned":{"age":`...)
		dst = strconv.AppendInt(dst, r.Now-e.RedactedBy.OriginServerTS(), 10)
		dst = append(dst, '}', '}')
	}
	dst = show.Bundle.appendRelations(dst, r, show.RoomID)
	return append(dst, '}', '}')
}
