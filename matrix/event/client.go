package event

import (
	"strconv"

	"stoa/matrix/canonicaljson"
	"stoa/matrix/roomversion"
)

// AppendClient appends the event as clients get it, without room_id and without the closing brace, so that the caller goes on
// with `,"room_id":"…"` where the endpoint wants it, and with `,"unsigned":{…}}` or `}`. An m.room.redaction has `redacts` in
// both places, whatever its room version.
//
// Spec: client-server-api#room-event-format, rooms/v11#moving-the-redacts-property-of-mroomredaction-events-to-a-content-property
func AppendClient(dst []byte, p *PDU) []byte {
	dst = append(dst, `{"content":`...)
	if p.redacts.IsZero() || p.rules.RedactsInContent {
		dst = append(dst, p.content...)
	} else {
		target := canonicaljson.AppendString(nil, p.redacts.String())
		if content, err := canonicaljson.AppendWith(dst, p.content, "redacts", target); err == nil {
			dst = content
		}
	}
	dst = canonicaljson.AppendString(append(dst, `,"event_id":`...), p.eventID.String())
	dst = strconv.AppendInt(append(dst, `,"origin_server_ts":`...), p.ts, 10)
	if !p.redacts.IsZero() {
		dst = canonicaljson.AppendString(append(dst, `,"redacts":`...), p.redacts.String())
	}
	dst = canonicaljson.AppendString(append(dst, `,"sender":`...), p.sender.String())
	if p.isState {
		dst = canonicaljson.AppendString(append(dst, `,"state_key":`...), p.stateKey)
	}
	return canonicaljson.AppendString(append(dst, `,"type":`...), p.evType)
}

// StrippedState returns a state event as invites and knocks show it: content, sender, state_key and type.
//
// Spec: client-server-api#stripped-state
func StrippedState(p *PDU) []byte {
	dst := make([]byte, 0, len(p.content)+len(p.sender.String())+len(p.stateKey)+len(p.evType)+64)
	dst = append(append(dst, `{"content":`...), p.content...)
	dst = canonicaljson.AppendString(append(dst, `,"sender":`...), p.sender.String())
	dst = canonicaljson.AppendString(append(dst, `,"state_key":`...), p.stateKey)
	dst = canonicaljson.AppendString(append(dst, `,"type":`...), p.evType)
	return append(dst, '}')
}

// AppendFederation appends the event as servers exchange it, up to but without the closing brace, so that the caller can go
// on with `,"unsigned":{…}}` or `}`. For clients that ask for the federation format, eventID adds event_id where the room
// version has none.
//
// Spec: server-server-api#pdus, client-server-api#filtering
func AppendFederation(dst []byte, p *PDU, eventID bool) []byte {
	dst = append(dst, p.bytes[:len(p.bytes)-1]...)
	if eventID && p.rules.EventFormat != roomversion.EventFormatV1 {
		dst = canonicaljson.AppendString(append(dst, `,"event_id":`...), p.eventID.String())
	}
	return dst
}
